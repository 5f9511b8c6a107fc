"""The suite of the stores notices when a guarantee is taken out of them."""

from pathlib import Path

import pytest

from tests.mutants import Mutant, failures

SQLITE = "substrate/store/sqlite/{}.py"
POSTGRES = "substrate/store/postgres/{}.py"
MUTANTS = {
    "tests/test_store_commits.py::test_first_writer_wins": Mutant(
        "a promise is settled twice",
        SQLITE.format("fenced_commit"),
        [(" WHERE promises.state = 'pending'\n", " WHERE true\n")],
    ),
    "tests/test_store.py::test_each_claim_is_an_epoch": Mutant(
        "a claim has no number of its own",
        SQLITE.format("runs"),
        [("epoch = epoch + 1", "epoch = epoch")],
    ),
    "tests/test_store_commits.py::test_feed_shows_each_change": Mutant(
        "a change keeps the old number",
        SQLITE.format("fenced_commit"),
        [("SET seq = excluded.seq, state", "SET state")],
    ),
    "tests/test_store_signals.py::test_order": Mutant(
        "signals come as they like",
        SQLITE.format("signals"),
        [(" ORDER BY n\n", " ORDER BY dedup\n")],
    ),
    "tests/test_store_children.py::test_parent_wakes_when_served": Mutant(
        "a parent wakes too early",
        SQLITE.format("wake_parent"),
        [("AND need <= 1 THEN 'ready'", "THEN 'ready'")],
    ),
    "tests/test_store_recovery.py::test_crashes_are_counted": Mutant(
        "progress does not count",
        SQLITE.format("fenced_commit"),
        [("crashes = CASE WHEN ? THEN 0 ELSE crashes END", "crashes = crashes + 0 * ?")],
    ),
    "tests/test_store_suspend.py::test_signal_between_look_and_suspend": Mutant(
        "a wake-up between look and suspend is lost",
        SQLITE.format("suspend"),
        [(" AND wake_version = :wake_version", "")],
    ),
    "tests/test_store_suspend.py::test_no_wake_up_is_lost": Mutant(
        "a wake-up between look and suspend is lost, on Postgres",
        POSTGRES.format("suspend"),
        [(" AND wake_version = %(wake_version)s", "")],
    ),
    "tests/test_store_suspend.py::test_lost_claim_suspends_nothing": Mutant(
        "anybody suspends a run",
        SQLITE.format("suspend"),
        [(" AND epoch = :epoch AND lease_owner = :owner", "")],
    ),
    "tests/test_store_suspend.py::test_need": Mutant(
        "the first child wakes its parent, however many it needs",
        SQLITE.format("wake_parent"),
        [("AND :ends AND need <= 1 THEN", "AND :ends THEN")],
    ),
    "tests/test_store_spawn.py::test_child_of_a_cancelled_run": Mutant(
        "a child escapes its parent's cancel",
        SQLITE.format("fenced_commit"),
        [("cancel_requested AND NOT :is_undo", "0")],
    ),
    "tests/test_store_cancel.py::test_spawn_while_postgres_waits": Mutant(
        "a cancel looks once",
        POSTGRES.format("ending"),
        [("        while await", "        if await")],
    ),
    "tests/test_store_signals.py::test_what_another_wait_took": Mutant(
        "two waits take one signal",
        SQLITE.format("signals"),
        [("\n   AND (taken_by IS NULL OR taken_by = :taken_by)", "")],
    ),
    "tests/test_store_transact.py::test_fenced": Mutant(
        "a transactional step commits without its promise",
        SQLITE.format("transaction"),
        [('"COMMIT" if isinstance(outcome, Written) else "ROLLBACK"', '"COMMIT"')],
    ),
    "tests/test_store_transact.py::test_adopted": Mutant(
        "a transactional step commits without its promise, on Postgres",
        POSTGRES.format("transaction"),
        [("raise _Undone(stands)", "return stands")],
    ),
    "tests/test_store_transact.py::test_refused_statement": Mutant(
        "a transactional step commits by itself",
        SQLITE.format("transaction"),
        [("        return apsw.SQLITE_DENY", "        return apsw.SQLITE_OK")],
    ),
    "tests/test_store_renew.py::test_renew_is_fenced": Mutant(
        "anybody renews a run",
        SQLITE.format("ending"),
        [(" AND epoch = :epoch AND lease_owner = :owner\n   AND status = 'running'", "")],
    ),
}


@pytest.mark.parametrize("test", MUTANTS)
def test_mutants(test: str, tmp_path: Path, postgres_dsn: str):
    """For each guarantee there is a test that fails without it."""
    mutant = MUTANTS[test]
    kind = "postgres" if "/postgres/" in mutant.file else "sqlite"
    # Where two race, a mutant may win by luck: it has to lose once in three times.
    tries = (tmp_path / str(n) for n in range(3))
    assert any(failures(mutant, each, test, kind, postgres_dsn) for each in tries)
