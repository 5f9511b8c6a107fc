"""A fork's durable functions are found in whatever of its files they stand; nobody lists them."""

import asyncio

import pytest

from substrate import connect
from tests.fork import HOOKS, Fork, end
from tests.keeper import wait_until

OWLS = "What of the owls?"
ANSWER = "Two owls.\n"

SHOP = '''
from substrate import Context
from substrate.agent.tool import tool


@tool
async def look(ctx: Context, what: str) -> str:
    """Look something up."""
    from agent.jobs.research import research

    return await ctx.spawn(research, what)
'''

RESEARCH = """
from agent.jobs.undo import take_back
from substrate import Context, durable


async def find(what: str) -> str:
    return f"{what}: two"


@durable
async def research(ctx: Context, what: str) -> str:
    await ctx.receive("go")
    return await ctx.step(find, what, effect="once", undo=take_back)
"""

UNDO = """
from substrate import Context, durable


@durable
async def take_back(ctx: Context, what: str) -> None: ...
"""

SCRIPT = "raise SystemExit('a script is not imported')\n"


@pytest.fixture
def fork(tmp_path):
    fork = Fork.make(tmp_path / "fork")
    (fork.folder / "agent" / "jobs").mkdir()
    for name, text in {
        "shop.py": SHOP,
        "jobs/__init__.py": "",
        "jobs/research.py": RESEARCH,
        "jobs/undo.py": UNDO,
        "script.py": SCRIPT,
    }.items():
        fork.write(f"agent/{name}", text)
    begin, after = HOOKS.index('@tool(effect="pure")'), HOOKS.index('prompt = "Be')
    fork.write("agent/hooks.py", HOOKS[:begin] + "from agent.shop import look\n" + HOOKS[after:])
    return fork


def has_reached(fork: Fork, run_id: str, key: str) -> bool:
    async def look() -> bool:
        async with connect(fork.absolute_url) as client:
            if await client.store.get(run_id) is None:
                return False
            return any(promise.key == key for promise in await client.journal(run_id))

    return asyncio.run(look())


def send(fork: Fork, run_id: str) -> None:
    async def send() -> None:
        async with connect(fork.absolute_url) as client:
            await client.signal(run_id, "go")

    asyncio.run(send())


def test_a_child_and_its_undo_in_other_files(fork):
    """Killed while its child waits, a run goes on in a process that has not imported it yet."""
    child = "first#tools.0/look.0/research.0"
    process = fork.open("run", OWLS, "--id", "first")
    assert wait_until(lambda: has_reached(fork, child, "go.0"), 30), end(process)
    process.kill()
    end(process)
    send(fork, child)

    done = fork.do("run", "--id", "first")

    assert (done.code, done.out) == (0, ANSWER), done.err


@pytest.mark.parametrize("name", ["jobs.research", "jobs"])
def test_beside_the_package(fork, name):
    """So it does where the child stands in a package beside the agent's, of whatever name."""
    (fork.folder / "agent" / "jobs").rename(fork.folder / "jobs")
    fork.replace("agent/shop.py", "agent.jobs.research", name)
    text = RESEARCH.replace("agent.jobs.undo", ".undo")
    (fork.folder / "jobs" / "research.py").write_text(text)
    if name == "jobs":
        (fork.folder / "jobs" / "__init__.py").write_text("from .research import research\n")
    child = "first#tools.0/look.0/research.0"
    process = fork.open("run", OWLS, "--id", "first")
    assert wait_until(lambda: has_reached(fork, child, "go.0"), 30), end(process)
    process.kill()
    end(process)
    send(fork, child)

    done = fork.do("run", "--id", "first")

    assert (done.code, done.out) == (0, ANSWER), done.err


def test_two_functions_of_one_name(fork):
    """Two durable functions of one name, which the journal could not tell apart, are refused."""
    fork.write("agent/jobs/other.py", UNDO.replace("take_back", "research"))

    done = fork.do("run", OWLS)

    assert (done.code, done.out) == (2, "")
    assert "there are two functions 'research', version 1: agent.jobs." in done.err
    assert "give one a name or a version of its own" in done.err
    assert "Traceback" not in done.err


def test_a_run_of_another_version(fork):
    """`show` and `runs` say of a run that no worker knows which function it waits for."""
    fork.start("old", OWLS)

    for command in (("show", "old"), ("runs",)):
        assert "waits for a worker that knows agent v1; none does" in fork.do(*command).out
    assert fork.run("old")["missing"] == "agent v1"
