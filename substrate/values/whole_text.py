"""Text as every database and every server takes it: whole characters, and no NUL.

What is recorded as a value is kept exactly, tagged (`codec`). This is for columns that people read:
a line of what is asked, who decides, and why.
"""

_INSTEAD = "\ufffd"


def whole(text: str) -> str:
    """Return a text that can be encoded: halves of a character are joined, or U+FFFD."""
    if text.isascii():  # which it knows without looking
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def storable(text: str) -> str:
    r"""Return a text that any column takes: whole, and U+FFFD for each NUL.

    >>> storable("a\0b\ud800") == "a\ufffdb\ufffd"
    True
    """
    return whole(text).replace("\0", _INSTEAD)
