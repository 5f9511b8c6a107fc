"""The loop: one model call and the tools it asks for, again and again, until a condition says stop.

Each line that awaits leaves its outcome in the journal. Kill the process anywhere; the same run
comes back here, passes over what is recorded, and goes on at the first thing that is not.
`copier update` merges this file: change it where your agent needs another loop.
"""

from agent import hooks
from substrate import Context, durable
from substrate.agent import Answer, Task, begin


@durable
async def agent(ctx: Context, task: Task) -> Answer:
    """Work on the task until a stop condition holds."""
    turn = await begin(ctx, hooks, task)
    while not (end := turn.stop()):
        reply = await turn.ask()
        await turn.call_tools(reply)
    return await turn.finish(end)
