"""Why another model is asked: each failure of a model as one of six reasons. Pure.

Invariant: a failure that no other model can mend, such as a request that is wrong, has no reason.
"""

from enum import StrEnum

from substrate.values.errors import (
    ContextOverflow,
    ModelError,
    ModelMistake,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    Refused,
    TransportFailed,
    Unusable,
)

PATIENCE_S = 30.0
"""How long a model with a fallback may ask to wait before another is asked, in seconds."""


class FallbackReason(StrEnum):
    """Why a model is passed over."""

    #: It is short of capacity, or cannot be reached.
    OVERLOADED = "overloaded"
    #: Its account is used up, or its limit asks for a wait of more than half a minute.
    QUOTA = "quota"
    #: The request is larger than its context.
    CONTEXT = "context"
    #: It, or its provider, declines to answer.
    REFUSED = "refused"
    #: Its provider rejects what it wrote, or its answer never fits what was asked for.
    INVALID = "invalid"
    #: Its key is refused, or the model does not exist any more.
    UNUSABLE = "unusable"


def reason_of(error: ModelError) -> FallbackReason | None:
    """Return why another model may do better, or None where it would not."""
    match error:
        case Overloaded() | TransportFailed():
            return FallbackReason.OVERLOADED
        case QuotaExhausted() | RateLimited():
            return FallbackReason.QUOTA
        case ContextOverflow():
            return FallbackReason.CONTEXT
        case Refused():
            return FallbackReason.REFUSED
        case ModelMistake():
            return FallbackReason.INVALID
        case Unusable():
            return FallbackReason.UNUSABLE
    return None


def may_pass_soon(error: ModelError) -> bool:
    """Whether a failure is worth a second try before another model is asked."""
    is_short = isinstance(error, Overloaded | TransportFailed | RateLimited)
    return is_short and (error.retry_after or 0.0) <= PATIENCE_S
