"""What the rows of an agent mean, read without the loop's code: the request of any model call.

Invariants: pure but for `read_request`; `request_of` gives what `frame.canonical` gave of the
request on the day it was made, before it was mended for its provider.
"""

from collections.abc import Iterator, Mapping, Sequence

from substrate.agent.history.result import outcome_of, result_in, spoken
from substrate.agent.history.rows import input_of, value_of
from substrate.engine.client import Client
from substrate.models.bound import LIMIT_SETTINGS
from substrate.models.frame import as_sent
from substrate.models.messages import Json, Text, ToolMessage, UserMessage
from substrate.models.request import OURS
from substrate.values.codec import decode
from substrate.values.errors import RunNotFound
from substrate.values.records import GATE, Promise

Rows = Mapping[str, Promise]


async def read_request(client: Client, run_id: str, key: str) -> dict[str, Json]:
    """Return what a model call was asked, whole: system prompt, messages, tools, parameters.

    Raises `RunNotFound` for a run or a key that there is not, or that is no model call.
    """
    rows: dict[str, Promise] = {row.key: row for row in await client.journal(run_id)}
    asked = input_of(rows[key]) if key in rows else {}
    if "frame" not in asked or "add" not in asked:
        raise RunNotFound(f"run {run_id!r} has no model call {key!r}; `show` lists its keys")
    frame = await client.store.blob(rows[key].run_id, asked["frame"])
    if frame is None:
        raise RunNotFound(f"the frame {asked['frame']!r} of {key!r} is gone from the database")
    return request_of(rows, key, decode(frame))


def request_of(rows: Rows, key: str, frame: Mapping[str, Json]) -> dict[str, Json]:
    """Return what the model call under this key was asked, given its run's rows and its frame."""
    schema = {k: frame[k] for k in ("answer_schema",) if k in frame}
    # A budget may have asked for less than the model's own limit: see `bound`.
    longest = input_of(rows[key]).get("longest")
    ours = OURS if longest is None else OURS.union(LIMIT_SETTINGS)
    return {
        "system": frame["system"],
        "messages": list(_messages(rows, key)),
        "tools": frame["tools"],
        "max_output_tokens": frame["max_output_tokens"] if longest is None else longest,
        "settings": {k: v for k, v in frame["settings"].items() if k not in ours},
        "may_call_tools": frame.get("may_call_tools", True),
        **schema,
    }


def _messages(rows: Rows, key: str | None) -> Iterator[Json]:
    """Yield the messages, from the first call of the chain on."""
    links: list[Sequence[Json]] = []
    passed: set[str] = set()
    while key is not None:
        if key in passed:
            raise ValueError(f"{key!r} goes on from itself; its row was edited by hand")
        passed.add(key)
        asked = input_of(rows[key])
        links.append(asked["add"])
        key = asked["prev"]
    for add in reversed(links):
        for entry in add:
            yield as_sent(_message(rows, entry))


def _message(rows: Rows, entry: Json) -> dict[str, Json]:
    """Return the message that an entry of a chain stands for, as its own JSON."""
    match entry:
        case str() as key:
            return _in_row(rows[key])
        case {"role": _}:
            return dict(entry)
        case {"results": [*keys]}:
            settled = entry.get("settled", {})
            found = [rows[settled[key]] if key in settled else None for key in keys]
            results = (result_in(rows[key], gate) for key, gate in zip(keys, found, strict=True))
            return ToolMessage(tuple(results)).to_json()
        case {"decided": [*keys]}:
            settled = entry.get("settled", {})
            found = [rows[settled[key]] if key in settled else None for key in keys]
            told = (
                Text(outcome_of(rows[f"{key}/{GATE}.0"], rows[key], each))
                for key, each in zip(keys, found, strict=True)
            )
            return UserMessage(tuple(told)).to_json()
        case {"problems": key}:
            return UserMessage.of(value_of(rows[key])["invalid"]["problems"]).to_json()
        case {"task": task, "head": head, "summary": key}:
            words = _words(rows[key])
            parts = [*value_of(rows[task])["task"]["parts"], {"type": "text", "text": head + words}]
            return {"role": "user", "parts": parts}
        case {"head": head, "summary": key}:
            return UserMessage.of(head + _words(rows[key])).to_json()
    raise ValueError(f"{entry!r} is no message; it was written by a newer ostinato: upgrade it")


def _words(row: Promise) -> str:
    parts = value_of(row)["parts"]
    return "".join(part["text"] for part in parts if part["type"] == "text")


def _in_row(row: Promise) -> dict[str, Json]:
    """Return the message that a row holds: a reply, the task, a warning, what people said."""
    value = value_of(row)
    if isinstance(value, str):
        return UserMessage.of(value).to_json()
    if isinstance(value, list):
        return spoken(value).to_json()
    return dict(value.get("task", value))
