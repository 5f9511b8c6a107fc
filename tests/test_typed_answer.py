"""An answer has the type that was asked for, or the run says that no model gave one."""

import json
from dataclasses import dataclass, replace
from datetime import date
from uuid import UUID, uuid4

import pytest
from pydantic import (
    BaseModel,
    Field,
    SecretStr,
    TypeAdapter,
    field_serializer,
    field_validator,
    model_validator,
)

from substrate import connect
from substrate.agent.answer_type import TypedAnswer, typed_answer_of
from substrate.agent.stop import answered, any_of, max_turns
from substrate.agent.tool import tool
from substrate.models.messages import Invalid, Reply, StopReason, ToolMessage
from substrate.models.model import Fallback, Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.values.codec import decode
from substrate.values.errors import Misuse
from tests.llm_providers import SETUPS, complete, served
from tests.llm_servers import stream
from tests.loops import answer_of, make_agent, row, scripted


class Book(BaseModel):
    """A book."""

    title: str
    pages: int = Field(ge=1)
    read_on: date | None = None


@dataclass(frozen=True)
class Shelf:
    """A shelf, in a plain dataclass."""

    books: list[Book]


GOOD = '{"title": "Owls", "pages": 7, "read_on": "2026-11-25"}'
BAD = '{"title": "Owls", "pages": 0}'


@tool(effect="pure")
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def told(request: Request) -> str:
    """Return what the model is told last."""
    message = request.messages[-1]
    if isinstance(message, ToolMessage):
        return message.results[0].content
    return message.to_json()["parts"][-1]["text"]


async def test_corrected(store_url):
    """An answer that does not fit goes back with its field errors, and both are recorded."""
    heard = []

    def script(request: Request) -> str:
        heard.append(told(request))
        assert request.answer_schema["properties"].keys() == {"title", "pages", "read_on"}
        return BAD if len(heard) == 1 else GOOD

    async with connect(store_url) as client:
        agent = make_agent(Model("scripted:test", script=script), answer=Book)
        answer = await answer_of(client, agent)
        rows = [await row(client, key) for key in ("model.0", "model.1")]

    assert "- pages: Input should be greater than or equal to 1" in heard[1]
    assert (answer.reason, answer.turns) == ("answered", 2)
    assert answer.read(Book) == Book(title="Owls", pages=7, read_on=date(2026, 11, 25))
    invalid = [decode(each.value).get("invalid") for each in rows]
    assert invalid == [{"problems": heard[1], "is_last": False}, None]
    asked = decode(rows[1].input)
    assert (asked["prev"], asked["add"]) == ("model.0", ["model.0", {"problems": "model.0"}])


async def test_another_model(store_url):
    """After its corrections a model is passed over for the next that takes `invalid`."""
    other = Model("scripted:other", script=lambda request: GOOD)
    never = Fallback(Model("scripted:never", script=[]), on=["context"])
    first = Model("scripted:test", script=lambda request: BAD, fallback=[never, other])
    async with connect(store_url) as client:
        answer = await answer_of(client, make_agent(first, answer=Book))
        last = await row(client, "model.3")

    assert (answer.reason, answer.turns) == ("answered", 4)
    assert decode(last.usage)["model"] == "scripted:other"
    assert decode(last.value)["passed_over"] == [
        {
            "model": "scripted:test",
            "reason": "invalid",
            "message": "3 of its replies were not what was asked for",
        }
    ]


async def test_no_model(store_url):
    """When nobody has an answer that fits, the run ends as failed and says what was wrong."""
    other = Model("scripted:other", script=lambda request: "Owls")
    first = Model("scripted:test", script=lambda request: BAD, fallback=[other])
    agent = make_agent(first, answer=TypedAnswer(Book, corrections=1))
    async with connect(store_url) as client:
        answer = await answer_of(client, agent)

    assert (answer.reason, answer.turns, answer.value) == ("failed", 4, None)
    assert answer.text == "Owls"
    assert answer.detail.startswith("4 replies were not what was asked for, the last: This answer")
    assert "it is not JSON" in answer.detail
    with pytest.raises(ValueError, match="Input should be"):
        answer.read(Book)


async def test_tool_arguments(store_url):
    """A model whose calls are wrong again and again is passed over; nobody left, the run fails."""
    wrong, right = say(call("add", a="x")), say(call("add", a=1, b=2))

    def other(request: Request) -> Reply | str:
        return right if "not called" in told(request) else f"It is {told(request)}."

    first = Model("scripted:test", script=lambda request: wrong)
    second = Model("scripted:other", script=other)
    async with connect(store_url) as client:
        helped = make_agent(replace(first, fallback=[second]), [add])
        answer = await answer_of(client, helped)
        alone = await answer_of(client, make_agent(first, [add]), "a/2")
        models = [decode((await row(client, f"model.{i}")).usage)["model"] for i in range(5)]

    assert answer.text == "It is 3."
    assert models == [*["scripted:test"] * 3, "scripted:other", "scripted:test"][:4] + models[4:]
    assert (alone.reason, alone.turns) == ("failed", 3)
    assert "- a: Input should be a valid integer" not in alone.detail
    assert "a: Input should be a valid integer" in alone.detail


async def test_one_right_call_is_enough(sqlite_url):
    """A reply of which one call can be made is none of those that count."""
    both = say(call("add", a="x"), call("add", a=1, b=2))
    agent = make_agent(scripted(both, both, both, both, "Three."), [add], answered())
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, agent)

    assert (answer.reason, answer.text) == ("answered", "Three.")


async def test_cut_short(sqlite_url):
    """A loop that is cut short has a value where its last reply fits, and none where not."""
    agent = make_agent(scripted(say(call("add", a=1, b=1)), GOOD), [add], max_turns(1), answer=Book)
    wordy = make_agent(
        scripted(say(call("add", a=1, b=1)), "So."), [add], max_turns(1), answer=Book
    )
    async with connect(sqlite_url) as client:
        fits = await answer_of(client, agent)
        words = await answer_of(client, wordy, "a/2")

    assert (fits.reason, fits.value["pages"]) == ("max_turns", 7)
    assert (words.reason, words.text, words.value) == ("max_turns", "So.", None)


async def test_limits_count_corrections(sqlite_url):
    """A correction is a turn like any other."""
    model = Model("scripted:test", script=lambda request: BAD)
    agent = make_agent(model, stop=any_of(answered(), max_turns(2)), answer=Book)
    async with connect(sqlite_url) as client:
        assert (await answer_of(client, agent)).reason == "max_turns"


async def test_a_refusal_is_none(sqlite_url):
    """A model that refuses is not asked to mend its refusal."""
    refusal = replace(say("I won't."), stop=StopReason.REFUSAL)
    async with connect(sqlite_url) as client:
        answer = await answer_of(client, make_agent(scripted(refusal), answer=Book))

    assert (answer.reason, answer.turns, answer.value) == ("refused", 1, None)


async def test_newer_code_replays(sqlite_url):
    """What was wrong with a reply is recorded: a type that has changed since changes no turn."""
    asked = []

    def script(request: Request) -> str:
        asked.append(len(request.messages))
        return BAD if len(asked) == 1 else GOOD

    model = Model("scripted:test", script=script)
    async with connect(sqlite_url) as client:
        await answer_of(client, make_agent(model, answer=Book))
        again = await client.result("a/1", make_agent(model, answer=Shelf))

    assert again.value["title"] == "Owls"
    assert asked == [1, 3]


@pytest.mark.parametrize("provider", SETUPS)
async def test_by_every_provider(monkeypatch, sqlite_url, provider):
    """Each provider is told what was wrong after its own words, and gives the answer."""
    answers = [stream(*complete(provider, text)) for text in (BAD, GOOD)]
    async with served(monkeypatch, provider, *answers) as server, connect(sqlite_url) as client:
        answer = await answer_of(client, make_agent(Model(SETUPS[provider].model), answer=Book))

    assert answer.read(Book).pages == 7
    assert "greater than or equal to 1" in json.dumps(server.bodies[1])
    assert "is_last" not in json.dumps(server.bodies[1])


class Node(BaseModel):
    """A tree."""

    name: str
    below: list["Node"] = []


def test_types():
    """What has named fields is a type of answers; anything else is refused with the cure."""
    assert typed_answer_of(Shelf).value('{"books": []}') == {"books": []}
    assert typed_answer_of(Node).schema["properties"].keys() == {"name", "below"}
    assert typed_answer_of(None) is None
    for type_ in (list[Book], int, lambda: None):
        with pytest.raises(Misuse, match="answer="):
            typed_answer_of(type_)
    with pytest.raises(Misuse, match="0 or more"):
        TypedAnswer(Book, corrections=-1)


def test_cut_off():
    """An answer that was cut off is asked for again, shorter."""
    reply = replace(say('{"title": "Ow'), stop=StopReason.LENGTH)

    assert "make it shorter" in typed_answer_of(Book).problem(reply)


def test_recorded():
    """What is wrong with a reply is part of its record."""
    reply = replace(say("So."), invalid=Invalid("no", is_last=True))

    assert Reply.from_json(reply.to_json()) == reply


class Renamed(BaseModel):
    """A field that is written by another name than it is read by."""

    n: int = Field(default=1, validation_alias="nn", serialization_alias="out")


class Doubled(BaseModel):
    """A field that its validator changes."""

    x: int

    @field_validator("x")
    @classmethod
    def double(cls, x: int) -> int:
        """Return twice as much."""
        return x * 2


class Shown(BaseModel):
    """A field that is written as another type than it is read as."""

    x: int

    @field_serializer("x")
    def shown(self, x: int) -> str:
        """Return it in words."""
        return f"<{x}>"


class Hidden(BaseModel):
    """A field that is not written."""

    x: int = Field(default=3, exclude=True)


class Counted(BaseModel):
    """What counts how often it was made."""

    x: int

    @model_validator(mode="after")
    def count(self) -> "Counted":
        """Count."""
        self.x += 1
        return self


class Known(BaseModel):
    """A field that nobody else would make up again."""

    id: UUID = Field(default_factory=uuid4)


@pytest.mark.parametrize(
    "type_, given",
    [
        (Renamed, {"nn": 5}),
        (Doubled, {"x": 2}),
        (Shown, {"x": 2}),
        (Hidden, {"x": 9}),
        (Counted, {"x": 2}),
        (Shelf, {"books": [{"title": "Owls", "pages": 7}]}),
    ],
)
async def test_read_gives_what_was_checked(sqlite_url, type_, given):
    """What `answer.read` gives is what the type made of the model's answer, whatever it does."""
    agent = make_agent(Model("scripted:typed", script=[json.dumps(given)]), answer=type_)

    async with connect(sqlite_url) as client:
        answer = await answer_of(client, agent)

    assert answer.reason == "answered"
    assert answer.read(type_) == TypeAdapter(type_).validate_python(given)


def test_what_a_type_makes_up_is_kept():
    """What was not in the answer, and is another thing each time, is read as it was checked."""
    value = typed_answer_of(Known).value("{}")

    assert Known.model_validate(value).id == UUID(value["id"])


class Login(BaseModel):
    """What has a secret in it."""

    password: SecretStr


def test_no_secret_is_an_answer():
    """A type with a secret in it is refused before any model is asked."""
    with pytest.raises(Misuse, match="has a secret in it"):
        typed_answer_of(Login)
