"""A task says something: words, images, documents; it is recorded whole, and shown to the model."""

from pathlib import Path
from typing import Any

import pytest

from substrate import connect
from substrate.agent.attachment import attachment
from substrate.agent.history.request import read_request
from substrate.agent.task import Task
from substrate.models.day import is_day
from substrate.models.frame import canonical
from substrate.models.messages import Document, Image, Text, UserMessage, recorded
from substrate.models.model import Model
from substrate.models.providers.scripted import say
from substrate.models.request import Request
from substrate.values.codec import decode
from substrate.values.errors import Misuse
from tests.loops import make_agent, scripted

PNG = b"\x89PNG\r\n\x1a\n\xff\x00" * 2_000  # too long for a row
PDF = Document(b"%PDF-1.4\xff\x00", title="report.pdf")


async def test_shown_to_the_model(store_url: str) -> None:
    """Attachments are in the run's input and reach the model, after the words, byte for byte."""
    seen: list[Request] = []

    def script(request: Request) -> Any:
        seen.append(request)
        return say("A black line.")

    task = Task("What is this?", attachments=(Image(PNG), PDF))
    agent = make_agent(Model("scripted:x", script=script))
    async with connect(store_url) as client, client.work([agent]):
        await client.start(agent, task, id="a/1")
        await client.start(agent, task, id="a/1")  # the same again is the same run
        await client.result("a/1", agent)
        rebuilt = await read_request(client, "a/1", "model.0")

    (message,) = seen[0].messages
    assert isinstance(message, UserMessage)
    *parts, day = message.parts
    assert parts == [Text("What is this?"), Image(PNG), PDF]
    assert is_day(recorded(day))
    assert len(seen) == 1
    assert rebuilt == canonical(seen[0])


async def test_a_record_without_attachments(sqlite_url: str) -> None:
    """A task without any has the record that it had before there were any, and reads it."""
    agent = make_agent(scripted("Done."))
    async with connect(sqlite_url) as client, client.work([agent]):
        await client.start(agent, Task("Do it.", {"n": 1}), id="a/1")
        await client.result("a/1", agent)
        own = next(row for row in await client.journal("a/1") if row.key == "run")

    assert decode(own.input or "") == {"task": {"text": "Do it.", "data": {"n": 1}}}


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_a_task_that_says_nothing(text: str) -> None:
    """A blank task is refused when it is made; one with an attachment needs no words."""
    with pytest.raises(Misuse, match="says nothing"):
        Task(text)
    assert Task(text, attachments=(PDF,)).message.parts == (PDF,)


@pytest.mark.parametrize("given", ["a.png", b"data", 7, None, [Image(b"")], [Text("x")], ["x"]])
def test_what_is_no_attachment(given: Any) -> None:
    """What is no image and no document is refused, and so is one without bytes."""
    with pytest.raises(Misuse, match="attachment"):
        Task("Look.", attachments=given)


def test_files(tmp_path: Path) -> None:
    """A file is an image or a document by its name; what cannot be one is refused by name."""
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "b.PDF").write_bytes(b"%PDF")
    (tmp_path / "c.zip").write_bytes(b"PK")
    (tmp_path / "d.txt").touch()
    (tmp_path / "f.csv").write_bytes(b"a,b")

    assert attachment(tmp_path / "a.png") == Image(PNG)
    assert attachment(str(tmp_path / "b.PDF")) == Document(b"%PDF", title="b.PDF")
    assert attachment(tmp_path / "f.csv") == Document(b"a,b", "text/plain", "f.csv")
    for name, why in [("c.zip", "kind"), ("d.txt", "empty"), ("e.png", "cannot"), ("", "kind")]:
        with pytest.raises(Misuse, match=why):
            attachment(tmp_path / name)
