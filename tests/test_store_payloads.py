"""What is stored comes back byte for byte, however it looks and however long it is."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from math import inf, isnan, nan
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from substrate.engine.run.unreadable import is_readable
from substrate.store.blobs import make_blob, open_blob
from substrate.store.store import Store
from substrate.values.codec import decode, encode
from substrate.values.errors import CheckpointRefused, NotEncodable, StoreUnusable
from substrate.values.ids import RunId
from substrate.values.records import Adopted, Checkpoint, Fenced, JsonText, Written
from tests.stores import (
    LANE,
    OTHER,
    OWNER,
    Database,
    checkpoint,
    claimed,
    database,
    new_run,
    opened,
    signal,
    take,
    waiting,
)

NASTY = [
    "",
    "NUL \0 inside",
    "lone \ud800 surrogate",
    "\\u0000 as it is written",
    "quotes ' \" \\ % %s $1 :name ?",
    "\x7f\x01\x1f\u2028\u2029\ufeff",
    "ß 漢字 🎻 \U0010ffff e\u0301",
    b"\0\xff bytes",
    0,
    -0.0,
    2**63 - 1,
    2**64,
    -(2**70),
    1e308,
    5e-324,
    inf,
    -inf,
    Decimal("0.10"),
    date(2026, 11, 21),
    datetime(2026, 11, 21, 12, 30, 15, 123456, tzinfo=UTC),
    [],
    {},
    [[[None, True, False]]],
    {"": 1, "a\0b": 2, "$tag": 3, "\udfff": 4},
    {"$blob": "0" * 64},
    {"$float": "nan"},
]

LONG = encode({"text": "long and \0 nasty, ß " * 2000})

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    # Lone surrogates are left out by default.
    | st.text(st.characters())
    | st.binary()
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=15,
)


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with opened(store_url) as store:
        yield store


@pytest.fixture
def db(store: Store, store_url: str) -> Iterator[Database]:
    with database(store_url) as db:
        yield db


@settings(max_examples=150, deadline=None)
@given(json_values)
def test_codec_gives_back_what_it_was_given(value: Any):
    """Decoding an encoded value gives the value, and encoding that gives the same text."""
    text = encode(value)

    assert decode(text) == value
    assert encode(decode(text)) == text
    assert orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS).decode() == text


def test_nan_is_kept():
    """A value that is not a number stays one, and never becomes null."""
    assert isnan(decode(encode([nan]))[0])


def test_uuid_is_text_wherever_it_stands():
    """A UUID is recorded as its text, beside whatever other values."""
    uuid = UUID(int=1)

    assert decode(encode(uuid)) == str(uuid)
    assert decode(encode([uuid, None, "\0"])) == [str(uuid), None, "\0"]


@pytest.mark.parametrize(
    "value", [{1: 2}, {1, 2}, object(), datetime.now(UTC).replace(tzinfo=None), [len]]
)
def test_not_json(value: Any):
    """What JSON cannot hold is refused, and the message says where it stands."""
    with pytest.raises(NotEncodable, match=r"^value\b.*answer"):
        encode({"answer": value})


async def test_nasty_payloads(store: Store):
    """Whatever the codec wrote comes back byte for byte, written alone or in a batch."""
    claim = await claimed(store)
    texts = [JsonText(encode(value)) for value in NASTY]

    for i, text in enumerate(texts):
        await store.commit([checkpoint(claim.fence, f"alone.{i}", text)])
    await store.commit([checkpoint(claim.fence, f"batch.{i}", t) for i, t in enumerate(texts)])

    journal = await store.journal(claim.run.id)
    assert [row.value for row in journal[1:]] == texts * 2
    assert [decode(row.value) for row in journal[1:]] == NASTY * 2


async def test_every_payload_column(store: Store, db: Database):
    """Any payload may be long: its row keeps a hash and the beginning, and readers get it all."""
    claim = await claimed(store)
    payloads = dict.fromkeys(("input", "value", "error", "usage", "attempts"), JsonText(LONG))
    full = replace(checkpoint(claim.fence, "work.0").promise, **payloads)

    await store.commit([Checkpoint(claim.fence, full)])
    await store.commit([Checkpoint(claim.fence, full), checkpoint(claim.fence, "work.1", "1")])

    row = (await store.journal(claim.run.id))[1]
    assert {name: getattr(row, name) for name in payloads} == payloads
    kept = orjson.loads(db.value("SELECT value FROM promises WHERE key = 'work.0'"))
    assert kept["bytes"] == len(LONG.encode())
    assert LONG.startswith(kept["preview"])
    assert len(kept["preview"]) == 500
    assert await store.blob(claim.run.id, kept["$blob"]) == LONG.encode()
    assert db.value("SELECT count(*) FROM blobs") == 1


async def test_limit_counts_bytes(store: Store, db: Database):
    """Sixteen kilobytes stay in the row, one byte more does not, whatever the alphabet."""
    claim = await claimed(store)
    texts = ["x" * 16_382, "x" * 16_383, "ß" * 8_191, "ß" * 8_192]

    for i, text in enumerate(texts):
        await store.commit([checkpoint(claim.fence, f"work.{i}", encode(text))])

    assert [decode(row.value) for row in (await store.journal(claim.run.id))[1:]] == texts
    assert db.value("SELECT count(*) FROM blobs") == 2


async def test_long_input_of_a_run(store: Store, db: Database):
    """A run may be started with a long input; every claim brings it whole."""
    _, claim = await store.start(new_run("now", input=LONG), OWNER)
    await store.start(new_run("later", input=LONG))
    await store.start(new_run("later", input=LONG))
    (later,) = await store.claim(LANE, 5, OWNER)

    assert claim.input == later.input == LONG
    assert (await store.promise(RunId("later"))).input == LONG
    assert db.value("SELECT count(*) FROM blobs") == 2  # one for each tree
    assert all(
        size < 2000 for (size,) in db.rows("SELECT length(CAST(input AS text)) FROM promises")
    )


async def test_long_signal(store: Store, db: Database):
    """A long signal settles its promise with the whole of it, kept as a blob."""
    claim = await claimed(store)
    await store.send_signal(signal(value=LONG))

    taken = await take(store, claim.fence, waiting())

    assert (await store.journal(claim.run.id))[1].value == LONG
    assert taken.state == "resolved"
    assert db.value("SELECT count(*) FROM blobs") == 1


async def test_adopted_outcome_is_whole(store: Store):
    """Who loses the race for a promise gets the winner's value whole, however long."""
    claim = await claimed(store)
    await store.commit([checkpoint(claim.fence, "work.0", LONG)])

    (outcome,) = await store.commit([checkpoint(claim.fence, "work.0", "1")])
    (read_back,) = await store.read_back([checkpoint(claim.fence, "work.0", "1")])

    assert isinstance(outcome, Adopted)
    assert outcome == read_back
    assert outcome.promise.value == LONG


async def test_blob_of_a_checkpoint(store: Store, db: Database):
    """Content that comes with a checkpoint is kept once a tree, and only if that is written."""
    claim = await claimed(store)
    frame = make_blob(claim.run.id, b"system prompt")
    lost = make_blob(claim.run.id, b"of a lost claim")
    step = checkpoint(claim.fence, "work.0")

    await store.commit([replace(step, blobs=(frame,))])
    await store.commit([replace(checkpoint(claim.fence, "work.1"), blobs=(frame, frame))])
    stale = replace(claim.fence, owner=OTHER)
    outcome = await store.commit([replace(checkpoint(stale, "work.2"), blobs=(lost,))])

    assert outcome == [Fenced()]
    assert await store.blob(RunId("run#child.0"), frame.hash) == b"system prompt"
    assert await store.blob(RunId("other"), frame.hash) is None
    assert db.rows("SELECT hash FROM blobs") == [(frame.hash,)]


async def test_blob_belongs_to_its_tenant(store: Store, db: Database):
    """A blob bears the tenant of its run, as every other row of its tree does."""
    await store.start(new_run(tenant="acme", input=LONG))
    (claim,) = await store.claim(LANE, 1, OWNER)
    await store.commit([checkpoint(claim.fence, "work.0", encode("y" * 20_000))])

    for table in ("runs", "promises", "blobs"):
        assert {tenant for (tenant,) in db.rows(f"SELECT tenant FROM {table}")} == {"acme"}


async def test_lost_blob_is_an_error(store: Store, db: Database):
    """A payload whose blob somebody has deleted is no JSON of ours; the other rows are read."""
    claim = await claimed(store)
    await store.commit([checkpoint(claim.fence, "work.0", LONG)])
    await store.commit([checkpoint(claim.fence, "work.1")])
    db.rows("DELETE FROM blobs")

    _, lost, other = await store.journal(claim.run.id)
    assert other.value == checkpoint(claim.fence, "work.1").promise.value
    _cannot_be_read(lost.value)


def _cannot_be_read(value: JsonText | None) -> None:
    """See that a reference is what stands there, which nobody takes for a value."""
    assert value is not None
    assert value.startswith('{"$blob":')
    assert not is_readable(value)
    with pytest.raises(ValueError, match=r"holds what this version does not write"):
        decode(value)


def test_blobs_of_earlier_versions_are_read():
    """A blob that another library wrote is read, and the same is written now."""
    content = b'{"text": "' + b"1. " * 20 + b'"}'
    data = bytes.fromhex("28b52ffd2048ad0000787b2274657874223a2022312e20227d0100f6745f")

    assert open_blob(data) == content
    assert make_blob(RunId("run"), content).data == data


def frame(header: bytes) -> bytes:
    """Return a frame of zstd's with this header (RFC 8878), of one block: a hundred zeros."""
    block = (1 | 1 << 1 | 100 << 3).to_bytes(3, "little")
    return b"\x28\xb5\x2f\xfd" + header + block + b"\0"


DAMAGED = {
    "cut": lambda data: data[:-5],
    "other bytes": lambda data: b"no frame at all",
    "bytes behind it": lambda data: data + b"more",
    "two": lambda data: data + data,
    "nothing": lambda data: b"",
    "far too long": lambda data: frame(b"\xe0" + (2**40).to_bytes(8, "little")),
    "longer than it says": lambda data: frame(b"\x20\x05"),
    "of no length that it says": lambda data: frame(b"\x00\x58"),
}


@pytest.mark.parametrize("damage", DAMAGED)
async def test_damaged_blob_is_an_error(store: Store, db: Database, damage: str):
    """A blob that is cut, or anything but one frame that ends in time, is no payload."""
    claim = await claimed(store)
    await store.commit([checkpoint(claim.fence, "work.0", LONG)])
    (blob,) = (bytes(data) for (data,) in db.rows("SELECT data FROM blobs"))
    db.rows("UPDATE blobs SET data = :data", data=DAMAGED[damage](blob))

    _, lost = await store.journal(claim.run.id)
    _cannot_be_read(lost.value)
    ((digest,),) = db.rows("SELECT hash FROM blobs")
    with pytest.raises(StoreUnusable, match=r"a blob of .* restore the row of `blobs`"):
        await store.blob(claim.run.id, digest)


@pytest.mark.parametrize("field", ["name", "fingerprint", "value"])
async def test_unwritable_text(store: Store, field: str):
    """Text that is no Unicode is refused, alone or in a batch, and the store goes on."""
    claim = await claimed(store)
    good, bad = checkpoint(claim.fence, "good.0"), checkpoint(claim.fence, "bad.0")
    bad = replace(bad, promise=replace(bad.promise, **{field: "\ud800"}))

    for batch in ([bad], [good, bad]):
        with pytest.raises(CheckpointRefused):
            await store.commit(batch)

    assert await store.commit([good]) == [Written(2)]
