"""No storm buries an innocent run, and a run that kills its workers is dead after few of them."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from substrate.store.crashes import (
    MAX_ANYWAY,
    MAX_CRASHES,
    MAX_IN_COMPANY,
    AfterCrash,
    Loss,
    LostRun,
    after_crash,
)
from substrate.values.ids import RunId
from substrate.values.records import OnDead, RunStatus

DEADLINE = 5_000


def lost(crashes: int = 0, losses_seen: int = 0, id_: str = "run") -> LostRun:
    """Return a run whose worker has died."""
    return LostRun(RunId(id_), 0, None, crashes, losses_seen, OnDead.RAISE, None)


@dataclass
class Fleet:
    """Workers that die with what they had, and what becomes of that."""

    losses: int = 0
    runs: dict[str, LostRun] = field(default_factory=dict)
    dead: dict[str, int] = field(default_factory=dict)

    def die(self, *ids: str, is_whole: bool = True) -> Sequence[AfterCrash]:
        """Let a worker die that had these runs."""
        had = [self.runs.setdefault(id_, lost(id_=id_)) for id_ in ids]
        loss = Loss.of(had, is_whole=is_whole)
        self.losses += is_whole
        outcomes = [after_crash(run, replace(loss, losses=self.losses), 0) for run in had]
        for run, after in zip(had, outcomes, strict=True):
            crashes, seen = after.crashes, after.losses_seen
            self.runs[run.id] = replace(run, crashes=crashes, losses_seen=seen)
            if after.status is RunStatus.DEAD:
                self.dead[run.id] = crashes
        return outcomes

    def settle(self, id_: str) -> None:
        """Let a run record something."""
        self.runs[id_] = replace(self.runs.get(id_, lost(id_=id_)), crashes=0)


def kills(fleet: Fleet, company: Callable[[int], Sequence[str]]) -> int:
    """Return how many workers a guilty run kills until it is dead, beside these others."""
    for number in range(1, 100):
        fleet.die("guilty", *company(number))
        if "guilty" in fleet.dead:
            return number
    raise AssertionError("it is never dead")


def test_alone():
    """A run that is always alone in its worker is dead after three crashes."""
    assert kills(Fleet(), lambda _: []) == MAX_CRASHES == 3


def test_driven_alone_once_it_is_suspect():
    """One that was among others before it became a suspect is dead after four."""
    fleet = Fleet()
    assert kills(fleet, lambda number: ["a", "b"] if number < 3 else []) == MAX_CRASHES + 1
    assert fleet.dead == {"guilty": 4}


@pytest.mark.parametrize("beside", [["run"], ["run", "run#sibling.0"], ["run#guilty.0#own.0"]])
def test_in_its_own_tree(beside: Sequence[str]):
    """One that was among runs of its own tree alone before it became a suspect is dead after three.

    So a child that kills its workers three times is dead, whether or not its parent was there.
    """
    fleet = Fleet()
    for _ in range(2):
        fleet.die("run#guilty.0", *beside)
    for id_ in beside:  # those that are driven come on, or wait
        fleet.settle(id_)
    fleet.die("run#guilty.0")
    assert fleet.dead == {"run#guilty.0": MAX_CRASHES}


def test_in_its_own_tree_beside_a_stranger():
    """A run of another tree may as well have done it: the first crash proves less."""
    fleet = Fleet()
    fleet.die("run#guilty.0", "run", "other")
    fleet.die("run#guilty.0")
    fleet.die("run#guilty.0")
    assert fleet.dead == {}
    fleet.die("run#guilty.0")
    assert fleet.dead == {"run#guilty.0": MAX_CRASHES + 1}


def test_the_only_suspect():
    """Never alone, but always the only suspect, it is dead after seven."""
    fleet = Fleet()
    assert kills(fleet, lambda number: [f"fresh-{number}"]) == MAX_IN_COMPANY + 1
    assert fleet.dead == {"guilty": 7}


def test_among_suspects():
    """Where nothing tells it from the others it takes twelve, and then all of them are dead."""
    fleet = Fleet()
    assert kills(fleet, lambda _: ["other"]) == MAX_ANYWAY == 12


def test_many_guilty_runs():
    """Where many runs kill their workers, as after a bad deploy, each may do so twelve times."""
    fleet, ids = Fleet(), [f"guilty-{i}" for i in range(64)]
    fleet.die(*ids)
    fleet.die(*ids)
    for _ in range(MAX_ANYWAY):
        for id_ in ids:
            if id_ not in fleet.dead:
                fleet.die(id_)
    assert fleet.dead.keys() == set(ids)
    assert set(fleet.dead.values()) <= {4, *range(5, MAX_ANYWAY + 1)}


@pytest.mark.parametrize("elsewhere", [1, 4, 100])
def test_losses_elsewhere(elsewhere: int):
    """Each worker that dies without the run allows it one more crash, up to twelve."""
    fleet = Fleet()
    fleet.die("guilty")
    for _ in range(elsewhere):
        fleet.die()
    assert kills(fleet, lambda _: []) + 1 == min(MAX_CRASHES + elsewhere, MAX_ANYWAY)


def test_losses_before():
    """What died before its first crash is nothing to a run, nor what died before it settled."""
    fleet = Fleet()
    for _ in range(5):
        fleet.die("other")
        fleet.settle("other")
    fleet.die("guilty")
    fleet.die("guilty")
    fleet.die()
    fleet.settle("guilty")
    assert kills(fleet, lambda _: []) == 3


def test_a_worker_that_was_struck_off_before():
    """What is found of a worker later proves nothing: there was more, and nobody knows what."""
    fleet = Fleet()
    for _ in range(MAX_ANYWAY - 1):
        fleet.die("run", is_whole=False)
    assert fleet.dead == {}
    assert fleet.losses == 0


def test_it_waits_longer_and_longer():
    """From the third crash on a run that is not dead waits, twice as long each time."""
    fleet = Fleet()
    outcomes = [fleet.die("run", "other")[0] for _ in range(MAX_ANYWAY)]

    assert [v.status for v in outcomes[:2]] == [RunStatus.READY, RunStatus.READY]
    assert [v.due_at for v in outcomes[2:-1]] == [1000 * 2**i for i in range(9)]
    assert outcomes[-1].status is RunStatus.DEAD


def test_it_waits_no_longer_than_its_deadline():
    """A run that waits is due at its deadline at the latest."""
    run = replace(lost(8), deadline_at=DEADLINE)
    assert after_crash(run, Loss(2, 2, is_whole=True, losses=1), 0).due_at == DEADLINE


def test_a_child_whose_parent_waits():
    """It is paused where it would be dead."""
    run = replace(lost(2), on_dead=OnDead.WAIT)
    after = after_crash(run, Loss(1, 1, is_whole=True), 0)
    assert (after.status, after.is_final) == (RunStatus.PAUSED, False)
    assert "3 times in a row" in (after.error or "")


@pytest.mark.parametrize("step_s", [0.2, 0.6, 3.0])
@pytest.mark.parametrize("kill_s", [0.1, 0.4])
def test_a_storm_buries_nobody(step_s: float, kill_s: float):
    """Three workers are killed for three minutes, whatever they do, and none of 60 runs is dead.

    A run records something when it was driven for so long without an end of its worker.
    """
    chance, fleet = random.Random(1), Fleet()
    due = {f"run-{i}": 0.0 for i in range(60)}
    driven: list[dict[str, float]] = [{}, {}, {}]
    up_at = [0.0, 0.0, 0.0]
    now = next_kill = 0.0
    while now < 180:
        now += 0.05
        if now >= next_kill:
            next_kill = now + kill_s * chance.uniform(0.5, 1.5)
            victim = chance.randrange(3)
            had, driven[victim] = driven[victim], {}
            outcomes = fleet.die(*had) if up_at[victim] <= now else []
            for id_, after in zip(had, outcomes, strict=True):
                due[id_] = now + 0.3 + (after.due_at or 0) / 1000
            up_at[victim] = now + 0.3
        for worker, mine in enumerate(driven):
            for id_, since in mine.items():
                if now - since >= step_s:
                    fleet.settle(id_)
            if up_at[worker] <= now:
                claim(fleet, mine, due, now)
    assert fleet.dead == {}


def claim(fleet: Fleet, mine: dict[str, float], due: dict[str, float], now: float) -> None:
    """Take on what is due: eight runs at most, or one suspect alone."""
    suspects = {id_ for id_, run in fleet.runs.items() if run.is_suspect}
    if suspects & mine.keys():
        return
    ready = [id_ for id_, at in due.items() if at <= now]
    if not mine and suspects.intersection(ready):
        ready = sorted(suspects.intersection(ready), key=due.__getitem__)[:1]
    else:
        ready = [id_ for id_ in ready if id_ not in suspects][: 8 - len(mine)]
    for id_ in ready:
        mine[id_] = now
        due[id_] = float("inf")
