"""Every failure that a provider is known to send is understood, whoever sends it.

One table: a row for each way to fail, a column for each provider, in the provider's own words. The
servers are our own: what stands here was read in the providers' documents and SDKs.
"""

from collections.abc import Mapping
from typing import Any

import pytest

from substrate.models.messages import StopReason
from substrate.models.model import Model
from substrate.values.errors import ModelError
from tests.llm_providers import SEARCHING, SETUPS, complete, served, unfinished
from tests.llm_servers import (
    Answer,
    Json,
    anthropic_events,
    chat_events,
    gemini_events,
    openai_events,
    refusal,
    stream,
)

RESET = {"date": "Fri, 20 Nov 2026 11:36:07 GMT"}
RPC = "type.googleapis.com/google.rpc."


def error(message: str = "No.", **more: Any) -> Json:
    """Return an error body as most providers write it."""
    return {"error": {"message": message, **more}}


def claude(kind: str, message: str = "No.", **more: Any) -> Json:
    """Return an error body of Anthropic's."""
    return {"type": "error", "error": {"type": kind, "message": message, **more}}


def gemini(code: int, status: str, message: str = "No.", *details: Json) -> Json:
    """Return an error body of Google's."""
    return error(message, code=code, status=status, details=list(details))


def left(family: str, resource: str, remaining: str, reset: str) -> dict[str, str]:
    """Return the headers of a limit, as keywords."""
    if family == "anthropic":
        named = {"remaining": remaining, "reset": reset}
        return {f"anthropic_ratelimit_{resource}_{k}": value for k, value in named.items()}
    return {
        f"x_ratelimit_remaining_{resource}": remaining,
        f"x_ratelimit_reset_{resource}": reset,
    }


def in_midstream(provider: str, said: Json | str) -> Answer:
    """Return an answer that turns into an error."""
    return stream(*unfinished(provider)[:2], said)


DAY = {"@type": f"{RPC}QuotaFailure", "violations": [{"quotaId": "GenerateRequestsPerDayPerX"}]}
WAIT = {"@type": f"{RPC}RetryInfo", "retryDelay": "58.9s"}
PLAN = "You exceeded your current quota, please check your plan and billing details."
CALL = '{"name": "search", "arguments": {"query": 7}}'
EXHAUSTED = "RESOURCE_EXHAUSTED"
TRY = "Rate limit reached for model `x` on tokens per {}. Please try again in {}."

CASES: Mapping[str, Mapping[str, tuple[Answer, str]]] = {
    "rate limit, with its wait": {
        "anthropic": (
            refusal(429, claude("rate_limit_error"), retry_after="12"),
            "RateLimited, 12 s",
        ),
        "google": (refusal(429, gemini(429, EXHAUSTED, PLAN, WAIT)), "RateLimited, 58.9 s"),
        "groq": (refusal(429, error(TRY.format("minute", "7.66s"))), "RateLimited, 7.66 s"),
        "openai": (
            refusal(429, error(code="rate_limit_exceeded"), retry_after_ms="840"),
            "RateLimited, 0.84 s",
        ),
        "openai-chat": (
            refusal(429, error(), retry_after="Fri, 20 Nov 2026 11:36:37 GMT", **RESET),
            "RateLimited, 30 s",
        ),
    },
    "rate limit, told by its reset": {
        "anthropic": (
            refusal(
                429,
                claude("rate_limit_error"),
                **left("anthropic", "input-tokens", "0", "2026-11-20T11:36:19Z"),
                **RESET,
            ),
            "RateLimited, 12 s",
        ),
        "groq": (
            refusal(429, error(), **left("x", "tokens", "0", "7.66s")),
            "RateLimited, 7.66 s",
        ),
        "openai": (
            refusal(429, error(), **left("x", "requests", "0", "6m0s")),
            "RateLimited, 360 s",
        ),
    },
    "rate limit, without a word": {
        "anthropic": (refusal(429, claude("rate_limit_error")), "RateLimited"),
        "google": (refusal(429, gemini(429, EXHAUSTED)), "RateLimited"),
        "groq": (refusal(429, error()), "RateLimited"),
        "openai": (refusal(429, error()), "RateLimited"),
        "openai-chat": (refusal(429, "slow down"), "RateLimited"),
    },
    "larger than the limit itself": {
        "groq": (refusal(413, error("Request too large for model `x`")), "ContextOverflow"),
        "openai": (
            refusal(429, error("Request too large for x", code="rate_limit_exceeded")),
            "ContextOverflow",
        ),
    },
    "quota of a day": {
        "google": (
            refusal(429, gemini(429, EXHAUSTED, PLAN, DAY, WAIT)),
            "QuotaExhausted, 58.9 s",
        ),
        "groq": (refusal(429, error(TRY.format("day", "2h7m12s"))), "RateLimited, 7632 s"),
    },
    "empty account": {
        "anthropic": (
            refusal(
                400, claude("invalid_request_error", "Your credit balance is too low to access")
            ),
            "QuotaExhausted",
        ),
        "google": (
            refusal(429, gemini(429, EXHAUSTED, "Quota exceeded for metric: x, limit: 0")),
            "QuotaExhausted",
        ),
        "groq": (refusal(402, error()), "QuotaExhausted"),
        "openai": (
            refusal(429, error(PLAN, type="insufficient_quota", code="insufficient_quota")),
            "QuotaExhausted",
        ),
        "openai-chat": (refusal(402, error("Insufficient credits", code=402)), "QuotaExhausted"),
    },
    "spend limit": {
        "anthropic": (
            refusal(
                429,
                claude("rate_limit_error", details={"error_code": "enforced_spend_limit_reached"}),
                retry_after="60",
            ),
            "QuotaExhausted",
        ),
        "openai": (refusal(429, error(code="billing_hard_limit_reached")), "QuotaExhausted"),
    },
    "overload": {
        "anthropic": (refusal(529, claude("overloaded_error")), "Overloaded"),
        "google": (refusal(503, gemini(503, "UNAVAILABLE")), "Overloaded"),
        "groq": (refusal(498, error()), "Overloaded"),
        "openai": (refusal(503, error(type="server_error"), retry_after="3"), "Overloaded, 3 s"),
        "openai-chat": (refusal(502, "<html>Bad gateway</html>"), "Overloaded"),
    },
    "overload in mid-stream": {
        "anthropic": (in_midstream("anthropic", claude("overloaded_error")), "Overloaded"),
        "google": (in_midstream("google", gemini(503, "UNAVAILABLE")), "Overloaded"),
        "groq": (in_midstream("groq", error(type="server_error")), "Overloaded"),
        "openai": (
            in_midstream("openai", {"type": "error", "code": "server_error", "message": "No."}),
            "Overloaded",
        ),
        "openai-chat": (in_midstream("openai-chat", error(code=502)), "Overloaded"),
    },
    "rate limit in mid-stream": {
        "anthropic": (in_midstream("anthropic", claude("rate_limit_error")), "RateLimited"),
        "google": (in_midstream("google", gemini(429, EXHAUSTED)), "RateLimited"),
        "groq": (in_midstream("groq", error(code="rate_limit_exceeded")), "RateLimited"),
        "openai": (
            in_midstream(
                "openai",
                {
                    "type": "response.failed",
                    "response": {
                        "status": "failed",
                        "error": {"code": "rate_limit_exceeded", "message": "No."},
                    },
                },
            ),
            "RateLimited",
        ),
        "openai-chat": (in_midstream("openai-chat", error(code=429)), "RateLimited"),
    },
    "context overflow": {
        "anthropic": (
            refusal(400, claude("invalid_request_error", "prompt is too long: 9 > 8")),
            "ContextOverflow",
        ),
        "google": (
            refusal(
                400,
                gemini(
                    400,
                    "INVALID_ARGUMENT",
                    "The input token count (9) exceeds the maximum number of tokens allowed (8).",
                ),
            ),
            "ContextOverflow",
        ),
        "groq": (
            refusal(400, error("Please reduce the length of the messages or completion.")),
            "ContextOverflow",
        ),
        "openai": (refusal(400, error(code="context_length_exceeded")), "ContextOverflow"),
        "openai-chat": (
            refusal(400, error("This model's maximum context length is 4096 tokens.", code=400)),
            "ContextOverflow",
        ),
    },
    "context full while writing": {
        "anthropic": (
            stream(*anthropic_events(stop="model_context_window_exceeded")),
            "ContextOverflow",
        ),
    },
    "refusal": {
        "anthropic": (stream(*anthropic_events(stop="refusal")), "reply: refusal"),
        "google": (stream(*gemini_events(finish="PROHIBITED_CONTENT")), "reply: refusal"),
        "groq": (stream(*chat_events("", finish="content_filter")), "reply: refusal"),
        "openai": (
            stream(
                *openai_events(
                    ending="response.incomplete",
                    status="incomplete",
                    incomplete_details={"reason": "content_filter"},
                )
            ),
            "reply: refusal",
        ),
        "openai-chat": (stream(*chat_events("", finish="content_filter")), "reply: refusal"),
    },
    "prompt blocked": {
        "google": (
            stream({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {}}),
            "reply: refusal",
        ),
        "openai": (refusal(400, error(code="content_policy_violation")), "Refused"),
        "openai-chat": (refusal(400, error(code="content_filter")), "Refused"),
    },
    "a call that its provider rejects": {
        "google": (
            stream(
                *gemini_events(
                    finish="MALFORMED_FUNCTION_CALL",
                    finishMessage="Malformed function call: print(default_api.search(7))",
                )
            ),
            "reply: tool_calls",
        ),
        "groq": (
            refusal(400, error(code="tool_use_failed", failed_generation=CALL)),
            "reply: tool_calls",
        ),
    },
    "a mistake with no call in it": {
        "google": (stream(*gemini_events(finish="MALFORMED_RESPONSE")), "ModelMistake"),
        "groq": (refusal(400, error(code="tool_use_failed")), "ModelMistake"),
    },
    "half-written arguments": {
        "anthropic": (
            stream(
                *anthropic_events(
                    {"type": "tool_use", "id": "a", "name": "search", "input": '{"query": "ow'},
                    stop="max_tokens",
                )
            ),
            "reply: length",
        ),
        "groq": (
            stream(*chat_events("", ("a", "search", '{"query": "ow'), finish="length")),
            "reply: length",
        ),
        "openai-chat": (
            stream(*chat_events("", ("a", "search", '{"query": "ow'), finish="length")),
            "reply: length",
        ),
    },
    "half an answer": {
        provider: (stream(*unfinished(provider)), "TransportFailed") for provider in SETUPS
    },
    "a page where an answer belongs": {
        provider: (
            Answer(b"<html>Welcome to the hotel</html>", 200, {"content-type": "text/html"}),
            "TransportFailed",
        )
        for provider in SETUPS
    },
    "another status than 200, and nothing": {
        provider: (Answer(b"", 204, {}), "TransportFailed") for provider in SETUPS
    },
    "a bad key": {
        "google": (
            refusal(400, gemini(400, "INVALID_ARGUMENT", "API key not valid.")),
            "Unusable",
        ),
        **{
            provider: (refusal(401, error(type="authentication_error")), "Unusable")
            for provider in ("anthropic", "groq", "openai", "openai-chat")
        },
    },
    "what nobody knows": {
        provider: (refusal(418, error("I am a teapot")), "BadRequest") for provider in SETUPS
    },
    "an answer": {provider: (stream(*complete(provider)), "reply: end") for provider in SETUPS},
}


async def outcome_of(model: Model) -> str:
    """Return what an answer comes to: its kind of failure and its wait, or how the reply ended."""
    try:
        reply = await model.answer(SEARCHING)
    except ModelError as failure:
        wait = "" if failure.retry_after is None else f", {round(failure.retry_after, 3):g} s"
        return f"{type(failure).__name__}{wait}"
    assert reply.stop in StopReason
    return f"reply: {reply.stop}"


@pytest.mark.parametrize("provider", SETUPS)
async def test_failures(monkeypatch, provider, record_property):
    """Each failure is one kind, with the wait that its provider asks for, after one call."""
    mine = {row: case[provider] for row, case in CASES.items() if provider in case}
    outcomes = {}
    for i, (row, (answer, _)) in enumerate(mine.items()):
        async with served(monkeypatch, provider, answer, answer) as server:
            outcomes[row] = await outcome_of(Model(f"{provider}:model-{i}"))
        assert len(server.bodies) == 1, f"{row}: the SDK retries on its own"
        record_property("matrix", ["Known failures", row, provider, outcomes[row]])

    assert outcomes == {row: expected for row, (_, expected) in mine.items()}
