"""`cassette`: a model that says what another one said when it was recorded. For tests.

The file holds each request as it was made and the reply it got, as JSON that a person can read and
a review can diff. A request that it holds is answered from it, the same every time; one that it
does not hold is asked of the model and added while ``record=True``, and an error otherwise, which
names what differs from the recorded request that is most like it.

Invariants: without `record` nothing is asked and nothing written, so no key is needed. A reply
comes back as it was, its native parts and its usage too. The day that a model is told of is no part
of what has to match. No key and no header is ever recorded.
"""

import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from substrate.models.day import is_day
from substrate.models.frame import canonical
from substrate.models.messages import Json, Reply, Usage
from substrate.models.model import Model
from substrate.models.request import Request
from substrate.values.codec import encode
from substrate.values.errors import BadRequest

MOST_DIFFERENCES = 8
"""How many differences a miss shows."""


def cassette(path: str | PathLike[str], model: Model, *, record: bool = False) -> Model:
    """Return a model that answers from a file what another one said when it was recorded.

    Args:
        path: The file, as JSON that a person can read.
        model: Who is asked while it is recorded.
        record: Whether what the file does not hold is asked of the model, and added; otherwise that
            is an error, which names what differs from the recorded request that is most like it.

    Example:
        >>> import os
        >>> real = Model("anthropic:claude-sonnet-5-5")
        >>> model = cassette("tests/owls.json", real, record="RECORD" in os.environ)
    """
    tape = _Cassette(Path(path), model, record=record)
    return Model(
        f"cassette:{path}",
        script=tape.answer,
        max_output_tokens=model.max_output_tokens,
        settings=model.settings,
    )


@dataclass(frozen=True, slots=True)
class _Call:
    """One request and its reply, as they are recorded."""

    request: dict[str, Json]
    reply: dict[str, Json]
    usage: dict[str, Json]


class _Cassette:
    """The calls of one file."""

    __slots__ = ("_calls", "_lock", "_model", "_path", "_record")

    def __init__(self, path: Path, model: Model, *, record: bool) -> None:
        self._path = path
        self._model = model
        self._record = record
        self._calls: dict[str, _Call] | None = None
        self._lock = asyncio.Lock()

    async def answer(self, request: Request) -> Reply:
        """Return what was recorded for a request, recording it first if that is wanted."""
        asked = json.loads(encode({"model": self._model.id, **canonical(request)}))
        async with self._lock:
            if self._calls is None:
                calls = await asyncio.to_thread(_load, self._path)
                self._calls = {encode(_undated(call.request)): call for call in calls}
            call = self._calls.get(encode(_undated(asked)))
            if call is None and self._record:
                reply = await self._model.answer(request)
                call = _Call(asked, reply.to_json(), reply.usage.to_json())
                self._calls[encode(_undated(asked))] = call
                await asyncio.to_thread(_save, self._path, list(self._calls.values()))
        if call is None:
            raise BadRequest(_miss(self._path, asked, list(self._calls.values())))
        return Reply.from_json(call.reply, Usage.from_json(call.usage))


def _undated(request: dict[str, Json]) -> dict[str, Json]:
    """Return a request without the day: what was recorded yesterday is to answer tomorrow."""
    messages = [
        {**each, "parts": [part for part in each["parts"] if not is_day(part)]}
        if isinstance(each, dict) and "parts" in each
        else each
        for each in request.get("messages", ())
    ]
    return {**request, "messages": messages}


def _load(path: Path) -> list[_Call]:
    if not path.exists():
        return []
    try:
        return [_Call(**each) for each in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        raise BadRequest(
            f"{path} is no cassette: {error}; delete it and record it again"
        ) from error


def _save(path: Path, calls: Sequence[_Call]) -> None:
    """Write the whole file, or none of it; a new one is for its owner only, as prompts are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [
        {"request": each.request, "reply": each.reply, "usage": each.usage} for each in calls
    ]
    draft = path.with_name(f"{path.name}.draft")
    text = json.dumps(records, ensure_ascii=False, indent=1, sort_keys=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    with open(draft, "w", encoding="utf-8", opener=_owner_only) as file:
        file.write(f"{text}\n")
    draft.chmod(mode)
    draft.replace(path)


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _miss(path: Path, asked: dict[str, Json], calls: Sequence[_Call]) -> str:
    """Say that a request was not recorded, and how it differs from the one most like it."""
    remedy = "record it again (record=True), or ask as it was recorded"
    if not calls:
        return f"{path} holds no call; {remedy}"
    wanted = _undated(asked)
    found = [list(_differences("", _undated(call.request), wanted)) for call in calls]
    nearest = min(range(len(calls)), key=lambda i: len(found[i]))
    shown = found[nearest][:MOST_DIFFERENCES]
    more = len(found[nearest]) - len(shown)
    lines = [*shown, *([f"and {more} more"] if more else [])]
    texts = "\n  ".join(lines)
    return f"{path} holds no such request; call {nearest + 1} of it differs in\n  {texts}\n{remedy}"


def _differences(at: str, recorded: Any, asked: Any) -> Iterator[str]:
    """Yield where two JSON values differ."""
    if isinstance(recorded, dict) and isinstance(asked, dict):
        for key in sorted(recorded.keys() | asked.keys()):
            here = f"{at}.{key}" if at else key
            yield from _differences(here, recorded.get(key, _NOTHING), asked.get(key, _NOTHING))
    elif isinstance(recorded, list) and isinstance(asked, list):
        for i in range(max(len(recorded), len(asked))):
            pair = [each[i] if i < len(each) else _NOTHING for each in (recorded, asked)]
            yield from _differences(f"{at}[{i}]", *pair)
    elif recorded != asked or type(recorded) is not type(asked):
        yield f"{at}: recorded {_short(recorded)}, asked {_short(asked)}"


class _Nothing:
    """Stands where a value is on one side only."""

    def __repr__(self) -> str:
        return "nothing"


_NOTHING = _Nothing()


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
