"""How a run stands just now: what it waits for, what is asked and how to answer, its inbox."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text

from substrate.agent.history.mending import Mending
from substrate.agent.history.questions import Question
from substrate.agent.history.run import RunHistory
from substrate.agent.history.untaken import UntakenSignal
from substrate.agent.history.waits import Wait, until_of
from substrate.cli import format as wording
from substrate.cli.invocation import Invocation
from substrate.cli.show.questions import how_to_answer
from substrate.values.ids import PromiseId
from substrate.values.records import Kind, RunStatus


@dataclass(frozen=True, slots=True)
class State:
    """A run with what is open about it."""

    #: The run, with its journal.
    history: RunHistory
    #: What it waits for.
    waits: Sequence[Wait]
    #: The signals that it has not taken.
    inbox: Sequence[UntakenSignal]
    #: What it, and all below it, ask people.
    questions: Sequence[Question] = ()
    #: The function, with its version, that no worker knows and that the run waits for.
    missing: str | None = None
    #: What was mended in its last model call.
    mending: Mending | None = None

    @property
    def statuses(self) -> Mapping[PromiseId, RunStatus]:
        """How its open children stand."""
        return {wait.promise.id: wait.status for wait in self.waits if wait.status}


def state_lines(state: State, invocation: Invocation) -> Iterator[Text]:
    """Yield what a run waits for and until when, and the signals that nobody took."""
    run = state.history.run
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
            pausing = [wait for wait in state.waits if wait.promise.kind is Kind.STEP]
            now = invocation.command("resume", run.id)
            yield from [Text(f"to try at once: {now}", "dim")] if pausing else []
    if state.inbox:
        yield Text("")
        yield Text("in the inbox, taken by nobody:", "dim")
    for signal in state.inbox:
        word = ("late", "yellow") if signal.is_late else ("kept", "cyan")
        sent = wording.moment(signal.received.sent_at)
        yield Text.assemble(
            f"  {signal.received.name}  ",
            word,
            (f"  sent {sent}  ", "dim"),
            wording.short(signal.value, 80) if signal.is_readable else _UNREADABLE,
        )


_UNREADABLE = (
    "its value cannot be read: put that row of `signals` right in the database, or delete it",
    "yellow",
)


def _standing(state: State) -> Text:
    run = state.history.run
    if run.epoch == 0:
        return Text("suspended: it was started for later, and has not begun", "blue")
    until = until_of(run, state.waits)
    end = f"until {wording.moment(until)}" if until else "until something comes"
    return Text.assemble(("suspended", "blue"), f" {end}; it holds nothing meanwhile")
