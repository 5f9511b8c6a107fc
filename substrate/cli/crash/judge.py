"""What a kill may change and what not: a case beside runs that were never killed. Pure.

Two runs are never killed, and what differs between them (an answer with the time in it, a file that
is a log) is compared nowhere. Whatever the fork's tools do, the calls that the kit makes are
counted where they are made, so these hold of each case:

- nothing that was recorded at the kill is called again, whatever its effect;
- ``once`` is called at most once a promise, unless a call is known not to have happened, and then
  in the run that was never killed, too;
- ``idempotent`` is called with one key a promise;
- the run ends as the others do, with their answer, and leaves nothing open.

Where a call was in doubt at the kill the model is told so, and may go on in another way: then the
answer, the journal and the files are not compared, and the doubt is counted.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from substrate.values.gates import GateKind
from substrate.values.records import Effect, PromiseState


class Kind(NamedTuple):
    """What is counted together: the calls of one name, of one effect."""

    effect: str
    name: str


class Called(NamedTuple):
    """A call, as it was noted right before it was made."""

    promise: str
    name: str
    effect: str
    key: str | None

    @property
    def kind(self) -> Kind:
        """What it is counted with."""
        return Kind(self.effect, self.name)


Rows = Mapping[str, Sequence[Any]]
"""What was recorded, by id: kind, state, a hash of what it came to, whether that is unknown, effect
and name."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended, killed on its way or not."""

    #: Its status.
    status: str
    #: A hash of its answer.
    answer: str
    #: What is recorded in the end.
    rows: Rows
    #: A hash of each file that it has left.
    files: Mapping[str, str]
    #: Why it failed, if it did.
    failure: str | None = None
    #: What it waits for, if it does.
    waits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Whole:
    """What a run is that was never killed: two of them, and what is the same in both."""

    #: The first of them.
    ended: Ended
    #: What they called, each.
    calls: Counter[str]
    #: Whether their answers are the same.
    is_one_answer: bool
    #: The rows that are the same in both.
    rows: Rows
    #: The files that are.
    files: Mapping[str, str]
    #: Whether both have left files of the same names.
    are_names_alike: bool = True
    #: Whether both have recorded rows of the same keys.
    are_keys_alike: bool = True

    @classmethod
    def of(cls, first: Ended, second: Ended, calls: Iterable[Called]) -> "Whole":
        """Return what two runs have in common; `calls` are those of the first."""
        return cls(
            first,
            Counter(each.promise for each in calls),
            first.answer == second.answer,
            {id_: row for id_, row in first.rows.items() if second.rows.get(id_) == row},
            {name: hash_ for name, hash_ in first.files.items() if second.files.get(name) == hash_},
            first.files.keys() == second.files.keys(),
            first.rows.keys() == second.rows.keys(),
        )

    def varies(self, name: str) -> bool:
        """Whether a file is another one in each run."""
        if name not in self.ended.files:
            return not self.are_names_alike
        return name not in self.files


class Fault(NamedTuple):
    """Something that is wrong: of the agent, of a tool, or of the kit."""

    text: str
    #: The calls that it is about; None where it is about the run.
    kind: Kind | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said of a case."""

    #: What is wrong.
    faults: tuple[Fault, ...] = ()
    #: What may be wrong: nobody can tell from here.
    doubts: tuple[str, ...] = ()
    #: The calls that were under way at the kill, without an outcome.
    in_flight: Counter[Kind] = field(default_factory=Counter)
    #: The calls that were made again after it.
    repeated: Counter[Kind] = field(default_factory=Counter)
    #: The calls of which nobody knows whether they happened.
    unknown: Counter[Kind] = field(default_factory=Counter)


def judge(
    whole: Whole, ended: Ended, before: Sequence[Called], after: Sequence[Called], recorded: Rows
) -> Verdict:
    """Judge one case.

    `before` and `after` are what was called before the kill and after it, `recorded` the rows that
    there were at the kill.
    """
    settled = {id_ for id_, row in recorded.items() if row[1] != PromiseState.PENDING}
    kinds = {each.promise: each.kind for each in (*before, *after)}
    was_called = {each.promise for each in before}
    again = [each for each in after if each.promise in was_called]
    unknown = {id_ for id_, row in ended.rows.items() if row[3]} | _put_to_people(ended)
    unknown -= {id_ for id_, row in whole.ended.rows.items() if row[3]}
    faults = [
        Fault(text, kinds[id_])
        for id_, text in _called_wrongly(whole, [*before, *after], after, settled)
    ]
    doubts: list[str] = []
    if unknown:
        if ended.status == "paused" != whole.ended.status:
            faults.append(Fault(_paused(ended)))
    else:
        faults += map(Fault, _ended_otherwise(whole, ended))
        differing = _files_that_differ(whole, ended)
        pure = sorted({each.name for each in again if each.effect == Effect.PURE})
        if differing and pure:
            doubts.append(f"{differing}; if {', '.join(pure)} wrote that, it is not pure")
        elif differing:
            faults.append(Fault(differing))
    return Verdict(
        tuple(faults),
        tuple(doubts),
        Counter(kinds[id_] for id_ in was_called - settled),
        Counter(each.kind for each in {each.promise: each for each in again}.values()),
        # What has called it, and so on, came to the same: only the call itself is counted.
        Counter(Kind(*ended.rows[id_][4:]) for id_ in unknown if ended.rows[id_][4] is not None),
    )


def _put_to_people(ended: Ended) -> set[str]:
    """Return the calls in doubt of which a person is asked: the run waits for the answer."""
    calls = (key.rpartition("/") for key in ended.waits)
    keys = {call for call, _, gate in calls if gate.startswith(f"{GateKind.UNKNOWN}.")}
    return {id_ for id_ in ended.rows if key_of(id_) in keys}


def _called_wrongly(
    whole: Whole, calls: Sequence[Called], after: Sequence[Called], settled: set[str]
) -> Iterable[tuple[str, str]]:
    """Yield what was called against its effect: the promise, and what is wrong."""
    for id_ in sorted({each.promise for each in after if each.promise in settled}):
        yield id_, f"{key_of(id_)} was recorded at the kill, and was called again"
    times = Counter(each.promise for each in calls if each.effect == Effect.ONCE)
    for id_, n in sorted(times.items()):
        if n > max(1, whole.calls[id_]):
            yield id_, f"{key_of(id_)} is `once`, and was called {n} times"
    keys: dict[str, set[str | None]] = {}
    for each in calls:
        if each.effect == Effect.IDEMPOTENT:
            keys.setdefault(each.promise, set()).add(each.key)
    for id_, given in sorted(keys.items()):
        if len(given) > 1:
            yield id_, f"{key_of(id_)} is `idempotent`, and was given {len(given)} keys"


def _ended_otherwise(whole: Whole, ended: Ended) -> Iterable[str]:
    """Yield how a run ended in another way than one that was never killed."""
    if ended.status != whole.ended.status:
        yield (
            _paused(ended)
            if ended.status == "paused"
            else (f"the run is {ended.status}, not {whole.ended.status}{_because(ended)}")
        )
        return
    if ended.waits != whole.ended.waits:
        yield f"it waits for {_listed(ended.waits)}, not for {_listed(whole.ended.waits)}"
        return
    if whole.is_one_answer and ended.answer != whole.ended.answer:
        yield "its answer is another one"
    if lost := whole.rows.keys() - ended.rows.keys():
        yield f"its journal has no {_listed(map(key_of, sorted(lost)))}"
    elif (more := ended.rows.keys() - whole.ended.rows.keys()) and whole.are_keys_alike:
        yield f"its journal has {_listed(map(key_of, sorted(more)))} besides"
    changed = [id_ for id_, row in whole.rows.items() if ended.rows.get(id_, row) != row]
    if changed:
        yield f"another outcome is recorded of {_listed(map(key_of, sorted(changed)))}"


def _paused(ended: Ended) -> str:
    return f"the run is paused{_because(ended)}"


def _because(ended: Ended) -> str:
    return f": {ended.failure}" if ended.failure else ""


def _files_that_differ(whole: Whole, ended: Ended) -> str:
    names = {
        name
        for name in whole.files.keys() | ended.files.keys()
        if whole.files.get(name) != ended.files.get(name) and not whole.varies(name)
    }
    return f"{_listed(sorted(names))} is not as it was left without a kill" if names else ""


def key_of(id_: str) -> str:
    """Return the key of a promise, below the run."""
    return id_.partition("#")[2] or id_


def _listed(names: Iterable[str]) -> str:
    some = list(names)
    more = f" and {len(some) - 3} more" if len(some) > 3 else ""
    return f"{', '.join(some[:3])}{more}" if some else "nothing"
