"""How a run stands just now: what it waits for, what is asked and how to answer, its inbox."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text

from substrate.cli import format as wording
from substrate.cli.invocation import Invocation
from substrate.cli.show.inbox import Letter
from substrate.cli.show.outcome import Outcome
from substrate.cli.show.questions import Question, how_to_answer
from substrate.cli.show.waits import Wait, until_of
from substrate.values.ids import PromiseId
from substrate.values.records import Kind, RunStatus


@dataclass(frozen=True, slots=True)
class State:
    """A run with what is open about it."""

    outcome: Outcome
    waits: Sequence[Wait]
    inbox: Sequence[Letter]
    questions: Sequence[Question] = ()
    missing: str | None = None
    """The function, with its version, that no worker knows and that the run waits for."""

    @property
    def statuses(self) -> Mapping[PromiseId, RunStatus]:
        """How its open children stand."""
        return {wait.promise.id: wait.status for wait in self.waits if wait.status}


def told_of(state: State, invocation: Invocation) -> Iterator[Text]:
    """Yield what a run waits for and until when, and the signals that nobody took."""
    run = state.outcome.run
    if run.cancel_requested and not run.status.has_ended:
        here = invocation.command("resume", run.id)
        yield Text("")
        yield Text.assemble(("it is asked to end", "yellow"), f"; to end it here: {here}")
    elif state.missing is not None:
        yield Text("")
        yield Text(f"waits for a worker that knows {state.missing}; none does", "yellow")
    elif state.questions or run.status is RunStatus.SUSPENDED:
        yield Text("")
        if run.status is RunStatus.SUSPENDED:
            yield _standing(state)
        yield from how_to_answer(state.questions, invocation)
        if run.status is RunStatus.SUSPENDED:
            resting = [wait for wait in state.waits if wait.promise.kind is Kind.STEP]
            now = invocation.command("resume", run.id)
            yield from [Text(f"to try at once: {now}", "dim")] if resting else []
    if state.inbox:
        yield Text("")
        yield Text("in the inbox, taken by nobody:", "dim")
    for letter in state.inbox:
        word = ("late", "yellow") if letter.is_late else ("kept", "cyan")
        sent = wording.moment(letter.received.sent_at)
        yield Text.assemble(
            f"  {letter.received.name}  ",
            word,
            (f"  sent {sent}  ", "dim"),
            wording.short(letter.value, 80),
        )


def _standing(state: State) -> Text:
    run = state.outcome.run
    if run.epoch == 0:
        return Text("suspended: it was started for later, and has not begun", "blue")
    until = until_of(run, state.waits)
    end = f"until {wording.moment(until)}" if until else "until something comes"
    return Text.assemble(("suspended", "blue"), f" {end}; it holds nothing meanwhile")
