"""A run is given one version of a prompt, for good; what came of the versions can be compared."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from decimal import Decimal

import pytest

from substrate import Client, connect
from substrate.agent.prompt import Prompt
from substrate.agent.stop import answered, any_of, max_turns
from substrate.cli.compare.statistics import Sample, compare, mean, share
from substrate.models.messages import Usage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.values.codec import decode
from substrate.values.errors import Misuse
from tests.fork import Fork
from tests.loops import TASK, answer_of, make_agent, row
from tests.test_agent import add

TWO = Prompt.versions({"v1": "Be brief.", "v2": "Be kind."}, split={"v2": 0.1})


def test_split():
    """Runs are divided as the split says, the same ones each time, and each prompt on its own."""
    ids = [f"run/{i}" for i in range(10_000)]
    given = {id_: TWO.choose(id_) for id_ in ids}
    other = replace(TWO, name="other")
    even = Prompt.versions({"a": "", "b": "", "c": ""})

    assert 900 <= Counter(given.values())["v2"] <= 1100
    assert given == {id_: TWO.choose(id_) for id_ in ids}
    both = sum(given[id_] == other.choose(id_) == "v2" for id_ in ids)
    assert 60 <= both <= 150, "independent: a hundredth"
    assert all(3_000 <= n <= 3_700 for n in Counter(map(even.choose, ids)).values())
    assert {Prompt.versions({"a": "", "b": ""}, {"b": 0}).choose(id_) for id_ in ids} == {"a"}


def test_the_same_in_any_process():
    """The choice does not hang on the process: not on its hash seed, not on its start."""
    code = (
        "from substrate.agent.prompt import Prompt;"
        "two = Prompt.versions({'v1': '', 'v2': ''}, split={'v2': 0.5});"
        "print(*(two.choose(f'run/{i}') for i in range(50)))"
    )
    said = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
        for _ in range(2)
    }
    here = Prompt.versions({"v1": "", "v2": ""}, split={"v2": 0.5})

    assert said == {" ".join(here.choose(f"run/{i}") for i in range(50)).encode() + b"\n"}


@pytest.mark.parametrize(
    "split, message",
    [
        ({"v3": 0.1}, "there are: v1, v2"),
        ({"v2": 1.5}, "from 0 to 1"),
        ({"v1": 0.5, "v2": 0.4}, "0.9 together"),
        ({"v1": 0.5, "v2": 0.6}, "1.1 together"),
    ],
)
def test_splits_that_cannot_be(split, message):
    """A split that is none is refused when the prompt is made."""
    with pytest.raises(Misuse, match=message):
        Prompt.versions({"v1": "", "v2": ""}, split)


async def test_recorded(store_url):
    """The version is recorded with the prompt and with every call, and stays as it was given."""
    told = []

    def script(request: Request):
        told.append(request.system)
        return say(call("add", a=1)) if len(told) == 1 else "Two."

    model = Model("scripted:test", script=script)
    whole = Prompt.versions({"v1": "Be brief.", "v2": "Be kind."}, split={"v2": 1.0})
    async with connect(store_url) as client:
        await answer_of(client, make_agent(model, [add], prompt=whole))
        begun = decode((await row(client, "prompt.0")).value)
        calls = [decode((await row(client, f"model.{i}")).input)["prompt"] for i in range(2)]

    (words, day) = begun.pop("task")["parts"]
    assert [words] == TASK.message.to_json()["parts"]
    assert day["text"].startswith("Today is ")
    assert begun == {"system": "Be kind.", "prompt": "prompt", "version": "v2"}
    assert calls == [{"name": "prompt", "version": "v2"}] * 2
    assert told == ["Be kind."] * 2


async def test_a_new_split_moves_no_run(sqlite_url):
    """A run that has begun keeps its version, whatever the split says later."""
    told = []

    def script(request: Request):
        told.append(request.system)
        if len(told) == 1:
            raise RuntimeError("this pauses the run")
        return "Done."

    model = Model("scripted:test", script=script)
    texts = {"v1": "Be brief.", "v2": "Be kind."}
    first = make_agent(model, prompt=Prompt.versions(texts, {"v1": 1.0}))
    second = make_agent(model, prompt=Prompt.versions(texts, {"v2": 1.0}))
    async with connect(sqlite_url) as client:
        with pytest.raises(Exception, match="pauses the run"):
            await answer_of(client, first)
        await client.resume("a/1")
        async with client.work([second]):
            await client.result("a/1", second)

    assert told == ["Be brief."] * 2


async def test_a_function_of_the_task(sqlite_url):
    """A version may be a function of the task, as a prompt may."""
    prompt = Prompt.versions({"v1": lambda task: f"You were asked: {task.text}"})
    model = Model("scripted:test", script=lambda request: request.system)
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, make_agent(model, prompt=prompt))

    assert answer.text == "You were asked: Do it."


# Compared


def scripted_two(request: Request):
    """Answer as the kind version does: always, and dearly; the brief one does every other time."""
    is_kind = request.system == "Be kind."
    usage = Usage(100, 20 if is_kind else 10, cost_usd=Decimal("0.02" if is_kind else "0.01"))
    asked = request.messages[0].to_json()["parts"][0]["text"]
    if is_kind or int(asked) % 2 or not request.may_call_tools:
        return replace(say("So."), usage=usage)
    return replace(say(call("add", a=1)), usage=usage)


async def hundred_runs(url: str) -> None:
    """Have a hundred runs of two versions, each scored by a step of its own."""
    from substrate import Context, durable
    from substrate.agent.task import Answer, Task

    prompt = Prompt.versions({"v1": "Be brief.", "v2": "Be kind."}, split={"v2": 0.4})
    model = Model("scripted:two", script=scripted_two)
    inner = make_agent(model, [add], any_of(answered(), max_turns(1)), prompt=prompt)

    async def grade(reason: str) -> float:
        return 1.0 if reason == "answered" else 0.25

    @durable
    async def agent(ctx: Context, task: Task) -> Answer:
        answer = await inner.function(ctx, task)
        await ctx.step(grade, answer.reason, name="score")
        return answer

    async with connect(url) as client, client.work([agent]):
        await asyncio.gather(
            *(client.start(agent, replace(TASK, text=str(i)), id=f"run/{i}") for i in range(100))
        )
        await asyncio.gather(*(client.result(f"run/{i}") for i in range(100)))
        await other_runs(client)


async def other_runs(client: Client) -> None:
    """Have runs that are none of this prompt's: of another, and of one without versions."""
    other = make_agent(
        Model("scripted:two", script=["So."]), prompt=replace(TWO, name="other"), name="other"
    )
    plain = make_agent(Model("scripted:two", script=["So."]), name="plain")
    async with client.work([other, plain]):
        for agent in (other, plain):
            await client.start(agent, TASK, id=agent.name)
            await client.result(agent.name)


@pytest.fixture
def fork(tmp_path, store_url) -> Fork:
    """Provide a fork whose database has a hundred runs of two versions."""
    url = store_url if store_url.startswith("postgres") else "sqlite:///runs.db"
    fork = Fork.make(tmp_path, url)
    asyncio.run(hundred_runs(fork.absolute_url))
    return fork


def test_compare(fork):
    """A hundred runs are told apart by version: reasons, cost, tokens, latency and score."""
    done = fork.do("compare", "prompt", "--json")
    told = {each["version"]: each for each in done.document["versions"]}
    v1, v2 = told["v1"], told["v2"]

    assert (done.code, done.document["confidence"]) == (0, 0.95)
    assert v1["runs"] + v2["runs"] == 100
    assert 30 <= v2["runs"] <= 50
    assert v2["reasons"] == {"answered": v2["runs"]}
    assert sum(v1["reasons"].values()) == v1["runs"]
    assert set(v1["reasons"]) == {"answered", "max_turns"}
    assert v1["answered"]["low"] < v1["answered"]["value"] < v1["answered"]["high"] < 0.75
    assert 0.85 < v2["answered"]["low"] < v2["answered"]["high"] == 1
    assert v2["cost_usd"] == {"value": 0.02, "low": 0.02, "high": 0.02, "of": v2["runs"]}
    assert v1["cost_usd"]["low"] > 0.01, "those that were cut short had two calls"
    assert v2["tokens"]["value"] == 120
    assert v1["latency_s"]["low"] <= v1["latency_s"]["value"] < 60
    assert (v2["score"]["value"], v1["score"]["high"] < 1) == (1, True)

    page = fork.do("compare", "prompt")
    assert (page.code, page.err) == (0, "")
    head, *lines = page.out.splitlines()
    columns = ["version", "runs", "answered", "cost", "tokens", "latency", "score", "ended as"]
    assert head.replace("ended as", "ended-as").split() == [
        each.replace(" ", "-") for each in columns
    ]
    assert lines[0].split()[:2] == ["v1", str(v1["runs"])]
    assert "– $0.0" in page.out
    assert "answered" in lines[0]


def test_scores_from_outside(tmp_path):
    """A score that a person gives afterwards comes in a file, and goes before the run's own."""
    fork = Fork.make(tmp_path)
    fork.replace(
        "agent/hooks.py",
        'prompt = "Be brief."',
        "from substrate.agent.prompt import Prompt\n"
        'prompt = Prompt.versions({"v1": "Be brief."}, name="owls")',
    )
    for run_id in ("first", "second"):
        assert fork.do("run", "How many owls?", "--id", run_id).code == 0
    (tmp_path / "scores.csv").write_text("first,0.5\nsecond,1\nanother,7\n")
    (tmp_path / "wrong.csv").write_text("first,good\n")

    scored = fork.do("compare", "owls", "--scores", "scores.csv", "--json")
    limited = fork.do("compare", "owls", "--limit", "1", "--json")
    wrong = fork.do("compare", "owls", "--scores", "wrong.csv")
    nobody = fork.do("compare", "prompt")

    (version,) = scored.document["versions"]
    assert (version["score"]["value"], version["score"]["of"]) == (0.75, 2)
    assert limited.document["versions"][0]["runs"] == 1
    assert limited.document["versions"][0]["score"]["value"] is None
    assert (wrong.code, "not lines of a run's id and a number" in wrong.err) == (2, True)
    assert "no run in sqlite:///runs.db was given a version of a prompt called 'prompt'" in (
        nobody.out
    )


def test_intervals():
    """Intervals are those of the textbook; what is not known is left out, never 0."""
    four = mean([1.0, 2.0, 3.0, 4.0])
    half = share(5, 10)

    assert (four.value, round(four.low, 4), round(four.high, 4)) == (2.5, 0.4457, 4.5543)
    assert (round(half.low, 4), round(half.high, 4)) == (0.2366, 0.7634)
    assert mean([None, 2.0]).to_json() == {"value": 2.0, "low": None, "high": None, "of": 1}
    assert mean([]).value is None
    assert share(0, 0).value is None


def test_what_has_not_ended():
    """A run that goes on counts as a run, and in no figure; an unknown cost is in no mean."""
    (record,) = compare(
        [
            Sample("a", "v1"),
            Sample("b", "v1", "answered", Decimal(1), 10, 1.0),
            Sample("c", "v1", "answered", None, 20, 3.0),
        ]
    )

    assert (record.runs, record.answered.of, record.cost_usd.of) == (3, 2, 1)
    assert (record.cost_usd.value, record.tokens.value, record.latency_s.value) == (1, 15, 2)


def test_without_scipy(tmp_path):
    """Where scipy is missing, what to install is said in one line."""
    fork = Fork.make(tmp_path)
    hidden = tmp_path / "hidden" / "scipy"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('not here')\n")
    path = f"{hidden.parent}:{fork.environment()['PYTHONPATH']}"

    done = fork.do("compare", "prompt", "--json", PYTHONPATH=path)

    assert done.code == 1
    assert "'scipy>=1.15'" in json.loads(done.out)["error"]["message"]
