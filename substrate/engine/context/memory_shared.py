"""What many agents do in one namespace: follow it, settle what they disagree on, vote."""

from collections.abc import Coroutine, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Literal

from substrate.engine.context.memory_base import Known, MemoryBase, id_of, known_of
from substrate.engine.context.memory_follow import await_change, number_of
from substrate.engine.context.memory_motion import Motion, await_outcome, motion_of
from substrate.engine.context.memory_step import When, outcome_of
from substrate.engine.context.operation_types import Operation
from substrate.engine.context.pending import Pending
from substrate.memory import asks
from substrate.memory.canonical import folded
from substrate.memory.changes import Changes, changes, changes_of
from substrate.memory.disputes import (
    Decision,
    Dispute,
    decision_of,
    dispute_from,
    dispute_of,
)
from substrate.store.memory import Memories
from substrate.store.memory_rows import Look
from substrate.values.clock import seconds_of
from substrate.values.memory import FactRow, Policy
from substrate.values.number import check_count
from substrate.values.records import Effect, Promise

_Policies = Literal["many", "one", "latest", "surest", "sources", "vote", "judge", "ask"]
MOST_CHANGES = 1000


class SharedMemory(MemoryBase):
    """What many agents do in one namespace."""

    def changed(self, since: int, *, timeout: timedelta | float | None = None) -> Operation[int]:
        """Wait until the namespace has come beyond a number; return how far it has come.

        However much has come, that is one wake-up, and none is missed: what came before this was
        called counts as well. While it waits, the run holds nothing.

        Args:
            since: The number, such as `Changes.n` of what was read last; 0 is before the first.
            timeout: Seconds or a timedelta, counted from the first time this point was reached;
                for ever without one. Where its time is over, `since` is returned.

        Example:
            >>> @durable
            ... async def watch(ctx: Context) -> list[str]:
            ...     memory = ctx.memory("acme/news")
            ...     await memory.say("The harbour is full of ships.", "anna")
            ...     await memory.changed(0)
            ...     return [change.text for change in (await memory.changes(0)).changes]
            >>> await drive(watch)
            ['anna: The harbour is full of ships.']
        """
        ask: dict[str, Any] = {"since": asks.version(since)}
        ms = None if timeout is None else round(seconds_of(timeout) * 1000)
        if ms is not None:
            ask["timeout_ms"] = ms
        asked = self._asked("changed", ask)

        def live(recorded: Promise | None) -> Coroutine[Any, Any, Promise]:
            new = replace(self._scope.new_promise(asked), effect=Effect.PURE)
            execution = self._scope.execution
            return await_change(execution, recorded, new, space=self._space, since=since, ms=ms)

        return Pending(self._scope, asked, live, number_of)

    def changes(self, since: int, *, limit: int = 500) -> Operation[Changes]:
        """Return what has come into the namespace since a number, and what has gone, in order.

        Args:
            since: The number, such as `Changes.n` of what was read last; 0 is before the first.
            limit: About how many at most, up to 1000: what one write has closed comes together.
                Where there are more, `Changes.n` is before them: ask again from there.
        """
        check_count("limit", limit, MOST_CHANGES)
        ask = {"since": asks.version(since), "limit": limit}

        async def find(memory: Memories, when: When) -> Any:
            return await changes(memory, self._space, since, when.n, limit)

        return self._find("changes", ask, find, changes_of)

    def declare(
        self,
        predicate: str,
        policy: Policy | _Policies,
        *,
        voters: Sequence[str] = (),
        need: int | None = None,
        instead_of: Policy | _Policies | None = None,
    ) -> Operation[str]:
        """Declare what becomes of facts of a predicate that disagree; return the policy's id.

        It lies in the namespace, and holds for all who write and read there. To declare the same
        again changes nothing. What disagrees already is decided in the same commit.

        Args:
            predicate: What is said: ``lives_in``.
            policy: ``many``: all of them stand. ``one``: a newer one closes the others. With the
                next ones all stand, and a reader gets one: ``latest``, what was said last;
                ``surest``, what somebody is surest of; ``sources``, what most runs say; ``vote``,
                what enough voters say; ``judge`` and ``ask``, what a judge or a person says: see
                `dispute` and `decide`. Where two are equal, what was said last counts.
            voters: Of ``vote``: ids of runs whose word counts. ``scout`` is the run of that id and
                all whose ids begin with ``scout/``; of each what it has said last.
            need: Of ``vote``: how many must say the same; more than half, if not told otherwise.
            instead_of: The policy that stands, and that this one replaces.

        Raises:
            MemoryRefused: another policy stands, or not the one that this is to replace.

        Example:
            >>> @durable
            ... async def settle(ctx: Context) -> list[object]:
            ...     memory = ctx.memory("acme/anna")
            ...     await memory.declare("lives in", "surest")
            ...     await memory.remember("Anna", "lives in", "Kiel", confidence=0.9)
            ...     await memory.remember("Anna", "lives in", "Bonn", confidence=0.4)
            ...     return [fact.object for fact in await memory.facts("Anna", "lives in")]
            >>> await drive(settle)
            ['Kiel']
        """
        ask = asks.declared(predicate, policy, voters, need, instead_of)
        return self._write("declare", {**ask, "trust": self._trust.value}, id_of)

    def dispute(
        self, subject: str, predicate: str, *, as_of: Known | None = None
    ) -> Operation[Dispute | None]:
        """Return what sources disagree on, and what was decided of it; None: they do not.

        Args:
            subject: Of whom or what.
            predicate: What is said. A policy was declared of it, which is not ``many`` or ``one``.
            as_of: As it was known then: a number of the namespace, or a moment.
        """
        asked = asks.fact(subject, predicate)
        where = {"subject_key": folded(asked["subject"]), "predicate": asked["predicate"]}

        async def find(memory: Memories, when: When) -> Any:
            look = Look(self._space, FactRow.table, where, as_of=when.n, at=when.at)
            return await dispute_of(memory, look, when.counter)

        ask = {**asked, "at": None, **known_of(as_of)}
        return self._find("dispute", ask, find, dispute_from)

    def decide(
        self, dispute: Dispute, value: Any, *, by: str, reason: str = ""
    ) -> Operation[Decision | None]:
        """Decide a dispute for one of its values, as a person or a judge; return what stands.

        What is decided is a row of its own, and may be decided anew by whoever has seen it. It is
        open again when somebody says what was not said by then, or nobody says any more what was
        decided for.

        Args:
            dispute: What was seen: see `dispute`.
            value: One of the values of its facts.
            by: Who decides.
            reason: Why.

        Returns:
            The decision, or the one of somebody who was first: look at its `by`. None where
            something else was said meanwhile: look again.

        Raises:
            MemoryRefused: nobody says so, or the policy asks nobody.
        """
        ask = {
            **asks.fact(dispute.subject, dispute.predicate),
            "object": asks.check_object(value),
            "over": asks.version(dispute.n),
            "by": asks.check_name(by, "by"),
            "reason": asks.text(reason, "reason", asks.LONGEST_VALUE),
            "trust": self._trust.value,
        }
        return self._write("decide", ask, _decision)

    def propose(
        self,
        topic: str,
        value: Any,
        *,
        voters: Sequence[str],
        need: int | None = None,
        timeout: timedelta | float | None = None,
    ) -> Operation[Motion]:
        """Open a motion, so that many agree on one value under a key; return it as it stands.

        Where there is one of this topic, open or closed, that one is returned, and nothing changed.

        Args:
            topic: The key.
            value: What is proposed. A vote may be for another value.
            voters: The names of those who have a vote.
            need: How many must vote for one value; more than half, if not told otherwise.
            timeout: Seconds or a timedelta, after which nothing can pass any more.

        Example:
            >>> @durable
            ... async def agree(ctx: Context) -> str:
            ...     memory = ctx.memory("acme/release")
            ...     await memory.propose("1.4", "ship", voters=["anna", "bob", "cleo"])
            ...     await memory.vote("1.4", "ship", voter="anna")
            ...     await memory.vote("1.4", "ship", voter="bob")
            ...     late = await memory.vote("1.4", "wait", voter="cleo")
            ...     return f"{late.state}: {late.value}"
            >>> await drive(agree)
            'passed: ship'
        """
        ms = None if timeout is None else round(seconds_of(timeout) * 1000)
        ask = asks.motion(topic, value, voters, need, ms)
        return self._write("propose", {**ask, "trust": self._trust.value}, motion_of)

    def vote(self, topic: str, value: Any, *, voter: str) -> Operation[Motion]:
        """Vote for a value; return the motion as it stands then.

        A voter has one vote, and may change it while the motion is open. It passes with the vote
        that is enough; it has failed once no value can have enough. Later votes count for nothing.

        Args:
            topic: The key under which it was proposed.
            value: For what. Who is against it votes for something else.
            voter: Whose vote it is. The code says so, and nothing checks it.

        Raises:
            MemoryRefused: nobody has proposed that, or this one has no vote.
        """
        ask = {
            "topic": asks.check_name(topic, "topic"),
            "voter": asks.check_name(voter, "voter"),
            "object": asks.check_object(value),
            "trust": self._trust.value,
        }
        return self._write("vote", ask, motion_of)

    def outcome(self, topic: str) -> Operation[Motion]:
        """Wait until a motion is closed, and return it: passed, failed or expired.

        It is the same for all who ask, and for ever. While it waits, the run holds nothing. What
        nobody has proposed yet is waited for, too.

        Args:
            topic: The key under which it was proposed.
        """
        asked = self._asked("outcome", {"topic": asks.check_name(topic, "topic")})

        def live(recorded: Promise | None) -> Coroutine[Any, Any, Promise]:
            new = replace(self._scope.new_promise(asked), effect=Effect.TRANSACTIONAL)
            return await_outcome(self._scope.execution, recorded, new, self._space, topic)

        return Pending(self._scope, asked, live, partial(outcome_of, motion_of))


def _decision(value: Any) -> Decision | None:
    return decision_of(value["decision"])
