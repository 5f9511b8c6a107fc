"""Which texts the words of a question tell most about, by BM25, without reading all they stand in.

Of each word the texts are read in which it tells most: where it stands often, in few words. What
the rest could add is bounded by the last one that was read. When no text that is not read yet could
come among the best, these are the best of all: none is estimated, and none is left out.

So a word that stands in every second text costs little more than one that stands in a hundred.
Where frequent words hardly ever stand in one text, no bound tells that, and all is read.

How much a word tells, and how long a text mostly is, is counted as of now, also as of then.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from math import log

from substrate.store.memory import Memories
from substrate.store.term_rows import Query, Score, Stood
from substrate.values.memory import BANDS, Counter, TermCount

FEW = 4_000
"""So few postings are read as fast as those that tell most are looked for."""

_FIRST_READ = 32  # texts of a word and band
_LAST_READ = 2_048
_FREQUENT = 3  # times as many texts as another word stands in
_COMPLETED = 64  # texts of which all is read, then twice as many

_ALIKE = 1e-9
"""What is nearer than that is worth the same: by so little do sums differ by their order alone."""

Place = tuple[float, int]
"""A score and a doc: what is worth the same comes newest first."""

_NO_PLACE: Place = (-1.0, 0)


def weights(counter: Counter, counts: Sequence[TermCount]) -> Mapping[str, float]:
    """Return how much each word tells that stands in so many texts: the rarer, the more."""
    return {
        each.term: log(1 + (max(counter.docs - each.docs, 0) + 0.5) / (each.docs + 0.5))
        for each in counts
    }


@dataclass(slots=True)
class _Stream:
    """The texts of a word in one band, those in which it tells most first."""

    term: int
    name: str
    band: int
    read: Sequence[Stood] = ()
    is_open: bool = True

    @property
    def often(self) -> float:
        """How often it stands in one of them at most."""
        return BANDS[self.band - 1]


@dataclass(slots=True)
class _Text:
    """What is known of a text."""

    words: int
    table: str
    #: What the words tell of which it is known that they stand there.
    told: float = 0.0
    #: Which words that are, and those of which it is known that they do not: a bit each.
    known: int = 0


class _Search:
    """One search: what has been read, and what the rest could come to."""

    def __init__(
        self,
        told: Mapping[str, float],
        counts: Mapping[str, TermCount],
        average: float,
        streams: Sequence[_Stream],
    ) -> None:
        self._weights = list(told.values())
        self._docs = [counts[term].docs for term in told]
        self._bits = {term: i for i, term in enumerate(told)}
        self._average = average
        self.streams = streams
        self.texts: dict[int, _Text] = {}
        self._missing: dict[tuple[int, int], tuple[float, Sequence[int]]] = {}

    def told(self, term: int, often: float, words: int) -> float:
        """Return what a word tells that stands so often in so many words."""
        length = 1.2 * (0.25 + 0.75 * (words / self._average))
        return self._weights[term] * (2.2 / (1.0 + length / often))

    def take(self, stream: _Stream, found: Sequence[Stood], most: int) -> None:
        """Take in what a stream begins with, of which so much was asked for."""
        for stood in found[len(stream.read) :]:
            self.enter(stood)
        stream.read, stream.is_open = found, len(found) == most
        self._missing.clear()

    def enter(self, stood: Stood) -> None:
        """Take in that a word stands in a text."""
        text = self.texts.get(stood.doc)
        if text is None:
            text = self.texts[stood.doc] = _Text(stood.words, stood.source_table)
        bit = self._bits[stood.term]
        if not text.known >> bit & 1:
            text.known |= 1 << bit
            text.told += self.told(bit, stood.tf, stood.words)

    def least(self, limit: int) -> Place:
        """Return the last of the best places, by what is known already."""
        places = nlargest(limit, ((text.told, doc) for doc, text in self.texts.items()))
        return places[-1] if len(places) == limit else _NO_PLACE

    def tops(self) -> dict[int, float]:
        """Return what each word tells at most of a text of which that is not read."""
        found: dict[int, float] = {}
        for stream in self.open():
            bound = self.told(stream.term, stream.often, stream.read[-1].words)
            found[stream.term] = max(bound, found.get(stream.term, 0.0))
        return found

    def open(self) -> Iterator[_Stream]:
        """Yield the streams that go on."""
        return (stream for stream in self.streams if stream.is_open)

    def rivals(self, place: Place) -> list[Place]:
        """Return the texts that may come before a place, with what they are worth at most."""
        found = []
        for doc, text in self.texts.items():
            most = text.told + self.missing(text)[0]
            if most >= place[0] - _ALIKE:
                found.append((most, doc))
        return sorted(found, reverse=True)

    def missing(self, text: _Text) -> tuple[float, Sequence[int]]:
        """Return what the words may tell of which it is not known whether they are in a text.

        Its place in each stream is by its length. If what was read last is longer, it would have
        been read, too. What is as long and known by the same words is alike, and there is much of
        that.
        """
        alike = text.words, text.known
        if (found := self._missing.get(alike)) is None:
            bounds: dict[int, float] = {}
            for stream in self.open():
                if not text.known >> stream.term & 1 and stream.read[-1].words <= text.words:
                    bound = self.told(stream.term, stream.often, text.words)
                    bounds[stream.term] = max(bound, bounds.get(stream.term, 0.0))
            found = self._missing[alike] = sum(bounds.values()), list(bounds)
        return found

    def ahead(self, place: Place) -> Sequence[_Stream]:
        """Return the streams in which a text may come that is not known, and before a place."""
        tops = self.tops()
        highest = sum(tops.values())
        if highest < place[0] - _ALIKE or (highest < place[0] + _ALIKE and self._is_older(place)):
            return []
        needless = self._needless(tops, place)
        found = []
        for stream in self.open():
            bound = self.told(stream.term, stream.often, stream.read[-1].words)
            is_rival = highest - tops[stream.term] + bound >= place[0] - _ALIKE
            if is_rival and stream.term not in needless:
                found.append(stream)
        return found

    def _needless(self, tops: Mapping[int, float], place: Place) -> Container[int]:
        """Return frequent words of which no more need be read while there are others.

        They tell too little, even together: what has none of the others does not come before.
        """
        found, together = list[int](), 0.0
        for term, top in sorted(tops.items(), key=lambda each: each[1]):
            together += top
            if together >= place[0] - _ALIKE:
                break
            found.append(term)
        fewest = min((self._docs[term] for term in tops.keys() - set(found)), default=0)
        return [term for term in found if self._docs[term] > _FREQUENT * fewest]

    def _is_older(self, place: Place) -> bool:
        """Say whether what is unknown and as good as can be is older than a place.

        That good is only what has all of these words, in as many words as were read last, and
        below the number of that one. With a word less, or longer, it is worth less.
        """
        tops, docs, longer = self.tops(), dict[int, int](), dict[int, float]()
        for stream in self.open():
            term, last = stream.term, stream.read[-1]
            bound = self.told(term, stream.often, last.words)
            if bound > tops[term] - _ALIKE:
                docs[term] = max(last.doc, docs.get(term, 0))
                bound = self.told(term, stream.often, last.words + 1)
            longer[term] = max(bound, longer.get(term, 0.0))
        step = min(tops[term] - longer[term] for term in tops)
        return step > 2 * _ALIKE and min(docs.values()) <= place[1]


async def best(
    memory: Memories,
    query: Query,
    terms: Sequence[str],
    counter: Counter,
    limit: int,
    *,
    few: int = FEW,
) -> Sequence[Score]:
    """Return the texts in which these words tell most, the best first.

    Where the words stand in so few texts, all of them are read at once.
    """
    counts = {each.term: each for each in await memory.term_counts(query.space, terms)}
    told = weights(counter, [counts[term] for term in terms if term in counts])
    average = max(counter.words / max(counter.docs, 1), 1.0)  # none may be left, as of then some
    if sum(counts[term].docs for term in told) <= few:
        return await memory.rank(query, told, average, limit)
    streams = [
        _Stream(i, term, band)
        for i, term in enumerate(told)
        for band in range(1, len(BANDS) + 1)
        if counts[term].bands >> band & 1
    ]
    search = _Search(told, counts, average, streams)
    ahead: Sequence[_Stream] = streams
    places: Sequence[Place] = []
    most = max(_FIRST_READ, 2 * limit)
    last = max(_LAST_READ, most)
    while ahead:
        if most > last:
            return await memory.rank(query, told, average, limit)
        await _read(memory, query, search, ahead, most)
        places = await _completed(memory, query, search, limit)
        ahead = search.ahead(places[-1] if len(places) == limit else _NO_PLACE)
        most *= 4
    return [Score(search.texts[doc].table, doc, round(score, 6)) for score, doc in places]


async def _read(
    memory: Memories, query: Query, search: _Search, streams: Sequence[_Stream], most: int
) -> None:
    """Read so many texts of each of these streams."""
    asked = [(stream.name, stream.band) for stream in streams]
    for stream, found in zip(streams, await memory.best(query, asked, most), strict=True):
        search.take(stream, found, most)


async def _completed(
    memory: Memories, query: Query, search: _Search, limit: int
) -> Sequence[Place]:
    """Return the best of what has been read, when all is known of those."""
    names = {stream.term: stream.name for stream in search.streams}
    rivals = search.rivals(search.least(limit))
    found: list[Place] = []
    first, many = 0, _COMPLETED
    while first < len(rivals):
        if len(found) == limit and found[-1][0] > rivals[first][0] + _ALIKE:
            break
        some = [doc for _, doc in rivals[first : first + many]]
        first, many = first + many, 2 * many
        wanted: dict[str, list[int]] = {}
        for doc in some:
            for term in search.missing(search.texts[doc])[1]:
                wanted.setdefault(names[term], []).append(doc)
        for stood in await memory.stood(query, wanted) if wanted else ():
            search.enter(stood)
        for doc in some:
            search.texts[doc].known = -1  # all of them
        found += [(round(search.texts[doc].told, 9), doc) for doc in some]
        found = sorted(found, reverse=True)[:limit]
    return found
