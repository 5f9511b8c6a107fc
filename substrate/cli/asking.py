"""An open gate is asked in line: yes, no, edit, always, or later. For `run` and `chat`.

Invariants: a decision is made for what was shown, with its digest, by what is typed after that. A
standing rule is shown as it will stand before it is saved. Who is asked here keeps nobody else from
deciding: what is decided elsewhere meanwhile ends the question. Nothing is decided by silence, by
Ctrl-C or by the end of input.
"""

import asyncio
import json
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from rich.console import Console
from rich.text import Text

from substrate.agent import decisions
from substrate.agent.decisions import Asked, read_asked
from substrate.agent.rules import (
    Judged,
    judge,
    judged_arguments,
    judged_by_schema,
    read_rule,
    rule_words,
)
from substrate.agent.tool import Tool
from substrate.cli import format as wording
from substrate.cli.keyboard import Keyboard
from substrate.cli.screen import put
from substrate.cli.show.questions import SHOWN_CODE
from substrate.cli.typed_value import read_answer, read_typed
from substrate.cli.user import user
from substrate.engine.client import Client
from substrate.engine.context.wanted_type import WantedType
from substrate.values.codec import decode
from substrate.values.errors import GateClosed, Misuse, StoreError
from substrate.values.gates import Gate, GateKind, GateState, RuleVerdict
from substrate.values.ids import PromiseId, root_of

T = TypeVar("T")

CHANNEL = "terminal"
_LOOK_S = 0.5  # between two looks whether somebody else has decided
_LONGEST = 2000  # characters of an argument that are shown; its digest is of the whole

_CHOICES = "y yes, n no, e edit, a always, l later > "


class DecidedElsewhere(Exception):
    """Somebody else has decided while the question stood here."""


class Later(Exception):
    """The person decides it later."""


@dataclass(slots=True)
class Asker:
    """Asks what a run and all below it have open, one gate after the other."""

    client: Client
    #: The run whose tree it is.
    run_id: str
    keyboard: Keyboard
    console: Console
    #: By which edited arguments are checked, and rules judged.
    tools: Sequence[Tool] = ()
    #: The gates that are to be decided later; they are not asked again by themselves.
    put_off: set[PromiseId] = field(default_factory=set)
    #: Those of them that the agent goes on without: only who asks for that is asked again.
    left: set[PromiseId] = field(default_factory=set)
    #: Whether somebody is asked just now.
    is_asking: bool = False

    async def open_gates(self) -> list[Gate]:
        """Return what is to be asked now, oldest first."""
        later = self.put_off | self.left
        return [each for each in await self._pending() if each.id not in later]

    async def is_held_up(self) -> bool:
        """Whether the run waits for what was put off here.

        A call of its own that it goes on without holds it up not; one of a run below does, which
        waits at its answer.
        """
        if self.put_off or not self.left:
            return bool(self.put_off)
        below = {each.id for each in await self._pending() if each.run_id != self.run_id}
        return not self.left.isdisjoint(below)

    async def _pending(self) -> list[Gate]:
        gates = await self.client.store.gates.of_tree(root_of(self.run_id))
        return [
            each for each in gates if each.state is GateState.PENDING and each.is_of(self.run_id)
        ]

    async def ask(self) -> None:
        """Ask all that is open. Raises `Interrupted` for Ctrl-C: nothing is decided then."""
        self.is_asking = True
        try:
            while gates := await self.open_gates():
                await self._ask_one(gates[0])
        finally:
            self.is_asking = False

    async def _ask_one(self, gate: Gate) -> None:
        asked = await read_asked(self.client, gate)
        put(self.console, *self._shown(gate, asked))
        # Whatever was typed before it was shown is no decision about it.
        if self.keyboard.forget_typed():
            put(self.console, Text("  what you typed before this was shown is not taken", "yellow"))
        try:
            await self._unless_decided(gate, self._decide(gate, asked))
        except (Later, EOFError):
            (self.put_off if _waits(gate) else self.left).add(gate.id)
            code = gate.code[:SHOWN_CODE]
            put(self.console, Text(f"  later; it stays open as {code}", "dim"))
        except (DecidedElsewhere, GateClosed):
            found = await self.client.store.gates.get(gate.id)
            how = "gone" if found is None else found.state.word
            by = f" by {found.decided_by}" if found is not None and found.decided_by else ""
            put(self.console, "", Text(f"  it is {how}{by} meanwhile", "yellow"))

    def _shown(self, gate: Gate, asked: Asked) -> list[Text]:
        """Return the question with all that is decided by it; nothing in it is obeyed."""
        where = "" if gate.run_id == self.run_id else f"  ({gate.run_id})"
        where += "" if _waits(gate) else "  (the agent goes on meanwhile)"
        until = "" if gate.expires_at is None else f"  until {wording.moment(gate.expires_at)}"
        if gate.kind is GateKind.APPROVAL:
            head = Text.assemble(
                ("may ", "cyan"), (wording.visible(gate.tool), "bold cyan"), (" be called?", "cyan")
            )
            lines = [_argument(name, value) for name, value in asked.arguments.items()]
        else:
            head = Text(wording.visible(asked.question or gate.summary), "cyan")
            lines = [Text(f"  {asked.wanted.words}", "dim")]
        return [Text(""), head.append(where + until, "dim"), *lines]

    async def _decide(self, gate: Gate, asked: Asked) -> None:
        while True:
            try:
                if gate.kind is GateKind.APPROVAL:
                    return await self._approval(gate, asked)
                return await self._answer(gate, asked)
            except GateClosed:
                raise
            except Misuse as error:
                put(self.console, Text(f"  {wording.visible(str(error))}", "yellow"))

    async def _approval(self, gate: Gate, asked: Asked) -> None:
        match (await self.keyboard.line(_CHOICES)).lower():
            case "y" | "yes":
                await decisions.approve(self.client, gate, by=user(), via=CHANNEL)
            case "n" | "no":
                why = await self.keyboard.line("why? the model is told > ")
                await decisions.deny(self.client, gate, by=user(), why=why, via=CHANNEL)
            case "e" | "edit":
                edit = await self._edits(asked)
                await decisions.approve(
                    self.client, gate, by=user(), edit=edit, tools=self.tools, via=CHANNEL
                )
            case "a" | "always":
                await self._always(gate, asked)
            case "l" | "later":
                raise Later
            case other:
                raise Misuse(f"{other!r:.40} is none of y, n, e, a, l")

    async def _edits(self, asked: Asked) -> dict[str, Any]:
        """Have each argument edited in place; return those that are others now."""
        fields: Mapping[str, Any] = asked.wants.get("properties", {})
        edited = {}
        for name, value in asked.arguments.items():
            wanted = WantedType(fields.get(name, {}))
            before = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            # What the model wrote may hold what a terminal obeys: it is edited as it is shown.
            shown = wording.visible(before)
            typed = await self.keyboard.line(f"  {wording.visible(name)} = ", shown)
            if typed != shown:
                edited[name] = read_typed(typed, wanted)
        return edited

    async def _always(self, gate: Gate, asked: Asked) -> None:
        """Make a standing rule, which is shown and confirmed, and approve this call."""
        text = await self.keyboard.line("rule > ", f"allow {gate.tool}")
        now = self.client.store.clock.now_ms()
        rule = read_rule(text, by=user(), now=now)
        rule = replace(rule, reason=f"always, at {gate.code[:SHOWN_CODE]}")
        run = await self.client.get(gate.run_id)
        call = Judged(gate.tool, self._judged(gate, asked), gate.root_id, run.function, now)
        if rule.verdict is not RuleVerdict.ALLOW or judge([rule], call) is None:
            raise Misuse(f"{rule_words(rule)!r} does not allow this call; nothing was saved")
        words = f"  {rule_words(rule)}: for all runs, until it is removed"
        put(self.console, Text(words, "bold"))
        if (await self.keyboard.line("save this rule? y or n > ")).lower() not in ("y", "yes"):
            raise Misuse("no rule was saved, and nothing decided")
        # First the call: where a rule denies it, a new one would not help.
        await decisions.approve(self.client, gate, by=user(), via=CHANNEL)
        await self.client.store.gates.add_rule(rule)
        put(self.console, Text(f"  rule {rule.id} stands", "green"))

    def _judged(self, gate: Gate, asked: Asked) -> Mapping[str, Any]:
        tool = next((each for each in self.tools if each.name == gate.tool), None)
        if tool is None:
            return judged_by_schema(asked.arguments, asked.wants)
        checked: Mapping[str, Any] = judged_arguments(tool.check(dict(asked.arguments)))
        return checked

    async def _answer(self, gate: Gate, asked: Asked) -> None:
        typed = await self.keyboard.line("answer, or nothing for later > ")
        if not typed:
            raise Later
        value = read_answer(typed, asked.wanted)
        await decisions.answer(self.client, gate, value, by=user(), via=CHANNEL)

    async def _unless_decided(self, gate: Gate, asking: Coroutine[Any, Any, None]) -> None:
        """Wait for the person, and give the question up once somebody else has decided."""
        task, looking = asyncio.create_task(asking), asyncio.create_task(self._decided(gate))
        try:
            await asyncio.wait([task, looking], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise DecidedElsewhere
            await task
        finally:
            for each in (task, looking):
                each.cancel()
            # The prompt leaves the terminal as it was before anything else is drawn.
            await asyncio.wait([task, looking])

    async def _decided(self, gate: Gate) -> None:
        """Return once the gate is decided."""
        while True:
            await asyncio.sleep(_LOOK_S)
            with suppress(StoreError):
                found = await self.client.store.gates.get(gate.id)
                if found is None or found.state is not GateState.PENDING:
                    return


def _waits(gate: Gate) -> bool:
    """Whether the agent waits for what is decided: see `Policy.wait`."""
    return bool(decode(gate.policy).get("wait", True))


def _argument(name: str, value: Any) -> Text:
    text = value if isinstance(value, str) else wording.as_json(value)
    more = "" if len(text) <= _LONGEST else f"… ({len(text):,} characters)"
    shown = wording.visible(text[:_LONGEST]).replace("\n", "\n    ")
    return Text.assemble((f"  {wording.visible(name)} = ", "dim"), shown, (more, "dim"))
