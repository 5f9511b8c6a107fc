"""What each provider refuses in a request, and the words in which it does.

A judge takes a request's body as it is sent, and the model, where the body does not name it. It
raises `Refused` for what the provider would answer 400. The words are the provider's own, as it
documents them or as its users report them; where none are known, they say the rule. Models that
read what others cannot are played by a mark: a signature or an encryption that begins with
``of:NAME`` is known to the model NAME alone.
"""

import json
from collections.abc import Callable, Mapping

from tests.llm_servers import Answer, Json, refusal
from tests.strict.anthropic import judge as anthropic
from tests.strict.chat import judge_chat, judge_groq
from tests.strict.google import judge as google
from tests.strict.openai import judge as openai
from tests.strict.refused import Refused

JUDGES: Mapping[str, Callable[[Json, str], None]] = {
    "anthropic": anthropic,
    "google": google,
    "groq": judge_groq,
    "openai": openai,
    "openai-chat": judge_chat,
}


def check(provider: str, body: Json, model: str = "") -> None:
    """Raise `Refused` for a request that its provider would refuse."""
    try:
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:  # a half of a character, or a number that JSON has not
        raise Refused(f"The request body is not valid JSON: {error}") from None
    JUDGES[provider](body, body.get("model") or model)


def refusal_of(provider: str, body: Json, path: str) -> Answer | None:
    """Return the provider's own refusal of a request, or None for one that it takes."""
    try:
        check(provider, body, path.rpartition("models/")[2].partition(":")[0])
    except Refused as refused:
        return refusal(400, _envelope(provider, refused))
    return None


def _envelope(provider: str, refused: Refused) -> Json:
    kind = "invalid_request_error"
    match provider:
        case "anthropic":
            return {"type": "error", "error": {"type": kind, "message": str(refused)}}
        case "google":
            error = {"code": 400, "message": str(refused), "status": "INVALID_ARGUMENT"}
            return {"error": error}
    error = {"message": str(refused), "type": kind, "param": refused.param, "code": refused.code}
    return {"error": error}
