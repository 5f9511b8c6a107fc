"""`make recall`: measure what recall finds of the judged set, and print the table of the docs."""

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from substrate.memory.embedder import Embedder
from substrate.memory.hashed_ngrams import HashedNgrams
from substrate.memory.mini_lm import HOW, PACKAGE, MiniLM
from substrate.store.connect import open_store
from tests.judged import judged
from tests.judged.found import Found, found_by, found_by_words, keep
from tests.judged.scores import interval, ndcg, recall

WAYS: Mapping[str, Embedder] = {
    "`HashedNgrams()`": HashedNgrams(),
    "`MiniLM()`": MiniLM(),
}


async def measure() -> Mapping[str, Sequence[Found]]:
    """Return what each way of looking finds, for every question."""
    found: dict[str, Sequence[Found]] = {}
    for name, embedder in WAYS.items():
        if isinstance(embedder, MiniLM) and not find_spec(PACKAGE):
            print(f"not measured: MiniLM, since its weights are not there: {HOW}")
            continue
        with tempfile.TemporaryDirectory() as folder:
            store = await open_store(f"sqlite:///{Path(folder) / 'judged.db'}")
            try:
                await keep(store, judged())
                found |= {"full text": await found_by_words(store, judged())}
                for way, weight in ((name, 1.0), (f"full text and {name}", None)):
                    found[way] = await found_by(store, embedder, judged(), weight)
            finally:
                await store.close()
    return found


def table(found: Mapping[str, Sequence[Found]]) -> list[str]:
    """Return the table: of each half, the scores with the intervals that hold 95 %."""
    lines = [
        "| | half | nDCG@10 | recall@10 | nDCG@10 over full text |",
        "|---|---|---|---|---|",
    ]
    for name, some in found.items():
        for half, is_held_out in (("chosen on", False), ("held out", True)):
            asked = [each for each in some if each.asked.is_held_out is is_held_out]
            base = [each for each in found["full text"] if each.asked.is_held_out is is_held_out]
            scores = [
                str(interval([score(each.names, each.asked.name) for each in asked]))
                for score in (ndcg, recall)
            ]
            gains = [
                ndcg(each.names, each.asked.name) - ndcg(was.names, was.asked.name)
                for each, was in zip(asked, base, strict=True)
            ]
            lines.append(f"| {name} | {half} | {' | '.join(scores)} | {interval(gains)} |")
    return lines


if __name__ == "__main__":
    print("\n".join(table(asyncio.run(measure()))))
