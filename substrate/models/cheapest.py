"""`cheapest`: a choice among models by what a typical call of each takes.

>>> model = cheapest("anthropic:claude-haiku-5-5", "openai:gpt-6-luna", context=200_000)
"""

from dataclasses import replace
from decimal import Decimal

from substrate.models import prices
from substrate.models.messages import Usage
from substrate.models.model import Model
from substrate.values.errors import Misuse

TYPICAL = Usage(input_tokens=10_000, output_tokens=1_000)
"""A turn of an agent: much is read, little written."""


def cheapest(*models: str | Model, context: int = 0) -> Model:
    """Return the cheapest of these models, with the others, from cheap to dear, as its fallback.

    Args:
        *models: Names, or `Model`s. One whose price is not known comes last, in the order given.
        context: Tokens. A model that is known to hold fewer is left out.

    Raises:
        Misuse: none is left.
    """
    given = [Model(each) if isinstance(each, str) else each for each in models]
    able = [each for each in given if _window(each) is None or (_window(each) or 0) >= context]
    if not able:
        raise Misuse(
            f"none of {[each.id for each in given]!r} holds {context:,} tokens; "
            "ask for less, or name a model with a larger context"
        )
    first, *rest = sorted(able, key=_price)
    return replace(first, fallback=tuple(rest)) if rest else first


def _price(model: Model) -> tuple[bool, Decimal]:
    """Return what orders models: the unknown last."""
    cost = prices.priced(TYPICAL, model.provider, model.name).cost_usd
    return cost is None, cost or Decimal(0)


def _window(model: Model) -> int | None:
    return prices.context_window(model.provider, model.name)
