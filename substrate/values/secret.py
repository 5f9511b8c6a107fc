"""`Secret`: the name of a secret, where others would put the secret itself.

A secret that is an argument would be in the journal, in what people are shown and in what the model
reads; and it would be the one of that day, also when the run goes on next week. So what is handed
round, recorded and compared is a name, and the code that needs the secret asks for it then and
there: ``key.reveal()``. It is read from the environment variable of that name, or by a function
that is registered for the part before a colon: `secret_source`.

Invariants: a `Secret` holds no secret, so nothing that is done with one can tell it. What a run has
revealed is hidden where it comes back: in results, errors, logs and in the arguments of steps. That
is known by its spelling (see `Mask`): what was made of a secret (a hash, a half) is not known for
one, nor is a secret of less than 8 characters, nor one that was read in another way than here.
"""

import os
import re
from collections.abc import Callable
from contextvars import ContextVar
from functools import cached_property
from typing import Any, Generic, cast

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema
from typing_extensions import TypeVar

from substrate.values.errors import Misuse
from substrate.values.mask import Mask

T_co = TypeVar("T_co", bound=str, covariant=True, default=str)
Source = TypeVar("Source", bound=Callable[[str], str])

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_SOURCED = re.compile(r"[a-z][a-z0-9_]{0,31}:[\w./@#-]{1,160}", re.ASCII)


class SecretMissing(Misuse):
    """A secret is not where its name says. Nothing was called with it; set it, and resume."""


class Secret(Generic[T_co]):
    """A secret by its name: that of an environment variable, or ``source:name``.

    Give it as the default of a tool's parameter, which the model then neither sees nor sets; hand
    it to a step, a durable function or a child: the journal has ``{"$secret": "STRIPE_KEY"}``.

    Raises `Misuse` for what cannot be a name, and does not quote it: it may be the secret.

    Example:
        >>> key: Secret[str] = Secret("STRIPE_KEY")
        >>> key
        Secret('STRIPE_KEY')
    """

    __slots__ = ("name",)

    name: str
    """Where it is found: the one thing that there is to tell."""

    def __init__(self, name: str) -> None:
        given = name if isinstance(cast(object, name), str) else ""
        if not _VARIABLE.fullmatch(given) and not _SOURCED.fullmatch(given):
            raise Misuse(
                "a Secret is given the name of an environment variable, or source:name, and never "
                'the secret itself; write Secret("STRIPE_KEY")'
            )
        object.__setattr__(self, "name", name)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} of a Secret cannot be set; make another one")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.name == other.name

    def __hash__(self) -> int:
        return hash((Secret, self.name))

    def __reduce__(self) -> tuple[Any, ...]:
        return Secret, (self.name,)

    def reveal(self) -> T_co:
        """Return the secret as it is now.

        A secret that is read in a run is hidden from then on in what the run records. Raises
        `SecretMissing` where it is not set, or empty, and `Misuse` for a source that is not
        registered.
        """
        if ":" in self.name:
            value = self._found(self._source()(self.name.partition(":")[2]))
        else:
            value = self._found(os.environ.get(self.name, ""))
        if (revealed := _revealed.get()) is not None:
            revealed.add(value)
        return cast(T_co, value)

    def check(self) -> None:
        """Raise what `reveal` would, as far as that is known without asking a source."""
        if ":" not in self.name:
            self._found(os.environ.get(self.name, ""))
        else:
            self._source()

    def _found(self, value: str) -> str:
        if not value:
            cure = "export it, or write it into .env" if ":" not in self.name else "put it there"
            raise SecretMissing(f"the secret {self.name!r} is not set; {cure}, and try again")
        return value

    def _source(self) -> Callable[[str], str]:
        called = self.name.partition(":")[0]
        if (source := _sources.get(called)) is None:
            raise Misuse(
                f"no source {called!r} of secrets is registered, for {self.name!r}; write "
                f"@secret_source({called!r}) over a function that reads one by its name"
            )
        return source

    def __repr__(self) -> str:
        return f"Secret({self.name!r})"

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[Any], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Be written as its name where a type says that it is a secret."""
        made = core_schema.no_info_after_validator_function(Secret, core_schema.str_schema())
        return core_schema.json_or_python_schema(
            json_schema=made,
            python_schema=core_schema.union_schema(
                [core_schema.is_instance_schema(Secret), made], mode="left_to_right"
            ),
            serialization=core_schema.plain_serializer_function_ser_schema(_name_of),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Say of itself what pydantic's own secrets say, by which a tool knows them."""
        return {"type": "string", "format": "password", "writeOnly": True}


def _name_of(secret: Secret[Any]) -> str:
    return secret.name


_sources: dict[str, Callable[[str], str]] = {}


def secret_source(name: str) -> Callable[[Source], Source]:
    """Let a function read the secrets whose names begin with ``name:``.

    It is given the rest of the name and returns the secret, or ``""`` where there is none. It is
    called each time that a secret is revealed, in the thread that reveals it.

    Args:
        name: What stands before the colon: small letters, digits and ``_``.

    Raises:
        Misuse: the name has another form, or two functions are registered for it.

    Example:
        >>> @secret_source("file")
        ... def read(name: str) -> str:
        ...     with open(f"/run/secrets/{name}") as file:
        ...         return file.read().strip()
        >>> Secret("file:stripe")
        Secret('file:stripe')
    """

    def register(function: Source) -> Source:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", name):
            raise Misuse(f"{name!r} cannot name a source of secrets; use small letters and digits")
        if _sources.setdefault(name, function) is not function:
            raise Misuse(f"two sources of secrets are called {name!r}; rename one")
        return function

    return register


class Revealed:
    """What a run has revealed so far: hidden in all that it records from then on."""

    def __init__(self) -> None:
        self._values: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self._values)

    def add(self, value: str) -> None:
        """Add a secret. From whatever thread it is read in."""
        if value not in self._values:
            self._values |= {value}
            self.__dict__.pop("mask", None)

    @cached_property
    def mask(self) -> Mask:
        """What hides them."""
        return Mask(self._values, are_sure=True)


_revealed: ContextVar[Revealed | None] = ContextVar("_revealed", default=None)


def revealing(into: Revealed) -> None:
    """Let what is revealed in this task, and in the tasks and threads that it starts, be known."""
    _revealed.set(into)


def hidden(text: str) -> str:
    """Return text without what this run has revealed."""
    revealed = _revealed.get()
    return revealed.mask.hide_keys(text) if revealed else text


def hidden_in(value: Any) -> Any:
    """Return a JSON value without it."""
    revealed = _revealed.get()
    return revealed.mask.hide_keys_in(value) if revealed else value


def is_any_in(text: str) -> bool:
    """Whether a text holds something that this run has revealed."""
    revealed = _revealed.get()
    return bool(revealed) and revealed is not None and revealed.mask.hide_keys(text) != text
