"""Whether a run is a conversation that can be held here."""

from substrate.cli.errors import UsageError
from substrate.cli.fork import Fork
from substrate.cli.invocation import Invocation
from substrate.values.records import Run, RunStatus


def check_conversation(run: Run, fork: Fork, invocation: Invocation) -> None:
    """Refuse a run that is no conversation of this agent, or that is over."""
    if run.function != fork.conversation.name:
        again = invocation.command("say", run.id, "…")
        raise UsageError(
            f"run {run.id!r} is one of {run.function!r}, and no conversation; to tell it something "
            f"while it works: {again}"
        )
    fork.check_knows(run)
    if run.status in (RunStatus.DONE, RunStatus.CANCELLED):
        raise UsageError(f"the conversation {run.id!r} is {run.status}; begin another one")
