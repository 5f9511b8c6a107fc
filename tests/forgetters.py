"""Runs that keep and read what a person wants forgotten, and where a text is left in a database."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import psycopg

from substrate import Context, Retry, StepFailed, connect, durable
from substrate.store.blobs import open_blob
from substrate.values.errors import StoreUnusable
from substrate.values.gates import Rule, RuleVerdict
from substrate.values.ids import part_of
from tests.runs import QUICK
from tests.stores import database, sqlite_path

NS = "acme/users/anna"
OTHER = "acme/users/bert"
WORD = "quokka"
"""It stands in each text of Anna's, and nowhere else."""
LONG = " ".join(f"{WORD}{Random(7).getrandbits(64):x}{each}" for each in range(900))
"""A text of hers that no row holds: it lies in a blob."""


async def fail(text: str) -> None:
    raise ValueError(f"no {text}")


async def repeat(text: str) -> str:
    return text


@durable
async def confide(ctx: Context, task: str) -> str:
    """Write all four kinds, spill, fail, wait, spawn and read, with her texts everywhere."""
    memory = ctx.memory(NS, trust="user", undo=True)
    await memory.remember("Anna", "keeps", f"a {WORD} named Bob")
    await memory.remember("Anna", "lives in", f"{WORD}-town", policy="one")
    await memory.remember("Anna", "lives in", f"{WORD}-city", policy="one")
    await memory.link(f"{WORD} Bob", "lives with", "Anna")
    await memory.write_note("long", LONG)
    await memory.edit_note("long", LONG[:40], f"{WORD} edited")
    await memory.rename_note("long", "longer")
    await memory.say(f"my {WORD} is ill", "user")
    await memory.recall(f"how is the {WORD}?")
    await ctx.step(repeat, LONG)
    try:
        await ctx.step(fail, WORD, retry=Retry(max_attempts=2, initial=timedelta(0)))
    except StepFailed:
        await ctx.receive("mail", str)
    return await ctx.spawn(whisper, f"{task} and {WORD} child")


@durable
async def whisper(ctx: Context, text: str) -> str:
    await ctx.memory(NS).append_note("whispers", text)
    return text


@durable
async def overhear(ctx: Context) -> list[str]:
    """Only read it."""
    return [hit.text for hit in await ctx.memory(NS).recall("Bob lives with whom, and is who ill?")]


@durable
async def gossip(ctx: Context, text: str) -> str:
    """Have it from somewhere else: no row of memory says so."""
    return text


@durable
async def bystand(ctx: Context) -> list[str]:
    """Keep and read what has nothing to do with her."""
    memory = ctx.memory(OTHER)
    await memory.remember("Bert", "keeps", "a wombat")
    await memory.append_note("plan", "walk the wombat of Bert")
    return [hit.text for hit in await memory.recall("the wombat")]


@durable
async def linger(ctx: Context) -> str:
    """Read it, and go on."""
    await ctx.memory(NS).facts("Anna")
    return await ctx.receive("go", str)


FUNCTIONS = [confide, whisper, overhear, gossip, bystand, linger]
RUNS = ("confide", "overhear")
"""Those that have written or read what Anna's namespace holds."""


async def live(url: str) -> None:
    """Let them all run, and leave a gate and a rule with her text beside."""
    async with connect(url) as client, client.work(FUNCTIONS, options=QUICK):
        await client.start(confide, f"help my {WORD}", id="confide")
        await client.signal("confide", "mail", f"{WORD} mail")
        await client.result("confide")
        for function in (overhear, bystand):
            await client.start(function, id=function.name)
            await client.result(function.name)
        condition, now = f'{{"to": "{WORD}"}}', client.store.clock.now_ms()
        await client.store.gates.add_rule(
            Rule(
                "r", RuleVerdict.ALLOW, "mail", condition, "confide", None, None, None, "", "x", now
            )
        )
    with database(url) as db:
        db.rows(
            "INSERT INTO gates (id, part, tenant, code, run_id, root_id, kind, tool, digest,"
            " summary, policy, state, asked_at) VALUES ('confide#gate.0', :part, '', 'c',"
            f" 'confide', 'confide', 'approval', 'mail', 'd', 'send {WORD}', '{{}}', 'approved',"
            " 1)",
            part=part_of("confide"),
        )


def compressed(url: str) -> Sequence[bytes]:
    """Return a piece of each blob that holds her text, as it lies in the file."""
    with database(url) as db:
        blobs = [bytes(data) for (data,) in db.rows("SELECT data FROM blobs")]
    return [data[30:70] for data in blobs if WORD.encode() in open_blob(data)]


def left_in_rows(url: str) -> Sequence[str]:
    """Return in which tables, and in which statistics of the planner, her text is left."""
    found = []
    with database(url) as db:
        if db.is_postgres:
            names = [name for (name,) in db.rows("SELECT tablename FROM pg_tables")]
        else:
            names = [name for (name,) in db.rows("SELECT name FROM sqlite_schema")]
        for name in names:
            if name.startswith(("sql_", "pg_")) and name != "pg_statistic":
                continue
            if name.startswith("sqlite_autoindex") or not _is_table(db, name):
                continue
            for row in db.rows(f"SELECT * FROM {name}"):
                if any(_says(value) for value in row):
                    found.append(name)
                    break
    return found


def _is_table(db: Any, name: str) -> bool:
    if db.is_postgres:
        return True
    return bool(
        db.value("SELECT count(*) FROM sqlite_schema WHERE name = :n AND type = 'table'", n=name)
    )


def _says(value: Any) -> bool:
    if isinstance(value, bytes):
        try:
            return WORD.encode() in open_blob(value)
        except StoreUnusable:
            return WORD.encode() in value
    return WORD in str(value)


def left_in_files(url: str, pieces: Sequence[bytes] = ()) -> Sequence[str]:
    """Return where her text, or a piece of a blob of hers, is left in the files of a database.

    Of Postgres these are the files of its tables, all written anew first.
    """
    wanted = [WORD.encode(), *pieces]
    if not url.startswith("postgres"):
        path = sqlite_path(url)
        files = [path, *path.parent.glob(f"{path.name}-???")]
        return [each.name for each in files if _holds(each.read_bytes(), wanted)]
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("VACUUM FULL")
        db.execute("CHECKPOINT")
        (folder,) = db.execute("SELECT current_setting('data_directory')").fetchone() or ("",)
        (base,) = db.execute(
            "SELECT oid FROM pg_database WHERE datname = current_database()"
        ).fetchone() or (0,)
    files = list((Path(folder) / "base" / str(base)).iterdir())
    assert files, folder
    return [each.name for each in files if _holds(each.read_bytes(), wanted)]


def _holds(content: bytes, wanted: Sequence[bytes]) -> bool:
    return any(each in content for each in wanted)
