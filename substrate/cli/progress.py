"""A run's progress on standard error, while it is driven here or elsewhere.

What is printed as a line comes from the journal, so it is true, and the same whoever drives the
run. A terminal has a region below the lines that shows what is under way: the model's words as
they come, the tools that run; it is told by live events, and gone when the run is.
"""

from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.text import Text

from substrate.cli import wording
from substrate.cli.reading import STATE_STYLES, WORDS, undone_by, undos_in
from substrate.cli.screen import put
from substrate.cli.tally import (
    Tally,
    calls_of,
    invalid_of,
    is_tool_call,
    is_turn,
    model_of,
    next_key,
    passed_over_of,
    tool_of,
    words_of,
)
from substrate.cli.waits import wait_of
from substrate.engine.attempts import failed_in
from substrate.engine.failure import decode_failure
from substrate.values.clock import Clock
from substrate.values.records import UNWIND_KEY, Kind, Promise, PromiseState

_INDENT = 8
_SILENT = ("prompt", "spent")  # the loop's own notes, told only where they fail
_TAIL = 6  # lines of streaming text


class Progress:
    """Tells a run's journal row by row, and shows what is under way. Open it as a context."""

    def __init__(self, console: Console, run_id: str, clock: Clock, *, moves: bool = True) -> None:
        self.seen: int = 0
        self._moves = moves
        self._tally = Tally()
        self._console = console
        self._run_id = run_id
        self._clock = clock
        self._doing = ""
        self._since = clock.now_ms()
        self._words = ""
        self._calls: list[str] = []
        self._awaited: set[str] = set()
        self._attempts: set[tuple[str, Any, Any]] = set()
        self._undos: list[str] = []
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
        """Print lines of our own."""
        put(self._console, *lines)

    def begin_after(self, journal: Sequence[Promise]) -> None:
        """Count what was recorded before; it is not told again."""
        self._tally = Tally.of(journal)
        self._undos = list(undos_in(journal))
        self.seen = max((promise.seq for promise in journal), default=0)
        self._begin(next_key(journal) or "")

    def hear(self, run_id: str, event: dict[str, Any]) -> None:
        """Take a live event. Those of other runs, and kinds that are not known, change nothing."""
        if run_id != self._run_id:
            return
        match event:
            case {"event": "turn_start", "turn": turn, "model": model}:
                self._begin(f"turn {turn} · {model}")
                self._calls.clear()
            case {"event": "text_delta", "text": text}:
                self._words = (self._words + text)[-4000:]
            case {"event": "tool_start", "tool": tool, "arguments": arguments}:
                self._begin("")
                self._calls.append(wording.call(tool, arguments))

    def tell(self, promise: Promise) -> None:
        """Take a row of the journal as it was written or settled."""
        self.seen = promise.seq
        if promise.kind is Kind.RUN:
            return
        if not promise.is_settled:
            self._wait_for(promise)
            return
        self._tally = self._tally.plus(promise)
        self._tell_attempts(promise)
        self._undos += undos_in([promise])
        if promise.key == UNWIND_KEY or undone_by(promise, self._undos):
            self.say(_undo_line(promise, self._undos))
        elif is_turn(promise):
            self._begin("")
            self.say(*self._turn_lines(promise))
        elif is_tool_call(promise):
            called = wording.call(*tool_of(promise))
            if called in self._calls:
                self._calls.remove(called)
            self.say(_step_line(promise, called))
        elif promise.name not in _SILENT or promise.state is not PromiseState.RESOLVED:
            self.say(_step_line(promise, promise.key))

    def _begin(self, doing: str) -> None:
        self._doing, self._since, self._words = doing, self._clock.now_ms(), ""

    def _wait_for(self, promise: Promise) -> None:
        """Tell of a wait once, also where nothing moves: it may last for days."""
        wait = wait_of(promise)
        if wait is None or promise.error:
            return
        self._begin(f"waiting for {wait.words}")
        if promise.kind is Kind.STEP:
            self._tell_attempts(promise)
        elif promise.kind is Kind.CHILD or promise.key in self._awaited:
            return  # of children there may be thousands
        else:
            self._awaited.add(promise.key)
            self.say(_indented(Text(f"{promise.key}  waits for {wait.words}", "cyan")))

    def _tell_attempts(self, promise: Promise) -> None:
        """Tell of each failed attempt once, when it is recorded: a provider may be away all day."""
        for number, attempt in enumerate(failed_in(promise), 1):
            told = (promise.key, attempt.get("at"), attempt.get("n", number))
            if told not in self._attempts:
                self._attempts.add(told)
                self.say(_attempt_line(promise, attempt))

    def _turn_lines(self, promise: Promise) -> list[RenderableType]:
        usage = self._tally.usage
        line = Text.assemble(
            (f"turn {self._tally.turns}", "bold"),
            f"  {model_of(promise)}  {wording.took(promise)}",
            (f"  {wording.tokens(usage)}, {wording.money(usage.cost_usd)} so far", "dim"),
        )
        passed = [
            _indented(Text(wording.short(wording.passed_over(each), 200), "yellow"))
            for each in passed_over_of(promise)
        ]
        said = wording.short(words_of(promise), 200)
        is_last = not calls_of(promise)  # then its words are the answer, printed in full
        if invalid_of(promise) and is_last:
            wrong = Text("not what was asked for", "yellow")
            return [line, *passed, _indented(wrong)]
        spoken = [] if is_last or not said else [_indented(Text(said, "italic"))]
        return [line, *passed, *spoken]

    def _region(self) -> RenderableType:
        """Return what stands below the lines just now; called by the display's own thread."""
        doing = ", ".join(list(self._calls)) or self._doing or f"turn {self._tally.turns + 1}"
        since = (self._clock.now_ms() - self._since) // 1000
        elapsed = f" · {since} s" if since >= 2 else ""
        spinner = Spinner("dots", Text(wording.short(doing, 200) + elapsed, "dim"), style="dim")
        if not self._words.strip():
            return spinner
        words = Text(wording.visible(self._words.strip()), "italic")
        tail = words.wrap(self._console, max(self._console.width - _INDENT, 20))[-_TAIL:]
        return Group(*map(_indented, tail), spinner)


def _undo_line(promise: Promise, undos: Collection[str]) -> RenderableType:
    if promise.key == UNWIND_KEY:
        return Text(f"undoing {wording.count(len(undos), 'step')}, newest first", "yellow")
    word = "undone" if promise.state is PromiseState.RESOLVED else WORDS[promise.state]
    line = Text.assemble(undone_by(promise, undos) or "", "  ", (word, "yellow"))
    return _indented(line.append(f"  by {promise.name}", "dim"))


def _attempt_line(promise: Promise, attempt: dict[str, Any]) -> RenderableType:
    if promise.kind is Kind.SIGNAL:
        told = wording.short(attempt.get("message"), 160)
        return _indented(Text.assemble(f"{promise.name}  ", ("refused", "yellow"), f"  {told}"))
    told = wording.gist(f"{attempt.get('type')}: {attempt.get('message')}", 200)
    if "gave_up" in attempt:
        return _indented(Text.assemble(f"{promise.name}  ", ("failed", "yellow"), f"  {told}"))
    waited = wording.duration(attempt.get("waited_ms", 0))
    line = Text.assemble(f"{promise.name}  ", ("failed", "yellow"))
    return _indented(line.append(f"  {told}; again after {waited}", "dim"))


def _step_line(promise: Promise, called: str) -> RenderableType:
    """Return a line for a step: what was called, whether it went well, and how long it took."""
    word = (WORDS[promise.state], STATE_STYLES[promise.state])
    line = Text.assemble(f"{called}  ", word, f"  {wording.took(promise)}")
    if promise.error:
        failure = decode_failure(promise)
        line.append(f"  {wording.short(f'{failure.type}: {failure.message}', 200)}", "dim")
    return _indented(line)


def _indented(line: Text) -> Padding:
    return Padding(line, (0, 0, 0, _INDENT), expand=False)
