"""What of an earlier reply only its own model understands, and what of that goes back.

Thinking with its signature, encrypted reasoning, searches that a provider ran: they are in a part's
`native`, in the shape in which their provider sent them, and go back to the model that wrote them
and to no other. So the shapes of all providers are known here, and an adapter sends what it finds.

Invariant: after `going_back` whatever is native in a reply is that of the model which is asked.
"""

from collections.abc import Callable, Mapping, Sequence

from substrate.models import messages as m
from substrate.models.mending.notes import Note
from substrate.models.mending.rules import Rule
from substrate.models.mending.takes import Takes
from substrate.models.parts import Json
from substrate.models.sendable import changed

Parts = Sequence[m.ReplyPart]


def going_back(reply: m.Reply, to: Takes, note: Note) -> Parts:
    """Return the parts of a reply that this model gets."""
    if not reply.made_by(to.provider, to.model):
        return _anybodys(reply.parts, to, note, Rule.FOREIGN)
    return _OWN.get(to.provider, _of_chat)(reply.parts, to, note)


def _anybodys(parts: Parts, to: Takes, note: Note, rule: Rule) -> Parts:
    """Return the words and calls of another model, without what only that one understands."""
    mark = {"thoughtSignature": to.unsigned} if to.unsigned else None
    made: list[m.ReplyPart] = []
    for part in parts:
        if isinstance(part, m.Thinking):
            note(rule)
            continue
        is_call = isinstance(part, m.ToolCall)
        wanted = mark if is_call else None
        if part.native == wanted:
            made.append(part)
            continue
        if part.native:
            note(rule)
        if wanted:
            note(Rule.UNSIGNED)
        made.append(changed(part, native=wanted))
    return made


def _of_anthropic(parts: Parts, to: Takes, note: Note) -> Parts:
    """Return the blocks without thinking that is not signed, and searches that found nothing yet.

    They were cut off, and the API takes neither back; nor thinking at the end.
    """
    blocks = [_native(part) for part in parts]
    found = {each["tool_use_id"] for each in blocks if "tool_use_id" in each}
    asked = {each.get("id") for each in blocks if _is_search(each)}
    made: list[m.ReplyPart] = []
    for part, block in zip(parts, blocks, strict=True):
        is_empty = isinstance(part, m.Thinking) and not block
        if is_empty or (block.get("type") == "thinking" and not block.get("signature")):
            note(Rule.CUT)
        elif (_is_search(block) and block.get("id") not in found) or (
            "tool_use_id" in block and block["tool_use_id"] not in asked
        ):
            note(Rule.SEARCH)
        else:
            made.append(part)
    return _followed(made, note, lambda part: "thinking" in str(_native(part).get("type")))


def _is_search(block: Mapping[str, Json]) -> bool:
    return block.get("type") in ("server_tool_use", "mcp_tool_use")


def _of_openai(parts: Parts, to: Takes, note: Note) -> Parts:
    """Return the items, but for reasoning that nothing follows.

    The rest of a reply is refused without its reasoning, and reasoning without its content, which
    is kept at a provider where nothing is kept: then the whole is sent as anybody's.
    """
    if any(map(_is_sealed, parts)):
        return _anybodys(parts, to, note, Rule.CUT)
    return _followed(
        [part for part in parts if not isinstance(part, m.Thinking) or part.native],
        note,
        lambda part: _native(part).get("type") == "reasoning",
    )


def _is_sealed(part: m.ReplyPart) -> bool:
    native = _native(part)
    return native.get("type") == "reasoning" and not native.get("encrypted_content")


def _of_google(parts: Parts, to: Takes, note: Note) -> Parts:
    """Return the parts as they came, without empty thoughts, and with the first call signed."""
    made: list[m.ReplyPart] = []
    has_called = False
    for part in parts:
        native = _native(part)
        if isinstance(part, m.Thinking) and not (part.text.strip() or native.keys() - {"thought"}):
            note(Rule.CUT)
            continue
        is_first = isinstance(part, m.ToolCall) and not has_called
        has_called = has_called or is_first
        if is_first and to.unsigned and "thoughtSignature" not in native:
            note(Rule.UNSIGNED)  # of parallel calls the first is signed
            made.append(changed(part, native={**native, "thoughtSignature": to.unsigned}))
        else:
            made.append(part)
    return made


def _of_groq(parts: Parts, to: Takes, note: Note) -> Parts:
    """Return the parts, with thoughts under the one name that Groq takes."""
    made: list[m.ReplyPart] = []
    for part in parts:
        if isinstance(part, m.Thinking) and _native(part).keys() != {"reasoning"}:
            note(Rule.FOREIGN)
        else:
            made.append(part)
    return _of_chat(made, to, note)


def _of_chat(parts: Parts, to: Takes, note: Note) -> Parts:
    """Return the parts; thoughts alone are no message."""
    if any(not isinstance(part, m.Thinking) for part in parts):
        return parts
    return _followed(parts, note, lambda part: True)


def _followed(parts: Parts, note: Note, is_thought: Callable[[m.ReplyPart], bool]) -> Parts:
    """Return parts without the thoughts at their end."""
    end = len(parts)
    while end and isinstance(parts[end - 1], m.Thinking) and is_thought(parts[end - 1]):
        end -= 1
    if end < len(parts):
        note(Rule.LAST)
    return parts[:end]


def _native(part: m.ReplyPart) -> Mapping[str, Json]:
    return part.native if isinstance(part.native, dict) else {}


_OWN: Mapping[str, Callable[[Parts, Takes, Note], Parts]] = {
    "anthropic": _of_anthropic,
    "google": _of_google,
    "groq": _of_groq,
    "openai": _of_openai,
}


def began_by_thinking(messages: Sequence[m.Message]) -> bool:
    """Whether the turn that goes on began by thinking: Anthropic lets no other go on with it.

    One that another model began, before it was passed over, did not.
    """
    at = next((i for i in reversed(range(len(messages))) if isinstance(messages[i], m.Reply)), None)
    if at is None or not any(isinstance(each, m.ToolMessage) for each in messages[at:]):
        return True
    reply = messages[at]
    assert isinstance(reply, m.Reply), "it was found as one"
    return "thinking" in str(_native(reply.parts[0]).get("type")) if reply.parts else True
