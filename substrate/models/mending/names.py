"""Tools and their arguments under names that a provider takes, and back.

A model that is shown a tool under another name calls it so. What it calls is given the tool's own
name again before anybody sees it, so the journal knows only that one.

Invariant: names that are taken stay as they are, wherever they stand; each tool, and each argument
of one, has a name of its own.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from substrate.models import messages as m
from substrate.models.mending.notes import NoteAt
from substrate.models.mending.rules import Rule
from substrate.models.mending.takes import Takes
from substrate.models.parts import Json
from substrate.models.request import ToolSpec
from substrate.models.sendable import clean


@dataclass(frozen=True, slots=True)
class Names:
    """How the tools of a request, and their arguments, are called where they have other names."""

    #: By a tool's own name.
    tools: Mapping[str, str] = field(default_factory=dict)
    #: By a tool's own name, those of its arguments by their own.
    keys: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def are_their_own(self) -> bool:
        """Whether all are called as they are."""
        return not self.tools and not self.keys

    @property
    def back(self) -> "Names":
        """The names that they have, by those that were sent."""
        own = {sent: name for name, sent in self.tools.items()}
        keys = {
            self.tools.get(tool, tool): {sent: key for key, sent in keys.items()}
            for tool, keys in self.keys.items()
        }
        return Names(own, keys)

    def of_calls(self, reply: m.Reply) -> m.Reply:
        """Return a reply whose calls have these names."""
        parts = tuple(self._part(part) for part in reply.parts)
        return reply if parts == reply.parts else replace(reply, parts=parts)

    def of_message(self, message: m.Message) -> m.Message:
        """Return a message whose calls and results have these names."""
        match message:
            case m.Reply():
                return self.of_calls(message)
            case m.ToolMessage(results):
                named = (
                    replace(each, name=self.tools.get(each.name, each.name)) for each in results
                )
                return replace(message, results=tuple(named))
        return message

    def _part(self, part: m.ReplyPart) -> m.ReplyPart:
        if not isinstance(part, m.ToolCall):
            return part
        keys = self.keys.get(part.name, {})
        arguments = {keys.get(key, key): value for key, value in part.arguments.items()}
        return replace(part, name=self.tools.get(part.name, part.name), arguments=arguments)


def names_of(tools: Sequence[ToolSpec], to: Takes) -> Names:
    """Return the names under which tools are sent."""
    own = list(dict.fromkeys(tool.name for tool in tools))
    named = _named(own, {name: to.name(name) for name in own})
    keys: dict[str, Mapping[str, str]] = {}
    first = {tool.name: tool for tool in reversed(tools)}  # of those with one name
    for name, tool in first.items() if to.keys is not None else ():
        properties = tool.parameters.get("properties")
        found = list(properties) if isinstance(properties, dict) else []
        if sent := _named(found, {key: to.key(key) for key in found}):
            keys[name] = sent
    return Names(named, keys)


def _named(own: Sequence[str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the names that differ from their own, each of which is nobody else's."""
    taken = {name for name in own if wanted[name] == name}
    made: dict[str, str] = {}
    for name in own:
        if wanted[name] == name:
            continue
        made[name] = _free(wanted[name], taken)
        taken.add(made[name])
    return made


def _free(wanted: str, taken: Collection[str]) -> str:
    if wanted not in taken:
        return wanted
    suffixes = (f"_{number}" for number in count(2))
    return next(name for each in suffixes if (name := wanted[: 64 - len(each)] + each) not in taken)


def named(tools: Sequence[ToolSpec], names: Names, note: NoteAt) -> list[ToolSpec]:
    """Return tools under the names under which they are sent, each name once."""
    made: dict[str, ToolSpec] = {}
    for tool in tools:
        if tool.name in made:
            note(Rule.SAME_NAME, f"tool {clean(tool.name)}")
            continue
        made[tool.name] = tool
        if tool.name in names.tools:
            note(Rule.NAME, f"tool {clean(tool.name)}")
        if tool.name in names.keys:
            note(Rule.KEY, f"tool {clean(tool.name)}")
    return [
        replace(
            tool,
            name=names.tools.get(name, name),
            parameters=_with_keys(tool.parameters, names.keys.get(name)),
        )
        if name in names.tools or name in names.keys
        else tool
        for name, tool in made.items()
    ]


def _with_keys(parameters: dict[str, Json], keys: Mapping[str, str] | None) -> dict[str, Json]:
    if not keys:
        return parameters
    properties = {keys.get(key, key): value for key, value in parameters["properties"].items()}
    made = {**parameters, "properties": properties}
    if isinstance(required := parameters.get("required"), list):
        made["required"] = [
            keys.get(each, each) if isinstance(each, str) else each for each in required
        ]
    return made
