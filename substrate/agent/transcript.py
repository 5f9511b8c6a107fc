"""An agent's messages so far: a value that grows by `+`, rebuilt from the journal on a replay.

Invariant: what a stop condition or the next call asks of it does not grow with its length.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from substrate.agent.chain import Chain
from substrate.agent.cut import Cut, applied
from substrate.agent.grant import Grant, Told
from substrate.agent.history.usage import NOTHING
from substrate.agent.shorten import shortened
from substrate.agent.task import Task
from substrate.models.messages import (
    Json,
    Message,
    Reply,
    StopReason,
    Text,
    ToolMessage,
    ToolResult,
    Usage,
    UserMessage,
)

SUMMARY_HEAD = "What you did so far, in your own summary:"


@dataclass(frozen=True, slots=True)
class Transcript:
    """The system prompt, the task, and all that was said since. It is never changed in place."""

    #: What the agent was given.
    task: Task
    #: The system prompt, as it was rendered.
    system: str
    #: What the model is told: a summary takes the place of what was before it.
    messages: tuple[Message, ...]
    #: All that it said, in order.
    replies: tuple[Reply, ...] = ()
    #: What it wrote down of the transcript, each time that it was summed up.
    summaries: tuple[Reply, ...] = ()
    #: How many replies there were at the last summary.
    summed_up_at: int = 0
    #: What the replies and the summaries took.
    used: Usage = NOTHING
    #: What is used in and below the run by others than this loop.
    elsewhere: Usage = NOTHING
    #: Whether the model was told that its budget is nearly used up.
    is_warned: bool = False
    #: The prompt's name and version, where it has some.
    version: tuple[str, str] | None = None
    #: The most that one call since the last summary took: its tokens, counted as input, and its
    #: cost.
    peak: Usage = NOTHING
    #: What went wrong so far: see `models_used_up`.
    faults: tuple[bool | None, ...] = ()
    #: The turn before which a full context was last summed up.
    made_room_at: int | None = None
    #: When the loop began, as it is recorded: a replay has the same. None in one of no run.
    began: datetime | None = None
    #: The time when it is asked whether the loop ends: that of the last thing that was recorded.
    now: datetime | None = None
    #: The signals that came of those that a condition listens for: by name, the first value.
    signals: Mapping[str, Json] = field(default_factory=dict)
    #: How many tool results in a row, up to the last one, told the model of an error.
    failures: int = 0
    #: For each time that an answer went back since people last said something: whose advice it was.
    revisions: tuple[str, ...] = ()
    #: Why the last answer is not to pass, where it does not go back any more.
    unchecked: str | None = None
    #: Which rows hold the messages.
    chain: Chain = field(default_factory=Chain, compare=False, repr=False)
    #: The task as the model was told it, with the day.
    opening: UserMessage | None = None
    #: How many replies there were when the conversation was last handed over.
    handed_at: int = 0
    #: The agent to which it was handed over.
    agent: str | None = None
    #: How many replies there were before the present message of a conversation.
    message_at: int = 0
    #: What the replies and the summaries took since then.
    used_here: Usage = NOTHING
    #: What others had used until then.
    elsewhere_before: Usage = NOTHING
    #: What the run may use of its parent's budget.
    granted: Grant | None = None
    #: The turn before which it was last looked what may be left out, and found; a cut may be none.
    cut_at: int | None = None
    #: How many cuts were made for the present turn, since its context was full.
    rooms: int = 0
    #: Whether tool results are left out that the model may have back.
    has_left_out: bool = False
    #: Who has given no summary when asked for one, and how often in a row.
    missed: tuple[str, int] = ("", 0)
    #: Where budgets tell what is left of them, while that is asked for: see `budget.told_by`.
    told: list[Told] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def begin(
        cls,
        task: Task,
        system: str,
        version: tuple[str, str] | None = None,
        opening: UserMessage | None = None,
        granted: Grant | None = None,
    ) -> "Transcript":
        """Return the transcript before the first model call; without an opening, of no day."""
        first = opening or task.message
        return cls(task, system, (first,), version=version, opening=first, granted=granted)

    def __add__(self, message: Any) -> "Transcript":
        """Return the transcript with a message more; nothing is added for a message of nothing.

        An answer that is not what was asked for is followed by what is wrong with it.
        """
        if not isinstance(message, UserMessage | Reply | ToolMessage):
            return NotImplemented
        if isinstance(message, ToolMessage) and not message.results:
            return self
        if isinstance(message, UserMessage) and not message.parts:
            return self
        if isinstance(message, Reply):
            return (self.chain.asked_on(message) or self)._answered(message)
        messages = (*self.messages, message)
        if isinstance(message, UserMessage):  # somebody wants another answer
            return replace(self, messages=messages, revisions=(), unchecked=None)
        failures = _failures(self.failures, message)
        elsewhere = self.elsewhere if message.elsewhere is None else message.elsewhere
        return replace(self, messages=messages, failures=failures, elsewhere=elsewhere)

    def told_later(
        self, message: UserMessage, results: Sequence[ToolResult], used: Usage | None
    ) -> "Transcript":
        """Return the transcript with what came of calls that the loop has gone on without.

        Args:
            message: What the model is told.
            results: The same, as of calls that were waited for.
            used: What is used by now in and below the run, where that was counted.
        """
        failures = _failures(self.failures, ToolMessage(tuple(results)))
        elsewhere = self.elsewhere if used is None else used
        return replace(self + message, failures=failures, elsewhere=elsewhere)

    def _answered(self, reply: Reply) -> "Transcript":
        correction_text = _correction(reply)
        correction = (UserMessage.of(correction_text),) if correction_text else ()
        for each in correction:
            self.chain.note_correction(each, reply)
        return replace(self.counting(reply), messages=(*self.messages, reply, *correction))

    def counting(self, reply: Reply) -> "Transcript":
        """Return the transcript with what a reply took, and without its words."""
        return replace(
            self,
            replies=(*self.replies, reply),
            used=self.used + reply.usage,
            used_here=self.used_here + reply.usage,
            peak=_larger(self.peak, reply.usage),
            faults=_with_fault(self.faults, reply),
        )

    def warned(self, words: str, key: str | None = None) -> "Transcript":
        """Return the transcript with a warning at its end, which a row may hold."""
        return replace(self.with_message(words, key), is_warned=True)

    def with_message(self, words: str, key: str | None = None) -> "Transcript":
        """Return the transcript with a message of these words, which a row may hold."""
        message = UserMessage.of(words)
        if key is not None:
            self.chain.note(message, key)
        return replace(self, messages=(*self.messages, message))

    def revised(self, words: str, source: str, key: str | None = None) -> "Transcript":
        """Return the transcript with the `words` with which its answer goes back to the model.

        `source` is whose advice that was, and `key` that of the row that holds them.
        """
        return replace(self.with_message(words, key), revisions=(*self.revisions, source))

    def judged(self, usage: Usage) -> "Transcript":
        """Return the transcript with the `usage` of a judgement of its answer."""
        return replace(self, used=self.used + usage)

    def summed_up(
        self, summary: Reply, room: int | None = None, key: str | None = None
    ) -> "Transcript":
        """Return the transcript with a summary in the place of all but the task and the last turn.

        Where the model has written none, only its price is counted. With `room`, what is kept of
        the last turn is shortened to so many characters. `key` is that of the summary's row.
        """
        counted = replace(
            self,
            summaries=(*self.summaries, summary),
            summed_up_at=len(self.replies),
            used=self.used + summary.usage,
            used_here=self.used_here + summary.usage,
            peak=NOTHING,
            made_room_at=self.made_room_at if room is None else self.turns,
        )
        if not summary.text.strip() or summary.stop is StopReason.REFUSAL:
            return counted
        at = max(i for i, each in enumerate(self.messages) if isinstance(each, Reply))
        # The last turn is kept: its results answer calls whose reply the model still needs to see.
        kept = self.messages[at:]
        first = self.opening or self.task.message
        is_kept = any(each is first for each in kept)  # the present message of a conversation
        if room is not None:
            kept = shortened(kept, room)
        words = Text(f"{SUMMARY_HEAD}\n\n{summary.text}")
        opening = UserMessage((words,) if is_kept else (*first.parts, words))
        if key is not None and self.chain.task_key is not None and not is_kept:
            record = {"task": self.chain.task_key, "head": f"{SUMMARY_HEAD}\n\n", "summary": key}
            self.chain.note(opening, record)
        return replace(counted, messages=(opening, *kept))

    def compacted(
        self, cut: Cut, asked: Sequence[Reply], words: str = "", *, is_full: bool
    ) -> "Transcript":
        """Return the transcript as a cut leaves it.

        Args:
            cut: What is left out; of a cut that is none, only what it took is counted.
            asked: What models have said for it.
            words: The text of the summary.
            is_full: Whether a full context was the reason.
        """
        used = sum((each.usage for each in asked), NOTHING)
        rooms = (self.rooms if self.made_room_at == self.turns else 0) + 1
        counted = replace(
            self,
            summaries=(*self.summaries, *asked),
            used=self.used + used if asked else self.used,
            used_here=self.used_here + used if asked else self.used_here,
            cut_at=self.turns,
            made_room_at=self.turns if is_full else self.made_room_at,
            rooms=rooms if is_full else self.rooms,
        )
        if cut.is_nothing:
            return counted
        messages = applied(self.messages, cut, words)
        self._note_cut(cut, messages)
        return replace(
            counted,
            messages=messages,
            summed_up_at=len(self.replies),
            peak=NOTHING,
            has_left_out=self.has_left_out or bool(cut.results),
        )

    def _note_cut(self, cut: Cut, messages: Sequence[Message]) -> None:
        """Note where the words of a cut stand, and the keys of the results that it shortens."""
        gone = {place for begin, end in cut.gone for place in range(begin, end)}
        old = [each for place, each in enumerate(self.messages) if place not in gone]
        if len(messages) > len(old):
            said = messages[cut.place()]  # nothing before it is gone
            old.insert(cut.place(), said)
            if cut.summary is not None:
                self.chain.note(said, {"head": cut.said, "summary": cut.summary})
        for before, after in zip(old, messages, strict=True):
            if after is not before:
                self.chain.note_results(after, self.chain.results_of(before))

    def handed_over(self, agent: str, system: str, version: tuple[str, str] | None) -> "Transcript":
        """Return the transcript as another agent goes on with it.

        Args:
            agent: Its name.
            system: Its prompt, as it is rendered.
            version: The prompt's name and version, where it has some.
        """
        return replace(
            self,
            agent=agent,
            system=system,
            version=version,
            handed_at=self.turns,
            used_here=NOTHING,
            elsewhere_before=self.elsewhere,
        )

    def since_handoff(self) -> "Transcript":
        """Return the transcript as the agent's own that goes on with it: turns, and what they took.

        Its messages stay: they are the conversation.
        """
        return replace(
            self,
            replies=self.replies[self.handed_at :],
            summed_up_at=max(self.summed_up_at - self.handed_at, 0),
            used=self.used_here,
            elsewhere=_difference(self.elsewhere, self.elsewhere_before),
        )

    def with_task(
        self,
        task: Task,
        system: str,
        version: tuple[str, str] | None,
        opening: UserMessage | None,
    ) -> "Transcript":
        """Return the transcript with the next message of a conversation, for which work begins.

        Args:
            task: What was said.
            system: The prompt as it is rendered for it.
            version: The prompt's name and version, where it has some.
            opening: The message as the model is told it; None where nobody has said anything.
        """
        return replace(
            self,
            task=task,
            system=system,
            version=version,
            opening=opening or self.opening,
            messages=self.messages if opening is None else (*self.messages, opening),
            message_at=self.turns,
            faults=(),
            signals={},
            failures=0,
            revisions=(),
            unchecked=None,
            now=None,
        )

    def since_message(self) -> "Transcript":
        """Return the transcript with the turns alone that the present message has taken."""
        if not self.message_at:
            return self
        return replace(
            self,
            replies=self.replies[self.message_at :],
            summed_up_at=max(self.summed_up_at - self.message_at, 0),
            handed_at=max(self.handed_at - self.message_at, 0),
            message_at=0,
        )

    @property
    def last_reply(self) -> Reply | None:
        """What the model said last, or None before its first word."""
        return self.replies[-1] if self.replies else None

    @property
    def turns(self) -> int:
        """How many model calls there have been, without those for a summary."""
        return len(self.replies)

    @property
    def replies_since_summary(self) -> Sequence[Reply]:
        """What the model said since there was last a summary, or since the beginning."""
        return self.replies[self.summed_up_at :]

    @property
    def turns_since_summary(self) -> int:
        """How many model calls there have been since there was last a summary."""
        return self.turns - self.summed_up_at

    def models_used_up(self, tries: int) -> tuple[int, int]:
        """Return how many models have used up their tries, and how many the present one has used.

        Each answer that is not what was asked for is one; calls that cannot be made are while they
        follow each other.
        """
        models = answers = calls = 0
        for is_answer in self.faults:
            if is_answer is None:
                calls = 0
            elif is_answer:
                answers += 1
            else:
                calls += 1
            if answers + calls >= tries:
                models, answers, calls = models + 1, 0, 0
        return models, answers + calls

    @property
    def usage(self) -> Usage:
        """What all model calls together consumed, in and below the run."""
        return self.used + self.elsewhere


def _correction(reply: Reply) -> str | None:
    """Return what the model is told of an answer that it may give again."""
    if reply.invalid is None or reply.invalid.is_last or reply.tool_calls:
        return None  # wrong calls have their results, which say what was wrong
    return reply.invalid.problems


def _failures(before: int, message: ToolMessage) -> int:
    """Return how many results in a row are errors, after so many and these."""
    for result in message.results:
        before = before + 1 if result.is_error else 0
    return before


def _difference(used: Usage, before: Usage) -> Usage:
    """Return what was used between two moments; a cost that is not known at one is not known."""
    costs = (used.cost_usd, before.cost_usd)
    cost = None if costs[0] is None or costs[1] is None else costs[0] - costs[1]
    tokens = used.input_tokens + used.output_tokens
    return Usage(max(tokens - before.input_tokens - before.output_tokens, 0), cost_usd=cost)


def _larger(peak: Usage, used: Usage) -> Usage:
    """Return the peak of both; a price that is not known makes no peak."""
    tokens = used.input_tokens + used.output_tokens
    cost = max(peak.cost_usd or Decimal(0), used.cost_usd or Decimal(0))
    return Usage(max(peak.input_tokens, tokens), cost_usd=cost)


def _with_fault(faults: tuple[bool | None, ...], reply: Reply) -> tuple[bool | None, ...]:
    """Return what went wrong so far: True for an answer, False for calls, None where that ended.

    Few replies are wrong, so this stays short in a long conversation.
    """
    if reply.invalid is not None:
        return (*faults, not reply.tool_calls)
    return (*faults, None) if faults and faults[-1] is not None else faults
