"""What a model call was asked, as plain JSON: the whole of it, and the part that rarely changes.

The messages of a request are in the journal already, each in its own row. The rest (system
prompt, tools, model, parameters) is the *frame*, the same for most calls of a run: stored once and
referred to by its hash, it makes storage grow with the messages alone. With them it rebuilds
the exact request of that day. `canonical` is the whole request, to compare two by.

Invariant: equal requests give equal JSON, in any process and after a round trip of their messages.
"""

from collections.abc import Mapping, Sequence

from substrate.models.mending.rules import VERSION
from substrate.models.messages import Json, message_from_json
from substrate.models.request import Request, ToolSpec

_OURS = ("passed_over", "invalid", "detail", "confidence", "panel")
"""What a reply's record keeps and no provider gets."""


def frame(
    model_id: str, request: Request, fallback: Sequence[Mapping[str, Json]] = ()
) -> dict[str, Json]:
    """Return all of a request but its messages, with the model (``provider:name``) it goes to.

    `fallback` describes the models that are asked the same where that one cannot answer, and
    `mending` says how the request is mended before it is sent (see `mending`).
    """
    others = {"fallback": [dict(each) for each in fallback]} if fallback else {}
    return {
        **others,
        "system": request.system,
        "tools": [_tool(tool) for tool in request.tools],
        "model": model_id,
        "max_output_tokens": request.max_output_tokens,
        "settings": dict(request.settings),
        "mending": VERSION,
        **({} if request.may_call_tools else {"may_call_tools": False}),
        **_answer(request),
    }


def canonical(request: Request) -> dict[str, Json]:
    """Return everything that the provider gets, as plain JSON.

    How long we wait for it is not among it, nor are the usage of earlier replies, the models that
    were passed over for them, and what we found wrong with them.
    """
    return {
        "system": request.system,
        "messages": [as_sent(message.to_json()) for message in request.messages],
        "tools": [_tool(tool) for tool in request.tools],
        "max_output_tokens": request.max_output_tokens,
        "settings": request.parameters,
        "may_call_tools": request.may_call_tools,
        **_answer(request),
    }


def request_from_json(record: Mapping[str, Json]) -> Request:
    """Return the request of which `canonical` gave this; how long it is waited for is not in it."""
    return Request(
        record["system"],
        [message_from_json(each) for each in record["messages"]],
        [
            ToolSpec(each["name"], each["description"], each["parameters"])
            for each in record["tools"]
        ],
        record["max_output_tokens"],
        record["settings"],
        record["may_call_tools"],
        record.get("answer_schema"),
    )


def as_sent(record: Mapping[str, Json]) -> dict[str, Json]:
    """Return a message's record as a provider gets it, without what is ours."""
    return {key: value for key, value in record.items() if key not in _OURS}


def _answer(request: Request) -> dict[str, Json]:
    return {} if request.answer_schema is None else {"answer_schema": dict(request.answer_schema)}


def _tool(tool: ToolSpec) -> dict[str, Json]:
    return {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
