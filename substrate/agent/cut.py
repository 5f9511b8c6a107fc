"""A cut: what was left out of a transcript to make room, as its row records it. Pure.

A cut names messages by their place in the transcript that it was made of, and holds each word that
stands in their place. So what is sent is a function of the rows and of the recorded cuts alone:
whatever the hook says by now, a replay gives the same.

Invariants: what comes out can be sent. A reply goes with the results of its calls, and never in
part, so its thinking is sent as its provider has signed it, or not at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from substrate.models.messages import (
    Json,
    Message,
    Reply,
    Text,
    ToolMessage,
    ToolResult,
    UserMessage,
)

VERSION = 1
"""Of this record, and of how it is applied."""


@dataclass(frozen=True, slots=True)
class Shortened:
    """A tool result of which only the beginning and the end are sent, or nothing."""

    #: The place of its message.
    message: int
    #: Its place in the message.
    result: int
    #: How many characters are left of its beginning.
    head: int = 0
    #: And of its end.
    tail: int = 0
    #: What stands in the place of the rest.
    notice: str = ""

    def of(self, result: ToolResult) -> ToolResult:
        """Return the result as it is sent."""
        content = result.content
        left = (content[: self.head], self.notice, content[len(content) - self.tail :])
        return replace(result, content="\n".join(filter(None, left)) if self.head else self.notice)


@dataclass(frozen=True, slots=True)
class Cut:
    """What is sent in the place of a transcript."""

    #: How many messages the transcript has that it was made of.
    of: int
    #: The messages that are gone, as ranges: the first, and the one behind the last.
    gone: tuple[tuple[int, int], ...] = ()
    #: The results that are shortened, in order.
    results: tuple[Shortened, ...] = ()
    #: The words in the place of what is gone; nothing is said where there are none.
    said: str = ""
    #: The key of the row of the summary that follows them.
    summary: str | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether it leaves everything as it is."""
        return not (self.gone or self.results)

    @property
    def gone_count(self) -> int:
        """How many messages are gone."""
        return sum(end - begin for begin, end in self.gone)

    def to_json(self) -> dict[str, Json]:
        """Return what a row keeps of it."""
        return {
            "version": VERSION,
            "of": self.of,
            "gone": [list(each) for each in self.gone],
            "results": [
                [each.message, each.result, each.head, each.tail, each.notice]
                for each in self.results
            ],
            "said": self.said,
            "summary": self.summary,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Json]) -> "Cut":
        """Rebuild it from its record."""
        return cls(
            record["of"],
            tuple((begin, end) for begin, end in record["gone"]),
            tuple(Shortened(*each) for each in record["results"]),
            record["said"],
            record["summary"],
        )

    def place(self) -> int:
        """Return before which of the old messages the words stand."""
        return self.gone[0][0] if self.gone else self.of


def ranges(places: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Return places as ranges.

    >>> ranges([4, 1, 2])
    ((1, 3), (4, 5))
    """
    found: list[list[int]] = []
    for place in sorted(places):
        if found and found[-1][1] == place:
            found[-1][1] = place + 1
        else:
            found.append([place, place + 1])
    return tuple((begin, end) for begin, end in found)


def applied(messages: Sequence[Message], cut: Cut, summary: str = "") -> tuple[Message, ...]:
    """Return what is sent in the place of messages; `summary` is the text of the summary's row.

    What a cut leaves as it is comes back as the very same object.
    """
    gone = {place for begin, end in cut.gone for place in range(begin, end)}
    results: dict[int, list[Shortened]] = {}
    for each in cut.results:
        results.setdefault(each.message, []).append(each)
    at, words = cut.place(), cut.said + summary
    found: list[Message] = []
    for place, message in enumerate(messages):
        if place == at and words:
            found.append(UserMessage((Text(words),)))
        if place not in gone:
            found.append(shortened(message, results.get(place, ())))
    return tuple(found)


def shortened(message: Message, results: Sequence[Shortened]) -> Message:
    """Return a message with these of its results as they are sent."""
    if not results or not isinstance(message, ToolMessage):
        return message
    made = list(message.results)
    for each in results:
        made[each.result] = each.of(made[each.result])
    return replace(message, results=tuple(made))


def turns(messages: Sequence[Message]) -> list[range]:
    """Return the places of what goes together: a reply with the results of its calls.

    What was said in between, to a reply with calls that have no results yet, goes with it too.
    """
    found: list[range] = []
    begin = 0
    while begin < len(messages):
        message, end = messages[begin], begin + 1
        if isinstance(message, Reply) and message.tool_calls:
            ahead = end
            while ahead < len(messages) and isinstance(messages[ahead], UserMessage):
                ahead += 1
            if ahead < len(messages) and isinstance(messages[ahead], ToolMessage):
                end = ahead + 1
        found.append(range(begin, end))
        begin = end
    return found
