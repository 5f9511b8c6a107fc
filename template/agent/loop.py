"""The loop: one model call and the tools it asks for, again and again, until a condition says stop.

Each line that awaits leaves its outcome in the journal. Kill the process anywhere; the same run
comes back here, passes over what is recorded, and goes on at the first thing that is not.
`copier update` merges this file: change it where your agent needs another loop.
"""

from agent import hooks
from substrate import Context, durable
from substrate.agent.task import Answer, Task
from substrate.agent.turn import ask, begin, call_tools, finish, hear, heed, verdict

answer = getattr(hooks, "answer", None)  # the type of its answers, for a fork that has one


@durable
async def agent(ctx: Context, task: Task) -> Answer:
    """Work on the task until a stop condition holds."""
    transcript = await begin(ctx, hooks.prompt, task)
    while not (end := verdict(ctx, hooks.stop, transcript)):
        transcript = await heed(ctx, hooks.model, transcript, end, hooks.tools)
        reply = await ask(ctx, hooks.model, transcript, hooks.tools, answer=answer)
        transcript += reply
        transcript += await call_tools(ctx, hooks.tools, reply)
        transcript += await hear(ctx)
    return await finish(ctx, hooks.model, transcript, end, hooks.tools, answer=answer)
