"""Files for a model to look at: read, and made an image or a document by their name."""

from mimetypes import guess_type
from pathlib import Path

from substrate.models.messages import Document, Image
from substrate.values.errors import Misuse

IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
PDF, TEXT = "application/pdf", "text/plain"


def attachment(path: str | Path) -> Image | Document:
    """Return a file as an image or a document for a `Task`; text of any kind is plain text.

    Raises `Misuse` for a file that cannot be read, is empty, or is of a kind that no model takes.
    """
    file = Path(path)
    kind, _ = guess_type(file.name)
    kind = TEXT if kind and kind.startswith("text/") else kind
    if kind not in (*IMAGES, PDF, TEXT):
        raise Misuse(
            f"{str(path)!r} is of no kind that models take: png, jpeg, gif, webp, pdf, and text; "
            "the end of its name tells"
        )
    try:
        data = file.read_bytes()
    except OSError as error:
        raise Misuse(f"{str(path)!r} cannot be attached: {error.strerror}") from None
    if not data:
        raise Misuse(f"{str(path)!r} is empty, so there is nothing to attach")
    if kind in IMAGES:
        return Image(data, kind)
    return Document(data, kind, file.name)
