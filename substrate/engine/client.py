"""`connect(url)`: everything that can be done to runs from outside.

Starting, signalling and looking need no worker; driving runs does: `Client.work` is one.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple, Unpack, overload
from uuid import uuid4

from substrate.engine.context.context import Context
from substrate.engine.context.operation_types import Operation, Startable, StartOptions
from substrate.engine.event_loop import check_loop
from substrate.engine.follow import Looks, UnknownWatch, is_over, result_of_run
from substrate.engine.function.bound import Bound, unbound
from substrate.engine.function.function import Durable, Later, not_durable
from substrate.engine.function.objects import encoded
from substrate.engine.function.place import described
from substrate.engine.run.execution import Execution
from substrate.engine.run.mask_rows import mask_decision, without_secrets
from substrate.engine.run.mismatch import acceptance
from substrate.engine.run.services import Listener, ignore_event
from substrate.engine.worker.options import DEFAULT_OPTIONS, WorkerOptions
from substrate.engine.worker.worker import Worker
from substrate.store.connect import open_store
from substrate.store.store import Store
from substrate.store.uncancelled import to_its_end
from substrate.values.clock import LONGEST, Clock, time_limit, to_ms
from substrate.values.codec import fingerprint, is_long
from substrate.values.errors import (
    InvalidId,
    Misuse,
    RunNotFound,
)
from substrate.values.forgetting import Forgetting, read_forget
from substrate.values.gates import Decision, Gate
from substrate.values.ids import (
    DEFAULT_QUEUE,
    Key,
    RunId,
    check_dedup,
    check_name,
    check_root_id,
    lane_of,
    may_be_id,
    promise_id,
)
from substrate.values.memory import Space, check_namespace, check_tenant
from substrate.values.number import MOST, check_count
from substrate.values.records import (
    JsonText,
    NewRun,
    Promise,
    Run,
    RunStatus,
    Signal,
)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Client:
    """An open store, and what can be asked of it. Made by `connect`."""

    def __init__(self, store: Store, tenant: str = "") -> None:
        #: The open store.
        self.store = store
        #: Whose the runs are that it starts, and what it forgets; ``""`` is nobody's in particular.
        self.tenant: str = check_tenant(tenant)
        self._workers: list[Worker] = []

    @overload
    async def start(
        self,
        function: "Bound[[Context | Later], Operation[Any]]",
        /,
        **options: Unpack[StartOptions],
    ) -> Run: ...
    @overload
    async def start(
        self, function: "Startable[*Ts, Any]", *args: *Ts, **options: Unpack[StartOptions]
    ) -> Run: ...
    async def start(  # type: ignore[misc]  # mypy does not see that *args take *Ts
        self,
        function: Any,
        *args: Any,
        id: str,
        queue: str = DEFAULT_QUEUE,
        priority: int = 0,
        at: datetime | None = None,
        timeout: timedelta | float | None = None,
        **keywords: Any,
    ) -> Run:
        """Start a run under an id of your choice, and return it at once.

        The same id with the same function and arguments returns the run that there is, running or
        ended, and starts nothing. Once this returns, the run survives everything.

        Args:
            function: A durable function, or one `of` its arguments. One that is defined anew (a
                cell that is run again) is driven as it is now by this process's workers; another
                one under the name of one that they know is refused.
            *args: Its arguments. Those by name are the function's, too, but for the options here;
                type checkers want them beside the function:
                ``client.start(order.of(item, cents=4900), id="order/1")``.
            id: The run's id: 1 to 200 letters, digits or ``._:@/-``. It is always that of the run,
                also where the function has a parameter of that name.
            queue: Whose workers drive it.
            priority: In minutes: -5 runs as if it had come 5 minutes ago.
            at: An aware time. It begins then, not before.
            timeout: Seconds or a timedelta, counted from now. After that the run, and everything
                below it, is ended: it fails with `RunTimedOut`.
            **keywords: Arguments of the function by name.

        Raises:
            IdTaken: the id is that of a run with another function or other arguments.
            InvalidId: the id has another form.
            Misuse: the arguments do not fit the function.
            NotEncodable: an argument is no JSON and no type that is annotated.
        """
        function, args, keywords = unbound(function, args, keywords)
        if not isinstance(function, Durable):
            raise not_durable(function)
        options = {
            "id": None,
            "queue": queue if queue != DEFAULT_QUEUE else None,
            "priority": None if priority == 0 else priority,
            "at": at,
            "timeout": timeout,
        }
        given, arguments = await _written(function, args, keywords, options)
        due_at, deadline_at = _moments(at, timeout, self.store.clock.now_ms())
        new = NewRun(
            id=check_root_id(id),
            function=function.name,
            version=function.version,
            queue=check_name(queue),
            input=arguments,
            fingerprint=fingerprint(function.name, given),  # a default may be another one by then
            seed=secrets.randbits(62),
            priority=_priority(priority),
            tenant=self.tenant,
            due_at=due_at,
            deadline_at=deadline_at,
        )
        return await self._start(function, new)

    async def _start(self, function: Durable[..., Any], new: NewRun) -> Run:
        """Create a run, by a worker of this process that may drive it at once, if there is one."""
        lane = lane_of(new.queue, new.function, new.version)
        ours = next((worker for worker in self._workers if worker.takes(lane, new.id)), None)
        if ours is None:
            return (await self.store.start(new))[0]
        # Before the run is there: it may be claimed at once, and driven as it is defined now.
        ours.recognise(function)
        return await ours.start(new)

    async def get(self, id: str) -> Run:
        """Return a run as it stands.

        Args:
            id: The run's id; that of a child, too.

        Raises:
            RunNotFound: there is none.
        """
        run = await self.store.get(_known(id))
        if run is None:
            raise _unknown(id)
        return run

    async def list(self, status: RunStatus | None = None, limit: int = 100) -> Sequence[Run]:
        """Return the runs that were started, newest first; with a status, also their children.

        Args:
            status: Only these. Dead letters are those with the status `dead`.
            limit: At most so many, a million at most.
        """
        check_count("limit", limit, MOST)
        if status is not None and status not in list(RunStatus):
            words = ", ".join(repr(each.value) for each in RunStatus)
            raise Misuse(f"status={status!r} is none; there are {words}")
        return await self.store.list(status, limit)

    async def journal(self, id: str, after: int = 0) -> Sequence[Promise]:
        """Return what a run has recorded, in the order in which the rows came to be as they are.

        Args:
            id: The run's id.
            after: The last `seq` that you have seen; only later rows are returned.

        Raises:
            RunNotFound: there is none.
        """
        await self.get(id)
        return await self.store.journal(RunId(id), after)

    @overload
    async def result(self, id: str) -> Any: ...
    @overload
    async def result(self, id: str, function: Durable[..., T]) -> T: ...
    async def result(self, id: str, function: Durable[..., Any] | None = None) -> Any:
        """Wait for a run's end and return its result: as JSON, or as the type of its function.

        It may be asked again at any time, in any process, and gives the same. A run whose function
        no worker knows is waited for like any other, but the log says so.

        Args:
            id: The run's id.
            function: The durable function that it is of: the result comes as the type that it
                returns. Without it, the result is plain JSON.

        Raises:
            RunFailed: it has failed; the error is in `failure`.
            RunDead: it crashed its workers, or could not be undone.
            RunCancelled: it was asked to end, or was discarded.
            RunTimedOut: its time was over.
            RunPaused: it waits for a person who mends the cause.
            RunNotFound: there is no such run.
        """
        if function is not None and not isinstance(function, Durable):
            raise Misuse(
                f"{described(function)} is no durable function; put @durable on it, or leave it out"
            )
        looks = Looks(self._execution_of, RunId(id))
        patience = UnknownWatch(self.store)
        while True:
            was_driven = await looks.last()  # before that there is no result to look for
            looks.begin()
            run = await self.get(id)
            await patience.look(run)
            if is_over(run):
                promise = await self.store.promise(run.id)
                if promise is not None and (promise.is_settled or promise.error):
                    if is_long(promise.value):
                        return await asyncio.to_thread(result_of_run, run, promise, function)
                    return result_of_run(run, promise, function)
            if not was_driven:
                await looks.next()

    async def follow(self, id: str, after: int = 0) -> AsyncIterator[Promise]:
        """Yield the run's promises as they are written and settled, until it ends or is paused.

        A promise comes again when it changes. Start again with `after`, in any process, and nothing
        is missed.

        Args:
            id: The run's id.
            after: The last `seq` that you have seen.

        Raises:
            RunNotFound: there is no such run.
        """
        looks = Looks(self._execution_of, RunId(id))
        while True:
            looks.begin()
            run = await self.get(id)
            for promise in await self.store.journal(run.id, after):
                after = promise.seq
                looks.found()
                yield promise
            if is_over(run):
                return
            await looks.next()

    async def signal(self, id: str, name: str, value: Any = None, dedup: str | None = None) -> bool:
        """Send a value to a run. It waits in the run's inbox until it is taken.

        It is committed when this returns, with a worker or without; what this process has revealed
        as a secret is hidden in it.

        Args:
            id: The run's id; a child has an inbox of its own.
            name: What the run waits for by this name.
            value: JSON, or a dataclass or model, all of whose fields are sent. The class is not:
                the wait says as what it is read, so that an object of a subclass comes as one of
                the class that the wait names, without the fields that the subclass adds.
            dedup: The same name with the same `dedup` counts once; without one, each call counts.
                It has the form of a run's id.

        Returns:
            False when a signal of this name with this `dedup` was sent before.

        Raises:
            RunEnded: the run takes nothing more: it has ended, was asked to end, has run out of
                time, or is being undone.
            RunNotFound: there is no such run.
            InvalidId: the name, or `dedup`, has another form.
        """
        key = str(uuid4()) if dedup is None else check_dedup(dedup)
        sent = encoded(value, is_whole=True)
        signal = Signal(_known(id), check_name(name), without_secrets(sent) or sent, key)
        is_new = await self.store.send_signal(signal)
        self._wake_here(signal.run_id, for_signal=True)
        return is_new

    async def decide(self, decision: Decision) -> tuple[Gate, bool]:
        """Decide a gate, once, and wake its run; with a worker or without.

        `substrate.agent` has `approve`, `deny` and `answer`, which make the decision.

        Args:
            decision: What is decided, of which digest, by whom.

        Returns:
            The gate as it stands, and whether this decision counts: the same one of the same
            person, made again, does not, and is no error.

        Raises:
            GateChanged: it was made for something else than is asked.
            GateClosed: somebody has decided otherwise, or the run asks nothing any more.
            GateNotFound: there is no such gate.
            Misuse: an edited argument holds a secret that this process has revealed. One in an
                answer, or in what is said of it, is hidden.
        """
        decided = await self.store.gates.decide(mask_decision(decision))
        self._wake_here(decided[0].run_id)
        return decided

    async def cancel(self, id: str) -> Run:
        """Ask a run, and everything below it, to end; return the run as it stands.

        Steps in flight are cancelled, what was done and can be undone is undone, and then the run
        is cancelled. One that ends before it hears of it stays what it came to; one that has ended
        is left alone, and so is one that was asked before.

        Args:
            id: The run's id.

        Raises:
            RunNotFound: there is no such run.
        """
        run = await self.store.cancel(_known(id))
        self._wake_here(run.id)
        return run

    async def discard(self, id: str) -> Run:
        """Give a dead, failed or paused run up for good, and return it. Its history stays.

        It counts as cancelled, and nothing is undone.

        Args:
            id: The run's id.

        Raises:
            RunEnded: it is neither dead, failed nor paused, say since it was discarded before.
            RunNotFound: there is no such run.
        """
        run = await self.store.discard(_known(id))
        # Nobody drives such a run; its parent may wait for it here.
        if run.parent_id is not None:
            self._wake_here(run.parent_id)
        return run

    async def resume(self, id: str, accept: str | None = None, by: str | None = None) -> Run:
        """Make a paused, failed or dead run ready again, and return it.

        What is recorded stands, a step's recorded failure too; the function is called again. A run
        that was undone stays so: it goes on with undos that are left, and ends as it did before.
        So does a dead child, of which nothing else goes on: its parent keeps what it was told.

        Args:
            id: The run's id; a child's only while it is paused, or dead with an undo begun.
            accept: The key about which a run is paused: what is recorded there stands for what the
                code asks for now, and for nothing else that it may ask for later.
            by: Who decided that; the journal keeps it, with the time.

        Raises:
            RunEnded: it is neither paused, failed nor dead, or a child with nothing left to undo.
            Misuse: it is not paused about the key `accept`.
            RunNotFound: there is no such run.
        """
        accepted = await self._acceptance(_known(id), Key(accept), by) if accept else None
        run = await self.store.resume(_known(id), accepted)
        self._wake_here(run.id)
        return run

    async def _acceptance(self, id: RunId, key: Key, by: str | None) -> Promise:
        run = await self.get(id)
        if run.status is not RunStatus.PAUSED:
            raise Misuse(f"run {id!r} is {run.status}; only a paused one has something to accept")
        about = promise_id(id, key)
        found = await self.store.promises([id, about])
        return acceptance(found[id], found.get(about), key, by, self.store.clock.now_ms())

    async def forget(
        self,
        namespace: str | None = None,
        *,
        subject: str | None = None,
        note: str | None = None,
        run: str | None = None,
        below: bool = False,
        everywhere: bool = False,
        look: bool = False,
    ) -> Forgetting:
        """Forget for good what is remembered, and what the runs that have to do with it recorded.

        Its rows go from memory, with what was made of them. Each run that has written or read it
        loses all contents of its tree: arguments, results, errors, requests, blobs, inbox, gates.
        Its ids, keys, states, times and costs stay; it is not resumed (`Forgotten`). Then the file
        is written anew; on Postgres, what is left in the files is told. To begin it again ends
        what was cut off.

        Args:
            namespace: All that it has; or, as ``acme/users/anna#12``, what this id stands for, of
                all sources.
            subject: Only what is said of this subject in the namespace, or has it as its object.
            note: Only this note, in all its versions and under each name it had.
            run: In the place of a namespace: what came from this run, and its journal.
            below: With the namespaces below it.
            everywhere: Other runs, too, in whose journals a text of it (of 20 characters and more;
                the 200 longest) stands word for word.
            look: Nothing is changed: it is told what would be.

        Raises:
            NotForgotten: runs that may go on have to do with it. With `look` they are told.
            RunNotFound: there is no such run, and nothing that came from one.
            Misuse: it is not one thing.
            InvalidId: the namespace or the run has another form.
        """
        # Hardly any process forgets, so none loads this before.
        from substrate.memory import forgotten

        asked = read_forget(
            namespace, subject=subject, note=note, run=run, below=below, tenant=self.tenant
        )
        if not all(isinstance(each, bool) for each in (below, everywhere, look)):
            raise Misuse("below=, everywhere= and look= are True or False")
        found = None if asked.run is None else await self.store.get(asked.run)
        if found is not None and found.tenant != self.tenant:
            raise Misuse(
                f"run {found.id!r} is {_of_tenant(found.tenant)}, and this client "
                f"{_of_tenant(self.tenant)}: connect(url, tenant=…), or OSTINATO_TENANT, says whose"
            )
        if look:
            return await forgotten.look(self.store, asked)
        return await forgotten.forget(self.store, asked, everywhere=everywhere)

    async def export_memory(self, namespace: str) -> AsyncIterator[str]:
        """Yield all that a namespace remembers and has remembered, as lines of JSON.

        They have sources, times and trust, and what is gone. What is written meanwhile is in none.
        Raises `MemoryRefused` where nothing is remembered.
        """
        from substrate.memory.exported import exported

        async for line in exported(
            self.store.memory, Space(self.tenant, check_namespace(namespace))
        ):
            yield line.decode()

    async def import_memory(
        self,
        path: str | os.PathLike[str],
        *,
        into: str | None = None,
        on_progress: Callable[[int, int], None] = lambda n, last_n: None,
    ) -> int:
        """Import what `export_memory` has yielded; return how many changes were new.

        The file is checked to its end first, then written, some hundreds of changes to a commit.
        Cut off, the same import goes on; again, it adds nothing. Numbers, sources, times and trust
        stay as they were.

        Args:
            path: The file.
            into: Another namespace than the one it was exported from.
            on_progress: Called after each commit: at which change it is, and which is the last.

        Raises:
            Misuse: a line, which is named, is not as an export has it. Nothing was written.
            MemoryRefused: the namespace has something else, or it was forgotten here since.
        """
        from substrate.memory.imported import header_of, imported

        with await asyncio.to_thread(Path(path).open, "rb") as file:
            namespace = header_of(file).namespace if into is None else check_namespace(into)
            space, now = Space(self.tenant, namespace), self.store.clock.now_ms()
            return await imported(self.store.memory, file, space, now, on_progress)

    @asynccontextmanager
    async def work(
        self,
        functions: Iterable[Durable[..., Any]],
        *,
        queue: str = DEFAULT_QUEUE,
        options: WorkerOptions = DEFAULT_OPTIONS,
        on_event: Listener = ignore_event,
        only: str | None = None,
    ) -> AsyncIterator[Worker]:
        """Drive runs of these functions in this process for as long as the block is open.

        On leaving it, no more is claimed, running steps may end within `options.shutdown_grace`,
        and every run is given back.

        Args:
            functions: Durable functions; what their code names is found from there.
            queue: Whose runs are claimed.
            options: How many runs at once, how long a lease is, and the like.
            on_event: It is called with a run's id and a live event, such as one of
                `Context.emit`. Nothing of it is recorded.
            only: A run's id: that one and what is below it are driven, and no other.

        Raises:
            Misuse: two functions have one name and version, or an option is none.
            StoreUnusable: the database does not allow what a worker needs.
        """
        check_loop()
        worker = Worker(
            self.store,
            functions,
            queue=queue,
            options=options,
            on_event=on_event,
            only=None if only is None else _known(only),
        )
        await worker.open()
        # Only once it is open: a start may be claimed for it from now on.
        self._workers.append(worker)
        try:
            yield worker
        finally:
            # First, so that nothing is claimed any more for a worker that closes.
            self._workers.remove(worker)
            await worker.close()

    def _wake_here(self, run_id: RunId, *, for_signal: bool = False) -> None:
        """Tell this process's workers that something was done for a run."""
        for worker in self._workers:
            worker.wake(run_id, for_signal=for_signal)

    def _execution_of(self, run_id: RunId) -> Execution | None:
        """Return the execution of a run that is driven in this process."""
        found = (worker.execution_of(run_id) for worker in self._workers)
        return next((execution for execution in found if execution), None)


async def _written(
    function: Durable[..., Any],
    args: Sequence[Any],
    keywords: Mapping[str, Any],
    options: Mapping[str, Any],
) -> tuple[JsonText, JsonText]:
    """Return the arguments as they were given, and with the defaults of those that were not."""

    def written() -> tuple[JsonText, JsonText]:
        given = function.encode_arguments(args, keywords, "start", options)
        return given, function.with_defaults(given)

    # Long ones in a thread: the event loop drives other runs meanwhile.
    return await asyncio.to_thread(written) if is_long((args, keywords)) else written()


def _moments(
    at: datetime | None, timeout: timedelta | float | None, now: int
) -> tuple[int | None, int | None]:
    """Return when a run is due, if not at once, and when its time is over; in ms."""
    seconds = time_limit(timeout)
    deadline_at = None if seconds is None else now + round(seconds * 1000)
    if at is None:
        return None, deadline_at
    due_at = to_ms(at)
    # One whose time is over before it is due is woken for that: to be ended.
    return due_at if deadline_at is None else min(due_at, deadline_at), deadline_at


def _priority(given: object) -> int:
    """Return a priority; raise `Misuse` for what is no whole number of minutes, or ages."""
    if not isinstance(given, int) or isinstance(given, bool) or abs(given) > LONGEST / 60:
        raise Misuse(
            f"priority={given!r} is none; give whole minutes: -5 runs as if it had come 5 minutes "
            "ago"
        )
    return given


def _known(id: str) -> RunId:
    """Return what may be a run's id; raise `RunNotFound` for what never is one."""
    given: object = id
    if not isinstance(given, str):
        raise InvalidId(f"{given!r} is no run id, which is text; `runs` lists those there are")
    if not may_be_id(id):
        raise _unknown(id)
    return RunId(id)


def _unknown(id: str) -> RunNotFound:
    return RunNotFound(f"there is no run {id!r}; `runs` lists those there are")


def _of_tenant(tenant: str) -> str:
    return f"of tenant {tenant!r}" if tenant else "of no tenant"


@asynccontextmanager
async def connect(
    url: str, clock: Clock | None = None, *, tenant: str = ""
) -> AsyncIterator[Client]:
    """Open the database of runs, bring its schema up to date, and close it in the end.

    Args:
        url: ``sqlite:///runs.db`` (relative), ``sqlite:////var/runs.db`` (absolute) or
            ``postgresql://user@host/database``.
        clock: What takes the place of the database's time in everything but leases: a test's own.
        tenant: Whose the runs are that are started here, with all that they spawn. What they
            remember is theirs: a run of another tenant, or of none, never sees it. Any worker
            drives them. It parts memory, and no journals: whoever has the database can read each
            run.

    Raises:
        BadDatabaseUrl: the URL cannot be understood.
        StoreUnreachable: the server does not answer.
        StoreUnusable: the file is no database, or the user may not do what is needed.
        SchemaMismatch: the database is newer than this code.
        Misuse: there is no asyncio event loop here.
        InvalidId: the tenant has another form.

    Example:
        >>> @durable
        ... async def greet(ctx: Context, name: str) -> str:
        ...     return f"Hello, {name}."
        >>> async with connect("sqlite:///runs.db") as client, client.work([greet]):
        ...     run = await client.start(greet, "Ada", id="greet/1")
        ...     print(await client.result("greet/1", greet))
        Hello, Ada.
    """
    check_loop()
    check_tenant(tenant)
    store = await open_store(url, clock)
    try:
        yield Client(store, tenant)
    finally:
        await to_its_end(store.close())
