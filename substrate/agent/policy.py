"""Who is asked before a tool is called, until when, and what silence means: ``@tool(approve=…)``.

Invariant: without a word in the policy, silence decides nothing: the gate stays open for ever.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from substrate.agent.rule_condition import RuleCondition
from substrate.agent.rules import CODE, read_rule
from substrate.engine.function.place import described
from substrate.values.errors import Misuse
from substrate.values.gates import GateState, Rule

_LONGEST = timedelta(days=36_500)

Predicate = Callable[..., bool]
"""A function of a tool's arguments, or of some of them by name: whether a person is asked."""


@dataclass(frozen=True, slots=True)
class Escalation:
    """Who else is told, once, where nobody has decided for so long."""

    #: After how long.
    after: timedelta
    #: Who.
    to: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a person is asked before a tool is called: ``@tool(approve=Policy(…))``.

    Raises `Misuse` for what could not be kept.

    Example:
        >>> policy = Policy(
        ...     when=lambda cents: cents > 2000,
        ...     to="finance",
        ...     timeout=timedelta(days=2),
        ...     on_timeout="deny",
        ... )
        >>> policy.asks({"cents": 4900})
        True
    """

    #: A function of the tool's arguments, or of some of them by name: whether a person is asked.
    #: Always, without one.
    when: Predicate | None = None
    #: Who is asked. It is shown and told; who may decide is for your channels to know.
    to: str = ""
    #: After how long the gate is over, counted from when it is asked; never, without one.
    timeout: timedelta | None = None
    #: What silence then means: ``"deny"`` or ``"approve"``. It has no default.
    on_timeout: Literal["deny", "approve"] | None = None
    #: After how long people are told again, once for each.
    remind: Sequence[timedelta] = ()
    #: Who else is told, and after how long.
    escalate: Escalation | None = None
    #: Standing rules of the code's own, such as ``"allow refund where cents < 2000"``. Those that
    #: people add count too: deny beats ask, and ask beats allow.
    rules: Sequence[str] = ()
    #: A function of the arguments that gives the one line that people read.
    summary: Callable[..., str] | None = None
    #: ``"tell"``: the model sees the reason as the call's result, and goes on. ``"fail"``: the run
    #: fails, and what it did is undone.
    on_denied: Literal["tell", "fail"] = "tell"
    #: False: the model is told at once that a person is asked, and goes on without the call. What
    #: comes of it is told to it later.
    wait: bool = True

    def __post_init__(self) -> None:
        """Refuse a policy that could not be kept."""
        if (self.timeout is None) != (self.on_timeout is None):
            raise Misuse(
                f"Policy(timeout={self.timeout!r}, on_timeout={self.on_timeout!r}): silence means "
                'nothing by itself; give both, as in timeout=timedelta(days=2), on_timeout="deny"'
            )
        if self.on_timeout not in (None, "deny", "approve"):
            raise Misuse(f"Policy(on_timeout={self.on_timeout!r}): write 'deny' or 'approve'")
        if self.on_denied not in ("tell", "fail"):
            raise Misuse(f"Policy(on_denied={self.on_denied!r}): write 'tell' or 'fail'")
        if not isinstance(self.wait, bool):
            raise Misuse(f"Policy(wait={self.wait!r:.80}): write True or False")
        if not isinstance(self.to, str):
            raise Misuse(f"Policy(to={self.to!r}) is no text; write a name or an address")
        given = [("timeout", self.timeout), *(("remind", each) for each in _listed(self.remind))]
        if self.escalate is not None:
            _check_escalation(self.escalate)
            given.append(("escalate", self.escalate.after))
        for name, each in given:
            _check_duration(name, each, self.timeout)
        for each in _texts(self.rules):
            read_rule(each, by=CODE, now=0)
        for name, function in (("when", self.when), ("summary", self.summary)):
            _check_function(name, function)

    def asks(self, arguments: Mapping[str, Any]) -> bool:
        """Whether a person is asked about a call with these arguments, rules aside."""
        if self.when is None:
            return True
        said = _called(self.when, arguments)
        if not isinstance(said, bool):
            raise Misuse(
                f"approve={described(self.when)} gave {said!r:.200}; return "
                "True to ask a person, or False"
            )
        return said

    def summed_up(self, arguments: Mapping[str, Any]) -> str | None:
        """Return the policy's own line for people about these arguments, if it has one."""
        return None if self.summary is None else str(_called(self.summary, arguments))

    @property
    def own_rules(self) -> Sequence[Rule]:
        """The rules that stand in code."""
        return [read_rule(each, by=CODE, now=0) for each in self.rules]

    @property
    def tell_after(self) -> tuple[int, ...]:
        """After how many ms people are told: at once, and each time again."""
        again = [*self.remind, *([self.escalate.after] if self.escalate else [])]
        return (0, *sorted({round(each.total_seconds() * 1000) for each in again}))

    @property
    def timeout_ms(self) -> int | None:
        """After how many ms its time is over; None is never."""
        return None if self.timeout is None else round(self.timeout.total_seconds() * 1000)

    @property
    def silence(self) -> GateState:
        """What becomes of a gate whose time is over."""
        return GateState.AUTO_APPROVED if self.on_timeout == "approve" else GateState.EXPIRED

    def record(self) -> dict[str, Any]:
        """Return what the gate's row keeps of it."""
        seconds = None if self.timeout is None else self.timeout.total_seconds()
        kept: dict[str, Any] = {
            "to": self.to or None,
            "timeout_s": seconds,
            "on_timeout": self.on_timeout,
            "on_denied": None if self.on_denied == "tell" else self.on_denied,
            "wait": None if self.wait else False,
            "remind_s": [each.total_seconds() for each in self.remind] or None,
        }
        if self.escalate is not None:
            after = self.escalate.after.total_seconds()
            kept["escalate"] = {"to": self.escalate.to, "after_s": after}
        return {name: value for name, value in kept.items() if value is not None}


def policy_of(name: str, approve: object, parameters: Sequence[str]) -> Policy | None:
    """Return what `approve=` of a tool means; None where nobody is asked. Raises `Misuse`.

    Args:
        name: The tool's.
        approve: What was given.
        parameters: The names of the tool's arguments.
    """
    if approve is None or approve is False:
        return None
    if approve is True:
        return ALWAYS
    if isinstance(approve, Policy):
        policy = approve
    elif callable(approve) and not isinstance(approve, type):
        policy = Policy(when=approve)
    else:
        raise Misuse(
            f"tool {name!r}: approve={described(approve)}; write True, a function of the tool's "
            "arguments that returns a bool, or a Policy"
        )
    for function in (policy.when, policy.summary):
        _check_named(name, function, parameters)
    for rule in policy.own_rules:
        if rule.tool not in (name, "*"):
            raise Misuse(
                f"tool {name!r}: its policy has a rule of {rule.tool!r}, which would never be "
                f"asked here; write {name}"
            )
        if strange := RuleCondition.parse(rule.condition).fields().difference(parameters):
            raise Misuse(
                f"tool {name!r}: its policy has a rule of {min(strange)!r}, which is no "
                f"argument of it; there are: {', '.join(parameters) or 'none'}"
            )
    return policy


def _called(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Call a function with those of the arguments that it names."""
    named = inspect.signature(function).parameters
    if any(each.kind is each.VAR_KEYWORD for each in named.values()):
        return function(**arguments)
    return function(**{name: arguments[name] for name in named if name in arguments})


def _check_named(tool: str, function: object, parameters: Sequence[str]) -> None:
    if function is None:
        return
    assert callable(function)
    for each in inspect.signature(function).parameters.values():
        is_free = each.kind in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
        if not is_free and each.default is each.empty and each.name not in parameters:
            raise Misuse(
                f"tool {tool!r}: approve={described(function)} asks for "
                f"{each.name!r}, which is no argument of it; there are: "
                f"{', '.join(parameters) or 'none'}"
            )
        if each.kind is each.POSITIONAL_ONLY:
            raise Misuse(
                f"tool {tool!r}: approve={described(function)} is given arguments by name; leave "
                "the `/` out"
            )


def _check_function(name: str, function: Any) -> None:
    if function is None:
        return
    if not callable(function):
        raise Misuse(f"Policy({name}={described(function)}) is no function of the arguments")
    if inspect.iscoroutinefunction(function):
        raise Misuse(
            f"Policy({name}={described(function)}) is async; write a plain function: it is asked "
            "of each call, and may not wait"
        )
    try:
        inspect.signature(function)
    except (TypeError, ValueError):
        raise Misuse(
            f"Policy({name}={described(function)}) does not say what it takes; write "
            "lambda cents: …"
        ) from None


def _check_duration(name: str, each: object, timeout: timedelta | None) -> None:
    if each is None:
        return
    if not isinstance(each, timedelta) or each <= timedelta(0):
        raise Misuse(f"Policy({name}={each!r}): write a duration above 0, as in timedelta(hours=4)")
    if each > _LONGEST:
        raise Misuse(f"Policy({name}={each!r}): {_LONGEST.days:,} days are the most")
    if name != "timeout" and timeout is not None and each >= timeout:
        raise Misuse(f"Policy({name}={each!r}) comes when its time is over, after {timeout!r}")


def _check_escalation(given: Any) -> None:
    if not isinstance(given, Escalation):
        raise Misuse(
            f"Policy(escalate={described(given)}): write Escalation(timedelta(hours=4), "
            'to="the head of finance")'
        )
    if not str(given.to or "").strip():
        raise Misuse(f"Escalation(to={given.to!r}) goes to nobody; write a name or an address")


def _listed(given: Any) -> Sequence[Any]:
    if isinstance(given, list | tuple):
        return given
    raise Misuse(f"Policy(remind={given!r}): write a list, as in [timedelta(hours=4)]")


def _texts(given: Any) -> Sequence[str]:
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
        raise Misuse(f"Policy(rules={given!r:.200}): write a list of texts, as in ['deny refund']")
    found: Sequence[str] = given
    return found


Approve = bool | Predicate | Policy
"""What ``@tool(approve=…)`` takes."""

ALWAYS = Policy()
"""What ``approve=True`` means."""
