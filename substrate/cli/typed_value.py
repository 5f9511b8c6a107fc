"""What a person types as the value that an agent asks for: words, or JSON, as the type wants it."""

import json
from typing import Any

from substrate.cli.errors import UsageError
from substrate.engine.context.wanted_type import WantedType
from substrate.engine.context.yes_no import yes_and_no


def read_answer(text: str, wanted: WantedType) -> Any:
    """Return what somebody has typed as the value that is asked for. Raises `UsageError`."""
    value = read_typed(text, wanted)
    if problem := wanted.refusal(value):
        raise UsageError(f"nothing was decided: it asks for {wanted.words}, and {problem}")
    return value


def read_typed(text: str, wanted: WantedType) -> Any:
    """Return typed text as the value that somebody may have meant; it may not fit the type."""
    if wanted.is_text or wanted.is_anything:
        return text
    if wanted.is_bool:
        try:
            return yes_and_no().validate_python(text)
        except ValueError:
            return text
    try:
        return json.loads(text)
    except ValueError:
        return text
