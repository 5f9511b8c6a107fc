"""The process that worker processes are forked from: it has imported what they need.

Python keeps one such process, and it imports what the first to start it asked for; so this is the
only place that asks. By itself a process takes half a second to import the kit and a test's code.
"""

from multiprocessing import get_context

__all__ = ["PROCESSES"]

PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        *("anthropic.resources", "genai_prices", "psycopg", "psycopg_pool"),
        *("concurrent.futures.thread", "substrate.store.postgres", "substrate.store.sqlite"),
        *("skills.sql", "substrate.agent.turn", "substrate.models.providers.anthropic.client"),
        *("tests.analyst", "tests.crew", "tests.late", "tests.payer", "tests.watching"),
        *("tests.test_queue", "tests.torture.family", "tests.torture.scopes"),
        "tests.frozen",  # which drives a run of each of the others
    ]
)
