"""One thing that was looked at: how it is, and what to do where it is not well."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How something is."""

    #: As it should be.
    OK = "ok"
    #: The agent runs, and somebody should know this.
    WARN = "warn"
    #: The agent does not run, or a part of it does not.
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found."""

    #: What was looked at: ``key``, ``tool refund``.
    about: str
    #: How it is.
    state: State
    #: That in words.
    said: str
    #: What to do; empty where nothing is to be done.
    remedy: str = ""


def ok(about: str, said: str) -> Finding:
    """Return a finding that is as it should be."""
    return Finding(about, State.OK, said)


def warn(about: str, said: str, remedy: str) -> Finding:
    """Return a finding that somebody should know."""
    return Finding(about, State.WARN, said, remedy)


def fail(about: str, said: str, remedy: str = "") -> Finding:
    """Return what does not work. A message of the kit's ends in its remedy: it is taken apart."""
    if not remedy:
        said, _, remedy = said.partition("; ")
    return Finding(about, State.FAIL, said, remedy)


def worst(findings: Iterable[Finding]) -> State:
    """Return the worst there is; `OK` where there is nothing."""
    order = list(State)
    return max((each.state for each in findings), key=order.index, default=State.OK)
