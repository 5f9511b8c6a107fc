"""What was mended in a model call before it was sent, told from its rows alone.

Nothing of it is recorded: mending is a pure function of the request, which the rows hold, and of
the model that answered. A request that was sent under an older table is told by today's, and says
so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from substrate.agent.history.request import request_of
from substrate.agent.history.rows import input_of, value_of
from substrate.engine.client import Client
from substrate.models.frame import request_from_json
from substrate.models.mending.mended import mends_of
from substrate.models.mending.notes import Mend
from substrate.models.mending.rules import VERSION
from substrate.models.mending.takes import takes
from substrate.models.messages import Json
from substrate.models.model import SCRIPTED
from substrate.values.codec import decode
from substrate.values.errors import ModelError
from substrate.values.records import Promise, PromiseState

_UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, RecursionError, ModelError)
"""What comes of rows that were edited by hand: then nothing is told."""


@dataclass(frozen=True, slots=True)
class Mending:
    """What was mended in one model call."""

    #: The call's.
    key: str
    #: Who was sent it, as ``provider:name``.
    model: str
    #: The version of the table under which it was sent.
    version: int
    #: Which rules, and where.
    mends: Sequence[Mend]

    @property
    def is_of_today(self) -> bool:
        """Whether the table under which it was sent is that of this kit."""
        return self.version == VERSION


async def read_last_mending(client: Client, journal: Sequence[Promise]) -> Mending | None:
    """Return what was mended in the last model call of a run; None where nothing was."""
    last = next((row for row in reversed(journal) if _is_model_call(row)), None)
    return None if last is None else await read_mending(client, journal, last)


async def read_mending(client: Client, journal: Sequence[Promise], row: Promise) -> Mending | None:
    """Return what was mended in this model call; None in another row, and where nothing was."""
    if not _is_model_call(row):
        return None
    blob = await client.store.blob(row.run_id, input_of(row)["frame"])
    if blob is None:
        return None
    try:
        return mending_of({each.key: each for each in journal}, row, decode(blob))
    except _UNREADABLE:
        return None


def _is_model_call(row: Promise) -> bool:
    if '"frame"' not in (row.input or ""):  # most rows are not looked into
        return False
    given = input_of(row)
    return isinstance(given.get("frame"), str) and "add" in given


def mending_of(
    rows: Mapping[str, Promise], row: Promise, frame: Mapping[str, Json]
) -> Mending | None:
    """Return what was mended in this model call, given its run's rows and its frame. Pure."""
    asked = _asked(row, frame)
    provider, _, name = asked["model"].partition(":")
    if provider in SCRIPTED:  # a script gets what was said
        return None
    record = {**frame, "settings": asked["settings"]}
    record["max_output_tokens"] = asked["max_output_tokens"]
    request = request_from_json(request_of(rows, row.key, record))
    mends = mends_of(request, takes(provider, name))
    return Mending(row.key, asked["model"], frame["mending"], mends) if mends else None


def _asked(row: Promise, frame: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return the model that answered, with its settings; where none has, the first one."""
    value = value_of(row) if row.state is PromiseState.RESOLVED else None
    first = {key: frame[key] for key in ("model", "settings", "max_output_tokens")}
    if value is None:
        return first
    answered = f"{value['provider']}:{value['model']}"
    others: Sequence[Mapping[str, Json]] = frame.get("fallback", ())
    return next((each for each in (first, *others) if each["model"] == answered), first)
