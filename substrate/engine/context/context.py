"""`Context`: everything a durable function can do that outlives its process.

`step`, `call`, `spawn`, `sleep` and `receive` take their key when they are called: the name of what
they do and how many times this scope has done it. So a key does not depend on what runs first, and
adding a step elsewhere moves none. They return a `Pending`, to be awaited or given to a combinator.
Here is what functions use; what layers above the engine build on is in `base`.
"""

import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from hashlib import blake2b
from typing import Any, Literal, ParamSpec, TypeVar, TypeVarTuple, Unpack, overload
from uuid import UUID

from typing_extensions import TypeForm

from substrate.engine.context.base import ContextBase
from substrate.engine.context.call import (
    Continuation,
)
from substrate.engine.context.child import Child, Spawn
from substrate.engine.context.gather import settle_all
from substrate.engine.context.listen import HEARD, Hearing
from substrate.engine.context.memory import Memory
from substrate.engine.context.operation_types import (
    Keyed0,
    Keyed1,
    Keyed2,
    Keyed3,
    Mapper,
    Operation,
    Reconcile,
    SpawnOptions,
    Startable,
    Undo,
)
from substrate.engine.context.pending import Pending
from substrate.engine.context.race import Winner, settle_first
from substrate.engine.context.receive import (
    POLL,
    annotation_of,
    await_signal,
    await_timer,
    poll_signals,
    read_signal,
)
from substrate.engine.failure import failure_of
from substrate.engine.function.annotation import Annotation
from substrate.engine.function.arguments import Arguments
from substrate.engine.function.bound import Bound, unbound
from substrate.engine.function.function import Durable, not_durable
from substrate.engine.function.place import described
from substrate.engine.function.returns import result_of
from substrate.engine.run.mismatch import RequestedCall
from substrate.engine.step.options import (
    NO_OPTIONS,
    Options,
    StepOptions,
    TransactionOptions,
    sorted_out,
)
from substrate.engine.step.step import (
    Step,
    check_step,
    idempotency_key,
    name_of,
    step_of,
)
from substrate.engine.step.undo import undo_of
from substrate.memory.embedder import Embedder, check_embedder
from substrate.store.transaction import Transaction
from substrate.values.clock import from_ms, seconds_of, time_limit, to_ms
from substrate.values.codec import decode, fingerprint
from substrate.values.errors import Misuse, Paused, UnknownFunction
from substrate.values.ids import Key, RunId, check_name
from substrate.values.memory import Space, Trust, check_namespace
from substrate.values.number import check_count
from substrate.values.records import JsonText, Kind, OnDead, Promise

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")


class Context(ContextBase):
    """The handle of a durable function on its run. It is used by the task that was given it."""

    @property
    def run_id(self) -> RunId:
        """The id of the run."""
        return self.execution.fence.run_id

    @property
    def idempotency_key(self) -> str:
        """A key that is this scope's alone and the same at every attempt, for other systems."""
        return idempotency_key(f"{self.run_id}#{self._scope.key}")

    @overload
    def step(
        self,
        fn: Callable[[*Ts], Awaitable[T]],
        *args: *Ts,
        undo: "Undo[*Ts]" = None,
        reconcile: "Reconcile[*Ts]" = None,
        **options: Unpack[StepOptions],
    ) -> Operation[T]: ...
    @overload
    def step(
        self,
        fn: Callable[[*Ts], T],
        *args: *Ts,
        undo: "Undo[*Ts]" = None,
        reconcile: "Reconcile[*Ts]" = None,
        **options: Unpack[StepOptions],
    ) -> Operation[T]: ...
    @overload
    def step(
        self,
        fn: Callable[[Transaction, *Ts], T],
        *args: *Ts,
        undo: "Undo[*Ts]" = None,
        **options: Unpack[TransactionOptions],
    ) -> Operation[T]: ...
    @overload
    def step(
        self,
        fn: Keyed0[Awaitable[T]],
        /,
        *,
        undo: "Undo[()]" = None,
        reconcile: "Reconcile[()]" = None,
        **options: Unpack[StepOptions],
    ) -> Operation[T]: ...
    @overload
    def step(
        self,
        fn: Keyed0[T],
        /,
        *,
        undo: "Undo[()]" = None,
        reconcile: "Reconcile[()]" = None,
        **options: Unpack[StepOptions],
    ) -> Operation[T]: ...
    @overload
    def step(
        self,
        fn: Keyed1[A, Awaitable[T]],
        a: A,
        /,
        *,
        undo: "Undo[A]" = None,
        reconcile: "Reconcile[A]" = None,
        **options: Unpack[StepOptions],
    ) -> Operation[T]: ...
    @overload
    def step(
        self,
        fn: Keyed1[A, T],
        a: A,
        /,
        *,
        undo: "Undo[A]" = None,
        reconcile: "Reconcile[A]" = None,
        **options: Unpack[StepOptions],
    ) -> Operation[T]: ...
    @overload
    def step(
        self,
        fn: Keyed2[A, B, Awaitable[T]],
        a: A,
        b: B,
        /,
        *,
        undo: "Undo[A, B]" = None,
        reconcile: "Reconcile[A, B]" = None,
        **options: Unpack[StepOptions],
    ) -> Operation[T]: ...
    @overload
    def step(
        self,
        fn: Keyed2[A, B, T],
        a: A,
        b: B,
        /,
        *,
        undo: "Undo[A, B]" = None,
        reconcile: "Reconcile[A, B]" = None,
        **options: Unpack[StepOptions],
    ) -> Operation[T]: ...
    @overload
    def step(
        self,
        fn: Keyed3[A, B, C, Awaitable[T]],
        a: A,
        b: B,
        c: C,
        /,
        *,
        undo: "Undo[A, B, C]" = None,
        reconcile: "Reconcile[A, B, C]" = None,
        **options: Unpack[StepOptions],
    ) -> Operation[T]: ...
    @overload
    def step(
        self,
        fn: Keyed3[A, B, C, T],
        a: A,
        b: B,
        c: C,
        /,
        *,
        undo: "Undo[A, B, C]" = None,
        reconcile: "Reconcile[A, B, C]" = None,
        **options: Unpack[StepOptions],
    ) -> Operation[T]: ...
    @overload
    def step(
        self, fn: Callable[P, Awaitable[T]], *args: P.args, **keywords: P.kwargs
    ) -> Operation[T]: ...
    @overload
    def step(self, fn: Callable[P, T], *args: P.args, **keywords: P.kwargs) -> Operation[T]: ...
    def step(  # type: ignore[misc]  # mypy does not see that *args take *Ts
        self, fn: Callable[..., Any], *args: Any, **given: Any
    ) -> Operation[Any]:
        """Call a function once and for all; the result is its JSON, now and on every replay.

        A coroutine function runs on the event loop, a plain one in a thread. A parameter called
        `idempotency_key` is filled with a key that stays the same at each attempt.

        Args:
            fn: What is called. With ``effect="transactional"`` it is a plain ``def fn(tx, …)``:
                what it writes by ``tx.execute(sql, parameters)`` is committed together with its
                result, or not at all.
            *args: Its arguments. They must be JSON, or types that are annotated, since they tell
                whether a later replay asks for the same.
            **given: Arguments by name, and the options. Where both are given, type checkers want
                the arguments `bound` to the function:
                ``ctx.step(bound(charge, cents, currency="USD"), effect="once")``.
            name: What stands in its key in place of the function's name.
            retry: How it is tried again; one attempt, if not told otherwise.
            timeout: Seconds or a timedelta, for each attempt. 60 s for a step that is ``once`` or
                has an undo.
            effect: What a crash in its middle means: ``pure`` (it runs again), ``idempotent`` (it
                runs again with the same key), ``once`` (nobody knows, and it does not run again) or
                ``transactional``.
            undo: A durable function that makes up for the step when the run comes to nothing. It is
                given the step's arguments, and what it names of `result` and `idempotency_key`.
            reconcile: It is asked, with the step's arguments, about a ``once`` call of which nobody
                knows whether it happened: it returns ``Done(value)``, ``NotDone()``, or None if it
                cannot tell.

        Raises:
            StepFailed: it failed for good; or the recorded error's own class.
            OutcomeUnknown: it was ``once``, and nobody knows whether it happened.

        Example:
            >>> async def charge(cents: int, idempotency_key: str) -> str:
            ...     return f"charged {cents}"
            >>> @durable
            ... async def order(ctx: Context, cents: int) -> str:
            ...     return await ctx.step(charge, cents, effect="idempotent")
            >>> await drive(order, 500)
            'charged 500'
        """
        options, keywords = sorted_out(given) if given else (NO_OPTIONS, {})
        fn, args, keywords = unbound(fn, args, keywords)
        called = name_of(fn, options.get("name"))
        arguments = Arguments(args, keywords)
        asked = RequestedCall(self._scope.next_key(called), Kind.STEP, called, arguments.input)
        if self._is_settled(asked.key):
            kept = arguments  # nothing will be called
        else:
            check_step(fn, arguments, options)
            kept = arguments.kept()
        result = result_of(fn)
        return self._step(asked, lambda: self._prepare(asked, fn, kept, options, result), result)

    def call(self, durable: Durable[P, T], *args: P.args, **keywords: P.kwargs) -> Operation[T]:
        """Run a durable function inside this run, with a context and a scope of its own.

        Its outcome is recorded under its key: once it has ended, nothing in it is run again. What
        it raises is raised here, live as on a replay.

        Args:
            durable: The function.
            *args: Its arguments, by position or by name.
            **keywords: The same.

        Raises:
            Misuse: the arguments do not fit, or calls stand more than 64 deep in each other.

        Example:
            >>> @durable
            ... async def twice(ctx: Context, n: int) -> int:
            ...     return 2 * n
            >>> @durable
            ... async def eight(ctx: Context) -> list[int]:
            ...     return await ctx.gather(ctx.call(twice, 2), ctx.call(twice, 4))
            >>> await drive(eight)
            [4, 8]
        """
        if not isinstance(durable, Durable):
            raise not_durable(durable, ", or use ctx.step")
        key = self._scope.next_key(durable.name)
        known = self.execution.journal.input_of(key)
        arguments = durable.encode_arguments(args, keywords, "ctx.call", known=known)
        return self._call(key, durable, arguments)

    @overload
    def spawn(
        self, durable: "Startable[*Ts, T]", *args: *Ts, **options: Unpack[SpawnOptions]
    ) -> Child[T]: ...
    @overload
    def spawn(self, durable: Durable[P, T], *args: P.args, **keywords: P.kwargs) -> Child[T]: ...
    def spawn(  # type: ignore[misc]  # as above
        self,
        durable: Any,
        *args: Any,
        name: str | None = None,
        queue: str | None = None,
        timeout: timedelta | float | None = None,
        on_dead: str | None = None,
        **keywords: Any,
    ) -> Child[Any]:
        """Start a durable function as a run of its own below this one: a child.

        It has its own lease, attempts and failure, and may run on another worker. Its id is this
        run's, ``#`` and the key. Await it for its result, or ``await ctx.spawn(…).start()`` to go
        on and await it later, or never: then it lives on by itself.

        Args:
            durable: The function.
            *args: Its arguments. Those by name are the function's, too, but for these options.
            name: What stands in its key in place of the function's name.
            queue: Whose workers drive it; this run's queue, if not told otherwise.
            timeout: Seconds or a timedelta after which it is ended. It never outlasts this run's
                own deadline.
            on_dead: With ``"wait"`` a child that would be dead, since it crashes its workers or
                cannot be undone, is paused instead: this run waits on, until somebody has resumed
                or discarded it. With ``"raise"``, the default, this run is told.
            **keywords: Arguments of the function by name.

        Raises:
            RunFailed: it failed; the child's own error is in `failure`.
            RunDead: it crashed its workers, or could not be undone.
            RunCancelled: it was asked to end.
            RunTimedOut: its time was over.

        Example:
            >>> @durable
            ... async def child(ctx: Context, n: int) -> int:
            ...     return 2 * n
            >>> @durable
            ... async def parent(ctx: Context) -> int:
            ...     return await ctx.spawn(child, 21)
            >>> await drive(parent)
            42
        """
        durable, args, keywords = unbound(durable, args, keywords)
        if not isinstance(durable, Durable):
            raise not_durable(durable)
        if on_dead is not None and on_dead not in list(OnDead):
            raise Misuse(f"on_dead={on_dead!r} is neither 'raise' nor 'wait'")
        options = {"name": name, "queue": queue, "timeout": timeout, "on_dead": on_dead}
        self.execution.services.recognise(durable)
        called = durable.name if name is None else check_name(name)
        key = self._scope.next_key(called)
        known = self.execution.journal.input_of(key)
        arguments = durable.encode_arguments(args, keywords, "ctx.spawn", options, known)
        # Known by what was given: a default may be another one when it is asked for again.
        recorded = durable.with_defaults(arguments)
        is_same = recorded in (arguments, known)
        own = None if is_same else fingerprint(Kind.CHILD.value, called, arguments)
        asked = RequestedCall(key, Kind.CHILD, called, recorded, own)
        spawn = Spawn(
            durable,
            self.execution.claim.run.queue if queue is None else check_name(queue),
            time_limit(timeout),
            OnDead(on_dead or OnDead.RAISE),
        )
        return Child(self._scope, asked, spawn, lambda: self._scope.new_promise(asked))

    def sleep(self, duration: timedelta | float) -> Operation[None]:
        """Go on after this long, counted from the first time this point was reached.

        A longer sleep holds nothing: the run is suspended. A restart does not begin anew.

        Args:
            duration: Seconds or a timedelta. At once where it is 0 or less: the moment that it was
                reckoned from has passed.
        """
        ms = round(seconds_of(duration) * 1000)
        return self._timer(lambda: self.execution.now_ms + ms)

    def sleep_until(self, when: datetime) -> Operation[None]:
        """Go on at this moment, at once when it has passed.

        Args:
            when: An aware time.
        """
        due = to_ms(when)
        return self._timer(lambda: due)

    @overload
    def receive(
        self, name: str, type: TypeForm[T], timeout: timedelta | float | None = None
    ) -> Operation[T]: ...
    @overload
    def receive(self, name: str, *, timeout: timedelta | float | None = None) -> Operation[Any]: ...
    def receive(
        self, name: str, type: Any = Any, timeout: timedelta | float | None = None
    ) -> Operation[Any]:
        """Wait for a value sent to this run under a name; each is taken once, oldest first.

        A signal that came before it was awaited is there already. While it waits, the run holds
        nothing.

        Args:
            name: What it is sent under.
            type: What the value is to be; it comes as that. One that is not is refused: it counts
                as taken, the journal tells, and the wait goes on. A `bool` is true, false, yes or
                no.
            timeout: Seconds or a timedelta, counted from the first time this point was reached; for
                ever without one. 0 or less takes only what is there.

        Raises:
            SignalExpired: none came in time.

        Example:
            >>> @durable
            ... async def ask(ctx: Context) -> str:
            ...     try:
            ...         return await ctx.receive("answer", str, timeout=timedelta(milliseconds=20))
            ...     except SignalExpired:
            ...         return "nobody answered"
            >>> await drive(ask)
            'nobody answered'
        """
        asked = RequestedCall(self._scope.next_key(name), Kind.SIGNAL, name)
        seconds = None if timeout is None else seconds_of(timeout)
        if isinstance(type, str):
            raise Misuse(
                f"type={type!r} is text; give the type itself, such as bool or a class of yours, "
                "and timeout= by its name"
            )
        if type is not Any:
            annotation_of(type, name)

        def live(recorded: Promise | None) -> Coroutine[Any, Any, Promise]:
            return await_signal(
                self.execution, recorded, self._scope.new_promise(asked), type, seconds
            )

        return Pending(self._scope, asked, live, partial(read_signal, type, seconds))

    def poll(self, name: str) -> Operation[list[Any]]:
        """Take all signals of a name that have come and nobody has taken; return their values.

        It never waits. What it returned is recorded, an empty list too.

        Args:
            name: What they were sent under.
        """
        asked = RequestedCall(self._scope.next_key(name), Kind.SIGNAL, name, POLL)

        def live(recorded: Promise | None) -> Coroutine[Any, Any, Promise]:
            return poll_signals(self.execution, self._scope.new_promise(asked))

        return Pending(
            self._scope, asked, live, lambda promise: decode(promise.value or JsonText("[]"))
        )

    def hear(self, name: str) -> Operation[list[Any]]:
        """Take the signals of a name that have come and no open wait wants; return their values.

        Like `poll`, it takes those of a `name` in the order in which they were sent, and never
        waits. But it leaves a row, ``heard.n``, only when there was one: so a loop can look at each
        turn. Without a row, a replay that has later rows in this scope returns none; one that has
        not looks anew.

        A run that has heard a name ends only when no signal of it is left: one that came since its
        last look has the function driven again, over its journal, and then a `hear` that is live
        gets it. A function that comes to its end a second time without having heard anything new
        ends; the signal stays in the inbox, and the log says so. Not for a `race`.
        """
        asked = RequestedCall(self._scope.next_key(HEARD), Kind.SIGNAL, check_name(name), POLL)
        return Hearing(self._scope, asked, self._scope.new_promise(asked))

    @overload
    async def gather(self, a: Operation[A], /) -> tuple[A]: ...
    @overload
    async def gather(self, a: Operation[A], b: Operation[B], /) -> tuple[A, B]: ...
    @overload
    async def gather(
        self, a: Operation[A], b: Operation[B], c: Operation[C], /
    ) -> tuple[A, B, C]: ...
    @overload
    async def gather(
        self, a: Operation[A], b: Operation[B], c: Operation[C], d: Operation[D], /
    ) -> tuple[A, B, C, D]: ...
    @overload
    async def gather(
        self, a: Operation[A], b: Operation[B], c: Operation[C], d: Operation[D], e: Operation[E], /
    ) -> tuple[A, B, C, D, E]: ...
    @overload
    async def gather(
        self,
        a: Operation[A],
        b: Operation[B],
        c: Operation[C],
        d: Operation[D],
        e: Operation[E],
        f: Operation[F],
        /,
    ) -> tuple[A, B, C, D, E, F]: ...
    @overload
    async def gather(self, *pendings: Operation[T]) -> list[T]: ...
    async def gather(self, *pendings: Any) -> Any:
        """Run operations of this context side by side, and return the list of their values.

        All are waited for, also when some fail; then the failure of the lowest index is raised,
        with the others in its `others`. What was paid for is recorded.

        Args:
            *pendings: Operations that were not awaited. Of up to six, type checkers know each one's
                type. A `map`, `gather` or `race` is several, and goes into a function for `call`.

        Returns:
            The values, in the order of the operations.

        Example:
            >>> async def price(shop: str) -> int:
            ...     return len(shop)
            >>> @durable
            ... async def compare(ctx: Context) -> list[int]:
            ...     here, there = ctx.step(price, "here"), ctx.step(price, "there")
            ...     return await ctx.gather(here, there)
            >>> await drive(compare)
            [4, 5]
        """
        return await settle_all(self._scope, pendings)

    @overload
    async def race(self, a: Operation[A], /) -> Winner[A, Literal[0]]: ...
    @overload
    async def race(
        self, a: Operation[A], b: Operation[B], /
    ) -> Winner[A, Literal[0]] | Winner[B, Literal[1]]: ...
    @overload
    async def race(
        self, a: Operation[A], b: Operation[B], c: Operation[C], /
    ) -> Winner[A, Literal[0]] | Winner[B, Literal[1]] | Winner[C, Literal[2]]: ...
    @overload
    async def race(
        self, a: Operation[A], b: Operation[B], c: Operation[C], d: Operation[D], /
    ) -> (
        Winner[A, Literal[0]]
        | Winner[B, Literal[1]]
        | Winner[C, Literal[2]]
        | Winner[D, Literal[3]]
    ): ...
    @overload
    async def race(
        self, a: Operation[A], b: Operation[B], c: Operation[C], d: Operation[D], e: Operation[E], /
    ) -> (
        Winner[A, Literal[0]]
        | Winner[B, Literal[1]]
        | Winner[C, Literal[2]]
        | Winner[D, Literal[3]]
        | Winner[E, Literal[4]]
    ): ...
    @overload
    async def race(
        self,
        a: Operation[A],
        b: Operation[B],
        c: Operation[C],
        d: Operation[D],
        e: Operation[E],
        f: Operation[F],
        /,
    ) -> (
        Winner[A, Literal[0]]
        | Winner[B, Literal[1]]
        | Winner[C, Literal[2]]
        | Winner[D, Literal[3]]
        | Winner[E, Literal[4]]
        | Winner[F, Literal[5]]
    ): ...
    @overload
    async def race(self, *pendings: Operation[T]) -> Winner[T]: ...
    async def race(self, *pendings: Any) -> Any:
        """Run operations of this context side by side until the first has its outcome.

        The others are ended: a wait is cancelled, a child is asked to end, a step in flight is
        cancelled, and one with ``effect="once"`` counts as unknown.

        Args:
            *pendings: Operations that were not awaited; at least one.

        Returns:
            The place of the first, from 0, and its value: the same on every replay. Its failure is
            raised.

        Example:
            >>> @durable
            ... async def wait(ctx: Context) -> int:
            ...     place, _ = await ctx.race(ctx.receive("go"), ctx.sleep(0.01))
            ...     return place
            >>> await drive(wait)
            1
        """
        return await settle_first(self._scope, pendings)

    @overload
    def map(
        self, fn: "Mapper[A, T]", items: Iterable[A], limit: int | None = None
    ) -> Operation[list[T]]: ...
    @overload
    def map(
        self, fn: "Startable[A, T]", items: Iterable[A], limit: int | None = None
    ) -> Operation[list[T]]: ...
    @overload
    def map(
        self, fn: Callable[[A], Awaitable[T]], items: Iterable[A], limit: int | None = None
    ) -> Operation[list[T]]: ...
    @overload
    def map(
        self, fn: Callable[[A], T], items: Iterable[A], limit: int | None = None
    ) -> Operation[list[T]]: ...
    @overload
    def map(
        self, fn: Keyed1[A, Awaitable[T]], items: Iterable[A], limit: int | None = None
    ) -> Operation[list[T]]: ...
    @overload
    def map(
        self, fn: Keyed1[A, T], items: Iterable[A], limit: int | None = None
    ) -> Operation[list[T]]: ...
    def map(self, fn: Any, items: Iterable[Any], limit: int | None = None) -> Operation[list[Any]]:
        """Apply a function, a durable function or an agent to each item, at most `limit` at once.

        The item with index i has the key ``name.n/i``. Fails as `gather` does. Of an agent each
        item is a child, and each has an outcome of its own, whatever becomes of the others.

        Args:
            fn: What is called with each item: as a step, or as `call` calls it. An `Agent` is
                given each item as its task.
            items: The items; each must be JSON, or of the type that is annotated.
            limit: How many at once; all, if not told otherwise.

        Returns:
            The results, in the order of the items.

        Example:
            >>> async def double(n: int) -> int:
            ...     return 2 * n
            >>> @durable
            ... async def doubled(ctx: Context) -> list[int]:
            ...     return await ctx.map(double, [1, 2, 3], limit=2)
            >>> await drive(doubled)
            [2, 4, 6]
        """
        if limit is not None:
            check_count("limit", limit)
        is_named = isinstance(fn, Durable | Mapper)
        name = fn.name if is_named else name_of(fn)
        if not isinstance(items, Iterable):
            raise Misuse(
                f"map() is given items={items!r:.200}, which is no list; give what {name}() is "
                f"called with, one item a call: ctx.map({name}, [1, 2])"
            )
        if isinstance(fn, Mapper):
            several = fn.each(self, items, limit)
            # What is told of it where it is given to a combinator, or never awaited.
            several.__qualname__ = "Context.map"  # type: ignore[attr-defined]
            return several
        scope = self._scope.next_key(name)
        pendings = [self._item(fn, name, Key(f"{scope}/{i}"), x) for i, x in enumerate(items)]
        return settle_all(self._scope, pendings, limit)

    def memory(
        self,
        namespace: str,
        *,
        trust: Trust | Literal["user", "agent", "tool", "web"] = Trust.AGENT,
        undo: bool = False,
        embed: Embedder | None = None,
    ) -> Memory:
        """Return what agents keep in a namespace: notes, facts, links and what was said.

        It lies in the run's own store, and each write is committed with its promise. It is that of
        the run's tenant, where it has one: see `connect`. Making this records nothing.

        Args:
            namespace: Segments joined by ``/``: whose it is, such as ``acme/users/anna``.
            trust: Whose word what is written is: `user`, `agent`, `tool` or `web`.
            undo: Whether what is written is taken back where the run is undone.
            embed: What makes vectors of texts, so that `recall` finds what is near in meaning, too.

        Raises:
            InvalidId: the namespace has another form.

        Example:
            >>> @durable
            ... async def learn(ctx: Context) -> list[str]:
            ...     memory = ctx.memory("acme/users/anna", trust="user")
            ...     await memory.remember("Anna", "speaks", "Danish")
            ...     return [fact.object for fact in await memory.facts("Anna", "speaks")]
            >>> await drive(learn)
            ['Danish']
        """
        if trust not in set(Trust):
            words = ", ".join(map(repr, map(str, Trust)))
            raise Misuse(f"trust={trust!r} is none; use one of {words}")
        space = Space(self.execution.claim.run.tenant, check_namespace(namespace))
        embedder = check_embedder(embed)
        return Memory(self._scope, space, Trust(trust), undo=undo, embed=embedder)

    def now(self) -> datetime:
        """Return when the last thing this scope has seen was settled: the same on every replay."""
        return from_ms(self.task_state.now_ms)

    def uuid(self) -> UUID:
        """Return a random UUID that is the same on every replay."""
        return UUID(bytes=self._draw(), version=4)

    def random(self) -> float:
        """Return a random number from 0 to 1 that is the same on every replay."""
        return random.Random(self._draw()).random()

    def emit(self, event: dict[str, Any]) -> None:
        """Tell who watches now. Nothing is recorded, and a replay is silent.

        Args:
            event: JSON; whoever works with a `on_event` is given it.
        """
        if self.task_state.is_live and self.execution.lifecycle.interrupt is None:
            self.execution.emit(event)

    # It stands for the result of whatever function returns it: none of its arguments says which.
    def continue_as(self, *args: Any, **keywords: Any) -> T:  # type: ignore[type-var]
        """Return what ends this generation of the run: ``return ctx.continue_as(…)``.

        In one commit the journal is closed and the same run goes on, called with these arguments,
        with a fresh journal and the inbox it has. What earlier generations did is not undone. A
        function that makes one and returns something else pauses its run. To type checkers it is a
        result of that function, so that they see where a ``return`` is missing. mypy takes none in
        a function that is declared ``-> None``: one that only goes on is declared ``-> object``.

        Args:
            *args: The next arguments; or the function with them, ``order.of(item, 4)``, where type
                checkers see whether they fit.
            **keywords: Arguments by name.

        Raises:
            Misuse: it is not called by the run's own function.

        Example:
            >>> @durable
            ... async def count(ctx: Context, n: int) -> int:
            ...     if n < 3:
            ...         return ctx.continue_as(n + 1)
            ...     return n
            >>> await drive(count, 1)
            3
        """
        own = self.execution.claim.run.function
        if args and isinstance(args[0], Bound):
            function, args, keywords = unbound(args[0], args[1:], keywords)
            if not isinstance(function, Durable) or function.name != own:
                raise Misuse(f"{described(function)} is not this run's function, which is {own!r}")
        if self._scope.key != self.execution.generation_scope:
            raise Misuse("only the run's own function can continue as another generation of it")
        self.task_state.check_use()
        continuation: Any = Continuation(args, keywords)
        self.task_state.unstarted[continuation] = None
        return continuation  # type: ignore[no-any-return]

    def _draw(self) -> bytes:
        self.task_state.check_use()
        self._drawn += 1
        seed = self.execution.claim.run.seed
        return blake2b(f"{seed}/{self._scope.key}/{self._drawn}".encode(), digest_size=16).digest()

    def _prepare(
        self,
        asked: RequestedCall,
        fn: Callable[..., Any],
        arguments: Arguments,
        options: Options,
        result: Annotation | None,
    ) -> Step:
        step = step_of(fn, arguments, asked, options, result)
        undo = options.get("undo")
        if undo is None:
            return step
        try:
            record = undo_of(undo, fn, arguments, step.timeout, self.execution.services)
        except UnknownFunction as error:
            self.execution.lifecycle.drain_and_raise(Paused(failure_of(error)))
        return replace(step, undo=record)

    def _is_settled(self, key: Key) -> bool:
        recorded = self.execution.journal.look(key)
        return recorded is not None and recorded.is_settled

    def _item(
        self, fn: "Callable[[Any], Any] | Durable[..., Any]", name: str, key: Key, item: Any
    ) -> Pending[Any]:
        if isinstance(fn, Durable):
            known = self.execution.journal.input_of(key)
            return self._call(key, fn, fn.encode_arguments((item,), {}, "ctx.map", known=known))
        arguments = Arguments((item,))
        asked = RequestedCall(key, Kind.STEP, name, arguments.input)
        if not self._is_settled(key):
            check_step(fn, arguments, NO_OPTIONS)
            arguments = arguments.kept()
        result = result_of(fn)
        return self._step(asked, partial(step_of, fn, arguments, asked, result=result), result)

    def _timer(self, due: Callable[[], int]) -> Pending[None]:
        asked = RequestedCall(self._scope.next_key("sleep"), Kind.TIMER, "sleep")

        def live(recorded: Promise | None) -> Coroutine[Any, Any, Promise]:
            return await_timer(self.execution, recorded, self._scope.new_promise(asked), due)

        return Pending(self._scope, asked, live, lambda promise: None)
