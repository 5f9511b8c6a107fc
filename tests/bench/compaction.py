"""What the hook `compact` costs and saves: a talk of 300 messages, under several policies.

    python -m tests.bench.compaction

An agent reads 150 pages of about 1,500 tokens each. Counted is what it is sent in all, and how much
of that a provider's cache has from the request before: what begins as that one did. The price is
that of $2 for a million tokens read and $10 written, a tenth for what is cached, a quarter more for
what is put there.
"""

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from substrate import connect
from substrate.agent import Compact, drop_results, drop_turns, summarise
from substrate.agent.end import Stop
from substrate.agent.stop import answered, any_of, max_turns
from substrate.models.request import Request
from substrate.models.tokens import estimate, estimate_of
from tests.loops import answer_of
from tests.reader import Reader, cuts, is_summary, reading

PAGES, CHARS = 149, 6_000
SUMMARY = "So far I have read this. " * 160
ALL = (drop_results(), summarise(), drop_turns())
ENDS: Stop = any_of(answered(), max_turns(PAGES + 10))

POLICIES: dict[str, tuple[int, Compact | None]] = {
    "none, of a model of 1,000,000": (1_000_000, None),
    "none, of a model of 200,000": (200_000, None),
    "all, of 200,000": (200_000, Compact(ALL, window=200_000)),
    "all, of 64,000": (64_000, Compact(ALL, window=64_000)),
    "results alone, of 64,000": (64_000, Compact([drop_results(), drop_turns()], window=64_000)),
    "a summary alone, of 64,000": (64_000, Compact([summarise()], window=64_000)),
    "turns, seldom and deep, of 64,000": (64_000, Compact([drop_turns()], window=64_000)),
    "turns, often and little, of 64,000": (
        64_000,
        Compact([drop_turns()], to=0.82, window=64_000),
    ),
}


@dataclass(frozen=True, slots=True)
class Found:
    """What one policy came to."""

    cuts: int
    refused: int
    summaries: int
    requests: int
    sent: int
    cached: int
    largest: int

    @property
    def usd(self) -> float:
        """What a provider charges for it, about."""
        fresh = self.sent - self.cached
        return (fresh * 1.25 * 2 + self.cached * 0.1 * 2 + self.requests * 60 * 10) / 1e6


async def measure(window: int, policy: Compact | None) -> Found:
    """Hold the talk, and count."""
    reader = Reader(window=window, pages=PAGES, chars=CHARS, summary=SUMMARY)
    with tempfile.TemporaryDirectory() as folder:
        async with connect(f"sqlite:///{folder}/runs.db") as client:
            agent = reading(reader.model(), policy, stop=ENDS)
            answer = await answer_of(client, agent)
            made = len(await cuts(client))
    assert answer.text == "Done.", answer
    sent = [estimate(each) for each in reader.asked]
    summaries = sum(map(is_summary, reader.asked))
    cached = _cached(reader.asked)
    return Found(made, reader.refused, summaries, len(sent), sum(sent), cached, max(sent))


def _cached(asked: Sequence[Request]) -> int:
    """Return how many tokens a request has in common with the beginning of the one before."""
    found, before = 0, ()
    for request in asked:
        messages = tuple(request.messages)
        for one, other in zip(before, messages, strict=False):
            if one != other:
                break
            found += estimate_of(one)
        before = messages
    return found


def main() -> None:
    """Print the table."""
    rows: list[Any] = [("policy", "cuts", "summaries", "refused", "sent", "cached", "largest", "$")]
    for name, (window, policy) in POLICIES.items():
        found = asyncio.run(measure(window, policy))
        share = f"{100 * found.cached / found.sent:.0f} %"
        numbers = (found.cuts, found.summaries, found.refused, f"{found.sent:,}", share)
        rows.append((name, *numbers, f"{found.largest:,}", f"{found.usd:.2f}"))
    for row in rows:
        sys.stdout.write(f"| {' | '.join(map(str, row))} |\n")


if __name__ == "__main__":
    main()
