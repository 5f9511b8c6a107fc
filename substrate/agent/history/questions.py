"""The questions that a run has open: who is to answer what until when.

What a run waits for may be asked below it, by a child; then the answer goes to that child's inbox.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from substrate.agent.history.journal import legible_rows
from substrate.agent.history.waits import Wait, wait_of, waits_of
from substrate.engine.client import Client
from substrate.values.ids import RunId
from substrate.values.records import Kind, Promise, Run

MANY = 20
"""So many questions are told of a run, at most."""


_ASKING = (Kind.SIGNAL, Kind.GATE)


@dataclass(frozen=True, slots=True)
class Question:
    """A signal or a decision that a run waits for, or one below it."""

    #: The run to which the answer goes.
    run_id: str
    #: The open wait: the signal's name, what it is to be, until when.
    wait: Wait


def asked_in(run: Run, journal: Iterable[Promise]) -> Sequence[Question]:
    """Return what a run itself asks, in the order in which answers are taken.

    One that is to end asks nothing any more.
    """
    if run.cancel_requested:
        return []
    waits = waits_of(run, journal)
    return [Question(run.id, wait) for wait in waits if wait.promise.kind in _ASKING]


async def read_asked(client: Client, runs: Iterable[Run]) -> dict[str, Sequence[Question]]:
    """Return what these runs and all below them ask, in one question for all: for lists."""
    open_ = {run.id for run in runs if not run.status.has_ended and not run.cancel_requested}
    asked = await client.store.asked(sorted(open_)) if open_ else {}
    found: dict[str, Sequence[Question]] = {}
    for id_, rows in asked.items():
        waits = ((row.run_id, wait_of(row)) for row in legible_rows(rows).read)
        ours = [Question(run_id, wait) for run_id, wait in waits if wait is not None]
        if ours:
            found[id_] = sorted(ours, key=lambda each: each.run_id != id_)  # its own come first
    return found


async def read_questions(
    client: Client, run: Run, journal: Iterable[Promise]
) -> Sequence[Question]:
    """Return what a run and all below it ask; the first ones, where there are many.

    What is below is looked up by the run's id, however many children there are, and how deep.
    """
    own = await _unanswered(client, asked_in(run, journal))
    below = await read_questions_of(client, [run.id])
    return [*own, *(each for each in below if each.run_id != run.id)][:MANY]


async def read_questions_of(client: Client, ids: Iterable[str]) -> Sequence[Question]:
    """Return what these runs ask, and those below them; the first ones, where there are many."""
    asked = await client.store.asked([RunId(each) for each in ids])
    rows = legible_rows([row for found in asked.values() for row in found]).read
    waits = ((row.run_id, wait_of(row)) for row in rows)
    asking = [Question(run_id, wait) for run_id, wait in waits if wait is not None][:MANY]
    return await _unanswered(client, asking)


async def _unanswered(client: Client, asked: Sequence[Question]) -> Sequence[Question]:
    """Return the questions to which no answer lies in an inbox: nobody may have taken it yet."""
    asking = {each.run_id for each in asked if each.wait.promise.kind is Kind.SIGNAL}
    come: Counter[tuple[str, str]] = Counter()
    for run_id in sorted(asking):
        come.update((run_id, each.name) for each in await client.store.inbox(RunId(run_id)))
    left = []
    for each in asked:  # in the order in which answers are taken
        named = (each.run_id, each.wait.promise.name)
        if each.wait.promise.kind is Kind.SIGNAL and come[named]:
            come[named] -= 1
        else:
            left.append(each)
    return left
