"""`watch`: a run without end, that looks every morning, and tells a person only what is new.

Each morning the run goes on as itself, with the little that it has to know, so a replay never
reads more than one day. Between two mornings it holds nothing.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from urllib.request import urlopen
from zoneinfo import ZoneInfo

from agent.beliefs import keep
from agent.hooks import News
from agent.loop import agent
from substrate import Context, Retry, RunFailed, StepFailed, durable
from substrate.agent import Task

ZONE = ZoneInfo("Europe/Vienna")
HOUR = 7
OUTBOX = Path("outbox.txt")
REMEMBERED = 200  # so many notices are kept of what was told: a year of it stays small
BLIND = 3  # after so many mornings on which the page could not be read, that is news, too
PATIENT = Retry(max_attempts=4, initial=timedelta(minutes=10), max_delay=timedelta(hours=1))


def look(url: str) -> str:
    """Read the page."""
    with urlopen(url, timeout=20) as page:  # noqa: S310 - the address is yours
        return str(page.read(100_000), "utf-8", "replace")


def tell(notices: Sequence[str], idempotency_key: str) -> None:
    """Tell the person: here, in a file. Under the same key a second time, nothing is added."""
    with OUTBOX.open("a+", encoding="utf-8") as outbox:
        outbox.seek(0)
        if idempotency_key not in outbox.read():
            for notice in notices:
                outbox.write(f"{idempotency_key}  {' '.join(notice.split())}\n")


def next_morning(now: datetime) -> datetime:
    """Return the next time that it is seven: 23 or 25 hours later where the clocks change."""
    local = now.astimezone(ZONE)
    morning = local.replace(hour=HOUR, minute=0, second=0, microsecond=0)
    return morning if local < morning else morning + timedelta(days=1)


async def news(ctx: Context, page: str, told: Sequence[str]) -> News | None:
    """Ask the agent what is new on a page; None where it has no answer."""
    task = Task("\n".join(("Told before:", *told, "", "The page now:", page)))
    try:
        said = await ctx.spawn(agent, task)
    except RunFailed:
        return None
    if not said.is_complete:
        return None
    found = said.read(News)
    # Whatever the model says, what was told once is not told again.
    fresh = dict.fromkeys(each for each in found.notices if each not in told)
    return News(list(fresh), found.facts if fresh else [])


@durable
async def watch(
    ctx: Context, url: str, told: Sequence[str] = (), seen: str = "", missed: int = 0
) -> str:
    """Look, tell what is new, sleep until the next morning, and go on as itself, without end."""
    try:
        page = await ctx.step(look, url, retry=PATIENT, timeout=60)
    except StepFailed as error:
        missed += 1
        if missed == BLIND:
            why = [f"{url} could not be read on {BLIND} mornings: {error}"]
            await ctx.step(tell, why, effect="idempotent")
    else:
        missed = 0
        now = sha256(page.encode()).hexdigest()
        found = await news(ctx, page, told) if now != seen else News()
        if found is not None:  # else the page is asked about again tomorrow
            if found.notices:
                await ctx.step(tell, found.notices, effect="idempotent")
                await keep(ctx, found.facts)
            told, seen = [*told, *found.notices][-REMEMBERED:], now
    await ctx.sleep_until(next_morning(ctx.now()))
    return ctx.continue_as(watch.of(url, told, seen, missed))
