"""A researcher: it plans, has specialists look side by side, and writes a report that is checked.

Each specialist is a run of its own, with a part of the budget. One that fails leaves a gap.
"""

from dataclasses import dataclass

from agent.library import read, sources
from agent.rehearsal import judge_it, look_into_it, plan, vote
from substrate.agent import (
    Agent,
    Answer,
    Checks,
    Model,
    Panel,
    Task,
    answered,
    any_of,
    budget,
    delegate,
    failed,
    majority,
    max_turns,
    rubric,
    tool,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a specialist answers."""

    part: str
    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Report:
    """What the researcher answers."""

    title: str
    findings: list[Finding]
    gaps: list[str]  # what nobody could find out, and why


@dataclass(frozen=True, slots=True)
class Vote:
    """What the jury answers."""

    keeps_to_sources: bool


@tool(effect="pure")
def look_up(topic: str) -> dict[str, str]:
    """Return what the library has on a topic, such as owls/food, with its source."""
    return read(topic)


SMALL = "anthropic:claude-haiku-4-5"


def specialist(name: str, knows: str) -> Agent:
    """Return an agent for one part of a question."""
    return Agent(
        name=name,
        prompt=f"You know about {knows}. Look it up, and answer in one sentence, with its source.",
        model=Model(SMALL, offline=Model(f"scripted:{name}", script=look_into_it)),
        tools=[look_up],
        stop=any_of(answered(), failed(2), max_turns(5)),
        answer=Finding,
    )


naturalist = specialist("naturalist", "what animals eat")
builder = specialist("builder", "where they nest, and boxes for them")
historian = specialist("historian", "what people have told of them")

NAMES = (SMALL, "openai:gpt-6-luna", "google:gemini-3-pro")
jurors = [Model(each, offline=Model("scripted:juror", script=vote)) for each in NAMES]
jury = Agent(
    "jury",
    "Read the draft of a report. Say whether each finding keeps to what its source can know.",
    Panel(jurors, merge=majority),
    answer=Vote,
)


def prompt(task: Task) -> str:
    """Return the system prompt."""
    return (
        "You write reports. Plan first: give each part of the question to the specialist for it, "
        "all in one turn. Report what they found, in their words and with their sources. What "
        "one of them could not find out is a gap: name it. Have the jury vote on your draft."
    )


model = Model("anthropic:claude-sonnet-5-5", offline=Model("scripted:planner", script=plan))

tools = [
    delegate(naturalist, description="Have it looked up what an animal eats."),
    delegate(builder, description="Have it looked up where it nests."),
    delegate(historian, description="Have it looked up what is told of it."),
    delegate(jury, description="Have your draft voted on, before you report."),
]

stop = any_of(answered(), max_turns(8), budget(usd=0.50))

answer = Report


def grounded(answer: Answer, task: Task) -> str | None:
    """Say which sources are made up; they cost nothing to check, so no model is asked for it."""
    made_up = {each.source for each in answer.read(Report).findings} - sources()
    return f"No such source: {', '.join(sorted(made_up))}." if made_up else None


JUDGE = Model("openai:gpt-6-luna", offline=Model("scripted:judge", script=judge_it))
checks = Checks([grounded, rubric("No finding claims to know it all.", judge=JUDGE)], corrections=2)
