"""`doctor` says of what an agent needs whether it is there, with a remedy; it changes nothing."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from substrate import connect
from substrate.cli.doctor.database import clock_of
from substrate.cli.doctor.finding import State
from substrate.cli.doctor.place import look_at_place
from substrate.store.migrate import Condition
from tests.fork import HOOKS, KIT, Done, Fork
from tests.llm_servers import llmock
from tests.stores import database
from tests.test_cli_database import AS_SCRIPT
from tests.test_rights import Users

ONLINE = 'Model("scripted:owls", script=script)'


def checks(done: Done) -> dict[str, list[tuple[str, str, str]]]:
    """Return what was found, by what it is about: state, words, remedy."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for each in done.document["checks"]:
        told = (each["state"], each["said"], each["remedy"] or "")
        found.setdefault(each["about"], []).append(told)
    return found


def states(done: Done) -> dict[str, str]:
    return {about: max(told)[0] if told else "" for about, told in checks(done).items()}


def test_a_fresh_fork(tmp_path: Path) -> None:
    """A fork as it is made runs: nothing fails, the missing key is told, and nothing is made."""
    hooks = (KIT / "template" / "agent" / "hooks.py").read_text(encoding="utf-8")
    fork = Fork.make(tmp_path / "fork", hooks=hooks)
    before = {each for each in fork.folder.rglob("*.*") if each.suffix != ".pyc"}

    done = fork.do("doctor")
    told = fork.do("doctor", "--json")

    assert (done.code, told.code) == (0, 0)
    assert told.document["state"] == "warn"
    found = checks(told)
    assert [about for about, each in found.items() if each[0][0] != "ok"] == ["key"]
    key = "ANTHROPIC_API_KEY is not set: scripted:rehearsal answers in place of anthropic:"
    assert found["key"][0][1].startswith(key)
    assert found["key"][0][2] == "export ANTHROPIC_API_KEY=…, or write it into .env"
    assert found["model"][0][1].endswith("for a million tokens read and written")
    assert found["tool write_note"] == [("ok", "takes text; idempotent", "")]
    assert found["database"][0][1].endswith("not there yet, the first run makes it")
    assert found["hooks"][0][1] == (
        "they load; a worker here drives agent v1, and conversations (agent-conversation v1)"
    )
    lines = done.out.splitlines()
    assert lines[-1].startswith(f"{sum(map(len, found.values())) - 1} ok, 1 to know, 0 to mend")
    assert "→ export ANTHROPIC_API_KEY=…" in done.out
    assert {each for each in fork.folder.rglob("*.*") if each.suffix != ".pyc"} == before


TWO_AGENTS = HOOKS.replace(
    "tools = [look]",
    """
from substrate.agent import Agent, delegate

counter = Agent("counter", "Count.", Model("anthropic:claude-sonnet-5-5"), tools=[look])
tools = [look, delegate(counter, description="Counts.")]
""",
)

BAD: dict[str, tuple[tuple[str, str], dict[str, str], str, str, str, str]] = {
    "no key, and nobody in its place": (
        (ONLINE, 'Model("groq:openai/gpt-oss-120b")'),
        {},
        "key",
        "fail",
        "GROQ_API_KEY is not set, and groq:openai/gpt-oss-120b has no offline=",
        "export GROQ_API_KEY=…",
    ),
    "the key of another provider": (
        (ONLINE, 'Model("anthropic:claude-sonnet-5-5")'),
        {"ANTHROPIC_API_KEY": "gsk_123456789012"},
        "key",
        "warn",
        "ANTHROPIC_API_KEY holds what looks like a key of groq",
        "set ANTHROPIC_API_KEY to a key of anthropic",
    ),
    "a key in quotes": (
        (ONLINE, 'Model("anthropic:claude-sonnet-5-5")'),
        {"ANTHROPIC_API_KEY": '"sk-ant-123456789012"'},
        "key",
        "warn",
        "ANTHROPIC_API_KEY has a space or a quote",
        "set the key alone",
    ),
    "a model that nobody knows": (
        (ONLINE, 'Model("anthropic:claude-sonet-5-5")'),
        {"ANTHROPIC_API_KEY": "sk-ant-123456789012"},
        "model",
        "warn",
        "the price list does not know it; did you mean 'claude-sonnet-5-5'?",
        "price=(3, 15)",
    ),
    "a fallback without its key": (
        (ONLINE, 'Model("scripted:owls", script=script, fallback=["openai:gpt-6-luna"])'),
        {},
        "key",
        "warn",
        "OPENAI_API_KEY is not set: openai:gpt-6-luna is left out of the fallback",
        "export OPENAI_API_KEY=…",
    ),
    "a key for nobody": (
        ("max_turns(5)", "max_turns(5)"),
        {"GROQ_API_KEY": "gsk_123456789012"},
        "key",
        "ok",
        "GROQ_API_KEY: set, for no model of this agent",
        "",
    ),
    "a tool without an effect": (
        ('@tool(effect="pure")', "@tool"),
        {},
        "tool look",
        "warn",
        "it says no effect, and so is `once`",
        '@tool(effect="pure") where it only reads',
    ),
    "a tool that says once": (
        ('@tool(effect="pure")', '@tool(effect="once")'),
        {},
        "tool look",
        "ok",
        "takes what; once",
        "",
    ),
    "a secret that is not there": (
        (
            "async def look(what: str)",
            'async def look(what: str, key: Secret = Secret("SHOP_KEY"))',
        ),
        {},
        "tool look",
        "fail",
        "the secret 'SHOP_KEY' is not set",
        "export it, or write it into .env",
    ),
    "hooks that do not load": (
        ("prompt = ", "prompt = = "),
        {},
        "hooks",
        "fail",
        "agent/hooks.py:",
        "mend the line",
    ),
    "a database that is away": (
        ("max_turns(5)", "max_turns(5)"),
        {"DATABASE_URL": "postgresql://me:hush-hush-hush@127.0.0.1:9/runs"},
        "database",
        "fail",
        "cannot be reached",
        "check that it runs",
    ),
    "a URL that is none": (
        ("max_turns(5)", "max_turns(5)"),
        {"DATABASE_URL": "mysql://me@host/runs"},
        "database",
        "fail",
        "mysql:// is not served",
        "write sqlite:///runs.db",
    ),
    "no folder for the file": (
        ("max_turns(5)", "max_turns(5)"),
        {"DATABASE_URL": "sqlite:///nowhere/runs.db"},
        "database",
        "fail",
        "there is no folder 'nowhere'",
        "make it",
    ),
    "a folder in the place of the file": (
        ("max_turns(5)", "max_turns(5)"),
        {"DATABASE_URL": "sqlite:///agent"},
        "database",
        "fail",
        "SQLite cannot use 'agent', since it is a folder",
        "name a file in it",
    ),
    "a time zone that is none": (
        ("max_turns(5)", "max_turns(5)"),
        {"OSTINATO_TIMEZONE": "Europe/Wien"},
        "time zone",
        "fail",
        "OSTINATO_TIMEZONE: 'Europe/Wien' is no time zone",
        "",
    ),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_what_is_wrong(tmp_path: Path, case: Any) -> None:
    """Each thing that is wrong is told by what it is about, and what to do; no key is shown."""
    (old, new), environment, about, state, said, remedy = case
    hooks = HOOKS.replace(old, new)
    if "Secret" in new:
        hooks = hooks.replace("import asyncio", "import asyncio\n\nfrom substrate import Secret")
    fork = Fork.make(tmp_path / "fork", hooks=hooks)

    done = fork.do("doctor", "--json", **environment)
    shown = fork.do("doctor", **environment)

    told = [each for each in checks(done)[about] if said in each[1]]
    assert told, done.out
    assert told[0][0] == state
    assert remedy in told[0][2] if state != "ok" else told[0][2] == ""
    assert done.code == shown.code == (1 if state == "fail" else 0)
    for value in environment.values():
        for secret in ("123456789012", "hush-hush-hush"):
            assert secret not in done.out + shown.out + done.err, value
    assert "Traceback" not in done.err


def test_dotenv(tmp_path: Path) -> None:
    """What `.env` sets is named and used; one that others can read, or that is none, is told."""
    fork = Fork.make(tmp_path / "fork")
    file = fork.folder / ".env"
    file.write_text("OSTINATO_TIMEZONE=Europe/Vienna\n")
    file.chmod(0o644)
    is_open = checks(fork.do("doctor", "--json"))
    file.chmod(0o600)
    mine = checks(fork.do("doctor", "--json"))
    file.write_text("PATH=/tmp\n")
    broken = fork.do("doctor", "--json")

    assert is_open[".env"][0][0::2] == ("warn", "chmod 600 .env")
    assert mine[".env"][0] == ("ok", "sets OSTINATO_TIMEZONE", "")
    assert mine["time zone"][0][1] == "the agent is told the day in Europe/Vienna"
    assert broken.code == 1
    assert states(broken)[".env"] == "fail"
    assert states(broken)["hooks"] == "ok"


def test_agents_below(tmp_path: Path) -> None:
    """The models and tools of other agents of the fork are looked at, too."""
    fork = Fork.make(tmp_path / "fork", hooks=TWO_AGENTS)

    done = fork.do("doctor", "--json")

    found = checks(done)
    assert done.code == 1
    assert "model of counter" in found
    assert found["tool look of counter"] == [("ok", "takes what; pure", "")]
    assert "ANTHROPIC_API_KEY is not set, and anthropic:" in found["key"][0][1]


ASKING = '''
from substrate.agent import Policy, ask_human, webhook


def is_large(what: str) -> bool:
    return len(what) > 5


@tool(effect="pure", approve=Policy(when=is_large, to="finance", wait=False))
def pay(what: str) -> str:
    """Pay."""
    return "paid"


@tool(effect="pure", approve=True)
def tell(what: str) -> str:
    """Tell."""
    return "told"


def is_short(answer, task):
    return None


tools, checks = [look, pay, tell], [is_short]
'''


def test_people(tmp_path: Path) -> None:
    """Which tools ask whom, who is told of it, and what an answer has to pass is said."""
    fork = Fork.make(tmp_path / "fork", hooks=HOOKS + ASKING)

    alone = checks(fork.do("doctor", "--json"))
    told_by = '\nnotify = [print, webhook("https://example.org/gates")]\n'
    fork.write("agent/hooks.py", HOOKS + ASKING + told_by)
    told = checks(fork.do("doctor", "--json"))

    asked = "finance is asked before the calls that the function is_large says"
    assert asked + ", and the agent goes on meanwhile" in alone["tool pay"][0][1]
    assert alone["tool tell"][0][1] == "takes what; a person is asked before each call; pure"
    assert alone["tool look"][0][1] == "takes what; pure"
    assert alone["checks"] == [("ok", "an answer has to pass is_short", "")]
    assert "nobody is told" in alone["notify"][0][1]
    assert "print" in told["notify"][0][1]
    assert "notify" not in checks(Fork.make(tmp_path / "plain").do("doctor", "--json"))


async def test_the_database(tmp_path: Path, postgres_url: str) -> None:
    """A database is looked at and not migrated: its schema, the rights of its user, its clock."""
    fork = Fork.make(tmp_path / "fork", postgres_url)

    empty = checks(await asyncio.to_thread(fork.do, "doctor", "--json"))
    with database(postgres_url) as db:
        made = db.rows("SELECT 1 FROM pg_tables WHERE schemaname = 'public'")
    async with connect(postgres_url):
        pass
    full = checks(await asyncio.to_thread(fork.do, "doctor", "--json"))
    with database(postgres_url) as db:
        db.rows("INSERT INTO ostinato_migrations VALUES (999, 'later', 'x', 0)")
    newer = await asyncio.to_thread(fork.do, "doctor", "--json")

    assert made == []
    assert empty["schema"][0] == (
        "warn",
        "none of the kit's tables is there",
        "the first command makes them",
    )
    assert empty["rights"] == [("ok", "may make the tables", "")]
    assert full["database"][0][1].rpartition(", ")[2].startswith("PostgreSQL ")
    assert full["schema"][0][0] == "ok"
    assert full["rights"] == [("ok", "all that a worker needs", "")]
    assert full["clock"][0][0] == "ok"
    assert newer.code == 1
    assert "the database has schema 999" in checks(newer)["database"][0][1]


def test_rights_that_are_missing(tmp_path: Path, postgres_url: str) -> None:
    """What the user of the database may not do is told as what to grant."""
    users = Users(postgres_url)
    users.make()

    async def migrate() -> None:
        async with connect(users.url(users.owner)):
            pass

    asyncio.run(migrate())
    users.grant()
    fork = Fork.make(tmp_path / "fork", users.url(users.worker))
    allowed = checks(fork.do("doctor", "--json"))["rights"]
    users.change(f"SET search_path = runs; REVOKE UPDATE ON promises FROM {users.worker}")
    refused = fork.do("doctor", "--json")

    assert allowed == [("ok", "all that a worker needs", "")]
    assert refused.code == 1
    assert checks(refused)["rights"][0][::2] == ("fail", "GRANT UPDATE ON promises")


def test_a_sqlite_file(tmp_path: Path) -> None:
    """A file is read as it is: its schema, or that it is no database."""
    fork = Fork.make(tmp_path / "fork")
    assert fork.do("run", "Owls?").code == 0

    there = checks(fork.do("doctor", "--json"))
    (fork.folder / "runs.db").write_bytes(b"no database" * 1000)
    broken = fork.do("doctor", "--json")

    assert there["schema"][0][0] == "ok"
    assert there["clock"][0][1] == "the file's time is this machine's"
    assert broken.code == 1
    assert states(broken)["database"] == "fail"


def test_clocks() -> None:
    """A clock that is seconds from the database's is told, with which is ahead."""
    now = 1_800_000_000_000
    near = clock_of(Condition("PostgreSQL 18", 1, 0, now + 900), now)
    behind = clock_of(Condition("PostgreSQL 18", 1, 0, now + 90_000), now)
    ahead = clock_of(Condition("PostgreSQL 18", 1, 0, now - 90_000), now)

    assert (near.state, near.said) == (State.OK, "900 ms apart from the database's")
    assert behind.said.startswith("this machine is 1 min 30 s behind the database")
    assert ahead.said.startswith("this machine is 1 min 30 s ahead of the database")
    assert behind.state is ahead.state is State.WARN


def test_a_folder_that_takes_no_file() -> None:
    """A folder that cannot be written to is a failure."""
    [found] = [each for each in look_at_place(Path("/proc")) if each.about == "folder"]

    assert found.state is State.FAIL
    assert "start the agent where it may write" in found.remedy


def test_a_word_of_each_model(tmp_path: Path) -> None:
    """With --call each model that can be asked is asked once, and says what it took; else none."""
    models = (
        'Model("openai:gpt-6-luna", offline=Model("scripted:owls", script=script),'
        ' fallback=["openai:gpt-6-luna", "anthropic:claude-sonnet-5-5"])'
    )
    fork = Fork.make(tmp_path / "fork", hooks=HOOKS.replace(ONLINE, models))
    with llmock() as server:
        there = {"OPENAI_API_KEY": "x", "OPENAI_BASE_URL": f"{server.url}/v1"}
        called = fork.do("doctor", "--json", "--call", **there)
    silent = fork.do("doctor", "--json", **there)
    away = fork.do("doctor", "--json", "--call", **there)
    scripted = fork.do("doctor", "--json", "--call")

    assert called.code == 0, called.out
    [(state, said, _)] = checks(called)["call"]
    assert state == "ok"
    assert said.startswith("openai:gpt-6-luna said ")
    assert " tokens, " in said
    assert "$" in said
    assert "call" not in checks(silent)
    assert away.code == 1
    assert "openai:gpt-6-luna: " in checks(away)["call"][0][1]
    names = [told[1].partition(" said ")[0] for told in checks(scripted)["call"]]
    assert names == ["scripted:owls"]
    assert fork.calls == ["model"]


def test_no_fork_here(tmp_path: Path) -> None:
    """Where there is no fork, that is what is said."""
    done = Fork(tmp_path, "sqlite:///runs.db").do("doctor", by=("-c", AS_SCRIPT))

    assert done.code == 1
    assert "cd into your fork, or make one" in done.err
