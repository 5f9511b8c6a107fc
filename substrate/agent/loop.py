"""`begin`: an agent at work, over hooks that are handed over once.

What the canonical loop is written with, and any loop of a fork's own: the same four lines run any
number of agents, each over its own hooks. The verbs below are those of `turn`, each of which leaves
its row.

Invariants: the hooks are read where they are used, so a running worker has those of its file; what
is recorded was done, whatever they say now. `Turn` keeps no state but the transcript and the last
advice, and both come back the same on a replay.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from substrate.agent import compacting, deferred, handoff_taken, payable, turn
from substrate.agent.answer_type import typed_answer_of
from substrate.agent.calling import call_tools
from substrate.agent.checks import Check, Checks
from substrate.agent.compact import Compact, compact_of
from substrate.agent.condition import needs_of
from substrate.agent.confidence import ConfidentAnswer
from substrate.agent.deferrals import Deferrals
from substrate.agent.end import End, EndedBy, EndReason, Stop, Verdict
from substrate.agent.handoff_tool import Gone, target_of
from substrate.agent.history.keys import DECIDED, HEARD
from substrate.agent.hook_fault import hook
from substrate.agent.hooks import AnswerType, Tools, read, tools_of
from substrate.agent.inbox import hear_more
from substrate.agent.notify import Notify, at_work, notify_of
from substrate.agent.prompt import Prompt, Text
from substrate.agent.purse import Purse
from substrate.agent.recall_result import RECALL_RESULT, recall_result_tool
from substrate.agent.recorded import is_ahead, is_of_later_loop, turn_ahead
from substrate.agent.signalled import finish_tool
from substrate.agent.stop_since import handed_stop, stop_of_message
from substrate.agent.talk import Talk
from substrate.agent.task import Answer, Task
from substrate.agent.tool import Tool
from substrate.agent.transcript import Transcript
from substrate.engine.context.context import Context
from substrate.models.messages import Reply, ToolMessage
from substrate.models.model import Model
from substrate.models.panel import Panel


class Hooks(Protocol):
    """The four hooks of an agent: a module such as a fork's ``hooks.py``, or any other object.

    Three more names are optional: `answer`, the type of the agent's answers, `checks`, what an
    answer has to pass, and `compact`, what is left out of a context that fills.
    """

    @property
    def prompt(self) -> Prompt | Text:
        """What the model is told first: text, a function of the task, or a prompt in versions."""

    @property
    def model(self) -> Model | Panel:
        """Who answers: a model, or a panel of several."""

    @property
    def tools(self) -> Tools:
        """What the model may call."""

    @property
    def stop(self) -> Stop:
        """When the loop ends."""


async def begin(ctx: Context, hooks: Hooks, task: Task) -> "Turn":
    """Begin the work on a task, and return the turn that the loop goes round with.

    The system prompt is rendered and recorded, with its version and the day that the model is
    told: once a run, so a replay and a later prompt change neither.

    Args:
        ctx: The context of the durable function that is the loop.
        hooks: A module or an object with `prompt`, `model`, `tools` and `stop`, and perhaps
            `answer`, `checks` and `compact`. They are read again at each turn.
        task: What the agent is given.

    A prompt hook that raises pauses the run: mend it, and resume.

    Example:
        >>> from types import SimpleNamespace
        >>> hooks = SimpleNamespace(  # or a module, as in a fork
        ...     prompt="Be brief.",
        ...     model=Model("scripted:owls", script=["Two owls."]),
        ...     tools=[],
        ...     stop=any_of(answered(), max_turns(5)),
        ... )
        >>> @durable
        ... async def agent(ctx: Context, task: Task) -> Answer:
        ...     turn = await begin(ctx, hooks, task)
        ...     while not (end := turn.stop()):
        ...         reply = await turn.ask()
        ...         await turn.call_tools(reply)
        ...     return await turn.finish(end)
        >>> (await drive(agent, Task("How many owls?"))).text
        'Two owls.'
    """
    talk = Talk.of(ctx)
    # In a conversation that was handed over, the other agent goes on with the next message.
    agent = talk.agent if talk else None
    present = hooks if agent is None else target_of(hooks, agent)
    transcript = await turn.begin(ctx, read(ctx, present, "prompt"), task)
    stop = read(ctx, present, "stop")
    begun = Turn(ctx, hooks, await turn.listen(ctx, stop, transcript), present)
    await begun.take_in()
    await begun.prepare()
    return begun


class Turn:
    """An agent in the middle of its work: its hooks, and what was said so far. See `begin`."""

    def __init__(
        self, ctx: Context, hooks: Hooks, transcript: Transcript, present: object = None
    ) -> None:
        self._ctx = ctx
        self._first = hooks
        self._hooks: object = hooks if present is None else present
        self._transcript = transcript
        self._verdict: Verdict = None

    @property
    def transcript(self) -> Transcript:
        """What was said so far."""
        return self._transcript

    def stop(self) -> End | None:
        """Ask the hook `stop` whether the loop ends here; None to go on.

        It is asked at the top of each turn, so tools that the model has called always finish. A
        turn that is recorded was taken: there the journal answers, whatever the hook says now. What
        the hook only advises, a warning or a summary, is done by the next `ask`. A loop ends as
        well where what its budget leaves does not pay for a call more.
        """
        ctx, transcript = self._ctx, self._transcript
        said = turn.verdict(ctx, self._stop, transcript)
        if not isinstance(said, End) and payable.is_limited(ctx, transcript):
            model, tools = self._hook("model"), self._tools
            said = payable.not_paid_for(ctx, model, transcript, tools, self._answer) or said
        self._verdict = said
        return self._verdict if isinstance(self._verdict, End) else None

    async def ask(self) -> Reply:
        """Call the model once for all that was said, and return its reply.

        The reply is recorded under ``model.n`` with its usage, and added to the transcript. Where
        the model cannot answer, its fallback does; failures that pass by themselves are retried,
        for a day if need be, while the run is suspended. All others (a missing key, an empty
        account) pause the run: it goes on from here once they are mended and it is resumed.
        """
        ctx, answer = self._ctx, self._answer
        if is_ahead(ctx, DECIDED):
            await self.take_in()  # at an end that is none any more: what was made then is told
        model, tools = self._hook("model"), self._tools
        # Here and not in `stop`, which is no coroutine: a fork's `while` asks it as a plain call.
        compact = self._compact
        compacting.note_policy(ctx, compact)  # which a budget may advise to follow
        transcript = await turn.follow_advice(ctx, model, self._transcript, self._verdict, tools)
        transcript = await turn.leave_out(ctx, compact, model, transcript, tools)
        tools = self._brought(tools, transcript)
        reply = await turn.ask(ctx, model, transcript, tools, answer=answer)
        self._transcript = transcript + reply
        return reply

    async def call_tools(self, reply: Reply) -> None:
        """Call every tool that the reply asks for, side by side, and take in what people said.

        Each call is a promise of its own, ``tools.n/name.0``, and is never made again once its
        outcome is recorded. A tool's own error, wrong arguments, a tool that there is not, and an
        outcome that nobody knows are results that the model sees. A signal called ``message`` that
        has come meanwhile is added after them. Where a tool has handed the conversation over, the
        other agent's hooks are asked from here on.

        A reply that asks for none is the answer, where `stop` says so: then it is checked, and told
        to the model again with what does not pass. Where people are asked about calls that the loop
        goes on without (``Policy(wait=False)``), a run waits here before it ends with an answer:
        the model is told what they decide, and may say more. A conversation answers, and is woken.
        """
        ctx, stop, tools = self._ctx, self._stop, self._tools
        with at_work(self._name, self._notify):
            told = await call_tools(ctx, tools, reply, present=self._hooks)
        self._transcript += told
        self._transcript = await turn.check(
            ctx, self._checks, stop, self._transcript, answer=self._answer
        )
        await self._hand_over(told)
        # After the results: a provider wants them right behind the reply that asks for them. And
        # after the checks, so that what comes while a judge is asked is heard.
        self._transcript += await turn.hear(ctx)
        self._transcript = await turn.listen(ctx, self._stop, self._transcript)
        await self._hear_again()
        has_news = await self.take_in()  # before `stop` is asked what it says of all that
        await self.prepare()
        if not has_news and Talk.of(ctx) is None:
            await self._wait_before_the_end()

    async def take_in(self) -> bool:
        """Take in what became of calls that were deferred; False where nothing did.

        The calls that were approved are made here. `begin` and `call_tools` do that at their end.
        """
        return await self._take_in() is not None

    async def _take_in(self) -> deferred.TakenIn | None:
        ctx = self._ctx
        if not Deferrals.of(ctx).calls:
            return None
        Purse.note(ctx, self._transcript, self._stop)
        with at_work(self._name, self._notify):
            found = await deferred.take_in(ctx, self._tools_of)
        if found is not None:
            told = self._transcript.told_later(found.message, found.results, found.used)
            self._transcript = told
        return found

    async def _hear_again(self) -> None:
        """Hear again what was heard in a wait before this turn, where that came first."""
        ctx = self._ctx
        while Deferrals.of(ctx).calls and (heard := ctx.recorded(HEARD)) is not None:
            decided = ctx.recorded(DECIDED) if is_ahead(ctx, DECIDED) else None
            following = (turn_ahead(ctx, self._transcript), decided)
            is_later = any(each is not None and each.seq < heard.seq for each in following)
            if is_later or is_of_later_loop(ctx, heard):
                return
            self._transcript += await hear_more(ctx)

    async def _wait_before_the_end(self) -> None:
        """Where the loop would end with an answer, wait for a decision or a message."""
        ctx = self._ctx
        while self._waits_with_its_answer():
            mark = ctx.mark()  # before the looks: what comes after one of them ends the wait
            if await self.take_in():
                return
            if (said := await hear_more(ctx)).parts:
                self._transcript += said
                return
            self._transcript = await turn.listen(ctx, self._stop, self._transcript)
            if self._waits_with_its_answer():
                await ctx.wait_for_news(mark)

    def _waits_with_its_answer(self) -> bool:
        """Whether the loop would end with an answer, and not cut short, while people are asked."""
        if not Deferrals.of(self._ctx).calls or self._transcript.signals:
            return False  # a signal of a condition: somebody has ended the work
        end = self.stop()
        return end is not None and (end.reason in _ANSWERS or end.by is EndedBy.AGENT)

    async def prepare(self) -> None:
        """Make ready what `stop` asks about the next call, which is its price."""
        model = partial(self._hook, "model")
        await payable.load_prices(self._ctx, self._stop, self._transcript, model)

    async def finish(self, end: End) -> Answer:
        """Return the answer. A loop that was cut short gets one last reply, without tools.

        Args:
            end: What `stop` has returned; the answer's `reason` and `detail` are its.

        Nobody is asked any more about calls that were deferred; those that were approved by now
        are made. In a conversation they stay open.
        """
        if Talk.of(self._ctx) is None and Deferrals.of(self._ctx).calls:
            await deferred.withdraw(self._ctx)
            if (found := await self._take_in()) is not None and found.withdrawn:
                words = f"nobody had decided: {', '.join(found.withdrawn)}"
                end = replace(end, detail="; ".join(filter(None, (end.detail, words))))
        compacting.note_policy(self._ctx, self._compact)
        return await turn.finish(
            self._ctx,
            self._hook("model"),
            self._transcript,
            end,
            self._tools,
            answer=self._answer,
            checks=self._checks,
            needs=needs_of(self._stop),
        )

    async def _hand_over(self, told: ToolMessage) -> None:
        """Go on with another agent's hooks, where a tool of this turn has handed over to it."""
        known = tools_of(self._ctx, self._tools) if told.results else []
        hooks, self._transcript = await handoff_taken.follow(
            self._ctx, self._first, known, told, self._transcript
        )
        if hooks is not None:
            self._hooks = hooks

    @property
    def _stop(self) -> Stop:
        """The condition: the hook, and after a handoff the budgets of the first agent too."""
        own: Stop = self._hook("stop")
        if self._transcript.agent is not None:
            own = handed_stop(read(self._ctx, self._first, "stop"), own)
        return stop_of_message(own) if self._transcript.message_at else own

    @property
    def _answer(self) -> AnswerType:
        """The type of an answer; with a confidence, where the condition needs one."""
        with hook(self._ctx, "answer"):
            answer: AnswerType = getattr(self._first, "answer", None)
            least = needs_of(self._hook("stop")).confidence
            return answer if least is None else ConfidentAnswer(least, typed_answer_of(answer))

    @property
    def _tools(self) -> Tools:
        """What the model may call, with what the condition brings along."""
        tools: Tools = self._hook("tools")
        needs = needs_of(self._hook("stop"))
        if needs.tools or needs.finish:
            with hook(self._ctx, "answer"):
                typed = typed_answer_of(getattr(self._first, "answer", None))
                finish = [finish_tool(name, typed) for name in needs.finish]
            tools = [*tools_of(self._ctx, tools), *needs.tools, *finish]
        return self._brought(tools, self._transcript)

    def _brought(self, tools: Tools, transcript: Transcript) -> Tools:
        """Return tools, and the one that gives back what is left out of the transcript.

        A tool of the fork's own that has its name stays.
        """
        if not transcript.has_left_out:
            return tools
        known = tools_of(self._ctx, tools)
        if any(each.name == RECALL_RESULT for each in known):
            return known
        return [*known, recall_result_tool(self._ctx)]

    @property
    def _compact(self) -> Compact | None:
        """What is left out of a full context: as the agent says that is at work, else the first."""
        with hook(self._ctx, "compact"):
            own = getattr(self._hooks, "compact", None)
            return compact_of(getattr(self._first, "compact", None) if own is None else own)

    def _tools_of(self, agent: str) -> Sequence[Tool]:
        """Return the tools of the agent of this name, who may have handed over since."""
        ctx, hooks = self._ctx, self._hooks
        if agent not in (self._name, getattr(hooks, "name", None)):
            own = (getattr(self._first, "name", None), ctx.execution.claim.run.function)
            found = self._first if agent in own else target_of(self._first, agent)
            hooks = hooks if isinstance(found, Gone) else found
        tools: Tools = self._tools if hooks is self._hooks else read(ctx, hooks, "tools")
        return tools_of(ctx, tools)

    @property
    def _checks(self) -> Sequence[Check] | Checks | None:
        with hook(self._ctx, "checks"):
            checks: Sequence[Check] | Checks | None = getattr(self._first, "checks", None)
            return checks

    @property
    def _name(self) -> str | None:
        """The name of the agent that is at work, which may have been handed the conversation."""
        name = getattr(self._hooks, "name", None)
        return name if isinstance(name, str) else None

    @property
    def _notify(self) -> Notify:
        with hook(self._ctx, "notify"):
            return notify_of(getattr(self._first, "notify", None))

    def _hook(self, name: str) -> Any:
        return read(self._ctx, self._hooks, name)


_ANSWERS = (EndReason.ANSWERED, EndReason.CONFIDENCE, EndReason.UNCHECKED)
