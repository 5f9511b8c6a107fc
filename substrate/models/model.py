"""`Model`: a provider and a model by name, and how they are reached.

``Model("anthropic:claude-sonnet-5-5")`` is a value: making one opens nothing, reads nothing and
imports no SDK. The first `answer` loads its provider's adapter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

from substrate.models.address import Address
from substrate.models.messages import Delta, Json, Message, Reply, Request, ToolSpec
from substrate.models.provider import PROVIDERS, Provider, adapter_of, disconnect
from substrate.models.quota import QUOTA
from substrate.models.scripted import Script, Scripted
from substrate.values.errors import BadRequest, Misuse, ModelError

__all__ = ["PROVIDERS", "Delta", "Model", "Provider", "Script", "disconnect"]


@dataclass(frozen=True, slots=True)
class Model:
    """A model by ``provider:name``.

    `script` belongs to the provider ``scripted``, the offline model: a list of turns, or a
    function from the request to a reply. `offline` answers in this model's place while its
    provider's key is not set, which the command line says in one line.

    `settings` go to the provider as they are (``temperature``, ``reasoning``, …), under what the
    request itself says; ``tools`` among them, such as a search that the provider runs, join the
    request's own. ``read_timeout`` is ours: the seconds of silence after which a call counts as
    stalled (120). A model that thinks for longer without a word needs more.

    `base_url` and `key`, the name of an environment variable, are for a server that is not the
    provider's own: ``Model("openai-chat:qwen3", base_url="http://localhost:11434/v1")``.

    Raises `Misuse` for an unknown provider, a name without one, or a setting that cannot be.
    """

    id: str
    offline: "Model | None" = None
    script: Script | None = None
    max_output_tokens: int = 4096
    settings: Mapping[str, Json] = field(default_factory=dict)
    base_url: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        """Check the name now, so that a typo is found at start-up and not in the night."""
        known = ", ".join(sorted((*PROVIDERS, "scripted")))
        if ":" not in self.id or not self.name:
            raise Misuse(
                f"{self.id!r} is not a model; write provider:name, provider one of {known}"
            )
        if self.provider not in PROVIDERS and self.provider != "scripted":
            raise Misuse(f"{self.id!r}: no provider {self.provider!r}; known are {known}")
        if (self.provider == "scripted") != (self.script is not None):
            raise Misuse(f"{self.id!r}: script= and the provider 'scripted' go together")
        if isinstance(self.script, str):
            raise Misuse(f"script={self.script!r} is text; give a list of turns, even of one")
        patience = self.settings.get("read_timeout", 1)
        if not isinstance(patience, int | float) or not isfinite(patience) or patience <= 0:
            raise Misuse(f"read_timeout={patience!r} must be a number of seconds above 0")

    @property
    def provider(self) -> str:
        """The part before the colon."""
        return self.id.partition(":")[0]

    @property
    def name(self) -> str:
        """The part after the colon."""
        return self.id.partition(":")[2]

    @property
    def missing_key(self) -> str | None:
        """The environment variable that must be set before this model can answer, or None."""
        if self.provider == "scripted":
            return None
        return PROVIDERS[self.provider].missing_key(self.address)

    @property
    def address(self) -> Address:
        """Where it is reached."""
        return Address(self.base_url, self.key)

    def available(self) -> "Model":
        """Return this model, or the one that answers in its place while its key is missing."""
        return self.offline if self.missing_key and self.offline else self

    def request(
        self, system: str, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()
    ) -> Request:
        """Return a request with this model's parameters: its settings and its longest output."""
        return Request(system, messages, tools, self.max_output_tokens, self.settings)

    async def answer(self, request: Request, on_delta: Delta = lambda text: None) -> Reply:
        """Ask once, with no retry, exactly what the request says; see `request`.

        Raises `ModelError`; `BadRequest` when the key is missing.
        """
        model = self.available()
        if key := model.missing_key:
            raise BadRequest(
                f"{model.id}: {key} is not set; export it, or give Model(…, offline=…) "
                "a scripted model to go on without"
            )
        adapter = await model.adapter()
        await QUOTA.enter(model.id, request)
        try:
            return await adapter.answer(model.name, request, on_delta)
        except ModelError as error:
            QUOTA.refused(model.id, error)
            raise

    async def adapter(self) -> Provider:
        """Return what reaches its provider, loaded on first use."""
        if self.script is not None:
            return Scripted(self.script)
        return await adapter_of(self.provider, self.address)
