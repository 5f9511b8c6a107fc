"""A request mended for one model, what was mended in it, and the names of its tools given back.

Invariants: those of the package; and roles alternate afterwards, beginning with the user and not
ending with the model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from substrate.models import messages as m
from substrate.models.mending import media
from substrate.models.mending.names import Names, named, names_of
from substrate.models.mending.notes import (
    Mend,
    NoteAt,
    at,
    faults,
    gathered,
    ignore,
    ignore_at,
    message,
)
from substrate.models.mending.order import in_order, is_in_order
from substrate.models.mending.reasoning import began_by_thinking
from substrate.models.mending.rules import Rule
from substrate.models.mending.schemas import schema_for
from substrate.models.mending.sound import sound, sound_for
from substrate.models.mending.takes import Takes
from substrate.models.parts import Json
from substrate.models.request import Request, ToolSpec
from substrate.models.sendable import changed, clean, sendable

_MORE = " … (the system prompt says the rest)"

NO_LONGER = "This tool is no longer there."
"""What a model is told of a tool that was called, where it is offered none."""


def mended(request: Request, to: Takes, note: NoteAt = ignore_at) -> Request:
    """Return the request with whatever its model would refuse in it mended.

    Raises `BadRequest` for a value that contains itself, which nobody can send.
    """
    specs = _specs(request.tools, to, note)
    names = names_of(specs, to)
    messages = _messages(request.messages, to, names, note)
    system = _system(request.system, note)
    tools = _few_enough(named(specs, names, note), request.settings, to, note)
    system, tools = _with_descriptions(system, tools, to, note)
    may_call = request.may_call_tools
    if to.needs_tools and not tools and "tools" not in request.settings:
        tools = _called(messages, note)
        may_call = may_call and not tools
    answer = request.answer_schema
    if answer is not None:
        asked = schema_for(dict(answer), to, at(note, "the answer's schema"), is_tool=False)
        answer = answer if asked == answer else asked
    return changed(
        request,
        system=system,
        messages=messages,
        tools=request.tools if _are_same(tools, request.tools) else tools,
        settings=_settings(request.settings, messages, to, note),
        may_call_tools=may_call,
        answer_schema=answer,
    )


def mends_of(request: Request, to: Takes) -> list[Mend]:
    """Return what is mended in a request before it is sent to a model, and where."""
    noted: list[tuple[Rule, str]] = []
    mended(request, to, lambda rule, place: noted.append((rule, place)))
    return gathered(noted)


def restored(reply: m.Reply, request: Request, to: Takes) -> m.Reply:
    """Return a reply to a mended request with the names that its tools and arguments have."""
    if not reply.tool_calls:
        return reply
    names = names_of(_specs(request.tools, to, ignore_at), to)
    return reply if names.are_their_own else names.back.of_calls(reply)


def _messages(
    given: Sequence[m.Message], to: Takes, names: Names, note: NoteAt
) -> Sequence[m.Message]:
    own = given if names.are_their_own else [names.of_message(each) for each in given]
    if note is ignore_at:
        messages = list(map(sound_for(to), own))
    else:
        messages = [sound(each, to, at(note, message(i))) for i, each in enumerate(own)]
    if not is_in_order(messages, to):
        messages = in_order(messages, to, note)
    messages = media.most_shown(messages, to, at(note, "the messages"))
    return given if _are_same(messages, given) else messages


def _are_same(some: Sequence[object], others: Sequence[object]) -> bool:
    return len(some) == len(others) and all(a is b for a, b in zip(some, others, strict=True))


def _system(system: str, note: NoteAt) -> str:
    noting = at(note, "the system prompt")
    if system and not system.strip():
        noting(Rule.BLANK_SYSTEM)
        return ""
    return clean(system, faults(noting))


def _specs(tools: Sequence[ToolSpec], to: Takes, note: NoteAt) -> list[ToolSpec]:
    """Return the tools, under their own names, with descriptions and schemas that are taken."""
    made = []
    for tool in tools:
        noting = ignore if note is ignore_at else at(note, f"tool {clean(tool.name)}")
        description = clean(tool.description, faults(noting))
        parameters = schema_for(tool.parameters, to, noting)
        made.append(changed(tool, description=description, parameters=parameters))
    return made


def _few_enough(
    tools: list[ToolSpec], settings: Mapping[str, Json], to: Takes, note: NoteAt
) -> list[ToolSpec]:
    """Return as many tools as are taken; those of the provider's own, in the settings, count."""
    if to.most_tools is None:
        return tools
    theirs = settings.get("tools")
    most = max(to.most_tools - (len(theirs) if isinstance(theirs, list) else 0), 0)
    if len(tools) > most:
        note(Rule.MANY_TOOLS, f"{len(tools) - most} of {len(tools)} tools")
    return tools[:most]


def _with_descriptions(
    system: str, tools: list[ToolSpec], to: Takes, note: NoteAt
) -> tuple[str, list[ToolSpec]]:
    """Return descriptions that are short enough; those that are not stand in the system prompt."""
    longest = to.longest_description
    if longest is None or all(len(tool.description) <= longest for tool in tools):
        return system, tools
    made, told = [], [system] if system else []
    for tool in tools:
        if len(tool.description) <= longest:
            made.append(tool)
            continue
        note(Rule.LONG, f"tool {tool.name}")
        told.append(f"The tool {tool.name}: {tool.description}")
        begun = tool.description[: longest - len(_MORE)]
        made.append(replace(tool, description=begun + _MORE))
    return "\n\n".join(told), made


def _called(messages: Sequence[m.Message], note: NoteAt) -> list[ToolSpec]:
    """Return a tool for each that was called, where the model is offered none."""
    names = dict.fromkeys(
        call.name for each in messages if isinstance(each, m.Reply) for call in each.tool_calls
    )
    if names:
        note(Rule.NO_TOOLS, "the tools")
    return [ToolSpec(name, NO_LONGER, {"type": "object", "properties": {}}) for name in names]


def _settings(
    settings: Mapping[str, Json], messages: Sequence[m.Message], to: Takes, note: NoteAt
) -> Mapping[str, Json]:
    noting = at(note, "the settings")
    made = sendable(settings, faults(noting))
    thinking = made.get("thinking") if to.provider == "anthropic" else None
    is_on = isinstance(thinking, Mapping) and thinking.get("type") == "enabled"
    if is_on and not began_by_thinking(messages):
        noting(Rule.UNTHOUGHT)
        return {**made, "thinking": {"type": "disabled"}}
    return made
