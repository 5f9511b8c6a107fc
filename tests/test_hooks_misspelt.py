"""What is wrong with a fork's hooks and skills is said when it is loaded: nothing is silent."""

import pytest

from tests.fork import HOOKS, Fork

OWN = "\ndef own(answer, task):\n    return None\n"

AN_AGENT = """
from substrate.agent import Agent, conversation_of
reader = Agent("reader", "Read.", model)
"""

SLIPS = {
    "check": (OWN + "check = [own]\n", "`check` is no hook", "did you mean `checks`?"),
    "check, the function": (OWN + "check = own\n", "`check` is no hook", "`checks`?"),
    "check, typed": (OWN + "check: list[object] = [own]\n", "`check` is no hook", "`checks`?"),
    "a check that is defined": ("\ndef chekcs(a, b): pass\n", "`chekcs` is no hook", "`checks`?"),
    "tool": ("\ntool = [look]\n", "`tool` is no hook", "did you mean `tools`?"),
    "stops": ("\nstops = answered()\n", "`stops` is no hook", "did you mean `stop`?"),
    "models": ("\nmodels = [model]\n", "`models` is no hook", "did you mean `model`?"),
    "promt": ("\ndef promt(task): return ''\n", "`promt` is no hook", "`prompt`?"),
    "notifier": ("\ndef tell(notice): pass\nnotifier = tell\n", "`notifier` is no", "`notify`?"),
    "in a branch": ("\nif True:\n    anwser = str\n", "`anwser` is no hook", "`answer`?"),
    "instead of it": ("\nstops = stop\ndel stop\n", "`stops` is no hook", "did you mean `stop`?"),
    "notify is words": ("\nnotify = 'ops@example.org'\n", "`notify` has 'ops@", "webhook("),
    "notify is a number": ("\nnotify = [print, 3]\n", "`notify` has 3", "functions of a Notice"),
    "notify of nothing": ("\nnotify = lambda: 1\n", "`notify` has", "one parameter: (notice)"),
    "a webhook that is not called": (
        "\nfrom substrate.agent import webhook\nnotify = webhook\n",
        "makes a notifier",
        'call it: webhook("https://',
    ),
    "a notifier that awaits nothing": (
        "\nasync def tell(notice):\n    asyncio.sleep(1)\nnotify = tell\n",
        "`notify` has the function tell",
        "write `await asyncio.sleep(…)`",
    ),
    "a rubric that is not called": (
        "\nfrom substrate.agent import rubric\nchecks = [rubric]\n",
        "makes checks",
        "call it, as in rubric(…)",
    ),
    **{
        f"{name} that is not called": (
            f"\nfrom substrate.agent import {name}\ntools = [{name}]\n",
            f"{name!r} makes tools and is none",
            f"call it, {name}(…)",
        )
        for name in ("delegate", "handoff", "ask_human")
    },
    **{
        f"an agent for a tool, {shown}": (
            f"{AN_AGENT}tools = [{shown}]\n",
            "'reader' is an agent",
            "delegate(…, description=",
        )
        for shown in ("reader", "reader.durable", "conversation_of(reader.durable)")
    },
}


@pytest.fixture(scope="module")
def fork(tmp_path_factory):
    """Provide a fork whose hooks each test writes anew; what is wrong begins no run in it."""
    return Fork.make(tmp_path_factory.mktemp("fork"))


@pytest.mark.parametrize("more, fact, cure", SLIPS.values(), ids=SLIPS)
def test_what_is_wrong_is_said(fork, more, fact, cure):
    """It is refused before a run begins, with its line and the remedy; and doctor says the same."""
    fork.write("agent/hooks.py", HOOKS + more)

    done = fork.do("run", "How many owls?")
    doctor = fork.do("doctor", "--json")

    assert (done.code, done.out) == (2, ""), done.err
    assert "error: agent/hooks.py:" in done.err
    assert fact in done.err, done.err
    assert cure in done.err, done.err
    assert "arbitrary_types_allowed" not in done.err
    (told,) = [each for each in doctor.document["checks"] if each["about"] == "hooks"]
    assert (told["state"], doctor.code) == ("fail", 1)
    assert fact in f"{told['said']}; {told['remedy']}"


FINE = {
    "other names": "SHOP = 1\nstock = [2]\nnotes = 'x'\nlimit = 3\nstep = 4\nstore = 'x'\n",
    "a part that is used": OWN + "check = [own]\nchecks = [*check]\n",
    "a function that is used": "def check(answer, task): return None\nchecks = [check]\n",
    "parts of a prompt": "prompts = ['a', 'b']\ndef prompt(task): return prompts[0]\n",
    "a name of its own module": "_check = 1\n",
    "a type that is annotated": "class Answers: pass\ndef own(answer: Answers) -> None: pass\n",
    "what is imported": "from substrate.agent import tool, Model, Tools, checks as check\n",
    "a notifier": "def tell(notice): pass\nnotify = [tell, print]\n",
}


@pytest.mark.parametrize("more", FINE.values(), ids=FINE)
def test_names_of_its_own(fork, more):
    """A fork's own variables stand beside the hooks, by any name, where they are used."""
    fork.write("agent/hooks.py", f"{HOOKS}\n{more}")

    assert fork.do("run", "How many owls?").out == "Two owls.\n"


def test_a_name_that_another_module_uses(tmp_path):
    """A name that is near a hook's is the fork's own where a module or a test of it is given it."""
    fork = Fork.make(tmp_path / "fork", hooks=HOOKS + "\nprompts = ['a']\nmodels = [model]\n")
    fork.write("agent/more.py", "from agent.hooks import prompts\n")
    fork.folder.joinpath("tests").mkdir()
    fork.write("tests/test_it.py", "from agent import hooks\n\nassert hooks.models\n")

    assert fork.do("run", "How many owls?").out == "Two owls.\n"


def test_hooks_of_another_agent(tmp_path):
    """The hooks of an agent that is a module are looked at in the same way."""
    more = "\nfrom agent import reader\nfrom substrate.agent import delegate\n"
    fork = Fork.make(
        tmp_path / "fork", hooks=f"{HOOKS}{more}tools = [delegate(reader, description='Reads.')]\n"
    )
    fork.write("agent/reader.py", f"name = 'reader'\n{HOOKS}{OWN}check = [own]\n")

    done = fork.do("run", "How many owls?")

    assert done.code == 2
    assert "the agent 'reader': `check` is no hook" in done.err


IMPORTS = {
    "a dash": (
        "skills/my-skill/tools.py",
        "from skills.my_skill.tools import X",
        "'skills/my-skill' has a name that no import has; rename it: skills/my_skill",
    ),
    "a dash in a file": (
        "my-owls.py",
        "import my_owls",
        "'my-owls.py' has a name that no import has; rename it: my_owls.py",
    ),
    "capitals": (
        "skills/Mine/tools.py",
        "from skills.mine.tools import X",
        "'skills/Mine' has a name that no import has; rename it: skills/mine",
    ),
    "a slip": (
        "skills/parcels/tools.py",
        "from skills.parcel.tools import X",
        "make skills/parcel.py, or mend the import; did you mean 'parcels'?",
    ),
    "a module within": (
        "skills/parcels/tools.py",
        "from skills.parcels.tool import X",
        "make skills/parcels/tool.py, or mend the import; did you mean 'tools'?",
    ),
    "one of nobody's": ("skills/mine/tools.py", "import nopandas", "install what it needs ("),
    "one of the agent's": ("skills/mine/tools.py", "import agent.owl", "make agent/owl.py"),
}


@pytest.mark.parametrize("file, line, cure", IMPORTS.values(), ids=IMPORTS)
def test_a_module_that_is_not_found(tmp_path, file, line, cure):
    """What lies in the fork under another name is named; what is nowhere is to be installed."""
    fork = Fork.make(tmp_path / "fork", hooks=f"{HOOKS}\n{line}\n")
    (fork.folder / file).parent.mkdir(parents=True, exist_ok=True)
    fork.write(file, "X = 1\n")

    done = fork.do("run", "How many owls?")

    assert done.code == 2
    assert cure in done.err, done.err
    assert ("uv add" in done.err or "pip install" in done.err) is ("nopandas" in line)


def test_a_skill_of_the_kits_name(tmp_path):
    """A skill of the fork's own that has the name of one of the kit's is refused."""
    fork = Fork.make(tmp_path / "fork")
    (fork.folder / "skills" / "web").mkdir(parents=True)
    fork.write("skills/web/__init__.py", "X = 1\n")

    done = fork.do("run", "How many owls?")
    doctor = fork.do("doctor")

    assert (done.code, doctor.code) == (2, 1)
    assert "skills/web: the kit has a skill 'web'" in done.err
    assert "give yours another name" in done.err
    assert "the kit has a skill 'web'" in doctor.out
