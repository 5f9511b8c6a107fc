"""A request that its provider refuses, and what the judges share."""

from base64 import b64decode
from typing import Any

Json = dict[str, Any]


class Refused(AssertionError):
    """What a provider would answer 400: its words, and where the fault is."""

    def __init__(self, words: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(words)
        self.param = param
        self.code = code


def refuse(is_refused: object, words: str, param: str | None = None) -> None:
    """Raise `Refused` where something is so."""
    if is_refused:
        raise Refused(words, param)


def too_long(where: str, what: str, most: int, length: int) -> Refused:
    """Return OpenAI's refusal of what is too long."""
    kind = "array" if what == "an array" else "string"
    return Refused(
        f"Invalid '{where}': {kind} too long. Expected {what} with maximum length {most}, but got "
        f"{what} with length {length} instead.",
        where,
        f"{kind}_above_max_length",
    )


def is_of_other(mark: object, model: str) -> bool:
    """Whether a signature or an encryption is another model's."""
    return isinstance(mark, str) and mark.startswith("of:") and mark != f"of:{model}"


def kind_of(picture: bytes) -> str | None:
    """Return the type of a picture by its first bytes."""
    marks = {
        b"\x89PNG": "image/png",
        b"\xff\xd8\xff": "image/jpeg",
        b"GIF8": "image/gif",
        b"RIFF": "image/webp",
    }
    return next((kind for mark, kind in marks.items() if picture.startswith(mark)), None)


def of_data_url(url: str) -> tuple[str, bytes]:
    """Return the type and the bytes of a data URL."""
    head, _, data = url.partition(",")
    return head.removeprefix("data:").removesuffix(";base64"), b64decode(data)
