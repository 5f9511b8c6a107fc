"""The grammar of ids, names and keys.

- A **root id** is the caller's: 1 to 200 characters of ``[A-Za-z0-9._:@/-]``, the first no ``-``.
- ``#`` and ``~`` are ours: ``root#key`` is a promise, and a child's run id is the id of the promise
  that it settles; ``root~name`` is a branch of a run, in the part of its root.
- A **key** is ``name.ordinal``; scopes are joined by ``/``: ``tools.3/search.0``.

Any id tells its root, and its root tells its **part**: a whole tree lives in one partition.
"""

import re
from typing import NewType
from zlib import crc32

from substrate.values.errors import InvalidId
from substrate.values.secret import is_any_in

RunId = NewType("RunId", str)
PromiseId = NewType("PromiseId", str)
Key = NewType("Key", str)

DEFAULT_QUEUE = "default"
"""The queue of runs and workers of which nobody says another."""

PARTS = 4096
"""How many partitions there are. It never changes: it is in every primary key.

So many that they divide evenly among any number of tables, shards or servers that one may want;
64 would leave some of 32 shards empty.
"""

_ROOT = re.compile(r"(?!-)[A-Za-z0-9._:@/-]{1,200}")
_DEDUP = re.compile(r"[A-Za-z0-9._:@/-]{1,200}")
_ANY_ID = re.compile(r"[A-Za-z0-9._:@/#~-]{1,8000}")
_SHOWN = 60
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


def check_root_id(text: object) -> RunId:
    """Return the text as a run id, or raise `InvalidId`.

    One that begins with ``-`` could not be typed after a command: it would be an option of it.
    """
    if isinstance(text, str) and text.startswith("-") and _DEDUP.fullmatch(text):
        raise InvalidId(
            f"{text!r} is not a run id, since it begins with '-' as an option does; give an id "
            "that begins with a letter or a digit"
        )
    if not isinstance(text, str) or not _ROOT.fullmatch(text):
        raise InvalidId(
            f"{text!r} is not a run id; use 1 to 200 letters, digits and any of . _ : @ / -"
        )
    return RunId(text)


def check_dedup(text: object) -> str:
    """Return the text if it can tell one signal from another, or raise `InvalidId`."""
    if isinstance(text, str) and _DEDUP.fullmatch(text):
        return text
    shown = repr(text)
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}… ({len(shown)} characters)"
    raise InvalidId(
        f"dedup={shown} is none; use 1 to 200 letters, digits and any of . _ : @ / -, such as "
        "hashlib.sha256(what_was_given).hexdigest()"
    )


def may_be_id(text: object) -> bool:
    """Whether a run may have this id: what comes from outside never reaches a database else."""
    return isinstance(text, str) and _ANY_ID.fullmatch(text) is not None


def check_name(text: object) -> str:
    """Return the text if it can name a step, function or signal, or raise `InvalidId`."""
    if isinstance(text, str) and is_any_in(text):
        raise InvalidId(
            "a name holds a secret that was revealed, and names are recorded and shown; give "
            "another one"
        )
    if not isinstance(text, str) or not _NAME.fullmatch(text):
        raise InvalidId(
            f"{text!r:.200} cannot be a name; {_name_for(text)}: a letter or _, then up to 63 "
            "letters, digits, _ or -"
        )
    return text


def _name_for(text: object) -> str:
    """Return what to write where a text cannot be a name: one like it, where there is one."""
    if text == "<lambda>":
        return "a lambda needs name="
    near = re.sub("[^A-Za-z0-9_-]+", "_", text).strip("_") if isinstance(text, str) else ""
    near = f"_{near}"[:64] if near[:1].isdigit() or near[:1] == "-" else near[:64]
    return f"write {near!r}" if near else "give one"


def promise_id(run_id: RunId, key: Key) -> PromiseId:
    """Return the full id of the promise that a run keeps under a key."""
    return PromiseId(f"{run_id}#{key}")


Place = tuple[tuple[tuple[str, int], ...], tuple[str, int]]
"""Where a key stands in order: by its scope, then by its own name; ordinals as numbers."""


def place_of(key: Key) -> Place:
    """Return where a key stands among others: ``ask.2`` comes before ``ask.10``."""
    *scope, own = map(_rank_of, key.split("/"))
    return tuple(scope), own


def _rank_of(segment: str) -> tuple[str, int]:
    name, _, ordinal = segment.rpartition(".")
    return (name, int(ordinal)) if ordinal.isdecimal() else (segment, -1)


def root_of(any_id: str) -> RunId:
    """Return the root run of any run or promise id."""
    return RunId(any_id.partition("#")[0].partition("~")[0])


def part_of(any_id: str) -> int:
    """Return the partition of any run or promise id: crc32 of its root, modulo `PARTS`."""
    return crc32(root_of(any_id).encode()) % PARTS


def lane_of(queue: str, function: str, version: int) -> str:
    """Return the lane that a worker claims from: queue, function and version."""
    return f"{queue}/{function}/{version}"


def parts_of_lane(lane: str) -> tuple[str, str, str]:
    """Return the queue, function and version of a lane; what a row by hand lacks is empty."""
    queue, _, rest = lane.partition("/")
    function, _, version = rest.partition("/")
    return queue, function, version
