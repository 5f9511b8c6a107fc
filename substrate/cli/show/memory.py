"""`memory`: what agents keep, as it is or was, found again, and why it is remembered."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from substrate.cli import format as wording
from substrate.cli.database import opened
from substrate.cli.environment import tenant
from substrate.cli.errors import UsageError
from substrate.cli.invocation import Invocation
from substrate.cli.json_output import print_document
from substrate.cli.moments import Moment
from substrate.cli.screen import open_page, open_screen, put
from substrate.engine.client import Client
from substrate.memory.exported import absent
from substrate.memory.look import Bounds, Provenance, known, markdown, one_line, provenance_of, why
from substrate.memory.moments import number_of
from substrate.memory.recall import KINDS, Recall, find
from substrate.store.memory_rows import Look
from substrate.values.codec import decode
from substrate.values.errors import InvalidId
from substrate.values.memory import Space, check_namespace, read_memory_id
from substrate.values.records import Promise


async def list_namespaces(invocation: Invocation, prefix: str) -> int:
    """Print the namespaces."""
    async with opened(invocation) as client:
        found = await client.store.memory.counters(prefix, tenant=client.tenant)
        now = client.store.clock.now_ms()
    if invocation.is_json:
        told = [
            {"namespace": each.space.ns, "n": each.last_n, "changed_at_ms": each.last_at}
            for each in found
        ]
        print_document({"namespaces": told})
        return 0
    if not found:
        put(open_screen(), Text("nothing is remembered", "dim"))
        return 0
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("namespace", "changes", "texts", "changed"):
        table.add_column(name, overflow="fold")
    for each in found:
        age = f"{wording.age(now - each.last_at)} ago"
        table.add_row(each.space.ns, str(each.last_n), str(each.docs), age)
    put(open_page(), table)
    return 0


async def show_namespace(invocation: Invocation, namespace: str, as_of: str | None) -> int:
    """Print what a namespace holds, as Markdown."""
    space = _space(namespace)
    async with opened(invocation) as client:
        if not (await client.store.memory.counter(space)).last_n:
            raise await absent(client.store.memory, space)
        now = client.store.clock.now_ms()
        found = await known(client.store.memory, space, _bounds(as_of, now), now)
    if invocation.is_json:
        print_document({"namespace": namespace, **asdict(found)})
    else:
        put(open_page(), wording.visible(markdown(space, found)))
    return 0


async def search(
    invocation: Invocation, namespace: str, question: str, k: int, as_of: str | None
) -> int:
    """Print what a question finds."""
    space = _space(namespace)
    async with opened(invocation) as client:
        memory, now = client.store.memory, client.store.clock.now_ms()
        counter, bounds = await memory.counter(space), _bounds(as_of, now)
        n = await number_of(memory, counter, bounds.n, bounds.known_at)
        at = max(now, counter.last_at) if bounds.known_at is None else bounds.known_at
        hits = await find(memory, Recall(space, question, k, tuple(KINDS), at), counter, n)
    if invocation.is_json:
        print_document({"namespace": namespace, "n": n, "hits": hits})
        return 0
    if not hits:
        put(open_screen(), Text("nothing that is remembered is about that", "dim"))
    for hit in hits:
        why_ = f"{hit['score']:.2f} by {', '.join(hit['words'])} · {hit['trust']} · {hit['source']}"
        page = open_page()
        put(page, Text.assemble((hit["id"], "bold"), "  ", wording.visible(one_line(hit["text"]))))
        put(page, Text(f"    {why_}", "dim"))
    return 0


async def explain(invocation: Invocation, id_: str) -> int:
    """Print why something is remembered, or what a step of a run knew."""
    async with opened(invocation) as client:
        if (step := await _step(client, id_)) is not None:
            return await _explain_read(invocation, client, step)
        try:
            namespace, n = read_memory_id(id_)
        except InvalidId as error:
            raise UsageError(
                f"{error}; or the id of a step that has read: 'run/1#recall.0'"
            ) from None
        rows = await why(client.store.memory, Space(tenant(), namespace), n)
        if not rows:
            raise UsageError(f"nothing is remembered as {id_!r:.220}; `memory show` has the ids")
        if invocation.is_json:
            print_document({"id": id_, "rows": [asdict(row) for row in rows]})
        else:
            _put_rows(rows)
    return 0


async def _step(client: Client, id_: str) -> Promise | None:
    key = id_.partition("#")[2]
    if not key or key.isdecimal():
        return None
    found = (await client.store.promises([id_])).get(id_)
    if found is None:
        raise UsageError(f"no step has the id {id_!r:.220}; `show` has the keys of a run")
    return found


async def _explain_read(invocation: Invocation, client: Client, step: Promise) -> int:
    """Print what a read has found, and what has become of that since."""
    value: Any = decode(step.value) if step.value else None
    asked: Any = decode(step.input) if step.input else None
    if not isinstance(value, dict) or not isinstance(asked, dict) or "found" not in value:
        raise UsageError(f"{step.id!r:.220} has read no memory; give a step such as recall.0")
    run = await client.get(step.run_id)
    if run.tenant != client.tenant:  # in another one's namespace of this name stand other rows
        whose = f"of tenant {run.tenant!r}" if run.tenant else "of no tenant"
        raise UsageError(
            f"run {run.id!r} is {whose}, and so is what it knew; set OSTINATO_TENANT={run.tenant}"
        )
    space = Space(tenant(), check_namespace(asked.get("namespace")))
    told = []
    for each in value["found"]:
        id_ = (each.get("link") or each)["id"]
        n = read_memory_id(id_)[1]
        rows = [row for row in await _rows(client, space, n) if row.id == id_]
        told.append({"id": id_, "now": asdict(rows[0]) if rows else None})
    if invocation.is_json:
        print_document({"id": step.id, "namespace": space.ns, "n": value["n"], "found": told})
        return 0
    page = open_page()
    put(page, Text.assemble((step.id, "bold"), f"  knew {space.ns} as of {value['n']}"))
    for each in told:
        row = each["now"]
        says = (
            "there is no such row any more"
            if row is None
            else wording.visible(one_line(row["says"]))
        )
        gone = row and row["gone_by"]
        end = f" · gone since, by {row['gone_by']}" if gone else ""
        source = f" · {row['source']}" if row else ""
        put(page, Text.assemble(f"{each['id']}  {says}", (f"{source}{end}", "dim")))
    return 0


async def _rows(client: Client, space: Space, n: int) -> Sequence[Provenance]:
    memory = client.store.memory
    return [
        provenance_of(row)
        for table in ("notes", "facts", "links", "history")
        for row in await memory.rows(Look(space, table, {"n": n}))
    ]


def _put_rows(rows: Sequence[Provenance]) -> None:
    page = open_page()
    for row in rows:
        put(page, Text.assemble((row.id, "bold"), "  ", wording.visible(one_line(row.says))))
        said = f"said by {row.source} ({row.trust}), {wording.moment(row.recorded_at)}"
        if row.writer != row.source:
            said += f"; this row was written by {row.writer}"
        put(page, Text(f"    {said}", "dim"))
        if row.valid_from is not None:
            end = "" if row.valid_to is None else f" to {wording.moment(row.valid_to)}"
            put(page, Text(f"    true from {wording.moment(row.valid_from)}{end}", "dim"))
        if row.gone_at is not None:
            put(page, Text(f"    gone {wording.moment(row.gone_at)}, by {row.gone_by}", "dim"))


def _space(namespace: str) -> Space:
    try:
        return Space(tenant(), check_namespace(namespace))
    except InvalidId as error:
        raise UsageError(str(error)) from None


def _bounds(as_of: str | None, now: int) -> Bounds:
    if as_of is None:
        return Bounds()
    if as_of.isdecimal() and len(as_of) < 16:
        return Bounds(n=int(as_of))
    return Bounds(known_at=Moment.read("--as-of", as_of).at(now))
