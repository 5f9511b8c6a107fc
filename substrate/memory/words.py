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
from collections.abc import Container, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import filterfalse

LONGEST = 64
"""Characters of a word; what is longer is cut there, in a text and in a query alike."""

_WORD = re.compile(r"[^\W_]+")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003134f]+"
)
_ENGLISH = re.compile(r"[a-z]{3,}")
_ENGLISH_STEM = re.compile(r"[a-z]+")
_VOWEL = re.compile(r"[aeiouy]")
_PLACE = re.compile(r"\S+")
_STRETCH = re.compile(r".{1,4000}\S*", re.DOTALL)  # no word is cut

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


def place_of(text: str, terms: Container[str], beginnings: Sequence[str]) -> int | None:
    """Return where the first part of a text between gaps begins that has one of these words.

    Stretch by stretch: its words are read only where one of them begins as a word does that is
    looked for, so most of a long text is only looked through.

    Args:
        text: The text.
        terms: The words, as the index has them.
        beginnings: How these begin, see `beginning`.
    """
    for stretch in _STRETCH.finditer(text):
        plain = _plain(stretch[0])
        if not any(each in plain for each in beginnings):
            continue
        for place in _PLACE.finditer(stretch[0]):
            if any(word in terms for word in words(place[0])):
                return stretch.start() + place.start()
    return None


def beginning(term: str) -> str:
    """Return what stands in each text that has this word of the index.

    The last letter of an English one may be another there: ``parti`` stands for ``party``.
    """
    return term[:-1] if len(term) > 1 and _ENGLISH_STEM.fullmatch(term) else term


def _plain(text: str) -> str:
    if text.isascii():
        return text.lower()  # which is what the rest would make of it
    spread = unicodedata.normalize("NFKD", text).casefold()
    bare = "".join(filterfalse(unicodedata.combining, spread))
    return unicodedata.normalize("NFKC", bare)


def _pairs(run: str) -> Iterator[str]:
    if len(run) == 1:
        yield run
    for at in range(len(run) - 1):
        yield run[at : at + 2]


def _stem(word: str) -> str:
    """Return an English word without its ending, any other one as it is."""
    # A text has few words, many times; what is endless is not kept.
    return _short_stem(word) if len(word) <= LONGEST else _new_stem(word)


def _new_stem(word: str) -> str:
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


_short_stem = lru_cache(maxsize=8_192)(_new_stem)


def _mended(bare: str) -> str:
    if len(bare) > 3 and bare[-1] == bare[-2] and bare[-1] not in "lsz":
        return bare[:-1]  # stopped: stop
    return bare
