"""What went wrong with a model call: a provider's "no" as one of the kinds of `ModelError`.

Providers agree on little. The words of the body (its type, code, status) say most; the HTTP status
decides where they say nothing, and the prose of the message where a provider puts a cause nowhere
else. An error that comes inside a stream has the status of the stream, 200, which says nothing:
there the body decides alone.

A 429 is four things: a rate that passes in a moment, a quota that passes at a time which is named,
an empty account that passes when somebody pays, and a request that is larger than a whole minute's
allowance, which never passes.

Invariants: the same status, headers and body always give the same kind; the wait is what the
provider asked for, in seconds, and None where it asked for none; one that nobody can mean counts as
none, and the message says so. A message states what was asked, the provider's words, and what to
do. What is not known is shown with its body, and retried only where its status says that it may
pass.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

from substrate.models.limits.headers import LONGEST_WAIT_S, details_of, retry_after
from substrate.models.providers.failure_words import (
    FIRM,
    PROSE,
    REMEDIES,
    STATUSES,
    WORDS,
    Kind,
)
from substrate.values.errors import (
    BadRequest,
    ContextOverflow,
    ModelError,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    TransportFailed,
)

LONGEST_BODY = 20_000
"""How many characters of a provider's answer an error keeps."""

SHORTEST_QUOTA_S = 3600.0
"""An account that is empty is not filled in less: a shorter wait beside it says nothing."""


class Translator(Protocol):
    """What knows an SDK's errors."""

    def failing_as_ours(self, model: str) -> AbstractContextManager[None]:
        """Turn what the SDK and its transport raise about a model into `ModelError`."""
        ...


@contextmanager
def parsing(model: str) -> Iterator[None]:
    """Turn what a part missing from a provider's answer makes Python raise into `ModelError`."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise transport_failed(model, f"sent an answer that makes no sense: {error!r}") from error


def rejected(
    model: str, body: object, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> ModelError:
    """Return the error for a provider's refusal.

    `model` is ``provider:name``. `body` is the answer as it was decoded: an object, its ``error``
    part, or text. `status` is None for an error that came inside a stream.
    """
    if status is not None and 300 <= status < 400:
        return _redirected(model, status, headers or {})
    if status is not None and 200 <= status < 300:  # Google's SDK takes only 200 for an answer
        return transport_failed(model, f"answered {status}, without an answer")
    words, message = _said(body)
    status = status or _status_in(body)  # an error inside a stream may name one
    wait = retry_after(headers or {}, body, datetime.now(UTC))
    kind = _kind(status, words, message)
    if is_daily := kind is RateLimited and _is_daily(body):
        kind = QuotaExhausted
    label = " ".join(str(each) for each in (status, *words[-1:]) if each)
    text = f"{model} answered {label or 'with an error'}: {message}"
    if wait is not None and wait >= LONGEST_WAIT_S:
        days = f"{LONGEST_WAIT_S / 86400:.0f} days"
        text += f" (it asks for a wait of {days} or more, which is not believed)"
        wait = None
    if kind is QuotaExhausted and not is_daily and (wait or 0) < SHORTEST_QUOTA_S:
        wait = None  # the SDK's usual seconds, which fill no account
    remedy = REMEDIES[kind]
    if kind in (RateLimited, QuotaExhausted) and wait is not None:
        remedy = f"wait {wait:g} s, then ask again"
    return kind(f"{text}; {remedy}", body=_text(body)[:LONGEST_BODY], retry_after=wait)


def transport_failed(model: str, what: str) -> TransportFailed:
    """Return the error for an answer that never arrived whole; `what` says what happened."""
    return TransportFailed(f"{model} {what}; {REMEDIES[TransportFailed]}")


def unsent(model: str, error: Exception) -> BadRequest:
    """Return the error for a request that cannot be sent as it is."""
    return BadRequest(f"{model} was not asked: {error}; {REMEDIES[BadRequest]}")


def unknown_stop(model: str, word: str) -> TransportFailed:
    """Return the error for an answer that stopped for a reason of which nobody here has heard.

    It may be half an answer, and half an answer is none.
    """
    return transport_failed(
        model, f"stopped with {word!r}, which is not known to end a whole answer"
    )


def overflowed(model: str) -> ContextOverflow:
    """Return the error for a model that stopped because its context was full."""
    return ContextOverflow(f"{model} filled its context window; {REMEDIES[ContextOverflow]}")


def _redirected(model: str, status: int, headers: Mapping[str, str]) -> BadRequest:
    """Return the error for a redirect: the conversation goes to nobody who was not named."""
    target = headers.get("location") or "a place that it does not name"
    return BadRequest(
        f"{model} answered {status}, a redirect to {target[:200]}, and nothing was sent there; "
        "give the address itself as the base URL, if that is where the conversation may go"
    )


def of_response(model: str, error: Any) -> ModelError:
    """Return the error for a status; one inside a stream carries the response that began it."""
    if error.status_code < 300:
        return rejected(model, error.body)
    return rejected(model, error.body, status=error.status_code, headers=error.response.headers)


def of_event(model: str, error: Exception, body: object) -> ModelError:
    """Return the error for an error event, or for a response that the SDK cannot take."""
    return (
        rejected(model, body)
        if body
        else transport_failed(model, f"sent what cannot be read: {error}")
    )


def _kind(status: int | None, words: tuple[str, ...], message: str) -> Kind:
    for statuses, pattern, kind in PROSE:
        if status in statuses and pattern.search(message):
            return kind
    if status in FIRM:
        return FIRM[status]
    for kind, known in WORDS.items():
        if known.intersection(words):
            return kind
    if status is None:
        return BadRequest if words else TransportFailed
    return STATUSES.get(status, Overloaded if status >= 500 else BadRequest)


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
