"""A condition that is asked about a part of a transcript: since a handoff, or since a message.

Turns and answers are those of that part. Budgets go on: after a handoff those of the first agent
count all that was used, and in a conversation so do the agent's own.
"""

from substrate.agent.budget import told_by
from substrate.agent.condition import Condition, needs_of
from substrate.agent.end import Advice, End, Stop, Verdict
from substrate.agent.transcript import Transcript


def handed_stop(first: Stop, own: Stop) -> Stop:
    """Return the condition after a handoff: the agent's own, and the budgets of the first one.

    The agent's own is asked about what was said since.
    """

    def stop(transcript: Transcript) -> Verdict:
        said = own(transcript.since_handoff())
        if transcript.told is not None:
            first(transcript)  # its budgets tell what is left of them, too
            return said
        return _or_budgets(said, first, transcript)

    return Condition(stop, needs_of(own), (own,))


def stop_of_message(own: Stop) -> Stop:
    """Return the condition for one message of a conversation: the agent's own, and its budgets.

    The agent's own is asked about what was said since the message; what the whole conversation has
    used counts in a budget.
    """

    def stop(transcript: Transcript) -> Verdict:
        since = transcript.since_message()
        # Of the first message the part is the whole; and budgets that tell what is left of them are
        # asked about the whole, which is what they count.
        if since is transcript or transcript.told is not None:
            return own(transcript)
        return _or_budgets(own(since), own, transcript)

    return Condition(stop, needs_of(own), (own,))


def _or_budgets(said: Verdict, stop: Stop, transcript: Transcript) -> Verdict:
    """Return what was said of a part of a transcript, or what budgets say of the whole.

    An end comes first, then what was said; the advice of a budget is followed where nothing was.
    """
    if isinstance(said, End):
        return said
    verdicts = [each.verdict for each in told_by(stop, transcript)]
    ends = (each for each in verdicts if isinstance(each, End))
    advice = (each for each in verdicts if isinstance(each, Advice))
    return next(ends, None) or (said if said is not None else next(advice, None))
