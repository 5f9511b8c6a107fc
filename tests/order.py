"""In which order the tests run, and which of them one process takes together.

What takes longest begins first, so that no process is left with it at the end. A file's tests stay
in one process, which makes what they share once; but those of files in which each takes seconds are
given out one by one.

This is a pytest plugin, named in `pyproject.toml`. Each process must come to the same order.
"""

from typing import Any

import pytest

__all__ = ["LONGEST"]

ONE_BY_ONE = (
    "tests/test_fork_update.py",
    "tests/test_crash.py",
    "tests/test_engine_mutants.py",
    "tests/test_crash_interventions.py",
    "tests/test_store_mutants.py",
    "tests/test_crash_advised.py",
    "tests/test_crash_memory.py",
    "tests/test_crash_shared.py",
    "tests/test_store_model.py",
    "tests/test_crash_delegated.py",
    "tests/test_crash_voted.py",
    "tests/test_crash_deferred.py",
    "tests/test_crash_gates.py",
    "tests/test_crash_everything.py",
    "tests/test_crash_desk.py",
    "tests/test_crash_talk.py",
    "tests/test_torture.py",
    "tests/test_engine_model.py",
    "tests/test_waiting_example.py",
    "tests/test_watcher_example.py",
    "tests/test_payment.py",
)
"""Files whose tests take seconds each, the longest first."""

LONGEST = (
    *ONE_BY_ONE,
    # In one process: what a type checker has read once, it need not read again.
    "tests/test_types.py",
    "tests/test_template.py",
    "tests/test_fork_crash.py",
    "tests/test_fork_doctor.py",
    "tests/test_models_wire.py",
    "tests/test_providers.py",
    "tests/test_silence.py",
    "tests/test_fork_skills.py",
    "tests/test_providers_quota.py",
    "tests/test_postgres_fixture.py",
    "tests/test_migrate.py",
    "tests/test_secrets_repeated.py",
    "tests/test_cli_streams.py",
    "skills/sql/tests/test_acting.py",
    "tests/test_store_transact.py",
    "skills/sql/tests/test_memory.py",
    "skills/sql/tests/test_hostile.py",
    "tests/test_docs.py",
    "tests/test_conversation.py",
    "tests/test_cli_approvals.py",
    "tests/test_looking_at_broken_rows.py",
    "tests/test_big_values.py",
    "tests/test_support_example.py",
    "tests/test_handover.py",
    "tests/test_fork_pip.py",
    "tests/test_fork_ci.py",
    "tests/test_inbox.py",
    "skills/sql/tests/test_power.py",
    "tests/test_cli_interrupted.py",
    "skills/sql/tests/test_reading_only.py",
    "tests/test_fork_image.py",
    "tests/test_swallowed.py",
    "tests/test_hostile_rows.py",
    "tests/test_postgres_settings.py",
    "tests/test_secrets_marked.py",
    "tests/test_providers_unfinished.py",
    "tests/test_suspects.py",
    "tests/test_cli_looking.py",
    "tests/test_patience.py",
    "tests/test_fence.py",
    "tests/test_cli_waiting.py",
    "tests/test_children.py",
    "tests/test_installed.py",
    "tests/test_secrets_recorded.py",
    "tests/test_providers_silence.py",
    "tests/test_cli_answers.py",
    "tests/test_store_postgres.py",
    "tests/test_transactional.py",
    "tests/test_clocks.py",
    "skills/sql/tests/test_deadline.py",
)
"""The files that take longest, in the order in which they begin; the others come after them."""

_RANKS = {name: rank for rank, name in enumerate(LONGEST)}


def file_of(nodeid: str) -> str:
    """Return the file of a test."""
    return nodeid.partition("::")[0]


def together(nodeid: str) -> str:
    """Return the name of what one process takes as a whole: a file, or one test."""
    file = file_of(nodeid)
    return nodeid if file in ONE_BY_ONE else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the longest files first; the others stay as they are."""
    items.sort(key=lambda item: _RANKS.get(file_of(item.nodeid), len(_RANKS)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Have tests given out in this order, where nobody has asked for another way."""
    from xdist.scheduler import LoadScopeScheduling

    class InOrder(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return together(nodeid)

    if config.getoption("dist") != "load":  # what `-n` alone means
        return None
    config.option.loadscopereorder = False  # which would begin with what has most tests
    return InOrder(config, log)
