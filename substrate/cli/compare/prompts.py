"""`compare`: how the versions of a prompt did, read from the journals of their runs.

A run belongs to the version that its row ``prompt.0`` names. Its score is the value of its last
step called ``score``, a number that the loop itself records (``await ctx.step(grade, text,
name="score")``), or what a file says that was made afterwards.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from rich.table import Table
from rich.text import Text

from substrate.agent.history.rows import prompt_version_of, score_of
from substrate.agent.history.run import RunHistory, history_of
from substrate.cli import format as wording
from substrate.cli.compare.statistics import (
    CONFIDENCE,
    Estimate,
    Record,
    Sample,
    check_stats,
    compare,
)
from substrate.cli.database import opened
from substrate.cli.environment import database_url
from substrate.cli.errors import UsageError
from substrate.cli.invocation import Invocation
from substrate.cli.json_output import print_document
from substrate.cli.screen import open_page, put
from substrate.engine.client import Client
from substrate.store.database_url import shown_url


async def compare_versions(
    invocation: Invocation, name: str, limit: int, scores: Path | None
) -> int:
    """Print how the versions of a prompt did."""
    check_stats()
    given = {} if scores is None else read_scores(scores)
    async with opened(invocation) as client:
        samples = await read_samples(client, name, limit, given)
    records = compare(samples)
    if invocation.is_json:
        versions = [_document(each) for each in records]
        print_document({"prompt": name, "confidence": CONFIDENCE, "versions": versions})
    elif not records:
        where = shown_url(database_url())
        put(open_page(), f"no run in {where} was given a version of a prompt called {name!r}")
    else:
        put(open_page(), _table(records), Text("mean, and its 95 % confidence interval", "dim"))
    return 0


async def read_samples(
    client: Client, name: str, limit: int, scores: Mapping[str, float]
) -> list[Sample]:
    """Return what the newest runs came to that were given a version of this prompt."""
    samples = []
    for run in await client.list(None, limit):
        history = await history_of(client, run)
        if (version := _version(history, name)) is not None:
            usage = history.tree_usage
            ended = run.ended_at
            sample = Sample(
                run.id,
                version,
                history.reason if run.status.has_ended else None,
                usage.cost_usd,
                usage.input_tokens + usage.output_tokens,
                None if ended is None else (ended - run.created_at) / 1000,
                scores.get(run.id, score_of(history.journal)),
            )
            samples.append(sample)
    return samples


def read_scores(path: Path) -> dict[str, float]:
    """Return what a CSV file says of runs, a line each: its id, its score."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.reader(file) if line]
    try:
        return {run_id: float(score) for run_id, score in lines}
    except ValueError as error:
        raise UsageError(f"{path} is not lines of a run's id and a number: {error}") from None


def _version(history: RunHistory, name: str) -> str | None:
    """Return which version of this prompt the run was given."""
    for given in filter(None, map(prompt_version_of, history.journal)):
        if given.prompt == name:
            return given.version
    return None


def _document(record: Record) -> dict[str, object]:
    return {
        "version": record.version,
        "runs": record.runs,
        "reasons": record.reasons,
        "answered": record.answered.to_json(),
        "cost_usd": record.cost_usd.to_json(),
        "tokens": record.tokens.to_json(),
        "latency_s": record.latency_s.to_json(),
        "score": record.score.to_json(),
    }


def _table(records: Sequence[Record]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("version", overflow="fold")
    for column in ("runs", "answered", "cost", "tokens", "latency", "score"):
        table.add_column(column, justify="right")
    table.add_column("ended as")
    for each in records:
        table.add_row(
            each.version,
            str(each.runs),
            _cell(each.answered, lambda share: f"{share:.0%}"),
            _cell(each.cost_usd, _money, "unknown price"),
            _cell(each.tokens, lambda tokens: f"{tokens:,.0f}"),
            _cell(each.latency_s, lambda seconds: wording.duration(round(seconds * 1000))),
            _cell(each.score, lambda score: f"{score:.3g}"),
            Text(", ".join(f"{reason} {n}" for reason, n in each.reasons.items()), "dim"),
        )
    return table


def _money(usd: float) -> str:
    return wording.money(Decimal(str(max(usd, 0))))


def _cell(estimate: Estimate, show: Callable[[float], str], nothing: str = "") -> Text:
    """Return a figure with its interval below it."""
    if estimate.value is None:
        return Text(nothing, "dim")
    if estimate.low is None or estimate.high is None:
        return Text(show(estimate.value))
    between = f"\n{show(estimate.low)} – {show(estimate.high)}"
    return Text.assemble(show(estimate.value), (between, "dim"))
