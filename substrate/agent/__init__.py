"""What an agent is made of: the names that a fork's hooks, tools and loop import.

>>> from substrate.agent import Model, Task, answered, any_of, budget, max_turns, tool

Most stand in modules of their own (`tool`, `task`, `stop` …), where the rest of the kit imports
them. A name that is both a module and a function, such as `tool`, is the function here.

=============  ====================================================================================
what           where to begin, and what that leads to
=============  ====================================================================================
the loop       `loop` over the verbs of `turn`; `ask`, `model_call`, `transcript`; what a replay
               finds: `recorded`, `chain`
its rows       `history`: their names are in `history.keys`, what each says in `history.rows`
hooks          `hooks` as the loop reads them; wrong before a run: `hook_checks`, `stop_trial`;
               wrong in one: `hook_fault`
tools          `tool`, `tool_schema`; the calls of a reply: `calling`, one: `tool_call`; what the
               model is told of it: `tool_result`, `history.result`
when it ends   `stop`, `end`, `condition`; `budget`, `confidence`, `signalled`; in a run: `verdict`;
               whether what is left pays for a turn: `payable`, which asks `purse`
answers        `answer_type`, `valid_reply`, `answer`; checks: `checks`, run by `checking`
approvals      `policy`, then `approval`; `rules`; `gate_request`; `notify`; calls that wait while
               others go on: `deferred`; what people do with a gate: `decisions`; `ask_human`; a
               call in doubt: `unknown`
sub-agents     `agent`, `delegate`, `outcome`; what one may use: `grant` is the amount, `share`
               divides and reserves it, `spent` counts it
handing over   `handoff`, `handoff_tool`, `handoff_taken`
a full context `compact` says what is left out, `compacting` when; `cutting` does it: `room` plans,
               `cut` is recorded, `extract` asked; `recall_result`; without it, `compaction`
conversations  `conversation`; from one message to the next: `talk`; what people say: `inbox`
memory         `memory_tools`, `embedders`, `settle`; what is kept: `substrate.memory`
panels         `panel`, `poll`, `votes`; what a panel is: `substrate.models.panel`
=============  ====================================================================================
"""

from substrate.agent.agent import Agent
from substrate.agent.answer_type import TypedAnswer
from substrate.agent.ask_human import ask_human, ask_person
from substrate.agent.checks import Checks, rubric, schema
from substrate.agent.compact import (
    Compact,
    drop_results,
    drop_turns,
    remember_first,
    summarise,
)
from substrate.agent.condition import Condition, Needs
from substrate.agent.confidence import confident
from substrate.agent.conversation import conversation_of
from substrate.agent.decisions import answer, approve, deny, find_gate
from substrate.agent.delegate import delegate
from substrate.agent.end import Advice, End, EndedBy, EndReason, Stop, Verdict
from substrate.agent.handoff import handoff
from substrate.agent.hooks import Tools
from substrate.agent.loop import Hooks, Turn, begin
from substrate.agent.memory_tools import memory_tools
from substrate.agent.notify import Notice, webhook
from substrate.agent.outcome import Outcome
from substrate.agent.policy import Escalation, Policy
from substrate.agent.prompt import Prompt
from substrate.agent.settle import settle
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
from substrate.memory.hashed_ngrams import HashedNgrams
from substrate.memory.mini_lm import MiniLM
from substrate.models.embedding import Embedding
from substrate.models.model import Fallback, Model
from substrate.models.panel import Panel, Vote, first, judge, majority, weighted

__all__ = [
    "Advice",
    "Agent",
    "Answer",
    "Checks",
    "Compact",
    "Condition",
    "Embedding",
    "End",
    "EndReason",
    "EndedBy",
    "Escalation",
    "Fallback",
    "HashedNgrams",
    "Hooks",
    "MiniLM",
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
    "drop_results",
    "drop_turns",
    "failed",
    "find_gate",
    "first",
    "handoff",
    "judge",
    "majority",
    "max_turns",
    "memory_tools",
    "refused",
    "remember_first",
    "rubric",
    "schema",
    "settle",
    "signalled",
    "summarise",
    "tool",
    "webhook",
    "weighted",
]
