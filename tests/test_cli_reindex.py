"""The vectors of a namespace are made anew from a shell."""

import pytest

from substrate import connect
from tests.fork import Fork
from tests.stores import database
from tests.test_vectors import NS, Meanings, found, opened, say


@pytest.fixture
async def fork(tmp_path, store_url) -> Fork:
    """Provide a fork whose database has a few texts, and vectors of an embedder that nobody has."""
    async with opened(store_url) as store:
        await say(store, "my lorry is old", "the ocean is cold")
        await found(store, Meanings(), "automobile")
    async with connect(store_url):
        return Fork.make(tmp_path, store_url)


async def test_reindex(fork, store_url):
    """From then on the namespace has vectors of the embedder that was named, and again of that."""
    told = fork.do("memory", "reindex", NS, "--embed", "hashed-ngrams:64", "--json").document
    assert told == {"namespace": NS, "embedder": "hashed-ngrams:64", "texts": 2}
    assert "2 texts have vectors of hashed-ngrams:64" in fork.do("memory", "reindex", NS).err
    with database(store_url) as db:
        rows = db.rows("SELECT model, dimension, last_n, built FROM embedders")
        assert rows == [("hashed-ngrams:64", 64, 2, 3)]
        assert db.value("SELECT count(*) FROM vectors") == 2
        assert {len(bytes(each)) for (each,) in db.rows("SELECT vector FROM vectors")} == {128}


@pytest.mark.parametrize(
    "typed, told",
    [
        (("memory", "reindex", NS), "'meanings', which is no embedder of the kit's"),
        (("memory", "reindex", "acme/nobody"), "has no vectors yet"),
        (("memory", "reindex", NS, "--embed", "best"), "names no embedder"),
        (("memory", "reindex", "a//b", "--embed", "hashed-ngrams:64"), "is not a namespace"),
    ],
)
async def test_what_cannot_be_made_anew(fork, store_url, typed, told):
    """What names no embedder or namespace is refused, and the vectors stay."""
    done = fork.do(*typed)
    assert done.code == 2
    assert told in done.err
    with database(store_url) as db:
        assert db.value("SELECT count(*) FROM vectors") == 2
