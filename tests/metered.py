"""A model as dear as can be: each call takes all that it may, and that is counted outside.

It reads as much as is estimated, and writes as long an answer as it was asked for. Where nobody
limits that, it writes `LONGEST` tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from substrate.models.messages import Reply, Usage
from substrate.models.model import Model
from substrate.models.providers.scripted import say
from substrate.models.request import Request
from substrate.models.tokens import estimate

PRICE = (3, 15)
"""US dollars for a million tokens read, and for one written."""

LONGEST = 40_000
"""What a model writes that nobody limits: 60 cents."""


def metered(
    name: str,
    script: Callable[[Request], Any],
    share: float,
    noted: Callable[[Request, Usage], None],
) -> Model:
    """Return a model that follows a script, writes that share of what it may, and tells of it."""

    def metering(request: Request) -> Reply:
        said = script(request)
        longest = int((request.max_output_tokens or LONGEST) * share)
        usage = Usage(estimate(request), longest)
        noted(request, model.priced(usage))
        return replace(said if isinstance(said, Reply) else say(said), usage=usage)

    model = Model(f"scripted:{name}", script=metering, price=PRICE)
    return model


@dataclass
class Meter:
    """What was asked of all models that stand on it, whether or not it was recorded."""

    #: What each call took, in order.
    usages: list[Usage] = field(default_factory=list)

    @property
    def usd(self) -> Decimal:
        """What all of them cost."""
        return sum((each.cost_usd or Decimal(0) for each in self.usages), Decimal(0))

    @property
    def tokens(self) -> int:
        """What all of them read and wrote."""
        return sum(each.input_tokens + each.output_tokens for each in self.usages)

    def model(
        self, name: str, script: Callable[[Request], Any], share: float = 1.0, **options: Any
    ) -> Model:
        """Return a model that follows a script, and writes that share of what it may."""
        made = metered(name, script, share, lambda request, usage: self.usages.append(usage))
        return replace(made, **options)
