"""Suspects: runs that may be what kills workers, driven one at a time, and alone where that can be.

What a crash says of a run depends on what was driven beside it (`substrate.store.crashes`), so a
worker gives the next suspect its chance when the one before has recorded something, has left, or
has had its time. A worker with nothing to do drives it alone; one with other runs leaves it to such
a worker first, and takes it on in the end. So no suspect waits for another's long call, and none
waits for an empty worker that never comes.
"""

from collections.abc import Callable, Collection, Sequence

from substrate.engine.run.execution import Execution
from substrate.store.crashes import MAX_CRASHES, is_suspect
from substrate.values.ids import RunId
from substrate.values.records import Claim

TURN_S = 1.0
"""How long a suspect is the only one after its second crash; twice as long after each further."""

LONGEST_TURN_S = 30.0

PATIENCE_S = 1.0
"""How long a worker that has other runs leaves a suspect to one that has none."""

_FORGET_S = 60.0


class Suspects:
    """Which suspect of a worker has its turn, and until when. `now` is the event loop's time."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.has_left_some: bool = False
        """Whether a suspect was left to others at the last look, since runs are here."""
        self._now = now
        self._turn_ends = 0.0
        self._is_alone = False
        self._left_since: dict[RunId, float] = {}

    def keeps_others_out(self, driven: Collection[Execution]) -> bool:
        """Whether a suspect has its turn alone, so that nothing else may be taken on."""
        self._is_alone = self._is_alone and self._is_turn(driven)
        return self._is_alone

    def choose(self, claims: Sequence[Claim], driven: Collection[Execution]) -> Sequence[Claim]:
        """Return which of these claims may be driven now, beside what is driven."""
        suspects = [claim for claim in claims if is_suspect(claim.run.crashes)]
        self.has_left_some = False
        if not suspects:
            return claims
        others = [claim for claim in claims if claim not in suspects]
        if self._is_turn(driven):
            return others
        if not driven:  # alone: a crash then says that this run is to blame
            return [self._give_turn(suspects[0], is_alone=True)]
        chosen = self._left_long_enough(suspects)
        if chosen is None:
            self.has_left_some = True
            return others
        return [*others, self._give_turn(chosen, is_alone=False)]

    def _is_turn(self, driven: Collection[Execution]) -> bool:
        return self._now() < self._turn_ends and any(each.recorder.is_suspect for each in driven)

    def _give_turn(self, suspect: Claim, *, is_alone: bool) -> Claim:
        self._left_since.pop(suspect.run.id, None)
        # No more doublings than are needed: a row may hold any count.
        doublings = min(max(suspect.run.crashes - MAX_CRASHES + 1, 0), 5)
        self._turn_ends = self._now() + min(TURN_S * 2**doublings, LONGEST_TURN_S)
        self._is_alone = is_alone
        return suspect

    def _left_long_enough(self, suspects: Sequence[Claim]) -> Claim | None:
        """Return a suspect that no other worker has taken in all the time it was left to them."""
        now = self._now()
        remembered = self._left_since.items()
        self._left_since = {id_: at for id_, at in remembered if now - at < _FORGET_S}
        for claim in suspects:
            since = self._left_since.setdefault(claim.run.id, now)
            if now - since >= PATIENCE_S:
                return claim
        return None
