"""What a run in a test waits for, each with the Python that answers it: `describe_waits`."""

from collections.abc import Iterator, Sequence

from substrate.agent.history.journal import read_journal
from substrate.agent.history.keys import MESSAGE
from substrate.agent.history.questions import Question, read_questions
from substrate.agent.history.waits import Wait, read_waits
from substrate.engine.client import Client
from substrate.values.ids import RunId
from substrate.values.records import Kind

_ANSWERED = (Kind.SIGNAL, Kind.GATE)


async def describe_waits(client: Client, run_id: str) -> str:
    """Return what a run, and all below it, waits for, with the line of a test that answers it.

    For the message of a test that fails where its run goes on only once somebody has decided or
    sent something, or time has passed. A run that waits for nothing is said to.

    Args:
        client: The open store.
        run_id: The run: it has been driven, as by ``worker.run_until_idle()``.

    Raises:
        RunNotFound: there is none.
    """
    run = await client.get(run_id)
    journal = await read_journal(client, run)
    waits = await read_waits(client, run, journal)
    asked = await read_questions(client, run, journal)
    lines = [*map(_answered, asked), *_others(waits, asked)]
    if not lines:
        return f"run {run_id!r} is {run.status}, and waits for nothing"
    return "\n".join(
        [f"run {run_id!r} waits for", *lines, "then call worker.run_until_idle() again"]
    )


def _answered(question: Question) -> str:
    """Return what a person, or another program, is to give, and the call that gives it."""
    wait, run_id = question.wait, question.run_id
    value = wait.wanted.example
    if wait.promise.kind is Kind.SIGNAL:
        value = "and another thing" if wait.promise.name == MESSAGE else value
        call = f"await client.signal({run_id!r}, {wait.promise.name!r}, {value!r})"
        return f"  the signal {wait.promise.name!r} ({wait.wanted.words}): {call}"
    # By its own id, which is the same in each run of the test: a run may have several gates open.
    gate = f"await find_gate(client, {str(wait.promise.id)!r})"
    if wait.asks_for_approval:
        call = f'await approve(client, {gate}, by="test")'
        return f'  an approval of {wait.summary}: {call}, or deny(…, by="test", why="…")'
    call = f'await answer(client, {gate}, {value!r}, by="test")'
    return f"  an answer to {wait.summary!r} ({wait.wanted.words}): {call}"


def _others(waits: Sequence[Wait], asked: Sequence[Question]) -> Iterator[str]:
    for wait in waits:
        key, below = wait.promise.key, RunId(wait.promise.id)
        if wait.promise.kind in _ANSWERED or any(
            each.run_id == below or each.run_id.startswith(f"{below}#") for each in asked
        ):
            continue
        if wait.promise.kind is Kind.CHILD:
            yield f"  its child: await describe_waits(client, {str(below)!r}) says what that is for"
        else:
            yield f"  time, at {key}: give connect() a ManualClock, and clock.advance(seconds)"
