"""What agents keep: notes, facts, links and history, as their rows have it.

- A **namespace** holds them: segments joined by ``/``, such as ``acme/users/anna``. What lies below
  one first segment lies in one part, since it is written together.
- Each namespace has a **counter**, which is its clock: every change takes the next number `n`. What
  was known at a number N is what has ``n <= N`` and was not gone by then. A wall clock would give
  one read two answers.
- Nothing is overwritten. A row that counts no more is **gone**: it keeps when, and which promise
  was the cause.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import ClassVar
from zlib import crc32

from substrate.values.errors import InvalidId
from substrate.values.ids import PARTS
from substrate.values.records import JsonText

_NAMESPACE = re.compile(r"[A-Za-z0-9_:@-][A-Za-z0-9._:@-]*(?:/[A-Za-z0-9_:@-][A-Za-z0-9._:@-]*)*")
_TENANT = re.compile(r"[A-Za-z0-9_:@-][A-Za-z0-9._:@-]{0,99}")
_LONGEST = 200
_ID = re.compile(r"([A-Za-z0-9._:@/-]{1,200})#([0-9]{1,16})")


class Trust(StrEnum):
    """Whose word it is: who reads it decides what that is worth."""

    #: A person said so.
    USER = "user"
    #: The agent's own code, or its model, concluded it.
    AGENT = "agent"
    #: A tool returned it.
    TOOL = "tool"
    #: It stood on a page.
    WEB = "web"


class Policy(StrEnum):
    """What becomes of facts of one subject and predicate that say something else."""

    #: Nothing: there may be many at a time.
    MANY = "many"
    #: One at a time: where they overlap in time, the newer one closes the others.
    ONE = "one"
    #: All stand, and one is decided for: what was said last.
    LATEST = "latest"
    #: What somebody is surest of; of those, what was said last.
    SUREST = "surest"
    #: What most sources say; of those, what was said last.
    SOURCES = "sources"
    #: What enough of the declared voters say; until then, none.
    VOTE = "vote"
    #: What a judge says, a model say; until then, none.
    JUDGE = "judge"
    #: What a person says; until then, none.
    ASK = "ask"

    @property
    def decides(self) -> bool:
        """Whether facts that disagree all stand, and one of them is decided for."""
        return self not in (Policy.MANY, Policy.ONE)

    @property
    def is_told(self) -> bool:
        """Whether somebody outside of memory decides."""
        return self in (Policy.JUDGE, Policy.ASK)


class MotionState(StrEnum):
    """`open`, then one of the others, once."""

    #: It is voted on.
    OPEN = "open"
    #: Enough have voted for one value.
    PASSED = "passed"
    #: So many have voted otherwise that no value can have enough any more.
    FAILED = "failed"
    #: Its time was over.
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, order=True)
class Space:
    """Where rows are kept: a tenant's namespace, or what a branch of a run has of its own in it."""

    #: Whose it is; ``""`` where one database serves one.
    tenant: str
    #: The namespace.
    ns: str
    #: The branch whose overlay it is; ``""`` is the namespace itself.
    branch: str = ""

    @property
    def part(self) -> int:
        """Its part: that of its tenant and first segment."""
        return crc32(f"{self.tenant}/{self.ns.partition('/')[0]}".encode()) % PARTS


@dataclass(frozen=True, slots=True)
class Counter:
    """How far a namespace has come."""

    #: Which.
    space: Space
    #: The number of its last change; 0 before the first.
    last_n: int = 0
    #: When that was, in ms: no later change is recorded as earlier.
    last_at: int = 0
    #: How many texts stand in its index.
    docs: int = 0
    #: How many words these have.
    words: int = 0
    #: How many policies were ever declared in it.
    declared: int = 0
    #: 1 where a run waits for its next change, else 0.
    followed: int = 0


@dataclass(frozen=True, slots=True)
class Stamp:
    """What every row of memory has: since when it counts, until when, and who wrote it."""

    #: Where it is kept.
    space: Space
    #: The number of the change that wrote it: with the namespace its id.
    n: int
    #: The `n` of the first row that says the same: what says the same has one text in the index.
    doc: int
    #: When it was written, in ms.
    recorded_at: int
    #: The promise that said so first.
    source: str
    #: The promise that wrote this row: another one where that corrected the time, or put it back.
    writer: str
    #: Whose word it is.
    trust: Trust
    #: The row that it was written in place of.
    prior: int | None = None
    #: The number of the change by which it counts no more.
    gone_n: int | None = None
    #: When that was, in ms.
    gone_at: int | None = None
    #: The promise that did it.
    gone_by: str | None = None


@dataclass(frozen=True, slots=True)
class NoteRow:
    """One version of a note. A deleted one stands without a text, so that versions go on."""

    table: ClassVar[str] = "notes"
    stamp: Stamp
    #: Its name.
    name: str
    #: From 1; each change is the next.
    version: int
    #: The text; None where it was deleted.
    body: str | None
    #: How many words its text had when the index last counted all of them.
    words: int

    @property
    def key(self) -> tuple[str, ...]:
        """What there is one of at a time."""
        return (self.name,)


@dataclass(frozen=True, slots=True)
class FactRow:
    """What somebody said of a subject. The same of another source is another row of one `doc`."""

    table: ClassVar[str] = "facts"
    stamp: Stamp
    #: Of whom or what, as it was written.
    subject: str
    #: The same in its canonical form.
    subject_key: str
    #: What is said, such as ``lives_in``.
    predicate: str
    #: The value, as JSON.
    object: JsonText
    #: A hash of the value's canonical form.
    object_key: str
    #: From 0 to 1.
    confidence: float
    #: Since when it was true, in ms.
    valid_from: int
    #: Until when; None: it still is.
    valid_to: int | None

    @property
    def key(self) -> tuple[str, ...]:
        """Which facts speak of the same."""
        return (self.subject_key, self.predicate)


@dataclass(frozen=True, slots=True)
class LinkRow:
    """That one thing has to do with another."""

    table: ClassVar[str] = "links"
    stamp: Stamp
    #: From where, as it was written.
    a: str
    #: The same in its canonical form.
    a_key: str
    #: How, such as ``works_for``.
    rel: str
    #: Whereto, as it was written.
    b: str
    #: The same in its canonical form.
    b_key: str
    #: From 0 to 1.
    confidence: float
    #: Since when it was true, in ms.
    valid_from: int
    #: Until when; None: it still is.
    valid_to: int | None

    @property
    def key(self) -> tuple[str, ...]:
        """Which links say the same."""
        return (self.a_key, self.rel, self.b_key)


@dataclass(frozen=True, slots=True)
class SaidRow:
    """Something that was said in a run."""

    table: ClassVar[str] = "history"
    stamp: Stamp
    #: Who spoke.
    speaker: str
    #: What.
    body: str

    @property
    def key(self) -> tuple[str, ...]:
        """Each stands for itself."""
        return (str(self.stamp.n),)


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """What was declared of a predicate, for all who write and read in the namespace."""

    table: ClassVar[str] = "policies"
    stamp: Stamp
    #: Of what.
    predicate: str
    #: What becomes of facts that disagree.
    policy: str
    #: Of a vote: whose word counts, as a JSON list of ids of runs.
    voters: JsonText
    #: Of a vote: how many of them must say the same; else 0.
    need: int

    @property
    def key(self) -> tuple[str, ...]:
        """What there is one of at a time."""
        return (self.predicate,)


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """Which of several values of a subject and predicate a reader gets."""

    table: ClassVar[str] = "decisions"
    stamp: Stamp
    #: Of whom or what, as it was written.
    subject: str
    #: The same in its canonical form.
    subject_key: str
    #: What is said.
    predicate: str
    #: By what rule.
    policy: str
    #: The value that was decided for, as JSON.
    object: JsonText
    #: A hash of its canonical form.
    object_key: str
    #: Over which rows: those that stood at this number.
    over_n: int
    #: The person or judge who has decided; empty where a rule did.
    decided_by: str
    #: Why, if they said so.
    reason: str

    @property
    def key(self) -> tuple[str, ...]:
        """What there is one of at a time."""
        return (self.subject_key, self.predicate)


@dataclass(frozen=True, slots=True)
class MotionRow:
    """What is voted on, or was: its outcome is the row that stands when it is closed."""

    table: ClassVar[str] = "motions"
    stamp: Stamp
    #: Under which key, as it was written.
    topic: str
    #: The same in its canonical form.
    topic_key: str
    #: Who may vote, as a JSON list of names.
    voters: JsonText
    #: How many of them must vote for one value.
    need: int
    #: When its time is over, in ms; None is never.
    expires_at: int | None
    #: How it stands.
    state: str
    #: What was proposed; once it has passed, the value that has passed. JSON.
    object: JsonText
    #: A hash of its canonical form.
    object_key: str

    @property
    def key(self) -> tuple[str, ...]:
        """What there is one of at a time."""
        return (self.topic_key,)


@dataclass(frozen=True, slots=True)
class BallotRow:
    """For which value somebody votes. Who votes anew closes his earlier one."""

    table: ClassVar[str] = "ballots"
    stamp: Stamp
    #: On what, in its canonical form.
    topic_key: str
    #: Who.
    voter: str
    #: For what, as JSON.
    object: JsonText
    #: A hash of its canonical form.
    object_key: str

    @property
    def key(self) -> tuple[str, ...]:
        """What is voted on."""
        return (self.topic_key,)


Row = NoteRow | FactRow | LinkRow | SaidRow | PolicyRow | DecisionRow | MotionRow | BallotRow


@dataclass(frozen=True, slots=True)
class Posting:
    """That a word stands in a text, from one change of its namespace to another."""

    space: Space
    #: The word, as the index has it.
    term: str
    #: Whose text: the `doc` of its rows.
    doc: int
    #: Since which change.
    n: int
    #: How often.
    tf: int
    #: How many words the text has.
    words: int
    #: In which table its rows are.
    source_table: str
    #: By which change it stands there no more.
    gone_n: int | None = None

    @property
    def band(self) -> int:
        """How often, in bands: what tells most of a word is read first."""
        return next(i for i, most in enumerate(BANDS, 1) if self.tf <= most)


BANDS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 11.0, 16.0, 32.0, inf)
"""How often a word stands in a text at most, by band."""


@dataclass(frozen=True, slots=True)
class TermCount:
    """In how many texts a word stands, or how many more these are."""

    space: Space
    #: The word, as the index has it.
    term: str
    #: In how many texts of the namespace.
    docs: int
    #: The bands in which it ever stood: bit 1 is the first.
    bands: int


def check_tenant(text: object) -> str:
    """Return the text as a tenant, or raise `InvalidId`; ``""`` is none."""
    if not isinstance(text, str) or (text and not _TENANT.fullmatch(text)):
        raise InvalidId(
            f"{text!r:.120} is not a tenant; use 1 to 100 letters, digits and any of . _ : @ -, "
            "the first no dot"
        )
    return text


def check_namespace(text: object) -> str:
    """Return the text as a namespace, or raise `InvalidId`."""
    if not isinstance(text, str) or len(text) > _LONGEST or not _NAMESPACE.fullmatch(text):
        raise InvalidId(
            f"{text!r:.220} is not a namespace; use 1 to {_LONGEST} letters, digits and any of "
            ". _ : @ -, in segments joined by single slashes, none of which begins with a dot: "
            "'acme/users/anna'"
        )
    return text


def memory_id(space: Space, n: int) -> str:
    """Return the id of a row: its namespace, ``#`` and its number."""
    return f"{space.ns}#{n}"


def read_memory_id(text: object) -> tuple[str, int]:
    """Return the namespace and number of an id, or raise `InvalidId`."""
    found = _ID.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise InvalidId(
            f"{text!r:.220} is no id of something remembered; that is a namespace, # and a number: "
            "'acme/users/anna#12'"
        )
    return check_namespace(found[1]), int(found[2])
