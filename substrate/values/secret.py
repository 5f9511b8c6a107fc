"""`Secret`: the name of a secret, where others would put the secret itself.

A secret that is an argument would be in the journal, in what people are shown and in what the model
reads; and it would be the one of that day, also when the run goes on next week. So what is handed
round, recorded and compared is a name, and the code that needs the secret asks for it then and
there: ``key.reveal()``. It is read from the environment variable of that name, or by a function
that is registered for the part before a colon: `secret_source`.

Invariants: a `Secret` holds no secret, so nothing that is done with one can tell it. What a process
has revealed is hidden in all that a run records there, and so is what the run was given by name,
also after a restart: in results, errors, logs and in the arguments of steps. That is known by its
spelling (see `Mask`): what was made of a secret (a hash, a half) is not known for one, nor is a
secret of less than 8 characters, nor one that was read in another way than here.
"""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Generic, cast

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema
from typing_extensions import TypeVar

from substrate.values.errors import Misuse
from substrate.values.known_keys import KnownKeys
from substrate.values.mask import hidden_within

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
        if (revealed := _revealed.get()) is not None:
            revealed.name(name)

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

        It is hidden from then on in what the runs of this process record. Raises `SecretMissing`
        where it is not set, or empty, and `Misuse` for a source that is not registered.
        """
        if ":" in self.name:
            value = self._found(self._source()(self.name.partition(":")[2]))
        else:
            value = self._found(os.environ.get(self.name, ""))
        _process.add(value)
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


class Revealed(KnownKeys):
    """What a run knows of secrets: those that it has revealed, or been given by name.

    The name is enough, so that what one claim has hidden the next one hides as well.
    """

    __slots__ = ("_read", "_unread")

    def __init__(self) -> None:
        super().__init__()
        self._unread: set[str] = set()
        self._read: set[str] = set()

    def name(self, name: str) -> None:
        """Take note of the name of a secret; one of a source is not read before `look_up`."""
        if ":" in name:
            if name not in self._read:
                self._unread.add(name)
        elif value := os.environ.get(name, ""):
            self.add(value)

    def look_up(self) -> None:
        """Read what was named and has a source. It may take its time; what fails is left out."""
        while self._unread:
            name = self._unread.pop()
            self._read.add(name)
            with suppress(Exception):  # it is not needed yet, and will be asked for again
                self.add(Secret(name).reveal())

    @property
    def has_unread(self) -> bool:
        """Whether `look_up` has something to do."""
        return bool(self._unread)


_process = KnownKeys()
"""What was revealed in this process, in whatever run and thread: who has it may tell it anywhere.
"""

_revealed: ContextVar[Revealed | None] = ContextVar("_revealed", default=None)


def revealing(into: Revealed) -> None:
    """Let what this task, and those that it starts, reveal and name be known to a run."""
    _revealed.set(into)


def hidden(text: str) -> str:
    """Return text without what this process has revealed, and what this run has named."""
    if _process:
        text = _process.hide(text)
    return _hidden_by_run(text)


def hidden_in(value: Any) -> Any:
    """Return a JSON value without it."""
    return _within(value, hidden) if is_any_known() else value


def hidden_arguments(value: Any) -> Any:
    """Return what a step is known by, without what this run knows by itself.

    What other runs have revealed stays, since the next process may not know it, and would take the
    step for another one; it is hidden where the row is written.
    """
    return _within(value, _hidden_by_run) if _revealed.get() else value


def is_any_in(text: str) -> bool:
    """Whether a text holds something of it."""
    return is_any_known() and hidden(text) != text


def _within(value: Any, hide: Callable[[str], str]) -> Any:
    try:
        return hidden_within(value, hide)
    except RecursionError:  # it contains itself, which whoever writes it says
        return value


def _hidden_by_run(text: str) -> str:
    revealed = _revealed.get()
    return revealed.hide(text) if revealed else text


def is_any_known() -> bool:
    """Whether there is anything to hide."""
    return bool(_process or _revealed.get())
