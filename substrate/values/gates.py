"""Gates and rules as frozen values: questions to people, with what was decided and by whom.

A gate is one row beside its promise, of the same id. The promise is what its run waits for, and
what a replay reads; the row is what people look at, and what a decision is checked against.

Invariant: a gate leaves `pending` once. Whoever decides second changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from substrate.values.ids import PromiseId, RunId
from substrate.values.records import JsonText, PromiseState, RunStatus
from substrate.values.whole_text import storable


class GateKind(StrEnum):
    """What a person is asked."""

    #: Whether a tool may be called with the arguments shown.
    APPROVAL = "approval"
    #: For an answer of a type.
    QUESTION = "question"
    #: What became of a call whose outcome nobody knows.
    UNKNOWN = "unknown"


class GateState(StrEnum):
    """`pending`, then one of the others, once."""

    #: Nobody has decided.
    PENDING = "pending"
    #: The call may be made as it was shown.
    APPROVED = "approved"
    #: The call may be made, with other arguments.
    EDITED = "edited"
    #: The call is not made.
    DENIED = "denied"
    #: A question has its answer.
    ANSWERED = "answered"
    #: Its time was over.
    EXPIRED = "expired"
    #: Its run was cancelled, timed out or unwound, or the branch that asked lost a race.
    WITHDRAWN = "withdrawn"
    #: A standing rule, or what its policy says of silence, has let the call through.
    AUTO_APPROVED = "auto_approved"

    @property
    def word(self) -> str:
        """How it reads: ``auto-approved``."""
        return self.value.replace("_", "-")


PROMISE_STATES: Mapping[GateState, PromiseState] = {
    GateState.PENDING: PromiseState.PENDING,
    GateState.APPROVED: PromiseState.RESOLVED,
    GateState.EDITED: PromiseState.RESOLVED,
    GateState.DENIED: PromiseState.RESOLVED,
    GateState.ANSWERED: PromiseState.RESOLVED,
    GateState.EXPIRED: PromiseState.EXPIRED,
    GateState.WITHDRAWN: PromiseState.CANCELLED,
    GateState.AUTO_APPROVED: PromiseState.RESOLVED,
}
"""The state of a gate's promise, by the state of the gate."""

CODE_LENGTH = 12


def code_of(gate_id: str) -> str:
    """Return the short name of a gate: the beginning of a hash of its id, as git has for commits.

    The first characters are enough where no other open gate begins with them.
    """
    return sha256(gate_id.encode()).hexdigest()[:CODE_LENGTH]


@dataclass(frozen=True, slots=True)
class NewGate:
    """What is written beside the promise of a gate when it is asked."""

    #: What a person is asked.
    kind: GateKind
    #: The tool that is to be called; for a question, who asks it.
    tool: str
    #: A hash of exactly what was shown. A decision names it.
    digest: str
    #: One line for people.
    summary: str
    #: The policy of that day: who, until when, what silence means, when to remind. JSON.
    policy: JsonText
    #: `pending`; or how a rule has decided at once.
    state: GateState = GateState.PENDING
    #: The rule that has decided, or that wants it asked.
    rule: str | None = None
    #: Whether that is a row of `rules`, of which this takes a use. One that stands in code is none.
    uses_rule: bool = False
    #: When its time is over, in ms; None is never.
    expires_at: int | None = None

    def __post_init__(self) -> None:
        """Have the line for people be one that any column takes; the digest is of the exact one."""
        object.__setattr__(self, "summary", storable(self.summary))


@dataclass(frozen=True, slots=True)
class LetGo:
    """How a run is let go with the commit that asks: see `Store.suspend`."""

    #: The wake version that it was seen at.
    wake_version: int
    #: How many children must end before that wakes it.
    need: int
    #: When it goes on by itself, in ms; None is never.
    due_at: int | None


@dataclass(frozen=True, slots=True)
class Gate:
    """One row of `gates`. Times are milliseconds since 1970 UTC."""

    #: That of its promise: the run's id, ``#`` and the key.
    id: PromiseId
    #: Its short name: see `code_of`.
    code: str
    #: The run that asks.
    run_id: RunId
    #: The root of that run's tree: where the gate shows.
    root_id: RunId
    #: What a person is asked.
    kind: GateKind
    #: The tool that is to be called; for a question, who asks it.
    tool: str
    #: A hash of exactly what was shown.
    digest: str
    #: One line for people.
    summary: str
    #: The policy of that day, as JSON.
    policy: JsonText
    #: Whether it was decided, and how.
    state: GateState
    #: When it was asked.
    asked_at: int
    #: When its time is over; None is never.
    expires_at: int | None
    #: When it was decided.
    decided_at: int | None
    #: Who has decided, as the channel knows them.
    decided_by: str | None
    #: Over which channel: ``cli``, ``code``, ``rule`` and so on.
    via: str | None
    #: Why, in the words of who decided.
    reason: str | None
    #: The rule that has decided, or that wants it asked.
    rule: str | None
    #: How the run that asks stands.
    run_status: RunStatus

    def is_of(self, run_id: str) -> bool:
        """Whether this run asks it, or one below it."""
        return self.run_id == run_id or self.run_id.startswith(f"{run_id}#")


@dataclass(frozen=True, slots=True)
class Decision:
    """What is decided of an open gate, once, from outside."""

    #: Which gate.
    gate_id: PromiseId
    #: The digest of what the person has seen.
    digest: str
    #: `approved`, `edited`, `denied` or `answered`.
    state: GateState
    #: The value of the gate's promise, as JSON: all that the run is told.
    value: JsonText
    #: Who decides.
    by: str
    #: Over which channel.
    via: str
    #: Why.
    reason: str | None = None

    def __post_init__(self) -> None:
        """Have what people say of it be what any column takes."""
        for name in ("by", "via", "reason"):
            if (said := getattr(self, name)) is not None:
                object.__setattr__(self, name, storable(said))


class RuleVerdict(StrEnum):
    """What a standing rule says of a call: deny beats ask, and ask beats allow."""

    #: It may be made, and nobody is asked.
    ALLOW = "allow"
    #: A person is asked.
    ASK = "ask"
    #: It is not made.
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of `rules`: what somebody has decided of calls to come. Times are ms since 1970."""

    #: Its name: eight characters.
    id: str
    #: What it says.
    verdict: RuleVerdict
    #: Of which tools: a name, or a pattern with ``*``.
    tool: str
    #: Of which of their calls: ``cents < 2000 and currency = "EUR"``; empty for all.
    condition: str
    #: Only in the tree of this root run; None for all.
    root_id: RunId | None
    #: Only of calls of this agent's own, not of its sub-agents'; None for all.
    agent: str | None
    #: How often it may still be used; None is always.
    uses_left: int | None
    #: Until when it holds; None is for ever.
    expires_at: int | None
    #: Why.
    reason: str | None
    #: Who has made it.
    created_by: str
    #: When.
    created_at: int

    def __post_init__(self) -> None:
        """Have what people say of it be what any column takes."""
        for name in ("reason", "created_by"):
            if (said := getattr(self, name)) is not None:
                object.__setattr__(self, name, storable(said))
