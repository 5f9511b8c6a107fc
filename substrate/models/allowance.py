"""What one model call may use at most: so many dollars, so many tokens. Pure values.

How that bounds a call is told in `bound`.
"""

from dataclasses import dataclass, replace
from decimal import Decimal

from substrate.models.messages import Json, Usage


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one model call may use; None for what is not limited."""

    #: Dollars.
    usd: Decimal | None = None
    #: Tokens, read and written.
    tokens: int | None = None
    #: How many tokens were counted of what is said up to its last reply; None to estimate all.
    counted: int | None = None

    @property
    def is_used_up(self) -> bool:
        """Whether nothing is left of it, so that nothing may be asked at whatever price."""
        return any(each is not None and each <= 0 for each in (self.usd, self.tokens))

    def less(self, used: Usage) -> "Allowance":
        """Return what is left of it; what costs nobody knows how much leaves what there was."""
        usd, tokens = self.usd, self.tokens
        return replace(
            self,
            usd=usd if usd is None or used.cost_usd is None else usd - used.cost_usd,
            tokens=None if tokens is None else tokens - used.input_tokens - used.output_tokens,
        )

    def divided(self, count: int) -> "Allowance":
        """Return an equal part of it."""
        usd, tokens = self.usd, self.tokens
        return replace(
            self,
            usd=None if usd is None else usd / count,
            tokens=None if tokens is None else tokens // count,
        )

    def to_json(self) -> dict[str, Json]:
        """Return what a row keeps of it."""
        usd = {} if self.usd is None else {"usd": format(self.usd, ".6f")}
        return {**usd, **({} if self.tokens is None else {"tokens": self.tokens})}

    def __str__(self) -> str:
        """Return it in words."""
        usd = [] if self.usd is None else [f"${max(self.usd, Decimal(0)):.4f}"]
        tokens = [] if self.tokens is None else [f"{max(self.tokens, 0):,} tokens"]
        return " and ".join(usd + tokens)
