"""What a model takes: ids, names, schemas, pictures and documents, by its provider and its name.

Invariants: pure; of a provider or a model that nobody here knows, what the strictest chat server
takes is assumed, and of a model's eyes, that it sees.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256

from substrate.models.parts import portable
from substrate.models.sendable import clean

LONGEST_ID = 64

UNSIGNED = "skip_thought_signature_validator"
"""Stands for the signature of a call that Gemini did not make: Google's own mark for it."""

_PICTURES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_PDF = frozenset({"application/pdf"})
_TEXTS = ("plain", "html", "css", "markdown", "csv", "xml", "rtf")
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True)
class Takes:
    """What one model takes."""

    provider: str
    model: str = ""
    #: The ids of calls that another model made.
    ids: re.Pattern[str] = _PLAIN
    #: Whether its own go back as they came, whatever is in them.
    keeps_ids: bool = False
    #: The names of a tool's arguments; None is any.
    keys: re.Pattern[str] | None = None
    #: Whether a tool's name begins with a letter or an underscore.
    names_begin_with_letters: bool = False
    most_tools: int | None = None
    #: Whether a request with calls has to have tools.
    needs_tools: bool = False
    #: In characters.
    longest_description: int | None = None
    #: Whether arrays have to have items, and objects properties.
    says_all: bool = False
    #: Whether a schema is of Gemini's subset.
    is_subset: bool = False
    #: Types of media; none where the model sees nothing.
    pictures: frozenset[str] = _PICTURES
    most_pictures: int | None = None
    #: In characters of base64.
    largest_picture: int | None = None
    #: In pixels, of either side.
    longest_side: int | None = None
    #: Types of media.
    documents: frozenset[str] = _PDF
    #: Whether a reply has to stand between results and the user.
    replies_to_results: bool = False
    #: What stands for the signature of a call that another model made.
    unsigned: str | None = None

    def name(self, name: str) -> str:
        """Return a tool's name as it is taken: the same where it is."""
        made = portable(name)
        if self.names_begin_with_letters and not (made[0].isalpha() or made[0] == "_"):
            made = "_" + made[-63:]
        return name if made == name else made

    def key(self, name: str) -> str:
        """Return the name of an argument as it is taken: the same where it is."""
        if self.keys is None or self.keys.fullmatch(name):
            return name
        return re.sub(r"[^A-Za-z0-9_.-]", "_", name)[-64:] or "_"

    def takes_id(self, id: str, *, own: bool) -> bool:
        """Whether a call's id goes back as it is; a model's own does, if it is not too long."""
        if own and self.keeps_ids:
            return 0 < len(id) <= LONGEST_ID and clean(id) == id
        return bool(self.ids.fullmatch(id))

    def id(self, wanted: str, number: int, *, own: bool) -> str:
        """Return an id that is taken, made of another: the first, the second and so on."""
        if number == 1 and self.takes_id(wanted, own=own):
            return wanted
        if self.ids is _NINE and not (own and self.keeps_ids):
            digest = sha256(f"{number} {wanted}".encode(errors="surrogatepass")).digest()
            return "".join(_LETTERS[each % len(_LETTERS)] for each in digest[:9])
        longest = _LENGTHS.get(self.ids, LONGEST_ID)
        suffix = "" if number == 1 else f"_{number}"
        return portable(wanted)[-(longest - len(suffix)) :] + suffix


_NINE = re.compile(r"[A-Za-z0-9]{9}")
_FORTY = re.compile(r"[A-Za-z0-9_-]{1,40}")
_LENGTHS = {_FORTY: 40}
_KNOWN: Mapping[str, Takes] = {
    each.provider: each
    for each in (
        Takes(
            "anthropic",
            keys=re.compile(r"[A-Za-z0-9_.-]{1,64}"),
            needs_tools=True,
            most_pictures=100,
            largest_picture=5 * 1024 * 1024,
            longest_side=8000,
            documents=_PDF | {"text/plain"},
        ),
        Takes(
            "google",
            names_begin_with_letters=True,
            most_tools=512,
            is_subset=True,
            pictures=_PICTURES - {"image/gif"} | {"image/heic", "image/heif"},
            most_pictures=3600,
            documents=_PDF | {f"text/{each}" for each in _TEXTS},
            unsigned=UNSIGNED,
        ),
        Takes(
            "groq",
            ids=_FORTY,
            keeps_ids=True,
            most_tools=128,
            says_all=True,
            most_pictures=5,
            largest_picture=4 * 1024 * 1024,
            documents=frozenset(),
        ),
        Takes(
            "openai",
            most_tools=128,
            longest_description=1024,
            says_all=True,
            most_pictures=500,
        ),
        Takes(
            "openai-chat",
            ids=_NINE,
            keeps_ids=True,
            most_tools=128,
            longest_description=1024,
            says_all=True,
        ),
    )
}

_OF_MISTRAL = re.compile(r"(?i)mistral|mixtral|ministral|codestral|devstral|magistral|pixtral")
_OLD_GEMINI = re.compile(r"gemini-[12]\b")  # those before Gemini 3 ask for no signature
_BLIND = re.compile(
    r"gpt-oss|gpt-3\.5|\bo[13]-mini|\bo1-preview|llama-?3(\.[0-3])?-(?!.*vision)|qwen3-32b|qwq"
    r"|kimi-k2-instruct|deepseek-(chat|reasoner|r1|v3)|compound-beta|gemma2?-\d+b-it$"
)
"""Models that see nothing, by their names: those that are known to. Of others nothing is said."""


@lru_cache(maxsize=256)
def takes(provider: str, model: str) -> Takes:
    """Return what a model takes."""
    known = replace(_KNOWN.get(provider, _KNOWN["openai-chat"]), provider=provider, model=model)
    if provider == "google" and _OLD_GEMINI.match(model):
        known = replace(known, unsigned=None)
    if provider not in ("anthropic", "google") and _BLIND.search(model):
        known = replace(known, pictures=frozenset())
    if known.ids is _NINE and _OF_MISTRAL.search(model):
        known = replace(known, replies_to_results=True, keeps_ids=False)
    return known
