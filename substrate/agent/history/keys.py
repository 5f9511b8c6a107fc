"""How the rows of an agent are named: the keys of its journal. Pure.

=============================  ====================================================================
key                            what the row is
=============================  ====================================================================
``prompt.0``                   the task and the system prompt as the model was told them
``heard.n``                    what people said to the run since, where somebody did
``signalled.n``                a signal that came for a stop condition
``check.n/<name>.k``           what a check said of the answer of turn n; k > 0: asked again
``revision.n``                 what the model was told of an answer that went back to it
``warning.n``                  what the model was told of its budget
``summary.n``                  what the model wrote down of the transcript so far
``compact.n``                  what was left out of the transcript, to make room: see `cut`
``compact.n/summary.0``        the summary that stands in the place of what was left out
``compact.n/extract.0``        the facts that a model found in it, for memory
``compact.n/remember.k``       such a fact, as memory has it
``model.n``                    a turn: what the model was asked, and its reply
``model.n/<member>.k``         of a panel: what a member, or its judge, said for turn n
``…/<judge>.k/<member>.k``     of a panel that judges an answer, or votes: what a member said
``tools.n/<name>.k``           a tool call of turn n, under the name that the model gave
``…/gate.0``                   of a call: a person is asked before it is made
``…/unknown.0``                of a call: a person is asked what became of it
``…/question.k``               a question to a person, which a tool or a function asks
``…/<agent>.k``                of a call: the run of a sub-agent, a child; k > 0: tried again
``found.n``                    what sub-agents had found that gave no whole answer
``handoff.n``                  to which agent the conversation was given, and its prompt
``decided.n``                  which deferred calls were decided by then: see `deferred`
``spent.n``                    what the tools' own model calls used
``answer.n``                   in a conversation: what was answered to ``prompt.n``
``message.n``                  in a conversation: what was said next
``carried.n``                  in a conversation: the messages that its next generation begins with
=============================  ====================================================================

Below a gate stand ``tell_n``, the steps by which people are told of it (see `notify`).

Invariant: the loop writes rows by these names, and every reader knows rows by them. Two are the
engine's: `HEARD`, and `GATE` of a call's gate (`substrate.values.records`).
"""

import re

from substrate.engine.context.listen import HEARD

__all__ = [
    "ANSWER",
    "CARRIED",
    "CHECK",
    "COMPACT",
    "DECIDED",
    "EXTRACT",
    "FOUND",
    "HANDOFF",
    "HEARD",
    "LOOP_NAMES",
    "MESSAGE",
    "MODEL",
    "MODEL_CALLS",
    "PROMPT",
    "QUESTION",
    "REVISION",
    "SCORE",
    "SIGNALLED",
    "SPENT",
    "SUMMARY",
    "TOOLS",
    "UNKNOWN",
    "UNKNOWN_TOOL",
    "WARNING",
    "in_generation",
    "name_in",
]

PROMPT = "prompt"
MODEL = "model"
SUMMARY = "summary"
COMPACT = "compact"
EXTRACT = "extract"
TOOLS = "tools"
WARNING = "warning"
REVISION = "revision"
CHECK = "check"
SIGNALLED = "signalled"
DECIDED = "decided"
SPENT = "spent"
UNKNOWN = "unknown"
HANDOFF = "handoff"
ANSWER = "answer"
CARRIED = "carried"

MESSAGE = "message"
"""What people say to a run is sent under this name; a conversation waits for it."""

QUESTION = "question"
"""The gate of a question to a person."""

FOUND = "found"
"""The step that reads what children had found that have no whole answer."""

SCORE = "score"
"""A step of a fork's own loop, whose value says how good the run's answer was."""

UNKNOWN_TOOL = "unknown_tool"
"""What a call is called in its key whose own name cannot stand there."""

MODEL_CALLS = (MODEL, SUMMARY, EXTRACT)
"""The rows for which the loop itself asked a model."""

LOOP_NAMES = frozenset(
    {PROMPT, MODEL, TOOLS, SUMMARY, WARNING, REVISION, CHECK, HEARD, SIGNALLED, DECIDED, SPENT}
    | {COMPACT, HANDOFF}
)
"""What the canonical loop writes. A journal with other names is that of another loop."""

_GENERATION = re.compile(r"^g\d+/")  # no key of a fork's has a part without an ordinal


def name_in(key: str) -> str:
    """Return the name in the last part of a key: ``search`` of ``tools.3/search.0``."""
    return key.rpartition("/")[2].rpartition(".")[0]


def in_generation(key: str) -> str:
    """Return a key without the generation that it is of: ``model.0`` of ``g2/model.0``."""
    return _GENERATION.sub("", key)
