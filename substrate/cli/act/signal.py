"""`signal`: send a value to a run, and say whether somebody waits for it.

It needs no worker and starts none: the signal lies in the run's inbox, and whoever drives the run
next takes it. What the run waits for is looked at before the signal is sent, since a worker may
take it at once, and after, since the wait may have begun meanwhile.

A value that would be refused is not sent, and one that was refused is told: both end with the code
of a mistyped command. A run that has ended takes nothing, whatever is typed, so that is a failure.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn
from uuid import uuid4

from rich.text import Text

from substrate.agent.history.journal import read_journal
from substrate.agent.history.questions import Question, read_questions
from substrate.agent.history.waits import Wait, awaits_signal, read_waits
from substrate.agent.inbox import MESSAGE
from substrate.agent.signalled import STOP
from substrate.cli import format as wording
from substrate.cli.database import opened
from substrate.cli.errors import UsageError
from substrate.cli.invocation import Invocation
from substrate.cli.json_output import of_wait, print_document
from substrate.cli.screen import open_page, open_screen, put
from substrate.cli.show.questions import answering_command, how_to_answer, question_words
from substrate.cli.show.waits import wait_words
from substrate.engine.client import Client
from substrate.engine.context.wanted_type import WantedType
from substrate.engine.context.yes_no import yes_and_no
from substrate.engine.run.attempts import failed_in
from substrate.values.ids import RunId
from substrate.values.near import did_you_mean, meant
from substrate.values.records import Kind, Promise, Run, RunStatus

_LOOK_S, _LOOKS = 0.05, 20
"""How often, and how many times, one looks whether a worker has refused what was just sent."""


_AS_JSON = {"yes": "true", "no": "false"}


class NotTaken(UsageError):
    """A value was sent and refused: the run goes on waiting."""


async def send(
    invocation: Invocation, run_id: str, name: str, value: str | None, dedup: str | None
) -> int:
    """Send a signal to a run."""
    id_ = dedup or str(uuid4())
    async with opened(invocation) as client:
        run = await client.get(run_id)
        journal = await read_journal(client, run)
        before = await read_waits(client, run, journal)
        gates = await _gates(client, run, journal, invocation)
        # One that has ended takes nothing, whatever is typed: it is said by who knows.
        sent = (
            None
            if run.status.has_ended
            else _read(value, before, name, partial(invocation.command, "signal", run_id), gates)
        )
        counts = await client.signal(run_id, name, sent, id_)
        if run.status is RunStatus.RUNNING and (why := await _refusal(client, run.id, id_)):
            raise NotTaken(f"{name!r} was sent to run {run_id}, which refused it: {why}")
        waits = before if awaits_signal(before, name) else await _waits(client, run)
        asked = await read_questions(client, run, [wait.promise for wait in waits])
    taker = awaits_signal(waits, name)
    if invocation.is_json:
        key = taker.promise.key if taker else None
        open_ = [of_wait(wait) for wait in waits]
        print_document({"run": run_id, "name": name, "counts": counts, "key": key, "waits": open_})
        return 0
    if not counts:
        note = f"{name!r} was sent to run {run_id} under {dedup!r} before; this one does not count"
        put(open_page(), note)
    else:
        put(open_page(), *_report(run_id, name, sent, taker, waits))
    put(open_screen(), *_hints(invocation, run_id, taker, asked))
    return 0


async def _gates(
    client: Client, run: Run, journal: Sequence[Promise], invocation: Invocation
) -> str:
    """Return the first gate that is open, and the command that decides it; empty without one."""
    asked = await read_questions(client, run, journal)
    gates = [each for each in asked if each.wait.promise.kind is Kind.GATE]
    if not gates:
        return ""
    how = answering_command(gates[0], invocation).plain
    return f"the run waits for {question_words(gates[0])}, which no signal decides: {how}"


async def _waits(client: Client, run: Run) -> Sequence[Wait]:
    return await read_waits(client, run, await read_journal(client, run))


async def _refusal(client: Client, run_id: str, dedup: str) -> str | None:
    """Return why the worker that drives the run refused a signal; None if it did not, or not soon.

    What a type's own validators say is known to that worker only.
    """
    for _ in range(_LOOKS):
        if all(each.dedup != dedup for each in await client.store.inbox(RunId(run_id))):
            journal = await client.store.journal(RunId(run_id))
            noted = (each for row in journal for each in failed_in(row))
            return next((each["message"] for each in noted if each.get("dedup") == dedup), None)
        await client.store.clock.sleep(_LOOK_S)
    return None


def _report(
    run_id: str, name: str, sent: Any, taker: Wait | None, waits: Sequence[Wait]
) -> list[str]:
    if taker is not None:
        return [f"{name!r} is sent to run {run_id}, which waits for it at {taker.promise.key}"]
    if name == MESSAGE:
        return [f"{name!r} is in the inbox of run {run_id}: an agent reads it before its next turn"]
    if name == STOP:
        listens = "an agent that listens for it by signalled() ends before its next turn"
        return [f"{name!r} is in the inbox of run {run_id}: {listens}"]
    near = did_you_mean(
        name, [each.promise.name for each in waits if each.promise.kind is Kind.SIGNAL]
    )
    value = wording.short(wording.as_json(sent))
    kept = f"{name!r} is kept in the inbox of run {run_id} as {value}: no wait of that name is open"
    kept += near
    if not waits:
        return [f"{kept}; it waits for nothing just now"]
    return [
        f"{kept}; it waits for",
        *(f"  {wait.promise.key}  {wait_words(wait)}" for wait in waits),
    ]


def _hints(
    invocation: Invocation, run_id: str, taker: Wait | None, asked: Sequence[Question]
) -> list[Text]:
    """Return what to type next: to see the run go on, or what answers the questions there are."""
    if taker is not None:
        hint = "goes on where a worker is running; to drive it here: "
        return [Text(hint + invocation.command("resume", run_id), "dim")]
    return list(how_to_answer(asked, invocation))


def _read(
    text: str | None, waits: Sequence[Wait], name: str, command: Callable[..., str], gates: str
) -> Any:
    """Return the value that somebody typed: JSON, or the words that an open wait of the name takes.

    Raises `UsageError` for what is no JSON, and for what none of these waits would take.
    """
    signals = [wait for wait in waits if wait.promise.kind is Kind.SIGNAL]
    wanted = [wait.wanted for wait in signals if wait.promise.name == name]
    if not wanted or any(each.is_anything for each in wanted):
        if gates and not signals and text is not None and not _is_json(text):
            raise UsageError(f"nothing was sent: {gates}")
        others = [] if wanted else sorted({wait.promise.name for wait in signals})
        return None if text is None else _json(text, name, command, others, is_early=not wanted)
    for each in wanted:
        for value in _readings(text, each):
            if each.refusal(value) is None:
                return yes_and_no().validate_python(value) if each.is_bool else value
    first = wanted[0]
    why = first.refusal(_readings(text, first)[0])
    raise UsageError(f"nothing was sent, for {name!r} is to be {first.words}: {why}")


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_refuse)
    except ValueError:
        return False
    return True


def _readings(text: str | None, wanted: WantedType) -> Sequence[Any]:
    """Return what somebody may have meant, the likeliest first: text needs no quotes of JSON."""
    if text is None:
        return [None]
    try:
        value = json.loads(text, parse_constant=_refuse)
    except ValueError:
        return [text]
    return [text, value] if wanted.is_text and not isinstance(value, str) else [value, text]


def _json(
    text: str, name: str, command: Callable[..., str], others: Sequence[str], *, is_early: bool
) -> Any:
    """Return the value of JSON that somebody typed; `is_early` where no wait of the name is open.

    Raises `UsageError` with how to quote it, or with the name of a wait that was meant.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError:
        if (near := meant(name, others)) is not None:
            raise UsageError(
                f"nothing was sent: the run waits for no {name!r}, but for {near!r}; to send "
                f"{text!r} to that: {command(near, text)}"
            ) from None
        asked = f", and what the run waits for is {', '.join(others)}" if others else ""
        quoted = command(name, json.dumps(text, ensure_ascii=False))
        hint = f"text has quotes for JSON and, around these, for the shell: {quoted}"
        if is_early:
            asked += f"; nothing waits for {name!r} yet, so nobody knows its type, and only JSON is"
            asked += " kept"
        if is_early and (word := _AS_JSON.get(text.lower())):
            hint = f"if it is a yes or no that will be asked: {command(name, word)}; {hint}"
        raise UsageError(f"{text!r} is no JSON{asked}; {hint}") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
