"""`signal`: send a value to a run, and say whether somebody waits for it.

It needs no worker and starts none: the signal lies in the run's inbox, and whoever drives the run
next takes it. What the run waits for is looked at before the signal is sent, since a worker may
take it at once, and after, since the wait may have begun meanwhile.
"""

import json
import shlex
from collections.abc import Sequence
from typing import Any, NoReturn
from uuid import uuid4

from rich.text import Text

from substrate.agent.hearing import MESSAGE
from substrate.cli.document import print_document
from substrate.cli.environment import database_url
from substrate.cli.fork import check_there
from substrate.cli.invocation import Invocation
from substrate.cli.screen import open_page, open_screen, put
from substrate.cli.trouble import UsageError
from substrate.cli.waits import Wait, awaits_signal, read_waits
from substrate.engine.client import Client, connect
from substrate.values.records import Kind


async def send(
    invocation: Invocation, run_id: str, name: str, value: str | None, dedup: str | None
) -> int:
    """Send a signal to a run."""
    check_there(invocation.package)
    sent = None if value is None else _read(value, invocation.command("signal", run_id, name))
    async with connect(database_url()) as client:
        before = await _waits(client, run_id)
        counts = await client.signal(run_id, name, sent, dedup or str(uuid4()))
        waits = before if awaits_signal(before, name) else await _waits(client, run_id)
    taker = awaits_signal(waits, name)
    if invocation.is_json:
        key = taker.promise.key if taker else None
        open_ = [wait.to_json() for wait in waits]
        print_document({"run": run_id, "name": name, "counts": counts, "key": key, "waits": open_})
        return 0
    if not counts:
        told = f"{name!r} was sent to run {run_id} under {dedup!r} before; this one does not count"
        put(open_page(), told)
    else:
        put(open_page(), *_told(run_id, name, taker, waits))
    put(open_screen(), *_hints(invocation, run_id, taker, waits))
    return 0


async def _waits(client: Client, run_id: str) -> Sequence[Wait]:
    run = await client.get(run_id)
    return await read_waits(client, run, await client.store.journal(run.id))


def _told(run_id: str, name: str, taker: Wait | None, waits: Sequence[Wait]) -> list[str]:
    if taker is not None:
        return [f"{name!r} is sent to run {run_id}, which waits for it at {taker.promise.key}"]
    if name == MESSAGE:
        return [f"{name!r} is in the inbox of run {run_id}: an agent reads it before its next turn"]
    kept = f"{name!r} is kept in the inbox of run {run_id}: no wait of that name is open"
    if not waits:
        return [f"{kept}; it waits for nothing just now"]
    return [f"{kept}; it waits for", *(f"  {wait.promise.key}  {wait.words}" for wait in waits)]


def _hints(
    invocation: Invocation, run_id: str, taker: Wait | None, waits: Sequence[Wait]
) -> list[Text]:
    """Return what to type next: to see the run go on, or to find out whom the signal was for."""
    if taker is not None:
        told = "goes on where a worker is running; to drive it here: "
        return [Text(told + invocation.command("resume", run_id), "dim")]
    children = [wait.promise.id for wait in waits if wait.promise.kind is Kind.CHILD]
    looked = [invocation.command("show", child) for child in children[:3]]
    return [Text(f"a child has an inbox of its own: {command}", "dim") for command in looked]


def _read(text: str, command: str) -> Any:
    """Return the value that somebody typed as JSON. Raises `UsageError` with how to quote it."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError:
        quoted = shlex.quote(json.dumps(text, ensure_ascii=False))
        raise UsageError(
            f"{text!r} is no JSON; text has quotes for JSON and, around these, for the shell: "
            f"{command} {quoted}"
        ) from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
