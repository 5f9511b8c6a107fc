"""Long texts are found as fast as others may wait for: nothing holds the loop for their length."""

import asyncio
import re
import time
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from substrate.memory.recall import Recall, find
from substrate.memory.words import asked, beginning, counted, place_of
from substrate.store.store import Store
from substrate.values.memory import Space
from tests.memories import memory_write
from tests.stores import claimed, opened

NS = "acme/anna"
COUNT = 40
HELD_S = 0.05
TEXTS = ("Seven plain words say nothing at all. ", "Семь простых слов не говорят ничего. ")


async def write(store: Store) -> None:
    """Write notes of 60 KB, whose last words are those that are looked for."""
    claim = await claimed(store)
    for i in range(COUNT):
        line = TEXTS[i % len(TEXTS)]
        text = line * (60_000 // len(line.encode())) + f"The harbours of Kiel, {i}."
        note = {"name": f"note {i}", "text": text, "version": 0, "trust": "agent"}
        await store.memory.write(memory_write(claim.fence, f"n.{i}", "write_note", ns=NS, **note))


async def held_for(turns: list[float]) -> None:
    """Note how long each turn of the loop takes, on the clock of its thread: others may be busy."""
    began = time.thread_time()
    while True:
        await asyncio.sleep(0.001)
        turns.append(time.thread_time() - began)
        began = time.thread_time()


async def test_long_texts_hold_nobody(store_url):
    """A recall of forty notes of 60 KB takes no turn of the loop that is longer than 50 ms."""
    turns: list[float] = []
    async with opened(store_url) as store:
        await write(store)
        counter = await store.memory.counter(Space("", NS))
        looked_for = Recall(Space("", NS), "harbour of kiel", 100, ("note",), None)
        watch = asyncio.create_task(held_for(turns))
        await asyncio.sleep(0.01)
        found = await find(store.memory, looked_for, counter, counter.last_n)
        await asyncio.sleep(0.01)
        watch.cancel()
    assert len(found) == COUNT
    assert all(hit["words"] == ["harbour", "kiel"] for hit in found)
    assert all(re.search(r"harbours of Kiel, \d+\.$", hit["text"]) for hit in found)
    assert len(turns) > 2
    assert max(turns) < HELD_S


def plainly(text: str, terms: list[str]) -> Any:
    """Return where the first word is, having read each."""
    places = re.finditer(r"\S+", text)
    return next((each.start() for each in places if not terms_of(each[0]).isdisjoint(terms)), None)


def terms_of(text: str) -> set[str]:
    """Return the words of a text."""
    return set(counted(text))


ENGLISH = (
    "party parties Parti stopped stop houses house used gases refused being caresses sky skies"
)
OTHERS = "東京都 Kyōto ß ẞ Ⅷ ǆ İ ﬁsh é e\u0301 a\u2028b ยาม"
WORDS = st.sampled_from((ENGLISH + " " + OTHERS).split(" ")) | st.text(max_size=6)


@settings(max_examples=300, deadline=None)
@given(st.lists(WORDS, max_size=8), st.lists(WORDS, max_size=2), st.integers(0, 4_010))
@example(["sky"], ["skies"], 3_999)
def test_a_word_is_where_it_would_be_read(some, wanted, before):
    """The first of the words that are looked for is found where a reader of each word finds it."""
    terms = list(asked(" ".join(wanted), 99))
    text = "x " * (before // 2) + " ".join(some)
    assert place_of(text, terms, list(map(beginning, terms))) == plainly(text, terms)
