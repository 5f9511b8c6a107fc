"""The words and statuses by which providers refuse, and the kind of `ModelError` that each is.

They are the providers' own, from their documentation and from what their servers have sent. A table
is asked from its beginning: of two rows that fit, the first one counts.
"""

import re
from collections.abc import Mapping

from substrate.values.errors import (
    BadRequest,
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

Kind = type[ModelError]

# The first kind that knows one of the body's words wins: a quota error is also a 429, and a
# provider may call it a rate limit in its type and a quota in its code.
WORDS: Mapping[Kind, frozenset[str]] = {
    QuotaExhausted: frozenset(
        {
            "insufficient_quota",
            "billing_error",
            "billing_hard_limit_reached",
            "billing_not_active",
            "enforced_spend_limit_reached",
            "contract_spend_limit_reached",
            "linked_organization_spend_limit_reached",
            "linked_organization_billing_unavailable",
            "insufficient_credits",
        }
    ),
    Unusable: frozenset(
        {
            "authentication_error",
            "permission_error",
            "not_found_error",
            "invalid_api_key",
            "model_not_found",
            "model_decommissioned",
            "UNAUTHENTICATED",
            "PERMISSION_DENIED",
            "NOT_FOUND",
        }
    ),
    ContextOverflow: frozenset({"context_length_exceeded", "request_too_large"}),
    Refused: frozenset(
        {
            "content_filter",
            "content_policy_violation",
            "image_content_policy_violation",
            "misalignment_policy_violation",
            "bio_policy",
            "invalid_prompt",
        }
    ),
    ModelMistake: frozenset({"tool_use_failed", "output_parse_failed", "json_validate_failed"}),
    RateLimited: frozenset(
        {"rate_limit_error", "rate_limit_exceeded", "ramp_limit_exceeded", "RESOURCE_EXHAUSTED"}
    ),
    Overloaded: frozenset(
        {
            "overloaded_error",
            "overloaded",
            "api_error",
            "server_error",
            "timeout_error",
            "vector_store_timeout",
            "UNAVAILABLE",
            "DEADLINE_EXCEEDED",
            "INTERNAL",
            "ABORTED",
        }
    ),
}

# These say more than any word: Gemini's for 413 is RESOURCE_EXHAUSTED.
FIRM: Mapping[int | None, Kind] = {402: QuotaExhausted, 413: ContextOverflow}

STATUSES: Mapping[int, Kind] = {
    401: Unusable,
    403: Unusable,
    404: Unusable,
    410: Unusable,  # a model that is no more
    408: Overloaded,
    409: Overloaded,  # a conflict with a request of a moment ago; it passes
    429: RateLimited,
    498: Overloaded,  # Groq's flex tier is full
    499: Overloaded,  # the server gave the request up
}

# Causes that some providers tell in prose only. A 429 whose single request is larger than the
# whole minute's allowance never passes, however long one waits.
PROSE: tuple[tuple[frozenset[int | None], re.Pattern[str], Kind], ...] = (
    (
        frozenset({None, 400, 413, 422}),
        re.compile(
            r"prompt is too long|input is too long|too many (input )?tokens"
            r"|context (length|limit|window)|maximum context|maximum number of tokens allowed"
            r"|reduce the length of the messages",
            re.IGNORECASE,
        ),
        ContextOverflow,
    ),
    (frozenset({413, 429}), re.compile(r"request too large", re.IGNORECASE), ContextOverflow),
    (
        frozenset({400, 403}),
        re.compile(r"credit balance is too low", re.IGNORECASE),
        QuotaExhausted,
    ),
    # Gemini, for a key that is none, and where it does not serve.
    (
        frozenset({400}),
        re.compile(r"api key|location is not supported", re.IGNORECASE),
        Unusable,
    ),
    # Gemini, for a model that the plan does not include; Anthropic, for a long context.
    (
        frozenset({429}),
        re.compile(r"\blimit: 0\b|extra usage is required", re.IGNORECASE),
        QuotaExhausted,
    ),
    (
        frozenset({None, 400}),
        re.compile(r"failed to call a function|tool call validation failed", re.IGNORECASE),
        ModelMistake,
    ),
)

REMEDIES: Mapping[Kind, str] = {
    RateLimited: "back off, then ask again",
    QuotaExhausted: "raise the account's limit or credit, or ask another provider",
    Overloaded: "back off, or ask another model",
    ContextOverflow: "shorten the transcript",
    ModelMistake: "tell the model what was wrong, or ask again",
    Refused: "change the request, or ask another model",
    TransportFailed: "ask again",
    BadRequest: "correct the request",
    Unusable: "check the key and what it may do, and the model's name, or ask another model",
}
