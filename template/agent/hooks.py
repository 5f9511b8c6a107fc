"""The four hooks: what your agent is told, who answers, what it can do, and when it stops.

Edit this file; `copier update` never touches it. Save, and run again: a run that is in the middle
goes on with the new hooks from its next step.
"""

from pathlib import Path

from agent.rehearsal import rehearse
from substrate.agent import (
    Model,
    Task,
    Tools,
    answered,
    any_of,
    budget,
    drop_results,
    drop_turns,
    max_turns,
    summarise,
    tool,
)

NOTES = Path("notes.md")


def prompt(task: Task) -> str:
    """Return the system prompt. It is rendered once a run and recorded."""
    return (
        "You are a careful assistant with a notebook. Look into the notebook before you answer, "
        "and write down what is worth keeping. Answer in a few plain sentences."
    )


# Who answers. Until ANTHROPIC_API_KEY is set, the rehearsal in rehearsal.py does, and says so.
# Others: "openai:gpt-6-luna", "google:gemini-3.8-flash", "groq:openai/gpt-oss-120b", or any server
# of the chat protocol, "openai-chat:qwen3" with its base_url. Each provider has an SDK of its own,
# and a run says how to install one that is missing. `fallback=[…]` answers where this one cannot.
# Which keys are set decides nothing but this one line.
model = Model(
    "anthropic:claude-sonnet-5-5",
    offline=Model("scripted:rehearsal", script=rehearse),
)


@tool(effect="pure")
def read_notes() -> str:
    """Return everything that is in the notebook."""
    return NOTES.read_text(encoding="utf-8") if NOTES.exists() else "The notebook is empty."


@tool(effect="idempotent")
def write_note(text: str, idempotency_key: str) -> str:
    """Add a line to the notebook."""
    # After a crash in the middle this runs again, with the same key: the line is written once.
    line = f"- {text} <!-- {idempotency_key} -->\n"
    if line not in (NOTES.read_text(encoding="utf-8") if NOTES.exists() else ""):
        with NOTES.open("a", encoding="utf-8") as notes:
            notes.write(line)
    return "Noted."


# What it can do: any typed function with a docstring. One that says nothing about its `effect` is
# never called twice for the same request. Ready-made ones: from skills.sql import query_sql, …
tools: Tools = [read_notes, write_note]

# When it ends: asked before each turn, so tools that were called always finish. A budget counts
# what runs below it use, too; mode="soft" warns the model instead, mode="adaptive" sums up to save.
stop = any_of(answered(), max_turns(20), budget(usd=0.50))

# What is left out of a long transcript, from 85 % of the model's context on: old tool results (the
# model may have one back), then the oldest turns, which it sums up. `show` has what went.
compact = [drop_results(), summarise(), drop_turns()]
