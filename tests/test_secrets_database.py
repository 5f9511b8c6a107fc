"""A password of a database, wherever it was read, is in no error of a client or of a tool."""

import asyncio
import json
import traceback
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from skills.sql.tools import query_sql
from substrate.store.connect import open_store
from substrate.store.database_url import PostgresUrl
from substrate.values.errors import StoreError

PASSWORD = "FAKE-datab4se:pw+1"
SPELLED: dict[str, Callable[[str], str]] = {
    "plain": str,
    "base64": lambda word: b64encode(f"u:{word}".encode()).decode(),
    "hex": lambda word: word.encode().hex(),
    "URL": lambda word: "".join(f"%{octet:02x}" for octet in word.encode()),
    "HTML": lambda word: "".join(f"&#{ord(each)};" for each in word),
    "numbers": lambda word: json.dumps(list(word.encode())),
    "capitals": str.upper,
}


@asynccontextmanager
async def repeating() -> AsyncIterator[tuple[int, list[str]]]:
    """Provide the port of a server that repeats each password in every spelling, and those."""
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def read() -> bytes:
            return await reader.readexactly(int.from_bytes(await reader.readexactly(4)) - 4)

        try:
            while (await read())[:2] == b"\x04\xd2":  # neither TLS nor GSS
                writer.write(b"N")
            writer.write(b"R" + (8).to_bytes(4) + (3).to_bytes(4))
            await reader.readexactly(1)
            password = (await read())[:-1].decode()
            asked.append(password)
            told = " ".join(f"{name}: {spell(password)}" for name, spell in SPELLED.items())
            fields = f"SFATAL\0VFATAL\0C28P01\0M{told}\0\0".encode()
            writer.write(b"E" + (len(fields) + 4).to_bytes(4) + fields)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], asked


def _line(port: int) -> str:
    return f"127.0.0.1:{port}:*:u:{PASSWORD.replace(':', chr(92) + ':')}\n"


def _private(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def in_url(port: int, folder: Path, monkeypatch: Any) -> str:
    return f"postgresql://u:{PASSWORD.replace(':', '%3A')}@127.0.0.1:{port}/db"


def in_option(port: int, folder: Path, monkeypatch: Any) -> str:
    return f"postgresql://u@127.0.0.1:{port}/db?password={PASSWORD.replace(':', '%3A')}"


def in_variable(port: int, folder: Path, monkeypatch: Any) -> str:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    return f"postgresql://u@127.0.0.1:{port}/db"


def in_file_of_variable(port: int, folder: Path, monkeypatch: Any) -> str:
    monkeypatch.setenv("PGPASSFILE", _private(folder / "pass", _line(port)))
    return f"postgresql://u@127.0.0.1:{port}/db"


def in_file_of_option(port: int, folder: Path, monkeypatch: Any) -> str:
    file = _private(folder / "pass", _line(port))
    return f"postgresql://u@127.0.0.1:{port}/db?passfile={file}"


def in_file_of_home(port: int, folder: Path, monkeypatch: Any) -> str:
    monkeypatch.setenv("HOME", str(folder))
    _private(folder / ".pgpass", _line(port))
    return f"postgresql://u@127.0.0.1:{port}/db"


def in_service(port: int, folder: Path, monkeypatch: Any) -> str:
    text = f"[shop]\nhost=127.0.0.1\nport={port}\nuser=u\npassword={PASSWORD}\n"
    monkeypatch.setenv("PGSERVICEFILE", _private(folder / "services", text))
    return "postgresql:///db?service=shop"


PLACES = [
    in_url,
    in_option,
    in_variable,
    in_file_of_variable,
    in_file_of_option,
    in_file_of_home,
    in_service,
]


@pytest.fixture(autouse=True)
def _no_other_place(tmp_path, monkeypatch):
    for name in ("PGPASSWORD", "PGPASSFILE", "PGSERVICEFILE", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)


def tells(told: str) -> list[str]:
    """Return in which spellings a text has the password."""
    return [name for name, spell in SPELLED.items() if spell(PASSWORD) in told]


@pytest.mark.parametrize("place", PLACES)
async def test_client(tmp_path, monkeypatch, place):
    """A client's error has no password that the server repeats, in no spelling."""
    async with repeating() as (port, asked):
        with pytest.raises(StoreError) as caught:
            await open_store(place(port, tmp_path, monkeypatch))

    assert set(asked) == {PASSWORD}
    assert "plain: …" in str(caught.value)
    assert tells("\n".join([repr(caught.value), *traceback.format_exception(caught.value)])) == []


@pytest.mark.parametrize("place", PLACES)
async def test_tool(tmp_path, monkeypatch, place):
    """What a model reads of a database that cannot be reached has no password either."""
    async with repeating() as (port, asked):
        ask: Any = query_sql(place(port, tmp_path, monkeypatch))
        with pytest.raises(Exception, match="plain: …") as caught:
            await ask("SELECT 1")

    assert set(asked) == {PASSWORD}
    assert tells("\n".join([repr(caught.value), *traceback.format_exception(caught.value)])) == []


def test_names_stay(tmp_path, monkeypatch):
    """A password that is a name, too, is no secret where that name is told."""
    monkeypatch.setenv("PGPASSWORD", "Postgres")
    url = PostgresUrl.read("postgresql://postgres@db.example.com/shop")

    told = 'password authentication failed for user "postgres"'
    assert url.hide_in(told) == told
