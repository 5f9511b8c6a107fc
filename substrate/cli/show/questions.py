"""The questions that a run has open: who is to answer what until when, and by which command.

What a run waits for may be asked below it, by a child; then the answer goes to that child's inbox.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.text import Text

from substrate.cli import format as wording
from substrate.cli.invocation import Invocation
from substrate.cli.journal import read_journal
from substrate.cli.show.waits import Wait, waits_of
from substrate.engine.client import Client
from substrate.values.ids import RunId
from substrate.values.records import Kind, Promise, Run

MANY = 20
"""So many questions are told of a run, and so many children looked at, at most."""


@dataclass(frozen=True, slots=True)
class Question:
    """A signal that a run waits for, or one below it."""

    run_id: str
    wait: Wait

    @property
    def words(self) -> str:
        """What is asked: ``approval, true or false, until 2026-11-28 09:05:07``."""
        until = self.wait.until
        end = "" if until is None else f", until {wording.moment(until)}"
        return f"{self.wait.promise.name}: {self.wait.wanted.words}{end}"

    def command(self, invocation: Invocation) -> Text:
        """Return what answers it, ready for a shell; what is to be filled in is in capitals."""
        wanted, example = self.wait.wanted, self.wait.wanted.example
        value = example if isinstance(example, str) else wording.as_json(example)
        sent = invocation.command("signal", self.run_id, self.wait.promise.name, value)
        return Text.assemble(
            wording.visible(sent), ("  (or false)" if wanted.is_bool else "", "dim")
        )


def asked_in(run: Run, journal: Iterable[Promise]) -> Sequence[Question]:
    """Return what a run itself asks, in the order in which answers are taken.

    One that is to end asks nothing any more.
    """
    if run.cancel_requested:
        return []
    waits = waits_of(run, journal)
    return [Question(run.id, wait) for wait in waits if wait.promise.kind is Kind.SIGNAL]


async def read_questions(
    client: Client, run: Run, journal: Iterable[Promise]
) -> Sequence[Question]:
    """Return what a run and all below it ask; the first ones, where there are many."""
    below = [wait.promise.id for wait in waits_of(run, journal) if wait.promise.kind is Kind.CHILD]
    found = [*asked_in(run, journal), *await read_questions_of(client, below)]
    return found[:MANY]


async def read_questions_of(client: Client, ids: Iterable[str]) -> Sequence[Question]:
    """Return what the first of these runs ask, and those below them."""
    found: list[Question] = []
    ahead = list(ids)[:MANY]
    looked = 0
    while ahead and len(found) < MANY and looked < MANY:
        run = await client.store.get(RunId(ahead.pop(0)))
        looked += 1
        if run is None or run.status.has_ended:
            continue
        journal = await read_journal(client, run)
        found += asked_in(run, journal)
        waits = waits_of(run, journal)
        ahead += [wait.promise.id for wait in waits if wait.promise.kind is Kind.CHILD]
    return found[:MANY]


def how_to_answer(questions: Iterable[Question], invocation: Invocation) -> Iterator[Text]:
    """Yield a line for each question, and below it the command that answers it.

    Those under one name, of one run, are one line: answers go to them in the order of their keys.
    """
    alike: dict[tuple[str, str, str], list[Question]] = {}
    for each in questions:
        key = (each.run_id, each.wait.promise.name, each.wait.wanted.words)
        alike.setdefault(key, []).append(each)
    for first, *others in alike.values():
        more = f"; {1 + len(others)} are open, and the first is answered first" if others else ""
        yield Text.assemble(("answer ", "dim"), wording.visible(first.words), (more, "dim"))
        yield Text("  ").append_text(first.command(invocation))
