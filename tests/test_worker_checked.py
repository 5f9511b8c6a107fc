"""`worker --check` says whether a worker of this host holds its lease, and drives nothing."""

import signal
from pathlib import Path

from tests.fork import Fork, end
from tests.keeper import wait_until


def test_a_worker_that_lives_and_dies(store_url: str, tmp_path: Path) -> None:
    """It is well while the worker beats, and not before, nor when it is gone or has stood still."""
    fork = Fork.make(tmp_path / "fork", store_url)
    before = fork.do("worker", "--check")
    worker = fork.open("worker", "--lease", "2")
    try:
        assert wait_until(lambda: fork.do("worker", "--check").code == 0, 30)
        told = fork.do("worker", "--check", "--json").document
        worker.send_signal(signal.SIGSTOP)
        assert wait_until(lambda: fork.do("worker", "--check").code == 1, 30)
        worker.send_signal(signal.SIGCONT)
        assert wait_until(lambda: fork.do("worker", "--check").code == 0, 30)
        worker.terminate()
        assert end(worker).code == 0
    finally:
        worker.kill()
    after = fork.do("worker", "--check")

    assert before.code == 1
    assert told["workers"] == 1
    assert after.code == 1
    assert after.out.startswith("no worker on ")
    assert fork.calls == []
