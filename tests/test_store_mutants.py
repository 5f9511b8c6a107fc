"""The suite of the stores notices when a guarantee is taken out of them."""

from pathlib import Path

import pytest

from tests.mutants import Mutant, failures

SQLITE = "substrate/store/sqlite/{}.py"
MUTANTS = {
    "tests/test_store_commits.py::test_first_writer_wins": Mutant(
        "a promise is settled twice",
        SQLITE.format("journal"),
        [(" WHERE promises.state = 'pending'\n", "")],
    ),
    "tests/test_store.py::test_each_claim_is_an_epoch": Mutant(
        "a claim has no number of its own",
        SQLITE.format("runs"),
        [("epoch = epoch + 1", "epoch = epoch")],
    ),
    "tests/test_store_commits.py::test_feed_shows_each_change": Mutant(
        "a change keeps the old number",
        SQLITE.format("journal"),
        [("SET seq = excluded.seq, state", "SET state")],
    ),
    "tests/test_store_signals.py::test_order": Mutant(
        "signals come as they like",
        SQLITE.format("inbox"),
        [(" ORDER BY n\n", " ORDER BY dedup\n")],
    ),
    "tests/test_store_children.py::test_parent_wakes_when_served": Mutant(
        "a parent wakes too early",
        SQLITE.format("journal"),
        [("AND need <= 1 THEN 'ready'", "THEN 'ready'")],
    ),
    "tests/test_store_recovery.py::test_crashes_are_counted": Mutant(
        "progress does not count",
        SQLITE.format("journal"),
        [("crashes = CASE WHEN ? THEN 0 ELSE crashes END", "crashes = crashes + 0 * ?")],
    ),
}


@pytest.mark.parametrize("test", MUTANTS)
def test_mutants(test: str, tmp_path: Path, postgres_dsn: str):
    """For each guarantee there is a test that fails without it."""
    assert failures(MUTANTS[test], tmp_path, test, "sqlite", postgres_dsn)
