"""What an agent is made of: the names that a fork's hooks, tools and loop import.

>>> from substrate.agent import Model, Task, answered, any_of, budget, max_turns, tool

Most stand in modules of their own (`tool`, `task`, `stop` …), where the rest of the kit imports
them. A name that is both a module and a function, such as `tool`, is the function here.
"""

from substrate.agent.agent import Agent
from substrate.agent.answer_type import TypedAnswer
from substrate.agent.ask_human import ask_human, ask_person
from substrate.agent.checks import Checks, rubric, schema
from substrate.agent.condition import Condition, Needs
from substrate.agent.confidence import confident
from substrate.agent.conversation import conversation_of
from substrate.agent.decisions import answer, approve, deny, find_gate
from substrate.agent.delegate import delegate
from substrate.agent.end import Advice, End, EndedBy, EndReason, Stop, Verdict
from substrate.agent.handoff import handoff
from substrate.agent.loop import Hooks, Turn, begin
from substrate.agent.notify import Notice, webhook
from substrate.agent.outcome import Outcome
from substrate.agent.policy import Escalation, Policy
from substrate.agent.prompt import Prompt
from substrate.agent.signalled import signalled
from substrate.agent.stop import (
    all_of,
    answered,
    any_of,
    budget,
    deadline,
    failed,
    max_turns,
    refused,
)
from substrate.agent.task import Answer, Task
from substrate.agent.tool import Tool, tool
from substrate.agent.transcript import Transcript
from substrate.agent.turn import Tools
from substrate.models.model import Fallback, Model
from substrate.models.panel import Panel, Vote, first, judge, majority, weighted

__all__ = [
    "Advice",
    "Agent",
    "Answer",
    "Checks",
    "Condition",
    "End",
    "EndReason",
    "EndedBy",
    "Escalation",
    "Fallback",
    "Hooks",
    "Model",
    "Needs",
    "Notice",
    "Outcome",
    "Panel",
    "Policy",
    "Prompt",
    "Stop",
    "Task",
    "Tool",
    "Tools",
    "Transcript",
    "Turn",
    "TypedAnswer",
    "Verdict",
    "Vote",
    "all_of",
    "answer",
    "answered",
    "any_of",
    "approve",
    "ask_human",
    "ask_person",
    "begin",
    "budget",
    "confident",
    "conversation_of",
    "deadline",
    "delegate",
    "deny",
    "failed",
    "find_gate",
    "first",
    "handoff",
    "judge",
    "majority",
    "max_turns",
    "refused",
    "rubric",
    "schema",
    "signalled",
    "tool",
    "webhook",
    "weighted",
]
