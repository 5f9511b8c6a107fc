"""The offline model: it says what a script says, costs nothing, and names itself ``scripted``.

A script is a list of turns, or a function from the request to a turn. A turn is what the model
says: text, tool calls, or both.

>>> script = [call("search", query="owls"), say("I found two owls.")]

Invariants: it keeps no state. The turn is chosen by how many replies the request holds, so the
same request gives the same reply, in a new process after a crash too. Tokens are an estimate, four
characters each, and the cost is 0, which is what it is.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from substrate.models.checks import TURNS
from substrate.models.messages import (
    Json,
    Reply,
    ReplyPart,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    Usage,
)
from substrate.models.request import OnText, Request
from substrate.models.tokens import estimate, tokens
from substrate.values.errors import BadRequest

Turn = str | ReplyPart | Reply | Mapping[str, Mapping[str, Json]] | Sequence[str | ReplyPart]
"""What the model says in one reply: text, a part, several of both, or tools as
``{"search": {"query": "owls"}}``. A `Reply` is given as it is, but for what it leaves blank."""

Script = Sequence[Turn] | Callable[[Request], Turn | Awaitable[Turn]]
"""The turns in order, or a function that gets the request and gives the turn."""


def say(*parts: str | ReplyPart) -> Reply:
    """Return a turn of text, and of tool calls if there are any among the parts.

    Example:
        >>> say("I look.", call("search", query="owls")).text
        'I look.'
    """
    return _reply(tuple(Text(part) if isinstance(part, str) else part for part in parts))


def call(tool: str, /, **arguments: Json) -> ToolCall:
    """Return a call of a tool; its id is given when the turn comes.

    Args:
        tool: The tool's name.
        **arguments: What the model gives it.
    """
    return ToolCall("", tool, arguments)


class Scripted:
    """A provider that follows a script."""

    __slots__ = ("_script",)

    def __init__(self, script: Script) -> None:
        self._script = script

    async def answer(self, model: str, request: Request, on_delta: OnText) -> Reply:
        """Return the script's turn for this request, telling its text word by word.

        Raises `BadRequest` when the script has no such turn, or gives something that is none.
        What a script function raises passes through, so it can play a provider that fails.
        """
        turn = await self._turn(request)
        reply = _finish(_read(turn, request), model, request)
        for piece in re.findall(r"\s*\S+|\s+$", reply.text):
            on_delta(piece)
        return reply

    async def close(self) -> None:
        """Do nothing: it has no connections."""

    async def _turn(self, request: Request) -> object:
        if callable(self._script):
            given = self._script(request)
            return await given if inspect.isawaitable(given) else given
        number = _number_of(request)
        if number >= len(self._script):
            raise BadRequest(
                f"the script has {len(self._script)} turns and is asked for turn {number + 1}; "
                "add one, or stop the loop earlier"
            )
        return self._script[number]


def _number_of(request: Request) -> int:
    """Return which turn a request asks for, from 0."""
    return sum(isinstance(message, Reply) for message in request.messages)


def _read(turn: object, request: Request) -> Reply:
    """Return a turn as a reply, or raise `BadRequest` when it is none."""
    match turn:
        case Reply():
            return turn
        case str() | Text() | Thinking() | ToolCall():
            return say(turn)
        case Mapping() if turn and all(isinstance(each, Mapping) for each in turn.values()):
            return say(*(ToolCall("", str(tool), dict(each)) for tool, each in turn.items()))
        case list() | tuple() if all(isinstance(each, str | ReplyPart) for each in turn):
            return say(*turn)
    raise BadRequest(f"turn {_number_of(request) + 1} of the script is {turn!r}; give {TURNS}")


def _reply(parts: tuple[ReplyPart, ...]) -> Reply:
    calls = any(isinstance(part, ToolCall) for part in parts)
    return Reply(parts, StopReason.TOOL_CALLS if calls else StopReason.END, "scripted", "")


def _finish(reply: Reply, model: str, request: Request) -> Reply:
    """Fill in what the script left blank: the ids of calls, the model, the usage."""
    parts = tuple(
        replace(part, id=request.call_id(i)) if isinstance(part, ToolCall) and not part.id else part
        for i, part in enumerate(reply.parts)
    )
    usage = reply.usage
    if usage == Usage():  # a script may play a provider that counts in its own way
        usage = Usage(
            input_tokens=estimate(request),
            output_tokens=tokens(reply.to_json()["parts"]),
            cost_usd=Decimal(0),
        )
    return replace(reply, parts=parts, model=reply.model or model, usage=usage)
