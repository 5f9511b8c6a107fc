"""What the notices say is kept in memory: a newer one closes an older one, and overwrites none."""

from collections.abc import Sequence
from datetime import datetime

from agent.hooks import Said
from substrate import Context, durable


async def keep(ctx: Context, facts: Sequence[Said]) -> None:
    """Keep what the notices say; what they said before is known still, as of then."""
    memory = ctx.memory(f"watcher/{ctx.run_id}", trust="web")
    for each in facts:
        await memory.remember(each.subject, each.predicate, each.value, policy="one")


@durable
async def believed(ctx: Context, run_id: str, subject: str, when: datetime) -> list[str]:
    """Say what the watcher of a run believed of something at a moment, and by which step."""
    memory = ctx.memory(f"watcher/{run_id}")
    facts = await memory.facts(subject, at=when, as_of=when)
    return [f"{fact.predicate} {fact.object}, by {fact.sources[0]}" for fact in facts]
