"""Forgetting for good: what is asked for, what is left to do of it, and what came of it.

It is the one exception to "nothing is overwritten". Invariant: nothing here that is written down
holds content. A tombstone has ids, numbers and names of namespaces, and how many rows are gone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from substrate.values.errors import Misuse
from substrate.values.ids import RunId, check_root_id, root_of
from substrate.values.memory import check_namespace


class ForgetKind(StrEnum):
    """What is forgotten."""

    #: All that a namespace has.
    NAMESPACE = "namespace"
    #: What is said of a subject, or says it of others.
    SUBJECT = "subject"
    #: A note, in all its versions.
    NOTE = "note"
    #: What one id stands for, of all sources.
    ROW = "row"
    #: What came from one run, and its journal.
    RUN = "run"


@dataclass(frozen=True, slots=True)
class Forget:
    """What is to be forgotten: see `Client.forget`."""

    kind: ForgetKind
    #: Whose it is.
    tenant: str
    #: In which namespace; ``""`` of a run.
    namespace: str = ""
    #: With the namespaces below it.
    is_below: bool = False
    #: The subject, or the note.
    name: str = ""
    #: The number of a row.
    n: int = 0
    #: The root of the run's tree.
    run: RunId | None = None


def read_forget(
    namespace: str | None,
    *,
    subject: str | None = None,
    note: str | None = None,
    run: str | None = None,
    below: bool = False,
    tenant: str = "",
) -> Forget:
    """Return what is to be forgotten, or raise `Misuse` for what is no one thing."""
    given = [each for each in (subject, note, run) if each is not None]
    if len(given) > 1 or (run is None) == (namespace is None):
        raise Misuse(
            "one thing is forgotten at a time: a namespace, a subject or a note in it, what an id "
            "such as 'acme/users/anna#12' stands for, or a run"
        )
    if below and (run is not None or "#" in str(namespace)):
        raise Misuse("below= is for a namespace; a run or one id has none below it")
    if run is not None:
        return Forget(ForgetKind.RUN, tenant, run=check_root_id(root_of(run)))
    ns, _, number = str(namespace).partition("#")
    if number:
        if given or not number.isdecimal() or len(number) > 16:
            raise Misuse(f"{namespace!r:.220} is no id of something remembered, by itself")
        return Forget(ForgetKind.ROW, tenant, check_namespace(ns), n=int(number))
    check_namespace(ns)
    if given and (below or not given[0].strip()):
        raise Misuse("a subject or a note has a name, and is forgotten in one namespace")
    kind = ForgetKind.SUBJECT if subject else ForgetKind.NOTE if note else ForgetKind.NAMESPACE
    return Forget(kind, tenant, ns, below, given[0] if given else "")


@dataclass(frozen=True, slots=True)
class Cut:
    """What goes of one namespace."""

    ns: str
    #: How far it had come when that was chosen.
    last_n: int
    #: Which rows; None: all there are.
    numbers: Sequence[int] | None = None
    #: The texts of these rows: each goes from the index where no other row has it.
    docs: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A forgetting that has begun."""

    id: str
    tenant: str
    kind: ForgetKind
    #: What went; all of it is gone from memory already.
    cuts: Sequence[Cut]
    #: Whose journals are to be emptied; others may be found to be.
    roots: Sequence[RunId]


NOT_COVERED = (
    "backups and exports, and copies of the database, its WAL and its replicas",
    "what was sent to models, tools and people, and what they have kept",
    "what says it in other words, or in part, in runs that have never read or written it",
    "ids and names: of runs, namespaces, steps and signals; when something was, and what it cost",
)
"""What no forgetting reaches, for whoever has to answer for it."""


@dataclass(frozen=True, slots=True)
class Forgetting:
    """What is forgotten, or would be: see `Client.forget`."""

    #: The row of `tombstones` that says so; None where nothing was changed.
    id: str | None
    #: How many rows are gone, by table; of `promises`, how many were emptied.
    counts: Mapping[str, int]
    #: The runs that have written or read it: their journals hold no content any more.
    runs: Sequence[str]
    #: Those of them that go on, and so have to end first.
    living: Sequence[str]
    #: Other runs in whose journals a text of it stands word for word.
    elsewhere: Sequence[str]
    #: Ids of what else in memory has the name, or such a text, in its own text.
    mentions: Sequence[str]
    #: What is still in the files of the database, and what takes it out.
    left: Sequence[str] = ()
    #: What no forgetting reaches.
    not_covered: Sequence[str] = NOT_COVERED
