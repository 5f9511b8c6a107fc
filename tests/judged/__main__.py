"""`make recall`: measure what recall finds of the judged set, and print the table of the docs."""

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from substrate.store.connect import open_store
from tests.judged import judged
from tests.judged.found import Found, found_by_words, keep
from tests.judged.scores import interval, ndcg, recall


async def measure() -> Mapping[str, Sequence[Found]]:
    """Return what each way of looking finds, for every question."""
    with tempfile.TemporaryDirectory() as folder:
        store = await open_store(f"sqlite:///{Path(folder) / 'judged.db'}")
        try:
            await keep(store, judged())
            return {"full text": await found_by_words(store, judged())}
        finally:
            await store.close()


def table(found: Mapping[str, Sequence[Found]]) -> list[str]:
    """Return the table: of each half, the scores with the intervals that hold 95 %."""
    lines = ["| | half | nDCG@10 | recall@10 |", "|---|---|---|---|"]
    for name, some in found.items():
        for half, is_held_out in (("chosen on", False), ("held out", True)):
            asked = [each for each in some if each.asked.is_held_out is is_held_out]
            scores = [
                str(interval([score(each.names, each.asked.name) for each in asked]))
                for score in (ndcg, recall)
            ]
            lines.append(f"| {name} | {half} | {' | '.join(scores)} |")
    return lines


if __name__ == "__main__":
    print("\n".join(table(asyncio.run(measure()))))
