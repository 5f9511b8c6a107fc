"""Whatever a fork's code raises while a command loads it is told: the file, the error, the cure."""

import re

import pytest

from tests.fork import HOOKS, Fork

ERRORS = {
    "SystemExit": ("raise SystemExit(3)", "SystemExit: 3"),
    "sys.exit": ("import sys; sys.exit('no owls')", "SystemExit: no owls"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "GeneratorExit": ("raise GeneratorExit", "GeneratorExit"),
    "CancelledError": ("import asyncio; raise asyncio.CancelledError", "CancelledError"),
    "a BaseException": ("raise type('Own', (BaseException,), {})('mine')", "Own: mine"),
    "a usage error of argparse": (
        "import argparse; argparse.ArgumentParser('owls').parse_args(['--no'])",
        "SystemExit: 2",
    ),
}
PLACES = {
    "a stop condition": "def stop(transcript):\n    RAISE\n",
    "a stop condition, later": "def stop(transcript):\n    if transcript.turns:\n        RAISE\n",
    "a stop condition in any_of": (
        "def own(transcript):\n    RAISE\nstop = any_of(answered(), own)\n"
    ),
    "tools that are read": (
        "from collections.abc import Sequence\nclass Tools(Sequence):\n"
        "    def __len__(self): return 1\n"
        "    def __getitem__(self, at):\n        RAISE\ntools = Tools()\n"
    ),
    "a type of an answer": (
        "class Answer:\n    @classmethod\n    def __get_pydantic_core_schema__(cls, *given):\n"
        "        RAISE\nanswer = Answer\n"
    ),
    "a prompt that is called": (
        "class Prompt:\n    @property\n    def __signature__(self):\n        RAISE\n"
        "    def __call__(self, task): return ''\nprompt = Prompt()\n"
    ),
    "a hook that is looked up": (
        "del prompt\ndef __getattr__(name):\n    if name == 'prompt':\n        RAISE\n"
        "    raise AttributeError(name)\n"
    ),
    "how a wrong model is shown": (
        "class Mine:\n    def __repr__(self):\n        RAISE\nmodel = Mine()\n"
    ),
    "an import": "if True:\n    RAISE\n",
}


@pytest.fixture(scope="module")
def fork(tmp_path_factory):
    """Provide a fork whose hooks each test writes anew; no run is ever begun in it."""
    return Fork.make(tmp_path_factory.mktemp("fork"))


@pytest.mark.parametrize("raised, told", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_it_is_told(fork, place, raised, told):
    """An error that ends processes is no end of the command without a word, and no traceback."""
    fork.write("agent/hooks.py", HOOKS + place.replace("RAISE", raised))

    done = fork.do("run", "How many owls?")

    assert (done.code, done.out) == (2, ""), done.err
    assert re.search(r"^error: agent/hooks\.py:\d+: ", done.err, re.MULTILINE), done.err
    if "SystemExit" in told and "it ends the process while it is imported, with" in done.err:
        told, cure = "", "; leave that out, or put it under if __name__ == '__main__'"
    else:
        cure = "; mend it"
    assert told in done.err
    assert cure in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("raised, told", ERRORS.values(), ids=ERRORS)
def test_a_module_that_a_tool_imports(fork, raised, told):
    """What a function of a tool imports when it is called hinders no command that does not."""
    fork.write("agent/later.py", raised)
    own = "def own():\n    from agent import later\nlook.function.own = own\n"
    fork.write("agent/hooks.py", HOOKS + own)

    done = fork.do("run", "How many owls?")

    assert (done.code, done.out) == (0, "Two owls.\n"), done.err
