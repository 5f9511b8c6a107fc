"""One word for one thing: the glossary has them all, and no earlier name of a thing comes back."""

import io
import re
import subprocess
import tokenize
from pathlib import Path

import pytest

from substrate import Effect, PromiseState, RunStatus
from substrate.values.records import Kind

_ROOT = Path(__file__).parent.parent
_GLOSSARY = (_ROOT / "substrate/README.md").read_text()
_GLOSSARY = _GLOSSARY[_GLOSSARY.index("\n## Words") : _GLOSSARY.index("\n## Calls")]

#: What a thing was called → what it is called. As a whole name, in Python, SQL and code of pages.
EARLIER = {
    "requeue": "resume",
    "reopen": "resume",
    "scoped": "scope",
    "id_below": "id_prefix",
    "Means": "Services",
    "Life": "Lifecycle",
    "Strand": "TaskState",
    "Parking": "IdleTracker",
    "Fan": "Branches",
    "Trial": "StepExecution",
    "Heart": "Heartbeat",
    "Pulse": "HeartbeatConnection",
    "Strays": "UndrivenRuns",
    "Vigil": "Suspicions",
    "Sighting": "WorkerSeen",
    "Received": "ReceivedSignal",
    "Inbox": "OwnedRun",
    "inboxes": "owned_runs",
    "arrivals": "settled_outside",
    "outsource": "offload",
    "tell_limit": "write_rate_limit",
    "LOCK_FREE": "LOCK_SKIP_LOCKED",
    "gone_epoch": "exited_epoch",
    "journal_from": "generation_seq",
    "told_at": "reported_at",
    "Limits": "WorkerOptions",
    "Typed": "AnswerType",
    "heed": "follow_advice",
    "Reason": "EndReason or FallbackReason",
    "Inquiry": "ModelCall",
    "misses": "models_used_up",
    "Quota": "RateLimiter",
    "Delta": "OnText",
    "Tally": "Totals",
    "strike": "kill",
    "listener": "on_event",
}

#: Riddles and poetry, for which there are plain words.
RIDDLES = (
    "laid to rest",
    "lays to rest",
    "torn away",
    "in the grave",
    "its grave",
    "the heir",
    "robbed",
    "vouch for",
    "vouches",
    "burial",
)


def _tracked(*endings: str) -> list[Path]:
    names = subprocess.run(
        ["git", "-C", _ROOT, "ls-files", "-z"], capture_output=True, check=True, text=True
    ).stdout.split("\0")
    return [
        path
        for name in names
        if name.endswith(endings)
        and not name.startswith(("tests/", "CHANGELOG"))
        and (path := _ROOT / name).is_file()
    ]


def _names(path: Path) -> set[str]:
    """Return the names in a file's code, whatever stands in its comments and texts."""
    text = path.read_text()
    if path.suffix == ".py":
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        return {each.string for each in tokens if each.type == tokenize.NAME}
    if path.suffix == ".sql":
        text = re.sub(r"--.*", "", text)
    else:
        text = " ".join(re.findall(r"`[^`]+`", text))
    return set(re.findall(r"[A-Za-z_]\w*", text))


def test_no_earlier_name_comes_back() -> None:
    """A thing has one name: none that it had before stands in code, tables or pages."""
    found = [
        f"{path.relative_to(_ROOT)}: {name}, today {EARLIER[name]}"
        for path in _tracked(".py", ".sql", ".md", ".jinja")
        for name in sorted(_names(path) & EARLIER.keys())
    ]
    assert not found, "\n".join(found)


def test_no_riddle_comes_back() -> None:
    """Comments, errors and pages say in plain words what happens."""
    found = [
        f"{path.relative_to(_ROOT)}: {riddle}"
        for path in _tracked(".py", ".sql", ".md", ".jinja")
        for riddle in RIDDLES
        if re.search(rf"\b{riddle}\b", path.read_text(), re.IGNORECASE)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("closed_set", [RunStatus, PromiseState, Kind, Effect])
def test_the_glossary_has_each_closed_set(closed_set: type) -> None:
    """Each status, state, kind and effect stands in the glossary as it does in the rows."""
    words = set(re.findall(r"`([a-z]+)`", _GLOSSARY))
    assert {str(each) for each in closed_set} <= words  # type: ignore[attr-defined]


def test_the_glossary_has_each_table() -> None:
    """Each table holds rows of one thing, and the glossary says what that is."""
    words = set(re.findall(r"\*\*([a-z -]+)\*\*", _GLOSSARY))
    files = sorted((_ROOT / "substrate/store/schema/sqlite").glob("*.sql"))
    schema = "".join(file.read_text() for file in files)
    tables = re.findall(r"^CREATE TABLE (\w+[a-z]) ", schema, re.MULTILINE)
    things = {re.sub("s$", "", re.sub("ies$", "ys", table)).replace("_", " ") for table in tables}
    assert things <= words
    assert len(tables) > 5


def test_the_glossary_says_each_word_once() -> None:
    """No word has two meanings."""
    words = re.findall(r"\*\*([a-z -]+)\*\*", _GLOSSARY)
    assert len(words) == len(set(words))
    assert len(words) > 40
