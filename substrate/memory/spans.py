"""Spans of time, in ms: from a moment to another one, which is not of it; None: without an end."""

from collections.abc import Iterable, Sequence

Span = tuple[int, int | None]

_NEVER = float("inf")


def without(spans: Iterable[Span], taken: Iterable[Span]) -> list[Span]:
    """Return what is left of spans where others are taken out of them."""
    left = list(spans)
    for begin, end in taken:
        left = [rest for span in left for rest in _rest(span, begin, end)]
    return left


def joined(spans: Iterable[Span]) -> list[Span]:
    """Return spans in their order, of those that meet or overlap one."""
    found: list[Span] = []
    for begin, end in sorted(spans, key=lambda span: (span[0], _end(span))):
        if found and begin <= _end(found[-1]):
            first = found.pop()
            last = None if end is None or first[1] is None else max(end, first[1])
            found.append((first[0], last))
        else:
            found.append((begin, end))
    return found


def holds(span: Span, other: Span) -> bool:
    """Whether all of another span is in this one."""
    return span[0] <= other[0] and _end(other) <= _end(span)


def _rest(span: Span, begin: int, end: int | None) -> Sequence[Span]:
    if (end is not None and end <= span[0]) or begin >= _end(span):
        return [span]
    before: list[Span] = [(span[0], begin)] if span[0] < begin else []
    return [*before, (end, span[1])] if end is not None and end < _end(span) else before


def _end(span: Span) -> float:
    return _NEVER if span[1] is None else span[1]
