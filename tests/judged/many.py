"""Many facts and links, for measuring: what writes of memory would leave, in few commits."""

import importlib
import random
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from substrate.memory.outcome import Request
from substrate.memory.writes import decided
from substrate.store.ledger import Ledger
from substrate.store.store import Store
from substrate.values.memory import Counter, Space

CLAIM = {"confidence": 1.0, "valid_from": None, "valid_to": None, "trust": "agent"}
_WORDS = 20_000
_EACH = 5_000  # writes of a commit

Ask = tuple[str, Mapping[str, Any]]


def word(rank: int) -> str:
    """Return a word: the first stands in half of the texts, the second in a third, and so on."""
    letters = "bcdfghjklmnpqrstvwxz"
    found = ""
    for place in range(4):
        found += letters[rank // 20**place % 20] + "aou"[(rank + place) % 3]
    return found


def facts(count: int) -> list[Ask]:
    """Return facts of 4 to 12 words, which are as frequent as words of a language are."""
    chance = random.Random(0)
    ranks = range(_WORDS)
    weights = list(accumulate(1 / (rank + 1) for rank in ranks))
    asks = []
    for i in range(count):
        said = chance.choices(ranks, cum_weights=weights, k=chance.randint(2, 10))
        asks.append(
            (
                "remember",
                {
                    "subject": f"Person {i % (count // 20 or 1)}",
                    "predicate": "said",
                    "object": f"{' '.join(map(word, said))} {i}",
                    "policy": "many",
                    **CLAIM,
                },
            )
        )
    return asks


def links(count: int) -> list[Ask]:
    """Return links between a fifth as many things."""
    chance = random.Random(0)
    ends = [f"Thing {i}" for i in range(count // 5)]
    return [
        ("link", {"a": chance.choice(ends), "rel": "knows", "b": chance.choice(ends), **CLAIM})
        for _ in range(count)
    ]


async def fill(store: Store, url: str, space: Space, asks: Sequence[Ask]) -> None:
    """Write it all, in a namespace of the store of this URL in which nothing is said of it."""
    dialect = url.partition(":")[0].replace("postgresql", "postgres")
    sql = importlib.import_module(f"substrate.store.{dialect}.memory")
    db = store.memory._db

    def changed(counter: Counter, some: Sequence[Ask], first: int) -> Ledger:
        ledger = Ledger([counter], [])
        for i, (name, ask) in enumerate(some, first):
            decided(ledger, space, name, ask, Request(f"run#{name}.{i}", 1_700_000_000_000 + i))
        return ledger

    for first in range(0, len(asks), _EACH):
        counter = await store.memory.counter(space)
        ledger = changed(counter, asks[first : first + _EACH], first)
        if dialect == "sqlite":

            def write(db: Any, ledger: Ledger = ledger) -> None:
                sql._ledger(db, [])
                db.execute(sql._INSERT_NAMESPACE, sql.space_of(space))
                sql._write(db, ledger)

            await db.write(write)
        else:

            async def write_there(db: Any, ledger: Ledger = ledger) -> None:
                await sql._ask(db, sql._LOCK_NAMESPACES, [sql.space_of(space)])
                await sql._write(db, ledger)

            await db.write(write_there)
