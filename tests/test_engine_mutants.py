"""The tests of runs notice when a guarantee is taken out of the engine."""

from pathlib import Path

import pytest

from tests.mutants import Mutant, failures

ENGINE = "substrate/engine/{}.py"
MUTANTS = {
    "tests/test_race.py::test_a_race_that_is_won_while_others_wait": Mutant(
        "a run is let go between a race's end and what follows",
        ENGINE.format("run/idle"),
        [("self.let_go.set()\n        else:\n            self", "self.let_go.set()\n        self")],
    ),
    "tests/test_race.py::test_the_order_of_the_journal_decides": Mutant(
        "the last one wins",
        ENGINE.format("context/race"),
        [("key=lambda promise: promise.seq", "key=lambda promise: -promise.seq")],
    ),
    "tests/test_children.py::test_many_children": Mutant(
        "a child that has been told of counts as waited for",
        ENGINE.format("run/wakeups"),
        [("                self.idle.resume(wait)\n", "")],
    ),
    "tests/test_suspend.py::test_a_place_that_is_needed": Mutant(
        "no place is made for who is ready",
        ENGINE.format("worker/line"),
        [("if place < needed or since <= cold", "if since <= cold")],
    ),
    "tests/test_suspend.py::test_a_long_rest_is_no_place": Mutant(
        "a long rest is waited for in memory",
        ENGINE.format("step/execute"),
        [("is_long = delay > execution.services.warm_s", "is_long = False")],
    ),
    "tests/test_suspend.py::test_a_run_at_work_is_not_let_go": Mutant(
        "a run is let go while it works",
        ENGINE.format("run/idle"),
        [("if self._at_work == 0 and self._waits:", "if self._waits:")],
    ),
    "tests/test_reconcile.py::test_after_a_lost_worker": Mutant(
        "reconcile is asked too early",
        ENGINE.format("step/execute"),
        [("if not has_ended and (step.reconcile", "if False and (step.reconcile")],
    ),
    "tests/test_undo.py::test_newest_first": Mutant(
        "the oldest is undone first",
        ENGINE.format("worker/unwind"),
        [("key=lambda done: done.seq, reverse=True", "key=lambda done: done.seq")],
    ),
    "tests/test_undo.py::test_what_may_have_happened_counts": Mutant(
        "what may have happened is not undone",
        ENGINE.format("step/row"),
        [("trace), undo=self.step.undo)", "trace), undo=None)")],
    ),
    "tests/test_undo.py::test_a_worker_that_leaves_in_the_middle": Mutant(
        "the decision to unwind is forgotten",
        ENGINE.format("worker/drive"),
        [("if decision := execution.journal.pop(", "if None and execution.journal.pop(")],
    ),
    "tests/test_undo.py::test_a_call_of_a_lost_worker_is_waited_for": Mutant(
        "a step is undone while its call may be under way",
        ENGINE.format("worker/unwind"),
        [("await execution.wakeups.wait_until(over_at)", "pass")],
    ),
    "tests/test_cancel.py::test_it_reaches_a_step_in_flight": Mutant(
        "a call that was cut off counts as cancelled",
        ENGINE.format("step/close"),
        [("if promise.effect is Effect.ONCE and", "if False and")],
    ),
    "tests/test_cancel.py::test_a_runs_time_is_over": Mutant(
        "a deadline is no end",
        ENGINE.format("run/wakeups"),
        [("deadline is not None and deadline <= self._now_ms", "deadline is not None and False")],
    ),
    "tests/test_generations.py::test_it_goes_on_with_a_fresh_journal": Mutant(
        "generations share their keys",
        ENGINE.format("run/execution"),
        [("return generation_key(self.claim.run.generation)", 'return Key("")')],
    ),
    "tests/test_undo.py::test_a_call_in_a_thread_is_over_before_it_is_undone": Mutant(
        "a call in a thread is undone while it is under way",
        ENGINE.format("worker/unwind"),
        [("            await call.over()\n", "            pass\n")],
    ),
    "tests/test_late_calls.py::test_a_new_intent": Mutant(
        "a call begins however late it is",
        ENGINE.format("step/invoke"),
        [("or self._is_withdrawn or self._is_late:", "or self._is_withdrawn:")],
    ),
    "tests/test_late_calls.py::test_a_lease_lost_and_regained": Mutant(
        "what a call of a lost lease comes to is not heard",
        ENGINE.format("step/execute"),
        [("if over is not None and await", "if False and await")],
    ),
    "tests/test_reconcile.py::test_a_lost_thread_may_still_do_it": Mutant(
        '"not done" is believed of a call that may be alive',
        ENGINE.format("step/reconcile"),
        [("if is_over or is_closed:", "if True:")],
    ),
    "tests/test_reconcile.py::test_a_thread_is_waited_for": Mutant(
        "a call that was cut off in its thread is not waited for",
        ENGINE.format("step/execute"),
        [("            return await call.over()\n", "            return None\n")],
    ),
    "tests/test_own_end.py::test_a_driver_that_fails": Mutant(
        "a run that crashes by itself is given back as if it had not",
        ENGINE.format("run/recorder"),
        [("release([self._fence], is_crash=True)", "release([self._fence])")],
    ),
}


@pytest.mark.parametrize("test", MUTANTS)
def test_mutants(test: str, tmp_path: Path, postgres_dsn: str):
    """For each guarantee there is a test that fails without it."""
    # A fault of a race may not show the first time on a machine that has much else to do.
    folders = (tmp_path / str(i) for i in range(3))
    assert any(failures(MUTANTS[test], each, test, "sqlite", postgres_dsn) for each in folders)
