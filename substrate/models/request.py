"""What is asked of a model in one call, and who listens to what becomes of it. Pure values."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from substrate.models.allowance import Allowance
from substrate.models.messages import Json, Message, Reply

OnText = Callable[[str], None]
"""Gets each piece of text as it comes in: live only, never recorded."""


@dataclass(frozen=True, slots=True)
class ModelWaits:
    """A model is not asked before its limits allow it."""

    #: The model.
    model: str
    #: How long it waits.
    seconds: float


@dataclass(frozen=True, slots=True)
class ModelAsked:
    """A model is asked from the beginning: the text that came before, if any, is void."""

    #: The model.
    model: str


OnModelEvent = Callable[[ModelWaits | ModelAsked], None]
"""Gets an event for each turn that a call takes: live only, never recorded."""


def ignore_event(event: ModelWaits | ModelAsked) -> None:
    """Do nothing with an event: nobody is interested."""


READ_TIMEOUT_S = 600.0
"""How long a provider may say nothing, unless the model's settings say otherwise.

Models that think without a word for minutes are common, and their keep-alives do not count.
"""

CALL_TIMEOUT_S = 3600.0
"""How long a whole answer may take, unless the model's settings say otherwise."""

OURS = frozenset({"read_timeout", "call_timeout"})
"""The settings that no provider gets."""

_OUR_ID = re.compile(r"call_(\d{1,9})_\d+")


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model sees it. `parameters` is a JSON Schema whose root is an object."""

    #: What the model calls it.
    name: str
    #: What the model chooses it by.
    description: str
    #: A JSON Schema.
    parameters: dict[str, Json]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Request:
    """One model call: everything that the provider gets.

    `settings` are the model's: ``read_timeout`` and ``call_timeout`` are ours; the rest goes out.
    Where `max_output_tokens` is None, an answer may be as long as the model can make it. Without
    `may_call_tools` the model is shown the tools, which earlier messages may speak of, and may
    call none. With an `answer_schema`, a JSON Schema whose root is an object, its answer is to be
    JSON that fits. What it may use, its `allowance`, goes to nobody: see `bound`.
    """

    #: The system prompt.
    system: str
    #: What was said so far; the first is the task.
    messages: Sequence[Message]
    #: What the model may call.
    tools: Sequence[ToolSpec] = ()
    #: The longest answer; None is as much as the model can write.
    max_output_tokens: int | None = None
    #: The model's.
    settings: Mapping[str, Json] = field(default_factory=dict)
    #: Whether it may call them now, or is only shown them.
    may_call_tools: bool = True
    #: What its answer is to fit, where it is to be JSON.
    answer_schema: Mapping[str, Json] | None = None
    #: What the call may use; None where nothing is limited.
    allowance: Allowance | None = None

    def call_id(self, position: int) -> str:
        """Return an id for a call to which its provider gives none: no other call has it."""
        replies = [message for message in self.messages if isinstance(message, Reply)]
        ours = (_OUR_ID.fullmatch(call.id) for reply in replies for call in reply.tool_calls)
        # After a summary there are fewer replies than there were, and the last one kept its ids.
        number = max((int(each[1]) + 1 for each in ours if each), default=0)
        return f"call_{max(number, len(replies))}_{position}"

    @property
    def read_timeout_s(self) -> float:
        """How long the provider may say nothing, in seconds, before the call counts as stalled."""
        return float(self.settings.get("read_timeout", READ_TIMEOUT_S))

    @property
    def call_timeout_s(self) -> float:
        """How long the whole answer may take, in seconds."""
        return float(self.settings.get("call_timeout", CALL_TIMEOUT_S))

    @property
    def parameters(self) -> dict[str, Json]:
        """The settings that go to the provider as they are."""
        return {key: value for key, value in self.settings.items() if key not in OURS}
