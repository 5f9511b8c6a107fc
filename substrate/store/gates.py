"""What the engine and people ask of the store about gates and rules.

A gate is settled once: by a decision from outside, or by its run, whose time is over or which has
no use for it any more. What comes second is told what stands, and changes nothing.
"""

from collections.abc import Sequence

from substrate.store.backend import Backend
from substrate.values.gates import Decision, Gate, GateState, LetGo, NewGate, Rule
from substrate.values.ids import PromiseId, RunId, root_of
from substrate.values.number import MOST
from substrate.values.records import Fence, Fenced, Promise


class Gates:
    """The gates and rules of a store: `Store.gates`."""

    def __init__(self, backend: Backend) -> None:
        self._db = backend.db
        self._gates = backend.sql.gates
        self._rules = backend.sql.rules
        self._clock = backend.clock

    async def open(self, fence: Fence, promise: Promise, new: NewGate) -> Promise | Fenced | None:
        """Write a gate and its promise in one commit; return the promise as it stands.

        Where it was decided by a rule at once, the promise has its outcome, and one of the rule's
        uses is gone with the same commit. None where that rule has no use left, or is gone: then
        nothing was written. Asked again, it finds the first.
        """
        opened = await self._db.write(self._gates.open_gate, fence, promise, new, None)
        return None if opened is None else opened[0]

    async def open_and_suspend(
        self, fence: Fence, promise: Promise, new: NewGate, let_go: LetGo
    ) -> tuple[Promise | Fenced, bool] | None:
        """Do as `open`, and suspend the run in that commit; return whether it was.

        It is not where something has come for it since: see `Store.suspend`.
        """
        return await self._db.write(self._gates.open_gate, fence, promise, new, let_go)

    async def settle(
        self, fence: Fence, promise: Promise, state: GateState, *, via: str | None = None
    ) -> Promise | Fenced:
        """Close a gate for its run, with its promise; return the promise as it stands.

        Where somebody has decided first, that is what stands, and nothing is written.
        """
        return await self._db.write(self._gates.settle_gate, fence, promise, state, via)

    async def decide(self, decision: Decision) -> tuple[Gate, bool]:
        """Decide a gate, and wake its run, in one commit; return the gate, and whether it counts.

        It counts once. The same decision of the same person, made again, is no error and does not
        count. Raises `GateNotFound`; `GateClosed` where it was decided otherwise, its time is over,
        or its run asks nothing any more; `GateChanged` where the digest is that of something else.
        """
        return await self._db.write(self._gates.decide_gate, decision, self._clock.now_ms())

    async def get(self, gate_id: PromiseId) -> Gate | None:
        """Return one gate, or None."""
        return await self._db.read(self._gates.read_gate, gate_id)

    async def pending(self, limit: int = 1000) -> Sequence[Gate]:
        """Return the open gates of all trees, oldest first; those asked last may be left off."""
        return await self._db.read(self._gates.open_gates, limit, None)

    async def pending_below(self, run_id: RunId) -> Sequence[Gate]:
        """Return the open gates of a run and of all below it, oldest first: each one of them."""
        found = await self._db.read(self._gates.open_gates, MOST, root_of(run_id))
        return [each for each in found if each.is_of(run_id)]

    async def of_tree(self, root_id: RunId) -> Sequence[Gate]:
        """Return all gates of a tree, the decided ones too, oldest first."""
        return await self._db.read(self._gates.gates_of_tree, root_id)

    async def by_code(self, code: str, limit: int = 20) -> Sequence[Gate]:
        """Return the gates whose code begins so, newest first."""
        return await self._db.read(self._gates.gates_by_code, code, limit)

    async def add_rule(self, rule: Rule) -> None:
        """Add a standing rule. It settles no open gate."""
        await self._db.write(self._rules.add_rule, rule)

    async def rules(self) -> Sequence[Rule]:
        """Return all standing rules, oldest first; those that are over, too."""
        return await self._db.read(self._rules.read_rules)

    async def remove_rule(self, rule_id: str) -> bool:
        """Remove a rule; False where there is none."""
        return await self._db.write(self._rules.remove_rule, rule_id)
