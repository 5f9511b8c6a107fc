"""What torture did to runs, and what became of them."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Counts of what was done and of what came of it, and a line for each fault."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def fault(self, what: str, detail: object) -> None:
        """Count something that must not be, and keep where it was."""
        self.counts[what] += 1
        self.faults.append(f"{what}: {detail}")


LOST = "lost"
ONCE_TWICE = "once called twice"
BURIED = "innocent runs dead"
LEFT_OPEN = "rows left open"
CRASHES = "crashes counted without a crash"
LEFT_BEHIND = "threads and workers left behind"
NEVER_BACK = "workers that never came back"
