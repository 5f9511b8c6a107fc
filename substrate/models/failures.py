"""What went wrong with a model call: a provider's "no" as one of the kinds of `ModelError`.

Providers agree on little. The words of the body (its type, its code) say most and are asked first,
then the HTTP status, then the prose of the message where a provider puts a cause nowhere else. An
error that comes inside a stream has the status of the stream, 200, which says nothing: there the
words decide alone.

Invariants: the same status, headers and body always give the same kind; the wait is what the
provider asked for, in seconds, and None where it asked for none; a message states what was asked,
what the provider said, and what to do.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any, cast

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
)

LONGEST_BODY = 4000
"""How many characters of a provider's answer an error keeps."""

LONGEST_WAIT_S = 30 * 86400.0
"""The longest wait that is believed, in seconds: thirty days."""

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
    ModelMistake: frozenset({"tool_use_failed"}),
    RateLimited: frozenset({"rate_limit_error", "rate_limit_exceeded", "ramp_limit_exceeded"}),
    Overloaded: frozenset(
        {
            "overloaded_error",
            "overloaded",
            "api_error",
            "server_error",
            "timeout_error",
            "vector_store_timeout",
        }
    ),
}

_STATUSES: Mapping[int, Kind] = {
    402: QuotaExhausted,
    408: Overloaded,
    409: Overloaded,  # a conflict with a request of a moment ago; it passes
    413: ContextOverflow,
    429: RateLimited,
}

# Causes that some providers tell in prose only. A 429 whose single request is larger than the
# whole minute's allowance never passes, however long one waits.
_PROSE: tuple[tuple[frozenset[int | None], re.Pattern[str], Kind], ...] = (
    (
        frozenset({None, 400, 413, 422}),
        re.compile(
            r"prompt is too long|input is too long|too many (input )?tokens"
            r"|context (length|limit|window)|maximum context",
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
}


Errors = tuple[type[Exception], ...]


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
        except ValueError as error:  # JSON that is none, text that is not UTF-8
            raise broken(model, f"sent what cannot be read: {error}") from error
        except (self.sdk, TypeError) as error:  # no credentials; a setting that is not JSON
            raise BadRequest(f"{model} was not asked: {error}; correct the request") from error


@contextmanager
def sensible(model: str) -> Iterator[None]:
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
    words, message = _said(body)
    kind = _kind(status, words, message)
    wait = retry_after(headers or {})
    said = " ".join(str(each) for each in (status, *words[-1:]) if each)
    remedy = "check the key and what it may do" if status in (401, 403) else _REMEDIES[kind]
    if kind is RateLimited and wait is not None:
        remedy = f"wait {wait:g} s, then ask again"
    return kind(
        f"{model} answered {said or 'with an error'}: {message}; {remedy}",
        body=_text(body)[:LONGEST_BODY],
        retry_after=wait,
    )


def broken(model: str, what: str) -> TransportFailed:
    """Return the error for an answer that never arrived whole; `what` says what happened."""
    return TransportFailed(f"{model} {what}; {_REMEDIES[TransportFailed]}")


def overflowed(model: str) -> ContextOverflow:
    """Return the error for a model that stopped because its context was full."""
    return ContextOverflow(f"{model} filled its context window; {_REMEDIES[ContextOverflow]}")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the wait that the headers ask for, in seconds, or None.

    ``retry-after-ms`` is more exact than ``retry-after``, which holds seconds or an HTTP date
    (RFC 9110, 10.2.3). A date is measured against the server's own clock, the ``date`` header, so
    that ours need not be right. What cannot be read counts as not said.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    asked = headers.get("retry-after")
    seconds = _number(asked) if milliseconds is None else milliseconds / 1000
    if seconds is None and (until := _date(asked)):
        seconds = (until - (_date(headers.get("date")) or datetime.now(UTC))).total_seconds()
    return None if seconds is None else min(max(seconds, 0.0), LONGEST_WAIT_S)


def _of_response(model: str, error: Any) -> ModelError:
    """Return the error for a status; one inside a stream carries the response that began it."""
    if error.status_code < 400:
        return rejected(model, error.body)
    return rejected(model, error.body, status=error.status_code, headers=error.response.headers)


def _of_event(model: str, error: Exception, body: object) -> ModelError:
    """Return the error for an error event, or for a response that the SDK cannot take."""
    return rejected(model, body) if body else broken(model, f"sent what cannot be read: {error}")


def _kind(status: int | None, words: tuple[str, ...], message: str) -> Kind:
    for statuses, pattern, kind in _PROSE:
        if status in statuses and pattern.search(message):
            return kind
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
    words = (error.get("type"), error.get("code"), exact)
    message = error.get("message")
    # An `error` event of a stream names itself in its type.
    return (
        tuple(word for word in words if isinstance(word, str) and word != "error"),
        message if isinstance(message, str) else _text(error)[:200],
    )


def _text(body: object) -> str:
    return body if isinstance(body, str) else json.dumps(body, default=str)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if isfinite(number) else None


def _date(text: str | None) -> datetime | None:
    try:
        when = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)
