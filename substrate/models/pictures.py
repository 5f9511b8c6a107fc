"""What a picture's header tells: its type and its size. Pure.

PNG, GIF, WebP and JPEG, as their specifications have it; of others only the type, where it has a
mark of its own.
"""

import struct
from struct import unpack_from

Size = tuple[int, int]


def type_of(picture: bytes) -> str | None:
    """Return the type of media that a picture's first bytes tell; None where they tell none."""
    if picture.startswith(b"RIFF") and picture[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for mark, kind in _MARKS if picture.startswith(mark)), None)


_MARKS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"BM", "image/bmp"),
)


def size_of(picture: bytes) -> Size | None:
    """Return the width and height that a picture's header tells; None where it tells none."""
    try:
        found = _size(picture)
    except (struct.error, IndexError):  # it is cut off
        return None
    return found if found and min(found) > 0 else None


def _size(data: bytes) -> Size | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return unpack_from(">II", data, 16)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return unpack_from("<HH", data, 6)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _size_of_webp(data)
    return _size_of_jpeg(data) if data.startswith(b"\xff\xd8") else None


def _size_of_webp(data: bytes) -> Size | None:
    match data[12:16]:
        case b"VP8 ":
            width, height = unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            (bits,) = unpack_from("<I", data, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            low_width, high_width, low_height, high_height = unpack_from("<HBHB", data, 24)
            return (high_width << 16 | low_width) + 1, (high_height << 16 | low_height) + 1
    return None


def _size_of_jpeg(data: bytes) -> Size | None:
    """Walk over the segments to the one that begins a frame."""
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = unpack_from(">HH", data, at + 5)
            return width, height
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # these have no length
            at += 2
        else:
            (length,) = unpack_from(">H", data, at + 2)
            at += 2 + length
    return None
