"""What a stop condition says of a transcript in a run, unless the journal says it already."""

from dataclasses import replace

from substrate.agent.budget import grant_verdict
from substrate.agent.end import End, EndReason, Stop, Verdict
from substrate.agent.hooks import verdict_of
from substrate.agent.purse import Purse
from substrate.agent.recorded import end_in, turn_ahead
from substrate.agent.transcript import Transcript
from substrate.engine.context.context import Context


def verdict(ctx: Context, stop: Stop, transcript: Transcript) -> Verdict:
    """Return what `stop` says of the transcript, unless the journal says it already.

    A turn that is recorded was taken, and where the loop was cut short it ended, whatever `stop`
    says by now: it decides from the first turn on that has no record. An answer that a check has
    not passed, and that does not go back any more, ends as ``unchecked``.
    """
    Purse.note(ctx, transcript, stop)
    row = turn_ahead(ctx, transcript)
    if row is not None:
        return end_in(row)
    said = verdict_of(ctx, stop, replace(transcript, now=ctx.now()))
    if not isinstance(said, End):
        return grant_verdict(transcript) or said
    unchecked = transcript.unchecked
    return said if unchecked is None else End(EndReason.UNCHECKED, unchecked)
