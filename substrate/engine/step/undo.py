"""The undo of a step: a durable function, and the arguments of its later call.

It is recorded with the step's intent, so that another process can undo what this one began. If the
function has a parameter `result`, it receives the step's result (None if that is unknown); if it
has a parameter `idempotency_key`, it receives the step's key.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from substrate.engine.function.arguments import Arguments
from substrate.engine.function.function import Durable
from substrate.engine.function.place import how_to_be_found, in_place
from substrate.engine.run.services import Services
from substrate.engine.step.step import LONGEST_CALL, no_undo_error
from substrate.values.codec import encode
from substrate.values.errors import Misuse, UnknownFunction
from substrate.values.records import JsonText
from substrate.values.secret import hidden_in

RESULT = "result"
KEY = "idempotency_key"


@dataclass(frozen=True, slots=True)
class Undo:
    """A recorded call that undoes a step. `timeout`: the seconds that the step's call may last."""

    name: str
    version: int
    arguments: Mapping[str, Any]
    timeout: float

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Return the undo from its record."""
        return cls(record["name"], record["version"], record["arguments"], record["timeout"])

    def to_json(self) -> JsonText:
        """Return the record of the undo."""
        return JsonText(
            encode(
                {
                    "name": self.name,
                    "version": self.version,
                    "arguments": dict(self.arguments),
                    "timeout": self.timeout,
                }
            )
        )

    def arguments_for(
        self, parameters: Sequence[str], extras: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Return the arguments, and those extras for which the function has a parameter."""
        wanted = {name: value for name, value in extras.items() if name in parameters}
        return {**self.arguments, **wanted}


def undo_of(
    undo: Durable[..., Any],
    fn: Callable[..., Any],
    given: Arguments,
    timeout: float | None,
    services: Services,
) -> JsonText:
    """Return the record of the undo for a step that calls `fn` with these arguments.

    Raises `Misuse` if the undo could not be called later: it does not take the step's arguments, or
    may take them for others; `UnknownFunction` if this worker does not know it.
    """
    if not isinstance(undo, Durable):
        raise no_undo_error(undo)
    services.recognise(undo)
    if services.functions is not None and services.function(undo.name, undo.version) is not undo:
        raise UnknownFunction(
            f"the undo {undo.name!r}{in_place(undo)} is not known to this worker, so a later "
            f"process could not find it; {how_to_be_found(undo)}"
        )
    arguments = undo.encode_some(_bound(undo, given, _names_of(fn)))
    if hidden_in(arguments) is not arguments:  # the undo would receive the mask
        raise Misuse(
            f"an argument of the undo {undo.name!r} holds a secret that was revealed, and "
            "arguments are recorded; give the step the Secret itself, and reveal it there"
        )
    longest = LONGEST_CALL if timeout is None else timeout
    return Undo(undo.name, undo.version, arguments, longest).to_json()


def _bound(undo: Durable[..., Any], given: Arguments, called: Sequence[str]) -> Mapping[str, Any]:
    """Bind the step's arguments to the undo's parameters; `called`: its function's names."""
    whole = undo.signature
    own = [each for name, each in whole.parameters.items() if name not in (RESULT, KEY)]
    for each, name in zip(own[: len(given.args)], called, strict=False):
        # E.g. the undo `refund(ctx, reason="…")` of `charge(cents)` would take cents for a reason.
        if each.default is not each.empty and each.name != name and each.kind != each.KEYWORD_ONLY:
            raise Misuse(
                f"the undo {undo.name!r}{in_place(undo)} would be given the step's {name!r} as "
                f"{each.name!r}, which has a default; call it {name!r} if that is meant, or put a "
                f"parameter {name!r} before it"
            )
    try:
        return whole.replace(parameters=own).bind(*given.args, **given.keywords).arguments
    except TypeError as error:
        raise Misuse(
            f"the undo {undo.name!r} takes {[each.name for each in own]} and is given the same "
            f"arguments as the step: {error}"
        ) from None


def _names_of(fn: Callable[..., Any]) -> Sequence[str]:
    """Return the names of a function's positional parameters; none if it has no signature."""
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        return ()
    return [each.name for each in parameters if each.kind <= each.POSITIONAL_OR_KEYWORD]
