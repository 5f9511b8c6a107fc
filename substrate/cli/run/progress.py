"""A run's progress on standard error, while it is driven here or elsewhere.

What is printed as a line comes from the journal, so it is true, and the same whoever drives the
run. A terminal has a region below the lines that shows what is under way: the model's words as
they come, the tools that run; it is told by live events, and gone when the run is.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from substrate.agent.events import (
    CheckEnd,
    ModelAsked,
    ModelWaits,
    StepRetry,
    TextDelta,
    ToolEnd,
    ToolStart,
    TurnEnd,
    TurnStart,
    event_in,
    event_of,
)
from substrate.agent.history.keys import (
    MESSAGE,
    in_generation,
    name_in,
)
from substrate.agent.history.next_key import next_key
from substrate.agent.history.questions import Question
from substrate.agent.history.rows import is_vote, words_of
from substrate.agent.history.totals import Totals
from substrate.agent.history.undo import is_decision, undone_by, undos_in
from substrate.agent.history.waits import wait_of
from substrate.cli import format as wording
from substrate.cli.invocation import Invocation
from substrate.cli.run.lines import (
    INDENT,
    attempt_line,
    check_line,
    indented,
    is_note,
    step_line,
    turn_lines,
    undo_line,
)
from substrate.cli.screen import put
from substrate.cli.show.questions import answering_command
from substrate.cli.show.waits import wait_words
from substrate.engine.failure import decode_failure
from substrate.engine.run.attempts import failed_in
from substrate.models.panel import JUDGE
from substrate.values.clock import Clock
from substrate.values.records import Kind, Promise, PromiseState

_BELOW = 5  # lines of the terminal that streaming text leaves free
_KEPT = 12_000  # characters of it that are kept: more than a large terminal shows


class Progress:
    """Tells a run's journal row by row, and shows what is under way. Open it as a context."""

    def __init__(
        self,
        console: Console,
        run_id: str,
        clock: Clock,
        invocation: Invocation,
        *,
        moves: bool = True,
        out: Callable[..., None] | None = None,
    ) -> None:
        self.seen: int = 0
        #: How to be asked here, for whom a question comes while they are at something else.
        self.here: str = ""
        self._out = partial(put, console) if out is None else out
        self._moves = moves
        self._totals = Totals()
        self._console = console
        self._run_id = run_id
        self._clock = clock
        self._invocation = invocation
        self._doing = ""
        self._since = clock.now_ms()
        self._words = ""
        self._is_again = False
        self._calls: list[str] = []
        self._voted: list[str] = []
        self._awaited: set[str] = set()
        self._asked: set[str] = set()
        self.children: set[str] = set()
        self._attempts: set[tuple[str, Any, Any]] = set()
        self._undos: list[str] = []
        self._held: list[RenderableType] | None = None
        #: Set when somebody is asked something.
        self.asks: asyncio.Event = asyncio.Event()
        self._live = Live(
            console=console, transient=True, refresh_per_second=8, get_renderable=self._region
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal and self._moves:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def say(self, *lines: RenderableType) -> None:
        """Print lines of our own; while somebody is asked, they wait."""
        if self._held is not None:
            self._held += lines
            return
        self._out(*lines)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Draw nothing while the block is open: a person types there."""
        was_live = self._live.is_started
        self._live.stop()
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            self.say(*held)
            if was_live:
                self._live.start()

    def begin_after(self, journal: Sequence[Promise]) -> None:
        """Count what was recorded before; it is not shown again."""
        self._totals = Totals.of(journal)
        self._undos = list(undos_in(journal))
        self.seen = max((promise.seq for promise in journal), default=0)
        open_ = (promise for promise in journal if not promise.is_settled)
        self.children = {promise.id for promise in open_ if promise.kind is Kind.CHILD}
        self._begin(next_key(journal) or "")

    def on_event(self, run_id: str, event: dict[str, Any]) -> None:
        """Take a live event. Those of other runs, and kinds that are not known, change nothing."""
        if run_id != self._run_id:
            return
        match event_in(event):
            case TurnStart(turn, model):
                self._begin(f"turn {turn} · {model}")
                self._calls.clear()
                self._voted.clear()
            case TextDelta(text):
                self._words = (self._words + text)[-_KEPT:]
            case ToolStart(tool, arguments):
                self._begin("")
                self._calls.append(wording.call(tool, arguments))
            case ModelAsked(model):
                # What came before is of an attempt that came to nothing.
                is_again = self._is_again or bool(self._words.strip())
                self._begin(f"turn {self._totals.turns + 1} · {model}")
                self._is_again = is_again
            case ModelWaits(model, seconds):
                waited = wording.duration(round(seconds * 1000))
                self.say(indented(Text(f"{model}  waits {waited} for its limits", "yellow")))
            case StepRetry(key, attempt):
                self._show_attempt(key, attempt, 0)

    def on_row(self, promise: Promise) -> None:
        """Take a row of the journal as it was written or settled."""
        self.seen = promise.seq
        if promise.kind is Kind.RUN:
            return
        if not promise.is_settled:
            self._wait_for(promise)
            return
        self.children.discard(promise.id)
        self._totals = self._totals.plus(promise)
        self._show_attempts(promise)
        self._undos += undos_in([promise])
        if is_decision(promise) or undone_by(promise, self._undos):
            self.say(undo_line(promise, self._undos))
        else:
            self._show_outcome(promise)
        if self._invocation.is_debug and promise.error:
            trace = decode_failure(promise).traceback
            self.say(Text(wording.visible((trace or "no traceback").rstrip()), "dim"))

    def _show_outcome(self, promise: Promise) -> None:
        match event_of(promise):
            case TurnEnd() as turn:
                self._begin("")
                self._voted.clear()
                self.say(*turn_lines(turn, promise, self._totals))
            case ToolEnd(tool=tool, arguments=arguments):
                called = wording.call(tool, arguments)
                if called in self._calls:
                    self._calls.remove(called)
                self.say(step_line(promise, called))
            case CheckEnd(check=check):
                self.say(check_line(promise, check))
            case _ if is_vote(promise):
                self._show_vote(promise)
            case _ if not is_note(promise):
                self.say(step_line(promise, promise.key))

    def _show_vote(self, promise: Promise) -> None:
        """Tell that a member has voted, and what; the region tells who has so far."""
        name = name_in(promise.key)
        label = name if name == JUDGE else f"vote of {name}"
        said = wording.short(words_of(promise), 160)
        self.say(step_line(promise, label, f"  {said}" if said else ""))
        is_settled = promise.state is PromiseState.RESOLVED and name != JUDGE
        if is_settled and in_generation(promise.key).count("/") == 1:  # not of a panel of judges
            self._voted.append(name)

    def _begin(self, doing: str) -> None:
        self._doing, self._since, self._words = doing, self._clock.now_ms(), ""
        self._is_again = False

    def _wait_for(self, promise: Promise) -> None:
        """Tell of a wait once, also where nothing moves: it may last for days."""
        wait = wait_of(promise)
        if wait is None or promise.error:
            return
        if promise.kind is Kind.SIGNAL and name_in(promise.key) == MESSAGE:
            return  # a conversation waits for what is said next
        is_again = self._is_again or bool(self._words.strip())
        if not wait.is_deferred:
            self._begin(f"waiting for {wait_words(wait)}")
        if promise.kind is Kind.STEP:
            self._is_again = is_again  # what was shown of its answer is void
            self._show_attempts(promise)
        elif promise.kind is Kind.CHILD:
            self.children.add(promise.id)  # there may be thousands: only their questions are shown
        elif promise.key in self._awaited:
            return
        else:
            self._awaited.add(promise.key)
            self.say(indented(Text(f"{promise.key}  waits for {wait_words(wait)}", "cyan")))
            if promise.kind is Kind.GATE:
                self.asks.set()
            if promise.kind in (Kind.SIGNAL, Kind.GATE):
                self._show_answering_command(Question(self._run_id, wait))

    def tell_questions(self, questions: Iterable[Question]) -> None:
        """Tell what the runs below ask, each question once."""
        for each in questions:
            if each.wait.promise.id not in self._asked:
                self._asked.add(each.wait.promise.id)
                self.asks.set()
                line = f"{each.wait.promise.id}  waits for {wait_words(each.wait)}"
                self.say(indented(Text(line, "cyan")))
                self._show_answering_command(each)

    def _show_answering_command(self, question: Question) -> None:
        hint = Text("in another shell: ", "dim")
        self.say(indented(hint.append_text(answering_command(question, self._invocation))))
        if self.here:
            self.say(indented(Text(f"here: {self.here}", "dim")))

    def _show_attempts(self, promise: Promise) -> None:
        """Tell of each failed attempt once, when it is recorded: a provider may be away all day."""
        for number, attempt in enumerate(failed_in(promise), 1):
            self._show_attempt(promise.key, attempt, number, promise.kind)

    def _show_attempt(
        self, key: str, attempt: Mapping[str, Any], number: int, kind: Kind = Kind.STEP
    ) -> None:
        """Tell of a failed attempt once: live, or where its row is seen first."""
        shown = (key, attempt.get("at"), attempt.get("n", number))
        if shown not in self._attempts:
            self._attempts.add(shown)
            name = name_in(key)
            self.say(attempt_line(name, kind, attempt))

    def _region(self) -> RenderableType:
        """Return what stands below the lines just now; called by the display's own thread."""
        doing = ", ".join(list(self._calls)) or self._doing or f"turn {self._totals.turns + 1}"
        if self._voted:
            doing += f" · {', '.join(list(self._voted))} voted"
        since = (self._clock.now_ms() - self._since) // 1000
        elapsed = f" · {since} s" if since >= 2 else ""
        spinner = Spinner("dots", Text(wording.short(doing, 200) + elapsed, "dim"), style="dim")
        if not self._words.strip():
            return spinner
        words = Text(wording.visible(self._words.strip()), "italic")
        most = max(self._console.height - _BELOW, 1)
        tail = words.wrap(self._console, max(self._console.width - INDENT, 20))[-most:]
        again = [indented(Text("(begun again)", "yellow"))] if self._is_again else []
        return Group(*again, *map(indented, tail), spinner)
