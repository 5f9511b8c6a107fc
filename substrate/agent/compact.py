"""The hook `compact`: what is left out of a transcript that fills its model's context, and when.

>>> compact = [drop_results(keep=3), summarise(), drop_turns()]

Its strategies are followed in their order, each only while too much is left:

=====================  ============================================================================
`drop_results`         old tool results go; the model may have one back with `recall_result`
`remember_first`       what is worth keeping becomes facts in memory, before words go
`summarise`            a model sums up the oldest turns, which the summary takes the place of
`drop_turns`           the oldest turns go, where the rest has not made it fit
=====================  ============================================================================

Invariants: pure values; what was cut is recorded (see `cut`), so another policy changes no cut that
was made.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from substrate.agent.memory_tools import Namespace
from substrate.models.model import Model
from substrate.values.errors import Misuse
from substrate.values.memory import check_namespace
from substrate.values.number import is_amount, is_whole

AT, TO = 0.85, 0.35
"""From which fill on, and to which one, if it is not told otherwise: parts of the context.

What a provider has cached is lost with each cut, so there is one seldom, and it is deep.
"""

LEAST_WINDOW = 256
"""No context of fewer tokens is one."""


@dataclass(frozen=True, slots=True)
class DropResults:
    """See `drop_results`."""

    #: Of how many of the last replies with calls the results stay.
    keep: int

    def __str__(self) -> str:
        """Return it as it is written."""
        return f"drop_results(keep={self.keep})"


@dataclass(frozen=True, slots=True)
class RememberFirst:
    """See `remember_first`."""

    #: Where the facts are kept.
    namespace: Namespace
    #: Who finds them; None is the agent's own model.
    model: Model | None
    #: How many facts at most.
    most: int

    def __str__(self) -> str:
        """Return it as it is written."""
        where = repr(self.namespace) if isinstance(self.namespace, str) else "…"
        return f"remember_first({where})"


@dataclass(frozen=True, slots=True)
class Summarise:
    """See `summarise`."""

    #: Who sums up; None is the agent's own model.
    model: Model | None

    def __str__(self) -> str:
        """Return it as it is written."""
        return f"summarise({'' if self.model is None else self.model.id})"


@dataclass(frozen=True, slots=True)
class DropTurns:
    """See `drop_turns`."""

    def __str__(self) -> str:
        """Return it as it is written."""
        return "drop_turns()"


Strategy = DropResults | RememberFirst | Summarise | DropTurns
"""One of the hook's: see `drop_results`, `remember_first`, `summarise`, `drop_turns`."""


@dataclass(frozen=True, slots=True)
class Compact:
    """The hook `compact` where more is to be said than its strategies.

    Before a model call the tokens are counted: those that the provider has reported for the last
    call, and an estimate of what was said since. Where they fill more than `at` of the model's
    context, the strategies are followed until no more than `to` is left. It is not done for less
    than a tenth of the context, or half of what is between the two. A context that is full all the
    same is made room in, and the model asked again, three times at most. The task, the present
    message of a conversation, the last message of a person, calls of which a person is being asked,
    and the last turn always stay.

    Raises `Misuse` for what is no strategy, and for parts and numbers that cannot be.

    Example:
        >>> compact = Compact([drop_results(keep=5), summarise()], at=0.7, window=32_000)
    """

    #: The strategies, in order.
    strategies: Sequence[Strategy]
    #: From which part of the context on.
    at: float = AT
    #: To which part.
    to: float = TO
    #: How many tokens the context holds; None is what the price list says of the model. Of a model
    #: that it does not know, nothing is cut before a context is full.
    window: int | None = None
    #: Tools whose results always stay as they are: those that give a skill's text, say.
    keep: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuse now what would pause a run later."""
        given: object = self.strategies
        if isinstance(given, str | bytes) or not isinstance(given, Sequence):
            raise Misuse(
                f"{given!r:.200} is no list; write compact = [drop_results(), summarise()]"
            )
        for each in self.strategies:
            if not isinstance(each, Strategy):
                raise Misuse(
                    f"{each!r:.80} is no strategy; there are drop_results(), remember_first(…), "
                    "summarise() and drop_turns(), each as it is called"
                )
        parts = (self.at, self.to)
        if not all(is_amount(each) and 0 < each <= 1 for each in parts) or self.to >= self.at:
            raise Misuse(
                f"at={self.at!r:.60} and to={self.to!r:.60} must be parts of the context, the "
                f"second one smaller; write at={AT}, to={TO}"
            )
        is_window = is_whole(self.window) and (self.window or 0) >= LEAST_WINDOW
        if self.window is not None and not is_window:
            raise Misuse(
                f"window={self.window!r:.60} must be a whole number of tokens, {LEAST_WINDOW} or "
                "more; leave it out for what is known of the model"
            )
        names: object = self.keep
        is_list = isinstance(names, Sequence) and not isinstance(names, str | bytes)
        if not is_list or not all(isinstance(each, str) for each in self.keep):
            raise Misuse(f"keep={names!r:.200} must be a list of the names of tools")

    def __str__(self) -> str:
        """Return it as a row tells it."""
        return ", ".join(map(str, self.strategies))


def drop_results(*, keep: int = 3) -> Strategy:
    """Leave out what tools gave back long ago; no model is asked.

    In the place of each stands how long it was, and its key: the model may have it back, all or a
    part, with the tool `recall_result`, which it is given from then on. Of results that stay and
    are too large by themselves only the beginning and the end are sent, likewise.

    Args:
        keep: Of how many of the last replies with calls the results stay; 1 or more.

    Raises:
        Misuse: another number.

    Example:
        >>> print(drop_results())
        drop_results(keep=3)
    """
    if not is_whole(keep) or keep < 1:
        raise Misuse(f"drop_results(keep={keep!r:.60}) must be a whole number, 1 or more")
    return DropResults(keep)


def remember_first(namespace: Namespace, *, model: Model | None = None, most: int = 20) -> Strategy:
    """Move what is worth keeping to memory, before words are summed up or go.

    A model finds facts in what goes, and each becomes one in the namespace (see `ctx.memory`), in
    the agent's own word. What came out of memory, and summaries, are not shown to it, so nothing is
    kept anew that was only remembered. Its call is recorded, priced, and counts in the budget; one
    that finds nothing of use changes nothing. It is for a strategy behind it that leaves words out.

    Args:
        namespace: Whose memory it is, or a function that is given the context and returns it.
        model: Who finds them; the agent's own model, if not told otherwise.
        most: How many facts at most.

    Raises:
        InvalidId: the namespace has another form.
        Misuse: what is no model, or another number.

    Example:
        >>> compact = [drop_results(), remember_first("acme/users/anna"), summarise()]
    """
    if isinstance(namespace, str):
        check_namespace(namespace)
    elif not callable(namespace):
        raise Misuse(f"remember_first({namespace!r:.80}): give a namespace, or a function of ctx")
    if not is_whole(most) or not 1 <= most <= _MOST_FACTS:
        raise Misuse(f"most={most!r:.60} must be a whole number from 1 to {_MOST_FACTS}")
    return RememberFirst(namespace, _model(model, "remember_first"), most)


def summarise(model: Model | None = None) -> Strategy:
    """Have a model sum up the oldest turns; the summary takes their place.

    Its call has no tools, is recorded, priced, and counts in the budget, which bounds it. A reply
    that is empty, refused, cut off, that calls a tool, or that is too long to save anything, is no
    summary: nothing of the transcript changes. After three of them in a row no more is asked for.

    Args:
        model: Who sums up. The agent's own model, which it is if not told otherwise, reads what its
            provider has cached; a cheaper one reads all anew.

    Raises:
        Misuse: what is no model.

    Example:
        >>> compact = [summarise(Model("anthropic:claude-haiku-5-5"))]
    """
    return Summarise(_model(model, "summarise"))


def drop_turns() -> Strategy:
    """Leave the oldest turns out, where the context would be full all the same; no model is asked.

    The model is told that something is missing, and how much.

    Example:
        >>> compact = [drop_results(), drop_turns()]
    """
    return DropTurns()


def compact_of(given: object) -> Compact | None:
    """Return what the hook `compact` says: a list of strategies, `Compact`, or None for none.

    Raises `Misuse` for all else.
    """
    if given is None or isinstance(given, Compact):
        return given
    return Compact(given)  # type: ignore[arg-type]  # it is looked at there


_MOST_FACTS = 100


def _model(given: object, strategy: str) -> Model | None:
    if given is None or isinstance(given, Model):
        return given
    raise Misuse(f'{strategy}: {given!r:.80} is no model; write Model("provider:name")')
