"""What was said in a conversation, read from its rows: for who comes back to it. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from substrate.agent.history.keys import ANSWER, HEARD, MESSAGE, PROMPT, in_generation, name_in
from substrate.agent.history.result import spoken
from substrate.agent.history.rows import is_tool_call, tool_of, value_of
from substrate.cli import format as wording
from substrate.cli.show.row import STATE_STYLES, WORDS
from substrate.models.messages import Text as Words
from substrate.models.messages import UserMessage
from substrate.values.records import Kind, Promise, PromiseState

PROMPT_SIGN = "> "
_SHOWN = 10  # exchanges of an earlier day that are shown
_MOST = 2_000  # characters of each of their texts, and of what others say


@dataclass(frozen=True, slots=True)
class Answered:
    """What a row ``answer.n`` says."""

    #: The words.
    text: str
    #: Why it ended there.
    reason: str
    #: The same in words, where there is more to say.
    detail: str

    @property
    def is_whole(self) -> bool:
        """Whether there is nothing to say about it."""
        return self.reason == "answered" and not self.detail


def answer_in(row: Promise) -> Answered | None:
    """Return the answer that a row holds; None for any other row."""
    value = value_of(row) if row.name == ANSWER and row.state is PromiseState.RESOLVED else None
    if not isinstance(value, dict) or not {"text", "reason"} <= value.keys():
        return None
    return Answered(str(value["text"]), str(value["reason"]), str(value.get("detail", "")))


def message_in(row: Promise) -> str | None:
    """Return what a person said, by the row in which the agent took it; None for any other row.

    The message that work began with is in the row of its prompt; those that came meanwhile are
    each in the row in which they were heard.
    """
    if "/" in in_generation(row.key) or row.state is not PromiseState.RESOLVED:
        return None
    value = value_of(row)
    if row.name == PROMPT and isinstance(value, dict) and "task" in value:
        told = UserMessage.from_json(value["task"])
        words = [part.text for part in told.parts if isinstance(part, Words)]
        return words[0] if len(words) > 1 else None  # the last one is the day
    if name_in(row.key) == HEARD and row.kind is Kind.SIGNAL:
        told = spoken(value or ())
        return "\n".join(part.text for part in told.parts if isinstance(part, Words)) or None
    return None


def awaits_message(row: Promise) -> bool:
    """Whether this is the open wait for the next message."""
    is_wait = row.kind is Kind.SIGNAL and name_in(row.key) == MESSAGE
    return is_wait and not row.is_settled and "/" not in in_generation(row.key)


def history_lines(
    journal: Sequence[Promise], shows: Callable[[str | None], str]
) -> Iterator[RenderableType]:
    """Yield what was said last, and how much was said before.

    `shows` returns the command that shows all of it, and with a key, one row whole.
    """
    begins = [i for i, row in enumerate(journal) if row.name == PROMPT and message_in(row)]
    if not begins:
        return
    if len(begins) > _SHOWN:
        before = wording.count(len(begins) - _SHOWN, "earlier message")
        yield Text(f"{before}: {shows(None)}", "dim")
    for row in journal[begins[-_SHOWN:][0] :]:
        if (said := message_in(row)) is not None:
            yield said_line(said, shows(row.key))
        elif (answered := answer_in(row)) is not None:
            yield from answer_lines(answered, shows(row.key))
        elif is_tool_call(row) and row.is_settled:
            called = wording.call(*tool_of(row))
            word = (WORDS[row.state], STATE_STYLES[row.state])
            yield Padding(Text.assemble((f"{called}  ", "dim"), word), (0, 0, 0, 4), expand=False)


def said_line(words: str, hint: str) -> Text:
    """Return what a person said, as it stood behind the prompt; `hint` shows all of a long text."""
    words, more = _begin_of(words, hint)
    shown = wording.visible(words).replace("\n", f"\n{' ' * len(PROMPT_SIGN)}")
    return Text.assemble((PROMPT_SIGN, "bold"), shown, (more, "dim"))


def answer_lines(answered: Answered, hint: str = "") -> Iterator[RenderableType]:
    """Yield an answer, and why it ended there, where that is not plain.

    All of it; with a `hint` that shows all of it, the beginning of a long one.
    """
    text, more = _begin_of(answered.text.rstrip(), hint) if hint else (answered.text.rstrip(), "")
    words = wording.visible(text)
    yield Text.assemble(words, (more, "dim")) if words else Text("(no words)", "dim")
    if not answered.is_whole:
        detail = f": {answered.detail}" if answered.detail else ""
        yield Text(wording.visible(f"{answered.reason}{detail}"), "yellow")


def _begin_of(text: str, hint: str) -> tuple[str, str]:
    """Return the beginning of a text, and what to say of the rest."""
    if len(text) <= _MOST:
        return text, ""
    return text[:_MOST], f"… {len(text) - _MOST:,} characters more: {hint}"
