"""Counts calls where they happen, outside the journal: what a bill or a mail server would count.

One line a call, appended to the file that `ANALYST_TALLY` names; without it, nothing is counted.
"""

import os


def count(kind: str, what: str) -> None:
    """Append one line; a single small append is whole, whoever else writes."""
    if path := os.environ.get("ANALYST_TALLY"):
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, f"{kind} {what}\n".encode())
        finally:
            os.close(handle)
