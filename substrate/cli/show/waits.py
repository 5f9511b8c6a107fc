"""How a wait reads: what is waited for, and until when."""

from substrate.agent.history.waits import Wait
from substrate.cli import format as wording
from substrate.values.records import Kind


def wait_words(wait: Wait) -> str:
    """Return what is waited for, and until when."""
    end = "" if wait.until is None else f", until {wording.moment(wait.until)}"
    match wait.promise.kind:
        case Kind.CHILD:
            state = f" ({wait.status})" if wait.status else ""
            if wait.missing:
                state = f" ({wait.status}: waits for a worker that knows {wait.missing})"
            return f"child {wait.promise.id}{state}"
        case Kind.SIGNAL:
            wanted = "" if wait.wanted.is_anything else f", {wait.wanted.words}"
            return f"signal {wait.promise.name!r}{wanted}{end}"
        case Kind.TIMER:
            return f"timer{end}"
        case Kind.GATE if wait.asks_for_approval:
            meanwhile = "; the agent goes on meanwhile" if wait.is_deferred else ""
            return f"an approval of {wording.visible(wait.summary)}{end}{meanwhile}"
        case Kind.GATE:
            return f"an answer to {wait.summary!r}: {wait.wanted.words}{end}"
    return _next_attempt(wait)


def _next_attempt(wait: Wait) -> str:
    """Return since when a step fails, how often it was tried, why, and when it is again."""
    series, last = wait.series, wait.last_attempt
    tried = wording.count(series.count, "attempt")
    since = "" if series.since is None else f" since {wording.moment(series.since)}"
    at = "" if wait.until is None else f" at {wording.moment(wait.until)}"
    why = wording.gist(f"{last.get('type')}: {last.get('message')}", 200)
    return f"next try{at}, after {tried}{since}; last: {why}"
