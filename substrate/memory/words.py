"""The words of a text, as the index has them and as a query asks for them.

One reading for both stores, so that both find the same. A text is words only: whatever else stands
in it, an operator of some search language say, is a gap between words.

- Case, width and accents make no difference: ``Kyōto`` is ``kyoto``.
- English words lose their endings (Porter's first step, the plurals, ``-ed`` and ``-ing``), so that
  ``payments`` finds ``payment``. Words with a letter that English has not stay as they are.
- Where a script has no gaps between words, each pair of neighbours is one: 東京 is found in 東京都.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

LONGEST = 64
"""Characters of a word; what is longer is cut there, in a text and in a query alike."""

_WORD = re.compile(r"[^\W_]+")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003134f]+"
)
_ENGLISH = re.compile(r"[a-z]{3,}")
_VOWEL = re.compile(r"[aeiouy]")

STOP_WORDS = frozenset(
    """
    a an and are as at be but by for from had has have he her his i if in into is it its me my no
    not of on or our she so that the their them then there they this to us was we were what when
    where which who why will with you your
    """.split()  # noqa: SIM905 - a text is read, a list of as many strings is not
)
"""Words that say little by themselves: a query leaves them out where it has others."""


def words(text: str) -> Iterator[str]:
    """Yield the words of a text, in order."""
    for found in _WORD.findall(_plain(text)):
        start = 0
        for run in _UNSPACED.finditer(found):
            if run.start() > start:
                yield _stem(found[start : run.start()])
            yield from _pairs(run.group())
            start = run.end()
        if start < len(found):
            yield _stem(found[start:])


def counted(text: str) -> Mapping[str, int]:
    """Return how often each word stands in a text."""
    return Counter(words(text))


def asked(query: str, most: int) -> Sequence[str]:
    """Return the words that a query asks for, each once, in order; `most` at most."""
    found = dict.fromkeys(words(query))
    telling = [word for word in found if word not in STOP_WORDS]
    return (telling or list(found))[:most]


def _plain(text: str) -> str:
    spread = unicodedata.normalize("NFKD", text).casefold()
    bare = "".join(each for each in spread if not unicodedata.combining(each))
    return unicodedata.normalize("NFKC", bare)


def _pairs(run: str) -> Iterator[str]:
    if len(run) == 1:
        yield run
    for at in range(len(run) - 1):
        yield run[at : at + 2]


def _stem(word: str) -> str:
    """Return an English word without its ending, any other one as it is."""
    if not _ENGLISH.fullmatch(word):
        return word[:LONGEST]
    if word.endswith("sses") or (word.endswith("ies") and len(word) > 4):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ed", "ing"):
        bare = word.removesuffix(ending)
        if bare != word and len(bare) > 2 and _VOWEL.search(bare):
            word = _mended(bare)
            break
    if word.endswith("y") and len(word) > 3 and _VOWEL.search(word[:-1]):
        word = f"{word[:-1]}i"
    if word.endswith("e") and len(word) > 4:
        word = word[:-1]
    return word[:LONGEST]


def _mended(bare: str) -> str:
    if len(bare) > 3 and bare[-1] == bare[-2] and bare[-1] not in "lsz":
        return bare[:-1]  # stopped: stop
    return bare
