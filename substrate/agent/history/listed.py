"""Runs as a list tells of them: question, sums, cost of the tree, what is open. No whole journal.

What is settled is counted in the database, and of its payloads only what was used is read; so a
page of a list costs about as much as its runs have model calls, however much these have said.

Invariant: a list reads what it shows, so it names what cannot be read of that, and no more.
"""

import json
from collections.abc import Sequence
from dataclasses import replace

from substrate.agent.history.journal import legible_rows, readable_usages
from substrate.agent.history.keys import MODEL
from substrate.agent.history.run import RunHistory
from substrate.agent.history.totals import Totals
from substrate.agent.history.usage import summed
from substrate.engine.client import Client
from substrate.store.blobs import digest_in
from substrate.values.records import JsonText, Promise, Run, Sketch, own_promise


async def read_listed(client: Client, runs: Sequence[Run]) -> Sequence[RunHistory]:
    """Return what has become of these runs; of their journals what is open, and the sums."""
    sketches = await client.store.sketches(list({run.id: run for run in runs}), MODEL)
    now = client.store.clock.now_ms()
    return [await _listed(client, run, sketches[run.id], now) for run in runs]


async def _listed(client: Client, run: Run, sketch: Sketch, now: int) -> RunHistory:
    rows, own = legible_rows(sketch.open), legible_rows([await _own(client, run, sketch)])
    used = readable_usages(sketch.used)
    prefix = f"{run.id}#"
    itself = summed(each for each in used if "#" not in each[0].removeprefix(prefix))
    return RunHistory(
        run,
        rows.read,
        own.read[0],
        used,
        now,
        (*own.unreadable, *rows.unreadable),
        Totals(sketch.settled, sketch.named, itself),
    )


async def _own(client: Client, run: Run, sketch: Sketch) -> Promise:
    """Return the promise of a run's outcome with its question, and with why it has failed."""
    error = sketch.error
    if error is not None and digest_in(error):  # seldom: one with a traceback of 16 KB and more
        whole = await client.store.promise(run.id)
        error = None if whole is None else whole.error
    return replace(own_promise(run), input=_begun_with(sketch.input), error=error)


def _begun_with(text: JsonText | None) -> JsonText | None:
    """Return what a run was begun with; of a long task, the words that its row has a preview of."""
    if text is None or not digest_in(text):
        return text
    try:
        preview = str(json.loads(text)["preview"])
    except (ValueError, KeyError, TypeError):
        return text  # edited by hand: it is told that it cannot be read
    _, mark, words = preview.partition('"text":"')
    said = words.partition('","')[0].rstrip("\\") if mark else ""
    return JsonText(json.dumps({"task": {"text": f"{said}…"}}, ensure_ascii=True))
