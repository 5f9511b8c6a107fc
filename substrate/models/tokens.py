"""About how many tokens something makes, where nobody has counted: one estimate for all.

Limits, prices, summaries and the scripted model ask here. Text counts a token for four bytes of its
JSON, whatever its script. What is shown counts as its provider says, of which nothing is sent:

=========  ==================================================  ====================================
provider   a picture of w × h pixels                            a page of a PDF
=========  ==================================================  ====================================
anthropic  w·h / 750, 1,600 at most, where it is scaled down    3,000: its text, and its picture
openai     85, and 170 for each tile of 512 pixels, of what     2,300: likewise
           fits 2,048 and then 768 pixels
google     258 up to 384 pixels, else 258 for each tile, of     258
           what fits 3,072 pixels
=========  ==================================================  ====================================

Of another provider the dearest of these is taken. The pixels are read from the picture's header,
the pages counted in the file; where that fails, a picture is a large one, and a PDF has a page for
each 50 kB.

Invariant: a message becomes JSON once, however many requests it is part of, and so does the rest of
a request, however often its estimate is asked for.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import ceil

from substrate.models.frame import as_sent, canonical
from substrate.models.messages import Document, Image, Json, Message, UserMessage
from substrate.models.once import Once
from substrate.models.pictures import Size, size_of
from substrate.models.request import Request
from substrate.values.codec import encode

_LARGE: Size = (1568, 1568)
_BYTES_A_TOKEN = 4
_BYTES_A_PAGE = 50_000
_PAGE_OF_PDF = re.compile(rb"/Type\s*/Page(?![A-Za-z])")


def tokens(value: Json) -> int:
    """Return about how many tokens a JSON value makes: four bytes each, of any script."""
    return _bytes(value) // _BYTES_A_TOKEN


def estimate(request: Request, provider: str | None = None) -> int:
    """Return about how many tokens a model has to read for a request, the pictures too; 1 at least.

    `provider` is the part of a model's id before the colon.
    """
    size = _size_of(request)
    return max(size.in_bytes // _BYTES_A_TOKEN + size.shown(provider), 1)


def estimate_of(message: Message, provider: str | None = None) -> int:
    """Return about how many tokens a message makes in a request, its pictures too."""
    size = _size_of_message(message)
    return ceil(size.in_bytes / _BYTES_A_TOKEN) + size.shown(provider)


def tokens_shown(part: Image | Document, provider: str | None = None) -> int:
    """Return about how many tokens a picture or a document makes, whatever its bytes are."""
    if isinstance(part, Document):
        if part.media_type.startswith("text/"):
            return len(part.data) // 4
        return pages_of(part.data) * _A_PAGE.get(provider or "", max(_A_PAGE.values()))
    width, height = size_of(part.data) or _LARGE
    rule = _A_PICTURE.get(provider or "")
    rules = _A_PICTURE.values() if rule is None else [rule]
    return max(each(width, height) for each in rules)


def pages_of(pdf: bytes) -> int:
    """Return how many pages a PDF has, about where they are packed; 1 at least."""
    return len(_PAGE_OF_PDF.findall(pdf)) or max(len(pdf) // _BYTES_A_PAGE, 1)


def _by_pixels(width: int, height: int) -> int:
    scale = min(1568 / max(width, height), 1)
    return min(ceil(width * scale * height * scale / 750), 1600)


def _by_tiles_of_512(width: int, height: int) -> int:
    scale = min(2048 / max(width, height), 1)
    scale = min(768 / min(width * scale, height * scale), 1) * scale
    return 85 + 170 * ceil(width * scale / 512) * ceil(height * scale / 512)


def _by_tiles_of_768(width: int, height: int) -> int:
    if max(width, height) <= 384:
        return 258
    scale = min(3072 / max(width, height), 1)
    width, height = ceil(width * scale), ceil(height * scale)
    unit = max(256, min(768, int(min(width, height) / 1.5)))
    return 258 * ceil(width / unit) * ceil(height / unit)


_A_PICTURE: Mapping[str, Callable[[int, int], int]] = {
    "anthropic": _by_pixels,
    "openai": _by_tiles_of_512,
    "openai-chat": _by_tiles_of_512,
    "groq": _by_tiles_of_512,
    "google": _by_tiles_of_768,
}
_A_PAGE = {"anthropic": 3000, "openai": 2300, "openai-chat": 2300, "groq": 2300, "google": 258}


class _Size:
    """How large a message is, or a request with the messages in it."""

    __slots__ = ("_inner", "_parts", "_shown", "in_bytes")

    def __init__(
        self, in_bytes: int, parts: Sequence[Image | Document] = (), inner: Sequence["_Size"] = ()
    ) -> None:
        #: Those of its JSON, without the bytes of what it shows.
        self.in_bytes: int = in_bytes
        self._parts = parts
        self._inner = inner
        self._shown: dict[str | None, int] = {}

    def shown(self, provider: str | None) -> int:
        """Return about how many tokens its pictures and documents make."""
        if provider not in self._shown:  # the pages of a PDF are counted in the whole file
            own = sum(tokens_shown(each, provider) for each in self._parts)
            self._shown[provider] = own + sum(each.shown(provider) for each in self._inner)
        return self._shown[provider]


def _message_size(message: Message) -> _Size:
    return _Size(_bytes(as_sent(_unshown(message).to_json())), _shown(message))


def _request_size(request: Request) -> _Size:
    sizes = [_size_of_message(message) for message in request.messages]
    around = _bytes(canonical(replace(request, messages=())))
    commas = max(len(sizes) - 1, 0)
    in_bytes = around + sum(each.in_bytes for each in sizes) + commas
    return _Size(in_bytes, inner=sizes)


def _bytes(value: Json) -> int:
    return len(encode(value).encode())


def _shown(message: Message) -> list[Image | Document]:
    parts = message.parts if isinstance(message, UserMessage) else ()
    return [part for part in parts if isinstance(part, Image | Document)]


def _unshown(message: Message) -> Message:
    """Return a message without the bytes of what it shows."""
    if not isinstance(message, UserMessage) or not _shown(message):
        return message
    bare = (
        replace(part, data=b"") if isinstance(part, Image | Document) else part
        for part in message.parts
    )
    return UserMessage(tuple(bare))


_size_of_message: Once[Message, _Size] = Once(_message_size)
_size_of: Once[Request, _Size] = Once(_request_size)
