"""Whatever a new user does wrong is said in a sentence that has the remedy, with its own code."""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from substrate import Context, Misuse, connect, durable
from tests.fork import HOOKS, Done, Fork
from tests.runs import QUICK

OWLS = "How many owls?"


@durable
async def asks(ctx: Context) -> bool:
    """Wait for an approval."""
    return await ctx.receive("approval", bool)


@dataclass(frozen=True, slots=True)
class Move:
    """A wrong move: what is typed, after which edit, and what is said about it."""

    typed: tuple[str, ...]
    code: int
    says: tuple[str, ...]
    edit: tuple[str, str] = ("", "")
    setting: tuple[str, str] = ("NOTHING", "")


def hooks(old: str, new: str) -> tuple[str, str]:
    """Return an edit of the hooks."""
    assert old in HOOKS
    return old, new


RUN = ("run", OWLS)
DOC = '"""Look something up."""'
TOOLS, LOOK = "tools = [look]", "async def look(what: str) -> str:"

MOVES = {
    # The command line
    "an unknown command": Move(("rnu", OWLS), 2, ("No such command 'rnu'", "agent --help")),
    "no question": Move(("run",), 2, ('ask something, run "…", or name a run', "--help")),
    "an empty question": Move(("run", " "), 2, ("the question is empty; is a shell variable",)),
    "a question without quotes": Move(("run", "How", "many"), 2, ("stands in quotes: run",)),
    "a mistyped option": Move((*RUN, "--ids", "x"), 2, ("No such option: --ids", "--id")),
    "an option without its value": Move((*RUN, "--id"), 2, ("'--id' requires an argument",)),
    "an id with a blank": Move(
        (*RUN, "--id", "my run"), 2, ("'my run'", "use 1 to 200 letters, digits")
    ),
    "an empty id": Move((*RUN, "--id", ""), 2, ("the id is empty; is a shell variable unset?",)),
    "an id that is taken": Move((*RUN, "--id", "asking"), 1, ("is taken", "choose another id")),
    "a number that is none": Move(
        ("runs", "--limit", "few"), 2, ("'--limit'", "a whole number from")
    ),
    "a status that is none": Move(("runs", "--status", "dnoe"), 2, ("'dnoe'", "'done'")),
    "a status that is nearly one": Move(
        ("runs", "--status", "pausd"), 2, ("'pausd' is not one of", "did you mean 'paused'?")
    ),
    "a number that is too small": Move(
        ("runs", "--limit", "0"), 2, ("'--limit': it is to be a whole number from 1 to 1,000,000",)
    ),
    "a file that is not there": Move((*RUN, "--attach", "a.png"), 2, ("'a.png' cannot be attach",)),
    "a file of another kind": Move((*RUN, "--attach", "a.zip"), 2, ("no kind that models take",)),
    "a file without a question": Move(
        ("run", "--id", "x", "--attach", "a"), 2, ("a question: run",)
    ),
    # Ids and keys
    "an unknown run": Move(("show", "fisrt"), 1, ("there is no run 'fisrt'",)),
    "a mistyped key": Move(
        ("show", "asking", "--key", "aproval.0"), 1, ("did you mean 'approval.0'?",)
    ),
    "an unknown key": Move(
        ("show", "asking", "--key", "x.9"), 1, ("has no promise 'x.9'", "`show`")
    ),
    "nothing to resume": Move(("resume", "nobody"), 1, ("there is no run 'nobody'",)),
    "a run that goes on": Move(("discard", "asking"), 1, ("asking", "cancel")),
    # Answers
    "another value": Move(("signal", "asking", "approval", "1"), 2, ("true, false, yes or no",)),
    "no value": Move(("signal", "asking", "approval"), 2, ("nothing was sent", "yes or no")),
    "text without quotes": Move(("signal", "asking", "note", "hi"), 2, ("is no JSON", "'\"hi\"'")),
    "broken JSON": Move(("signal", "asking", "note", "{a: 1}"), 2, ("'{a: 1}' is no JSON",)),
    "a mistyped name": Move(
        ("signal", "asking", "aproval", "yes"), 2, ("for 'approval'", "signal asking approval yes")
    ),
    "another name": Move(("signal", "asking", "mail", "yes"), 2, ("waits for is approval", "mail")),
    "another name, right JSON": Move(
        ("signal", "asking", "aproval", "true"), 0, ("did you mean 'approval'?", "approval true")
    ),
    # The database
    "a URL that is none": Move(
        ("runs",), 2, ("write sqlite:///",), setting=("DATABASE_URL", "runs.db")
    ),
    "a file that is no database": Move(
        ("runs",),
        1,
        ("restore it from a backup",),
        setting=("DATABASE_URL", "sqlite:///agent/loop.py"),
    ),
    "a mistyped folder": Move(
        RUN, 1, ("there is no folder 'dta'",), setting=("DATABASE_URL", "sqlite:///dta/runs.db")
    ),
    "a mistyped file": Move(
        ("show", "asking"),
        1,
        ("no database 'rnus.db'",),
        setting=("DATABASE_URL", "sqlite:///rnus.db"),
    ),
    "a server that is away": Move(
        ("runs",),
        1,
        ("127.0.0.1", "DATABASE_URL"),
        setting=("DATABASE_URL", "postgresql://127.0.0.1:1/x"),
    ),
    "a zone that is none": Move(
        RUN, 2, ("Europe/Vienna",), setting=("OSTINATO_TIMEZONE", "CEST+1")
    ),
    # The hooks
    "a missing key": Move(
        RUN,
        1,
        ("ANTHROPIC_API_KEY is not set", "export it", ".env"),
        hooks('Model("scripted:owls", script=script)', 'Model("anthropic:claude-sonnet-5-5")'),
    ),
    "a model that is none": Move(
        RUN,
        2,
        ("agent/hooks.py:", "provider one of"),
        hooks('Model("scripted:owls", script=script)', 'Model("claude")'),
    ),
    "a slip in the code": Move(
        RUN, 2, ("agent/hooks.py:", "mend the line"), hooks("tools = [look]", "tools = [look")
    ),
    "a package that is not installed": Move(
        RUN,
        2,
        ("No module named 'nopandas'", "install what it needs ("),
        hooks("import asyncio", "import nopandas, asyncio"),
    ),
    "a condition that is not called": Move(
        RUN,
        2,
        ("agent/hooks.py:", "any_of(answered(), max_turns(20))"),
        hooks("stop = any_of(answered(), max_turns(5))", "stop = answered"),
    ),
    "a tool without types": Move(
        RUN,
        2,
        ("agent/hooks.py:", "give the parameter 'what' a type"),
        hooks(LOOK, "async def look(what, *more) -> str:"),
    ),
    "a tool twice": Move(
        RUN, 2, ("two called 'look'", "@tool(name=…)"), hooks(TOOLS, "tools = [look, look]")
    ),
    "a tool that is a call": Move(
        RUN, 2, ("agent/hooks.py:",), hooks(TOOLS, 'tools = [look("x")]')
    ),
    "a mistyped provider": Move(
        RUN,
        2,
        ("agent/hooks.py:36", "no provider 'antropic'; did you mean 'anthropic'?"),
        hooks('Model("scripted:owls", script=script)', 'Model("antropic:claude-sonnet-5-5")'),
    ),
    "a list of strings": Move(
        RUN, 2, ("agent/hooks.py:37", "give functions"), hooks(TOOLS, 'tools = ["look"]')
    ),
    "no list": Move(
        RUN, 2, ("agent/hooks.py:37", "write a list"), hooks(TOOLS, "tools = (x for x in [look])")
    ),
    "an option of a tool in its place": Move(
        RUN,
        2,
        ("agent/hooks.py:24", "timeout=5 is no duration; write timedelta(seconds=5)"),
        hooks('effect="pure"', "timeout=5"),
    ),
    "a number for a policy": Move(
        RUN,
        2,
        ("agent/hooks.py:24", "retry=3 is no Retry; write Retry(max_attempts=3)"),
        hooks('effect="pure"', "retry=3"),
    ),
    "a mistyped option of a tool": Move(
        RUN,
        2,
        ("agent/hooks.py:24", "keyword argument 'efect'; did you mean 'effect'?"),
        hooks('effect="pure"', 'efect="pure"'),
    ),
    "a mistyped option of a model": Move(
        RUN,
        2,
        ("agent/hooks.py:36", "keyword argument 'falback'; did you mean 'fallback'?"),
        hooks("script=script)", "script=script, falback=[])"),
    ),
    "a module that ends the process": Move(
        RUN,
        2,
        ("agent/hooks.py:3: it ends the process while it is imported, with 3", "__main__"),
        hooks("from pathlib", "raise SystemExit(3)\nfrom pathlib"),
    ),
    "a module of one's own that is not there": Move(
        RUN,
        2,
        ("agent/hooks.py:2: No module named 'agent.shop'; make agent/shop.py",),
        hooks("import asyncio", "import asyncio, agent.shop"),
    ),
    "a class for a tool": Move(
        RUN, 2, ("the class Path", "write one that calls it"), hooks(TOOLS, "tools = [Path]")
    ),
    "a tool of no object": Move(
        RUN,
        2,
        ("is a method that no object is bound to", "tools = [Shop().look]"),
        hooks(LOOK, LOOK.replace("what", "self, what")),
    ),
    "a tool without words": Move(
        RUN, 2, ("has no docstring; write one",), hooks(f"    {DOC}\n", "")
    ),
    "a mistyped flag": Move(("runs", "--jsn"), 2, ("did you mean '--json'?",)),
    "a limit that is text": Move(
        RUN,
        2,
        ("agent/hooks.py:38", "max_turns('5'): give 1"),
        hooks("max_turns(5)", "max_turns('5')"),
    ),
    "a call that nobody awaits": Move(
        RUN,
        2,
        ("agent/hooks.py:31: asyncio.sleep(…) is async", "write `await asyncio.sleep(…)`"),
        hooks('    print("a tool that prints")', "    asyncio.sleep(1)"),
    ),
    "a call that is returned and not awaited": Move(
        RUN,
        2,
        ("agent/hooks.py:31: asyncio.sleep(…) is async", "write `await asyncio.sleep(…)`"),
        hooks('    print("a tool that prints")', "    return asyncio.sleep(1)"),
    ),
    "a coroutine for a result": Move(
        RUN,
        4,
        ("returned sleep(…)", "was not awaited; write `return await sleep(…)`"),
        hooks('    print("a tool that prints")', "    made = asyncio.sleep(1)\n    return made"),
    ),
    "an undo that is not durable": Move(
        RUN,
        4,
        ("the function note (", "agent/hooks.py:14) is no durable function", "agent/hooks.py:27"),
        hooks(
            f'@tool(effect="pure")\n{LOOK}\n    {DOC}',
            f"@tool\n{LOOK.replace('what', 'ctx, what')}\n    {DOC}\n"
            "    await ctx.step(note, what, undo=note)",
        ),
    ),
    "a wrong value in a tool": Move(
        RUN,
        4,
        ("agent/hooks.py:27) is at fault: 'soon' is no duration", "give seconds"),
        hooks(
            f'@tool(effect="pure")\n{LOOK}\n    {DOC}',
            f"@tool\n{LOOK.replace('what', 'ctx, what')}\n    {DOC}\n    await ctx.sleep('soon')",
        ),
    ),
    "a forgotten await": Move(
        RUN,
        4,
        ("never awaited", "resume"),
        hooks(
            f'@tool(effect="pure")\n{LOOK}\n    {DOC}',
            f"@tool\n{LOOK.replace('what', 'ctx, what')}\n    {DOC}\n    ctx.sleep(5)",
        ),
    ),
    "a prompt that gives nothing": Move(
        RUN,
        2,
        ("agent/hooks.py:", "which returns nothing; end it with `return …`"),
        hooks('prompt = "Be brief."', "def prompt(task): pass"),
    ),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a fork in which a run waits for an approval, to be copied."""
    folder = tmp_path_factory.mktemp("fork")
    fork = Fork.make(folder)

    async def ask() -> None:
        async with connect(fork.absolute_url) as client:
            await client.start(asks, id="asking")
            async with client.work([asks], options=QUICK) as worker:
                await worker.run_until_idle()

    asyncio.run(ask())
    return folder


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_the_remedy_is_said(tmp_path, whole, move, record_property):
    """A wrong move ends with its code, in words that say what to do, and without a traceback."""
    folder = tmp_path / "fork"
    shutil.copytree(whole, folder)
    fork = Fork(folder, "sqlite:///runs.db")
    if move.edit[0]:
        fork.replace("agent/hooks.py", *move.edit)
    name, value = move.setting

    done = fork.do(*move.typed, **{name: value})

    said = done.err + done.out
    assert done.code == move.code, said
    assert [each for each in move.says if each not in said] == [], said
    assert "Traceback" not in said
    assert len(told(done)) < 1000


ENDED = {
    ("signal", "done", "go", "1"): "run 'done' is done; it takes no signal 'go'",
    ("signal", "done", "go", "no JSON"): "run 'done' is done; it takes no signal 'go'",
    ("cancel", "done"): "run 'done' is done already, and stays so",
    ("discard", "done"): "run 'done' is done",
    ("resume", "done", "--accept", "model.0"): "run 'done' is done",
    ("signal", "none", "go", "1"): "there is no run 'none'",
    ("cancel", "none"): "there is no run 'none'",
    ("discard", "none"): "there is no run 'none'",
    ("resume", "none"): "there is no run 'none'",
    ("show", "none"): "there is no run 'none'",
    ("discard", "asking"): "run 'asking' is suspended",
}


@pytest.fixture(scope="module")
def with_done(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Fork:
    """Provide the same fork with a run that is done."""
    folder = tmp_path_factory.mktemp("done") / "fork"
    shutil.copytree(whole, folder)
    fork = Fork(folder, "sqlite:///runs.db")
    assert fork.do(*RUN, "--id", "done").code == 0
    return fork


@pytest.mark.parametrize("typed", ENDED, ids=" ".join)
@pytest.mark.parametrize("more", [(), ("--json",)], ids=["", "json"])
def test_what_the_state_of_a_run_forbids(with_done, typed, more):
    """It is a failure, 1, and no wrong typing, 2: whatever the command is."""
    done = with_done.do(*typed, *more)

    assert done.code == 1
    assert ENDED[typed] in done.err + done.out


NUMBERS = {
    ("runs", "--limit"): "a whole number from 1 to 1,000,000",
    ("compare", "prompt", "--limit"): "a whole number from 1 to 1,000,000",
    ("worker", "--concurrency"): "a whole number from 1 to 1,000,000",
    ("worker", "--lease"): "a number from 0.3 to 86,400",
}
ODD = ("inf", "-inf", "nan", "-0", "0", "-1", "1e400", "9" * 20, "9" * 400, "many", "", "0x10")


@pytest.mark.parametrize("number", ODD)
@pytest.mark.parametrize("typed", NUMBERS, ids=" ".join)
def test_a_number_that_is_none(whole, typed, number):
    """A number that an option does not take is no fault, and both bounds are told."""
    done = Fork(whole, "sqlite:///runs.db").do(*typed, number)

    assert (done.code, done.out) == (2, "")
    said = f"error: Invalid value for '{typed[-1]}': it is to be {NUMBERS[typed]}\n"
    assert done.err.startswith(said)


@pytest.mark.parametrize("limit", [10**20, 1_000_001])
async def test_a_limit_beyond_all(sqlite_url, limit):
    """A limit that no database takes is refused with the most that there may be."""
    async with connect(sqlite_url) as client:
        with pytest.raises(Misuse, match=r"limit=1.* must be at most 1,000,000; give fewer"):
            await client.list(limit=limit)


def test_hooks_that_print(tmp_path):
    """What hooks print while they are loaded does not stand beside the answer."""
    fork = Fork.make(tmp_path, hooks=HOOKS + '\nprint("loaded")\n')

    done = fork.do(*RUN)

    assert (done.code, done.out) == (0, "Two owls.\n")
    assert "loaded" in done.err


def told(done: Done) -> str:
    """Return what is said of what went wrong."""
    lines = done.err.splitlines()
    return "\n".join(line for line in lines if line.startswith(("error", "fault", "paused")))


def test_there_are_enough() -> None:
    """The table has thirty moves and more, and each says something else."""
    assert len(MOVES) >= 30
    assert len({(move.typed, move.edit, move.setting) for move in MOVES.values()}) == len(MOVES)
