"""What tests of a full context share: an agent that reads pages until its context is full."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from substrate import Client, Context, Durable, durable
from substrate.agent import Answer, Task, answered, any_of, begin, max_turns, tool
from substrate.agent.history.rows import value_of
from substrate.models.messages import Reply, Text, Usage, UserMessage
from substrate.models.model import Model
from substrate.models.providers.scripted import call, say
from substrate.models.request import Request
from substrate.models.tokens import estimate
from substrate.values.errors import BadRequest, ContextOverflow
from substrate.values.records import Promise

ENDS = any_of(answered(), max_turns(60))

SUMMED_UP = "I have read up to here; page 1 says OWL-1."
"""A summary."""


@tool(effect="pure")
def read(page: int, chars: int = 3000) -> str:
    """Read a page."""
    return f"page {page}: " + "x" * chars


@dataclass
class Reader:
    """A model of so many tokens that reads pages, and counts as a provider does."""

    window: int = 10_000
    pages: int = 20
    chars: int = 3000
    #: What it answers where it is asked for a summary.
    summary: Any = SUMMED_UP
    #: What it answers where it is asked for facts.
    facts: Any = '{"facts": []}'
    #: What it says in the place of a page, by turn.
    turns: dict[int, Any] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)
    refused: int = 0
    #: From which turn on it is not reached.
    fails_at: int | None = None
    #: How many tokens it counts where the kit estimates one.
    scale: float = 1.0
    #: Called with each request.
    watch: Callable[[Request], None] = lambda request: None

    def __call__(self, request: Request) -> Reply:
        """Take a turn, or say that it does not fit."""
        read = int(estimate(request) * self.scale)
        if read > self.window:
            self.refused += 1
            raise ContextOverflow(f"{read} is more than {self.window}")
        self.asked.append(request)
        self.watch(request)
        said = self._said(request)
        reply = said if isinstance(said, Reply) else say(said)
        return replace(reply, usage=Usage(read, 10, cost_usd=Decimal("0.01")))

    def _said(self, request: Request) -> Any:
        if is_summary(request):
            return self.summary
        if is_extraction(request):
            return self.facts
        turn = len(self.of_turns) - 1
        if self.fails_at is not None and turn >= self.fails_at:
            raise BadRequest("the key is missing")
        if turn in self.turns:
            return self.turns[turn]
        if turn > self.pages or not request.may_call_tools:
            return say("Done.")
        return say(call("read", page=turn, chars=self.chars))

    @property
    def of_turns(self) -> list[Request]:
        """What it was asked for turns."""
        return [each for each in self.asked if not is_summary(each) and not is_extraction(each)]

    def model(self, **more: Any) -> Model:
        """Return the model."""
        return Model("scripted:reader", script=self, **more)


def is_summary(request: Request) -> bool:
    """Whether a summary is asked for."""
    return "sum up what you did" in _last(request)


def is_extraction(request: Request) -> bool:
    """Whether facts are asked for."""
    return "is about to be left out" in _last(request)


def _last(request: Request) -> str:
    last = request.messages[-1]
    if not isinstance(last, UserMessage):
        return ""
    return "".join(part.text for part in last.parts if isinstance(part, Text))


def reading(
    model: Any, compact: Any, tools: Any = (read,), stop: Any = ENDS, **hooks: Any
) -> Durable[[Task], Answer]:
    """Return the canonical loop over these hooks."""
    found = SimpleNamespace(
        prompt="You read.", model=model, tools=list(tools), stop=stop, compact=compact, **hooks
    )

    @durable(name="agent")
    async def agent(ctx: Context, task: Task) -> Answer:
        turn = await begin(ctx, found, task)
        while not (end := turn.stop()):
            reply = await turn.ask()
            await turn.call_tools(reply)
        return await turn.finish(end)

    return agent


async def cuts(client: Client, run_id: str = "a/1") -> list[Promise]:
    """Return the rows of the cuts that were made."""
    return [row for row in await client.journal(run_id) if row.name == "compact"]


def tokens(row: Promise) -> tuple[int, int]:
    """Return how many tokens there were before a cut, and after it."""
    before, after = value_of(row)["tokens"]
    return before, after
