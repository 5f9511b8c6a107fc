"""How full a context is, and what is to be left out so that there is room in it. Pure.

What a provider has counted of the last call is believed, and what was said since is estimated. How
much the estimate is wrong by then is known, so what is left after a cut is told by the same scale.

Invariants: a transcript is walked through only where much is in it; what stays is told once, here
(`staying`), for all strategies.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from substrate.agent.cut import Cut, Shortened, applied, ranges, shortened, turns
from substrate.agent.recall_result import RECALL_RESULT
from substrate.agent.shorten import FEW, NOTE
from substrate.agent.transcript import Transcript
from substrate.models.messages import Message, Reply, ToolMessage, ToolResult, UserMessage
from substrate.models.panel import Answering, Panel, speaker_of
from substrate.models.request import Request
from substrate.models.tokens import estimate, estimate_of
from substrate.values.codec import encode

OPEN_GATE = "/gate.0"
"""How the key of a result ends that stands for a call of which a person is asked."""

_SCALES = (0.5, 3.0)  # an estimate is not more wrong than that; a count of several attempts is


@dataclass(frozen=True, slots=True)
class Fill:
    """How much there is to read, in tokens."""

    #: All of it.
    tokens: int
    #: How many tokens one that is estimated has.
    scale: float
    #: What is read besides the messages.
    around: int


def counted(transcript: Transcript, model: Answering) -> int | None:
    """Return how many tokens the last call was told to have read; None where that says nothing.

    As after a cut, or a handoff: the next call reads something else. What several models have read
    for one reply is no length, either.
    """
    last = None if isinstance(model, Panel) else transcript.last_reply
    is_new = transcript.turns_since_summary == 0 or transcript.handed_at == transcript.turns
    if last is None or is_new or any(each.usage is not None for each in last.passed_over):
        return None
    return last.usage.input_tokens or None


def quick_fill(transcript: Transcript, model: Answering) -> int | None:
    """Return about how many tokens the next call reads, or None where nobody has counted any.

    It takes no walk through all that was said.
    """
    read, last = counted(transcript, model), transcript.last_reply
    if read is None or last is None:
        return None
    since, provider = 0, speaker_of(model).provider
    for message in reversed(transcript.messages):
        if isinstance(message, Reply):
            break
        since += estimate_of(message, provider)
    return read + last.usage.output_tokens + since


def fill_of(transcript: Transcript, model: Answering, request: Request) -> Fill:
    """Return how much there is to read in a request of the whole transcript."""
    provider = speaker_of(model).provider
    around = estimate(replace(request, messages=()), provider)
    sizes = [estimate_of(each, provider) for each in request.messages]
    read, scale = counted(transcript, model), 1.0
    if read is not None:
        replies = [i for i, each in enumerate(request.messages) if isinstance(each, Reply)]
        before = around + sum(sizes[: replies[-1]]) if replies else around
        scale = min(max(read / before, _SCALES[0]), _SCALES[1])
    return Fill(int(scale * (around + sum(sizes))), scale, int(scale * around))


def staying(
    transcript: Transcript, keep: Collection[str], open_gates: Collection[str]
) -> frozenset[int]:
    """Return the places of what stays, whatever else goes.

    The task, the present message of a conversation, the last message of a person and that of the
    loop, the results of the tools to `keep`, calls that a person is asked about, and the last turn
    with all that came after it.
    """
    messages, chain = transcript.messages, transcript.chain
    said = [i for i, each in enumerate(messages) if isinstance(each, UserMessage)]
    of_people = [i for i in said if not chain.is_of_kit(messages[i])]
    stays = {0, *said[-1:], *of_people[-1:]}
    stays.update(i for i in said if messages[i] is transcript.opening)
    together = turns(messages)
    for turn in together:
        for message in (messages[i] for i in turn):
            if isinstance(message, ToolMessage) and (
                any(each.name in keep for each in message.results)
                or any(key in open_gates for key in chain.results_of(message))
            ):
                stays.update(turn)
    replies = [turn for turn in together if isinstance(messages[turn[0]], Reply)]
    for turn in replies[-1:]:  # and what nobody has read yet
        stays.update(range(turn.start, len(messages)))
    return frozenset(stays)


@dataclass(slots=True)
class Plan:
    """A cut that is being made: what is left out so far, and what is left then."""

    #: The transcript's.
    messages: Sequence[Message]
    #: The places of what stays.
    stays: frozenset[int]
    #: The part of the model's id before the colon.
    provider: str
    #: How much there is to read.
    fill: Fill
    #: How many tokens shall be left.
    target: int
    #: How many are too many.
    limit: int
    #: Gives the keys of the results of a message.
    keys_of: Callable[[Message], Sequence[str]]
    #: The tools whose results stay as they are.
    keep: Collection[str] = ()
    #: The messages that are gone.
    gone: set[int] = field(default_factory=set)
    #: The results that are shortened.
    results: dict[tuple[int, int], Shortened] = field(default_factory=dict)
    #: The key of the summary's row, and its text.
    summary: tuple[str, str] | None = None
    #: The words before it.
    head: str = ""
    _dropped: int = 0
    _sizes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Estimate each message once."""
        self._sizes = [self._scaled(estimate_of(each, self.provider)) for each in self.messages]

    @property
    def cut(self) -> Cut:
        """The cut as it stands."""
        results = (
            each for place, each in sorted(self.results.items()) if place[0] not in self.gone
        )
        key = None if self.summary is None else self.summary[0]
        said = self._said()
        return Cut(len(self.messages), ranges(self.gone), tuple(results), said, key)

    @property
    def tokens(self) -> int:
        """About how many tokens are left to read."""
        left = sum(size for i, size in enumerate(self._sizes) if i not in self.gone)
        words = self._said() + (self.summary[1] if self.summary else "")
        return self.fill.around + left + self._scaled(len(words.encode()) // 4)

    def gone_in(self, cut: Cut) -> list[Message]:
        """Return the messages that are gone in a cut."""
        return [self.messages[i] for begin, end in cut.gone for i in range(begin, end)]

    def shortened_in(self, cut: Cut) -> list[str]:
        """Return the keys of the results that are shortened in a cut, where they are known."""
        keys = ((self.keys_of(self.messages[each.message]), each.result) for each in cut.results)
        return [found[at] for found, at in keys if at < len(found)]

    def sent(self) -> tuple[Message, ...]:
        """Return the messages that are left."""
        return applied(self.messages, self.cut, self.summary[1] if self.summary else "")

    def drop_results(self, keep: int) -> None:
        """Leave old results out, and cut those of the last ones that are too large alone."""
        places = [i for i, each in enumerate(self.messages) if isinstance(each, ToolMessage)]
        for place in places[:-keep]:
            self._shorten(place, 0)
        if self.tokens > self.target:
            self._shorten_all(max(self.target - self.fill.around, 0) // 4)

    def old_turns(self) -> list[int]:
        """Return the places of the turns that go, the oldest first, so that the target is met."""
        movable = [
            turn
            for turn in turns(self.messages)
            if not self.stays.intersection(turn) and not self.gone.intersection(turn)
        ]
        sizes = [sum(self._sizes[i] for i in turn) for turn in movable]
        room = self.target - (self.tokens - sum(sizes))
        while movable and room >= sizes[-1]:  # the last ones stay while there is room for them
            room -= sizes.pop()
            movable.pop()
        return [i for turn in movable for i in turn]

    def size_of(self, places: Collection[int]) -> int:
        """Return about how many tokens these messages make."""
        return sum(self._sizes[i] for i in places)

    def drop_turns(self) -> None:
        """Leave the oldest turns out, then cut the results that stay until there is room."""
        old = self.old_turns()
        self.gone.update(old)
        self._dropped += len(old)
        most = max(self.target, 1)
        while self.tokens > self.limit and most > 1:
            most //= 2
            self._shorten_all(most)

    def _said(self) -> str:
        dropped = f"[left out, to make room: {self._dropped:,} earlier messages]"
        words = [dropped] if self._dropped else []
        return "\n\n".join([*words, self.head, ""] if self.summary else words)

    def _shorten_all(self, most: int) -> None:
        """Cut each result of more than so many tokens."""
        for place, message in enumerate(self.messages):
            if isinstance(message, ToolMessage):
                self._shorten(place, most)

    def _shorten(self, place: int, most: int) -> None:
        message = self.messages[place]
        assert isinstance(message, ToolMessage)
        keys = self.keys_of(message)
        for at, result in enumerate(message.results):
            key = keys[at] if at < len(keys) else None
            if (made := self._shortened(place, at, result, key, most)) is not None:
                self.results[place, at] = made
        own = [each for (i, _), each in self.results.items() if i == place]
        if own:
            self._sizes[place] = self._scaled(estimate_of(shortened(message, own), self.provider))

    def _shortened(
        self, place: int, at: int, result: ToolResult, key: str | None, most: int
    ) -> Shortened | None:
        """Return a result of so many tokens at most; None where it stays as it is."""
        content = result.content
        if (
            result.name in self.keep
            or len(content) <= FEW
            or (key is not None and key.endswith(OPEN_GATE))
        ):
            return None
        size = self._scaled(len(encode(content).encode()) // 4)
        if most and size <= most:
            return None
        chars = max(int(len(content) * most / size) - NOTE, FEW) if most else 0
        if chars >= len(content):
            return None
        head = chars * 2 // 3
        back = f'; {RECALL_RESULT}("{key}") gives it back' if key is not None else ""
        notice = f"[left out, to make room: {len(content) - chars:,} characters{back}]"
        return Shortened(place, at, head, chars - head, notice)

    def _scaled(self, tokens: int) -> int:
        return int(self.fill.scale * tokens)
