"""`ContextBase`: what layers above the engine build their operations from.

They take keys by hand, look at what the journal has under a key before they perform anything, and
say themselves what a row shows. Who writes durable functions needs none of it: see `Context`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NoReturn, ParamSpec, Self, TypeVar

from substrate.engine.context import aside
from substrate.engine.context.call import (
    MAX_CALLS,
    check_all_awaited,
    check_nothing_forgotten,
    read_call,
    run_call,
)
from substrate.engine.context.child import Child, Spawn
from substrate.engine.context.gate import GateOutcome, GateRequest, await_gate, read_gate
from substrate.engine.context.gather import settle_all
from substrate.engine.context.listen import Hearing
from substrate.engine.context.operation_types import (
    Operation,
)
from substrate.engine.context.pending import Pending
from substrate.engine.context.race import IsEnough, settle_enough
from substrate.engine.context.receive import (
    POLL,
)
from substrate.engine.context.scope import Scope
from substrate.engine.context.task_state import TaskState
from substrate.engine.failure import Raised
from substrate.engine.function.annotation import Annotation
from substrate.engine.function.function import Durable
from substrate.engine.run.execution import Execution
from substrate.engine.run.mismatch import RequestedCall
from substrate.engine.step.close import abandon
from substrate.engine.step.execute import run_step
from substrate.engine.step.step import (
    Step,
    read_step,
    read_typed,
)
from substrate.store.store import Store
from substrate.values.codec import fingerprint
from substrate.values.errors import Failure, Misuse, Paused
from substrate.values.gates import Rule
from substrate.values.ids import Key, PromiseId, RunId, check_name, promise_id
from substrate.values.records import GATE, JsonText, Kind, OnDead, Promise

P = ParamSpec("P")
T = TypeVar("T")

NO_NOTES: Mapping[type, object] = MappingProxyType({})


class ContextBase:
    """The part of a `Context` that is for the kit's own layers; the reference leaves it out."""

    def __init__(
        self,
        execution: Execution,
        task_state: TaskState,
        scope: str = "",
        depth: int = 0,
        handed_down: Mapping[type, object] = NO_NOTES,
    ) -> None:
        self.execution = execution
        self.task_state = task_state
        self._scope = Scope(execution, task_state, scope)
        self._depth = depth
        self._drawn = 0
        #: What a layer above keeps beside this context while it is driven, by its type.
        self.notes: dict[type, object] = {}
        #: The same, for what this context calls too.
        self.handed_down: Mapping[type, object] = handed_down

    @property
    def id_prefix(self) -> str:
        """What the id of everything in this scope begins with, that of what its children do too."""
        run_id = self.execution.fence.run_id
        return f"{run_id}#{self._scope.key}/" if self._scope.key else f"{run_id}#"

    def scope(self, name: str) -> Self:
        """Return a context for the same task whose keys stand below ``name.n``."""
        key = self._scope.next_key(name)
        return type(self)(self.execution, self.task_state, key, self._depth, self.handed_down)

    def inside(self, key: Key) -> Self:
        """Return a context in the scope of the operation under a `key`, for the current task."""
        return self._inner(key)

    # Keys, and what the journal has under them.

    def take_key(self, name: str) -> Key:
        """Take the key of the next operation of this name, for operations that stand below it."""
        return self._scope.next_key(name)

    def key_ahead(self, name: str) -> Key:
        """Return the key that the next operation of this name will have."""
        return self._scope.key_ahead(name)

    def recorded(self, name: str) -> Promise | None:
        """Return what the journal has where the next operation of this name will stand.

        It is not taken. What this very execution has recorded is not there any more.
        """
        return self.execution.journal.look(self.key_ahead(name))

    def recorded_at(self, key: Key) -> Promise | None:
        """Return what the journal has under a whole key; see `recorded`."""
        return self.execution.journal.look(key)

    def recorded_names(self) -> list[str]:
        """Return the names of operations right in this scope of which nobody has taken all."""
        return self.execution.journal.names_in(self._scope.key)

    def has_begun(self, name: str) -> bool:
        """Whether the journal has more than a gate inside the next operation of this name."""
        return self.execution.journal.has_begun(self.key_ahead(name))

    def has_begun_at(self, key: Key) -> bool:
        """Whether the journal has more than a gate inside the operation under a whole key."""
        return self.execution.journal.has_begun(key)

    @property
    def is_behind(self) -> bool:
        """Whether the journal tells that an earlier claim has come further in this scope."""
        if self.task_state.is_live:
            return False
        return self.execution.journal.newest_in(self._scope.key) > self.task_state.seq

    # Operations that say themselves what the journal shows.

    def checkpoint(self, step: Step, key: Key | None = None) -> Pending[Any]:
        """Perform a prepared step: `step`, for who needs to say what the journal shows.

        Under the next key of its name, or one that was taken.
        """
        key = self._scope.next_key(step.name) if key is None else key
        return self._step(
            RequestedCall(key, Kind.STEP, step.name, step.input, step.fingerprint), lambda: step
        )

    async def attempt(self, step: Step) -> Promise:
        """Perform a prepared step; return its settled promise.

        Where it lets an error through, that is raised, and its key is the next one's.
        """
        try:
            return await self.checkpoint(step).settled()
        except step.raised_to_caller:
            self._scope.return_key(step.name)
            raise

    def abandon(self, step: Step, why: str, key: Key | None = None) -> Pending[Any]:
        """Settle an operation that was begun and that no code can go on with: see `step.close`.

        Under the next key of its name, or one that was taken.
        """
        key = self._scope.next_key(step.name) if key is None else key
        asked = RequestedCall(key, Kind.STEP, step.name, step.input, step.fingerprint)

        def live(recorded: Promise | None) -> Coroutine[Any, Any, Promise]:
            return abandon(self.execution, recorded or self._scope.new_promise(asked), why)

        return Pending(self._scope, asked, live, read_step)

    def call_as(
        self, key: Key, durable: Durable[..., T], shown: Mapping[str, Any], same: str | None = None
    ) -> Pending[T]:
        """Run a durable function as `call` does, under a key that was taken.

        Args:
            key: The key.
            durable: The function.
            shown: Its arguments, by name.
            same: What a replay compares, where that is not the arguments.
        """
        known = self.execution.journal.input_of(key)
        arguments = durable.encode_arguments((), dict(shown), "ctx.call", known=known)
        return self._call(key, durable, arguments, same)

    def child(
        self,
        function: Durable[P, T],
        arguments: JsonText,
        *,
        key: Key,
        fingerprint: str,
        grant: Callable[[], JsonText | None] = lambda: None,
    ) -> Child[T]:
        """Start a run below this one: `spawn`, for who says by what it is known.

        `key` is one that `take_key` gave, or stands below one. `grant` is asked when the child is
        started: what it may use of this run's budget, which its row keeps.
        """
        self.execution.services.recognise(function)
        asked = RequestedCall(key, Kind.CHILD, function.name, arguments, fingerprint)
        queue = self.execution.claim.run.queue
        spawn = Spawn(function, queue, None, OnDead.RAISE, grant)
        return Child(self._scope, asked, spawn, lambda: self._scope.new_promise(asked))

    def settle(
        self, pendings: Sequence[Pending[T]], limit: int | None = None
    ) -> Coroutine[Any, Any, list[T]]:
        """Run operations side by side, at most `limit` at once; return their values in order."""
        return settle_all(self._scope, pendings, limit)

    async def settle_enough(
        self, pendings: Sequence[Pending[Any]], is_enough: IsEnough
    ) -> list[Promise]:
        """Run operations side by side until those that have settled are enough; close the others.

        Returns those that have settled, in the journal's order. `is_enough` is asked at each that
        does; none is left out that settled in the same moment.
        """
        return await settle_enough(self._scope, pendings, is_enough)

    async def listen(self, name: str, under: str) -> list[Any]:
        """Do as `hear`, with rows ``under.n`` that only the looks which found something count.

        So a loop may begin to look, or cease, between two claims on its run, and finds what it has
        heard.

        Args:
            name: What the signals are sent under.
            under: The name in the keys of the rows.
        """
        asked = RequestedCall(self._scope.next_key(under), Kind.SIGNAL, check_name(name), POLL)
        found = await Hearing(self._scope, asked, self._scope.new_promise(asked))
        if not found:
            self._scope.return_key(under)
        return found

    # Gates, and what comes meanwhile.

    async def rules(self) -> Sequence[Rule]:
        """Return the standing rules as they are now. Nothing is recorded."""
        return await self.execution.access.rules()

    def gate(
        self,
        request: Callable[[], GateRequest],
        tell: Callable[[Self, Promise, int], Awaitable[None]],
        name: str = GATE,
        key: Key | None = None,
    ) -> Pending[GateOutcome]:
        """Ask a person, and wait until somebody has decided, the time is over, or a rule decides.

        Args:
            request: Returns what is asked; called only where nothing is recorded.
            tell: Tells people of it, for the n-th time, by steps in the context that it is given.
            name: What stands in its key.
            key: Its key, where that is not the next one of its name in this scope.

        Raises:
            NoUseLeft: the rule that was to let it through is used up. Nothing was recorded.
        """
        asked = _gate_at(self._scope.next_key(name) if key is None else key, name)

        def live(recorded: Promise | None) -> Coroutine[Any, Any, Promise]:
            tell_ = self._telling(asked.key, tell)
            new_promise = self._scope.new_promise(asked)
            return await_gate(self.execution, recorded, new_promise, request, tell_)

        return Pending(self._scope, asked, live, read_gate)

    async def ask_aside(
        self,
        request: Callable[[], GateRequest],
        tell: Callable[[Self, Promise, int], Awaitable[None]],
        key: Key,
    ) -> Promise:
        """Ask a person as `gate` does, under a key that was taken, and go on; return its promise.

        Where it is recorded, that is its promise, open or not. What becomes of it is for
        `settled_aside` to find; people are told, and its time ends, meanwhile.

        Args:
            request: Returns what is asked; called only where nothing is recorded.
            tell: Tells people of it, as for `gate`.
            key: Its key.

        Raises:
            NoUseLeft: the rule that was to let it through is used up. Nothing was recorded.
        """
        asked = _gate_at(key, GATE)
        tell_ = self._telling(key, tell)
        recorded = Pending(self._scope, asked, _never, read_gate).take(self._scope)
        if recorded is not None:  # not observed: it may have been decided after what is replayed
            aside.follow_aside(self.execution, recorded, tell_)
            return recorded
        new = self._scope.new_promise(asked)
        return await self.task_state.drive(
            partial(aside.ask_aside, self.execution, new, request, tell_)
        )

    async def settled_aside(self, keys: Sequence[Key]) -> Mapping[Key, Promise]:
        """Return those of the gates under these `keys` that are settled by now.

        Nothing is recorded of the look.
        """
        look = partial(aside.settled_aside, self.execution, keys)
        return await self.task_state.drive(look)

    async def take_up(self, gate: Promise) -> None:
        """Let a gate that was asked aside, and is settled, be found by `gate` under its key."""
        await aside.take_up(self.execution, gate)

    async def withdraw_aside(self, gate: Promise) -> Promise:
        """Close a gate that was asked aside; return it as it stands, for somebody may be first."""
        return await self.task_state.drive(partial(aside.withdraw, self.execution, gate))

    def mark(self) -> aside.Mark:
        """Return how the run stands before one looks for what has come: see `wait_for_news`."""
        return aside.Mark(self.execution)

    async def wait_for_news(self, mark: aside.Mark) -> None:
        """Return when anything has come for the run since that mark: a decision, a signal."""
        await self.task_state.drive(partial(aside.wait_for_news, self.execution, mark))

    def receive_beside(self, name: str, gates: Sequence[Key]) -> Operation[list[Any]]:
        """Wait for a signal of a `name` as `receive` does, or for one of these `gates`.

        Those are the keys of gates that were asked aside. Returns the value, or no value where a
        gate was settled first: then the row of the wait is cancelled.
        """
        asked = RequestedCall(self._scope.next_key(name), Kind.SIGNAL, name)

        def live(recorded: Promise | None) -> Coroutine[Any, Any, Promise]:
            new = self._scope.new_promise(asked)
            return aside.await_signal_beside(self.execution, recorded, new, gates)

        return Pending(self._scope, asked, live, aside.read_signals)

    # Rows of this run, and of runs below it.

    @property
    def store(self) -> Store:
        """The store in which the run is kept, for what belongs to no run: limits of models."""
        return self.execution.services.store

    async def granted(self) -> JsonText | None:
        """Return what this run may use of its parent's budget, as its row says."""
        if self.execution.claim.run.parent_id is None:
            return None
        own = PromiseId(self.execution.fence.run_id)
        found = (await self.execution.access.promises([own])).get(own)
        if found is not None:
            self.execution.check_readable(found)
        return None if found is None else found.granted

    async def earlier(self, keys: Sequence[str]) -> Mapping[str, Promise]:
        """Return rows of earlier generations of the run, by their whole keys: they never change."""
        run_id = self.execution.fence.run_id
        ids = {promise_id(run_id, Key(key)): key for key in keys}
        found = await self.execution.access.promises(list(ids))
        return {key: found[id_] for id_, key in ids.items() if id_ in found}

    async def journal_of(self, child: RunId) -> Sequence[Promise]:
        """Return what a run below this one has recorded."""
        return await self.execution.access.journal_of(child)

    async def usages_below(
        self, prefix: str, skipping: Sequence[str] = ()
    ) -> Sequence[tuple[PromiseId, JsonText]]:
        """Return what each promise below an id's prefix has used, in this run and its children.

        Left out is what begins, behind the prefix, with one of `skipping`.
        """
        return await self.execution.access.usages(prefix, skipping)

    async def open_children_below(self, prefix: str) -> Sequence[Promise]:
        """Return the promises of the children below an id's prefix that have not ended."""
        return await self.execution.access.open_children(prefix)

    async def has_open_runs_below(self, prefix: str) -> bool:
        """Whether a child below an id's prefix, or one of its own, has not ended."""
        return await self.execution.access.has_open_runs(prefix)

    # The end of a claim.

    def pause(self, failure: Failure) -> NoReturn:
        """Pause the run: a person has to mend what the failure says, and to resume it.

        Steps in flight in other branches come to their end first.
        """
        self.execution.lifecycle.drain_and_raise(Paused(failure))

    def is_own_cancellation(self, error: BaseException) -> bool:
        """Whether an error is but the end of the run's task, which says nothing of the code."""
        return self.execution.lifecycle.is_own_cancellation(Raised(error))

    def _inner(self, scope: Key) -> Self:
        """Return the context of a durable function that is called in the current task."""
        is_live = not self.execution.journal.has_scope(scope)
        task_state = TaskState(self.execution, self.task_state.now_ms, is_live=is_live)
        return type(self)(self.execution, task_state, scope, self._depth + 1, self.handed_down)

    def _call(
        self, key: Key, durable: Durable[..., T], arguments: JsonText, same: str | None = None
    ) -> Pending[T]:
        asked = RequestedCall(key, Kind.STEP, durable.name, arguments, same)
        if self._depth >= MAX_CALLS:
            raise Misuse(
                f"{key!r} would stand more than {MAX_CALLS} calls deep; write what calls itself so "
                "often as a loop, or spawn it: a child has its own depth"
            )

        def run() -> Awaitable[T]:
            return run_function(self._inner(key), durable, durable.decode_arguments(arguments))

        def live(recorded: Promise | None) -> Coroutine[Any, Any, Promise]:
            return run_call(
                self.execution, durable, recorded or self._scope.new_promise(asked), run
            )

        return Pending(self._scope, asked, live, partial(read_call, durable))

    def _step(
        self, asked: RequestedCall, prepare: Callable[[], Step], result: Annotation | None = None
    ) -> Pending[Any]:
        read = read_step if result is None else partial(read_typed, result)
        return Pending(self._scope, asked, partial(run_step, self.execution, prepare, asked), read)

    def _telling(
        self, key: Key, tell: Callable[[Self, Promise, int], Awaitable[None]]
    ) -> Callable[[Promise, int], Awaitable[None]]:
        async def tell_inside(gate: Promise, n: int) -> None:
            await tell(self._inner(key), gate, n)  # each in a task of its own

        return tell_inside


def _gate_at(key: Key, name: str) -> RequestedCall:
    return RequestedCall(key, Kind.GATE, name, None, fingerprint(Kind.GATE.value, name))


async def _never(recorded: Promise | None) -> Promise:
    raise AssertionError("what is only taken from the journal is not driven")


async def run_function(
    ctx: ContextBase, function: Durable[..., T], arguments: Mapping[str, Any]
) -> T:
    """Call a function with its context; return its result, or pause the run: see `call`."""
    check_all_awaited(ctx.execution, function)
    given: Any = ctx  # a `Context`: there is no other base than of one
    result = await function.function(given, **arguments)
    await asyncio.sleep(0)  # tasks that it has just made begin, and are refused what they may not
    # Where it fails, what it has forgotten does not matter: the error is what there is to tell.
    check_nothing_forgotten(ctx.execution, function, result, unstarted=ctx.task_state.forgotten())
    return result
