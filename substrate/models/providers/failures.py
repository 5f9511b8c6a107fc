"""What went wrong with a model call: a provider's "no" as one of the kinds of `ModelError`.

Providers agree on little. The words of the body (its type, code, status) say most; the HTTP status
decides where they say nothing, and the prose of the message where a provider puts a cause nowhere
else. An error that comes inside a stream has the status of the stream, 200, which says nothing:
there the body decides alone.

A 429 is four things: a rate that passes in a moment, a quota that passes at a time which is named,
an empty account that passes when somebody pays, and a request that is larger than a whole minute's
allowance, which never passes.

Invariants: the same status, headers and body always give the same kind; the wait is what the
provider asked for, in seconds, and None where it asked for none; one that nobody can mean is said,
and counts as none; a message states what was asked, what the provider said, and what to do. What is
not known is shown with its body, and retried only where its status says that it may pass.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, cast

from substrate.models.limits.headers import LONGEST_WAIT_S, details_of, retry_after
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

LONGEST_BODY = 20_000
"""How many characters of a provider's answer an error keeps."""

SHORTEST_QUOTA_S = 3600.0
"""An account that is empty is not filled in less: a shorter wait beside it says nothing."""

Kind = type[ModelError]

# The first kind that knows one of the body's words wins: a quota error is also a 429, and a
# provider may call it a rate limit in its type and a quota in its code.
_WORDS: Mapping[Kind, frozenset[str]] = {
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
_FIRM: Mapping[int | None, Kind] = {402: QuotaExhausted, 413: ContextOverflow}

_STATUSES: Mapping[int, Kind] = {
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
_PROSE: tuple[tuple[frozenset[int | None], re.Pattern[str], Kind], ...] = (
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

_REMEDIES: Mapping[Kind, str] = {
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


class Translator(Protocol):
    """What knows an SDK's errors."""

    def failing_as_ours(self, model: str) -> AbstractContextManager[None]:
        """Turn what the SDK and its transport raise about a model into `ModelError`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sdk:
    """What an SDK raises, by what it means: several come from one generator, each with its own.

    `status` carries ``status_code``, ``body`` and ``response``; `api` carries ``body``, and is the
    parent of `connection` and `status`; `sdk` is the parent of all three.
    """

    status: type[Exception]
    connection: type[Exception]
    api: type[Exception]
    sdk: type[Exception]
    transport: type[Exception]

    @contextmanager
    def failing_as_ours(self, model: str) -> Iterator[None]:
        """Turn what the SDK and its transport raise about a model into `ModelError`."""
        try:
            yield
        except self.status as error:
            raise _of_response(model, cast("Any", error)) from error
        except self.connection as error:
            raise broken(model, f"did not answer: {error} ({error.__cause__!r})") from error
        except self.api as error:
            raise _of_event(model, error, cast("Any", error).body) from error
        except self.transport as error:
            raise broken(model, f"broke off: {error!r}") from error
        except UnicodeEncodeError as error:  # of ours, before anything was sent
            raise unsent(model, error) from error
        except ValueError as error:  # JSON that is none, text that is not UTF-8
            raise broken(model, f"sent what cannot be read: {error}") from error
        except (self.sdk, TypeError) as error:  # no credentials; a setting that is not JSON
            raise unsent(model, error) from error


@contextmanager
def parsing(model: str) -> Iterator[None]:
    """Turn what a part missing from a provider's answer makes Python raise into `ModelError`."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise broken(model, f"sent an answer that makes no sense: {error!r}") from error


def rejected(
    model: str, body: object, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> ModelError:
    """Return the error for what a provider said no with.

    `model` is ``provider:name``. `body` is the answer as it was decoded: an object, its ``error``
    part, or text. `status` is None for an error that came inside a stream.
    """
    if status is not None and 300 <= status < 400:
        return _redirected(model, status, headers or {})
    words, message = _said(body)
    status = status or _status_in(body)
    wait = retry_after(headers or {}, body, datetime.now(UTC))
    kind = _kind(status, words, message)
    if is_daily := kind is RateLimited and _is_daily(body):
        kind = QuotaExhausted
    told = " ".join(str(each) for each in (status, *words[-1:]) if each)
    said = f"{model} answered {told or 'with an error'}: {message}"
    if wait is not None and wait >= LONGEST_WAIT_S:
        days = f"{LONGEST_WAIT_S / 86400:.0f} days"
        said += f" (it asks for a wait of {days} or more, which is not believed)"
        wait = None
    if kind is QuotaExhausted and not is_daily and (wait or 0) < SHORTEST_QUOTA_S:
        wait = None
    remedy = _REMEDIES[kind]
    if kind in (RateLimited, QuotaExhausted) and wait is not None:
        remedy = f"wait {wait:g} s, then ask again"
    return kind(f"{said}; {remedy}", body=_text(body)[:LONGEST_BODY], retry_after=wait)


def broken(model: str, what: str) -> TransportFailed:
    """Return the error for an answer that never arrived whole; `what` says what happened."""
    return TransportFailed(f"{model} {what}; {_REMEDIES[TransportFailed]}")


def unsent(model: str, error: Exception) -> BadRequest:
    """Return the error for a request that cannot be sent as it is."""
    return BadRequest(f"{model} was not asked: {error}; {_REMEDIES[BadRequest]}")


def unknown_stop(model: str, word: str) -> TransportFailed:
    """Return the error for an answer that stopped for a reason of which nobody here has heard.

    It may be half an answer, and half an answer is none.
    """
    return broken(model, f"stopped with {word!r}, which is not known to end a whole answer")


def overflowed(model: str) -> ContextOverflow:
    """Return the error for a model that stopped because its context was full."""
    return ContextOverflow(f"{model} filled its context window; {_REMEDIES[ContextOverflow]}")


def _redirected(model: str, status: int, headers: Mapping[str, str]) -> BadRequest:
    """Return the error for a redirect: the conversation goes to nobody who was not named."""
    target = headers.get("location") or "a place that it does not name"
    return BadRequest(
        f"{model} answered {status}, a redirect to {target[:200]}, and nothing was sent there; "
        "give the address itself as the base URL, if that is where the conversation may go"
    )


def _of_response(model: str, error: Any) -> ModelError:
    """Return the error for a status; one inside a stream carries the response that began it."""
    if error.status_code < 300:
        return rejected(model, error.body)
    return rejected(model, error.body, status=error.status_code, headers=error.response.headers)


def _of_event(model: str, error: Exception, body: object) -> ModelError:
    """Return the error for an error event, or for a response that the SDK cannot take."""
    return rejected(model, body) if body else broken(model, f"sent what cannot be read: {error}")


def _kind(status: int | None, words: tuple[str, ...], message: str) -> Kind:
    for statuses, pattern, kind in _PROSE:
        if status in statuses and pattern.search(message):
            return kind
    if status in _FIRM:
        return _FIRM[status]
    for kind, known in _WORDS.items():
        if known.intersection(words):
            return kind
    if status is None:
        return BadRequest if words else TransportFailed
    return _STATUSES.get(status, Overloaded if status >= 500 else BadRequest)


def _said(body: object) -> tuple[tuple[str, ...], str]:
    """Return the words of a body, from the general to the exact, and its message."""
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return (), _text(error)[:200]
    details = error.get("details")
    exact = details.get("error_code") if isinstance(details, dict) else None
    status = error.get("status")  # Gemini's word; a response that failed says "failed" there
    named = status if isinstance(status, str) and status.isupper() else None
    words = (error.get("type"), named, error.get("code"), exact)
    message = error.get("message")
    # An `error` event of a stream names itself in its type.
    return (
        tuple(word for word in words if isinstance(word, str) and word != "error"),
        message if isinstance(message, str) else _text(error)[:200],
    )


def _status_in(body: object) -> int | None:
    """Return the status that an error inside a stream names, as gateways and Gemini do."""
    error = body.get("error", body) if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return None
    named = (error.get("code"), error.get("status_code"))
    return next((each for each in named if isinstance(each, int) and 400 <= each < 600), None)


def _is_daily(body: object) -> bool:
    """Whether a google.rpc.QuotaFailure names a limit per day: its RetryInfo says seconds."""
    violations = (detail.get("violations") for detail in details_of(body))
    return any("PerDay" in json.dumps(each) for each in violations if each)


def _text(body: object) -> str:
    return body if isinstance(body, str) else json.dumps(body, default=str)
