"""The verbs of the loop: begin, hear, follow advice, ask, call tools, check, finish.

Each leaves its row.

=========  ===========================  =========================================================
verb       key                          what the journal keeps
=========  ===========================  =========================================================
begin      ``prompt.0``                 the task and the system prompt, as rendered; its version
hear       ``heard.2``                  what people said meanwhile, where somebody did
listen     ``signalled.0``              a signal that a stop condition listens for, where one came
advice     ``warning.0``                what the model was told of its budget
advice     ``revision.0``               what it was told of an answer that goes back to it
advice     ``summary.0``                what the model wrote down of what was said; by `ask`, too
leave out  ``compact.0``                what is left out of it from here on (see `compacting`)
ask        ``model.3``                  which request (see `chain`), the reply, its usage
ask        ``model.3/gpt-6-luna.0``     of a panel: what a member said (see `panel`)
call       ``tools.3/query_sql.0``      the arguments, the result
take in    ``decided.0``                which deferred calls were decided by then
call       ``spent.0``                  what tools used that have model calls of their own
check      ``check.3/rubric.0``         what each check says of an answer (see `checking`)
finish     ``model.4``                  one last reply, when the loop was cut short, and why
=========  ===========================  =========================================================

Invariant: what is recorded was done, whatever the hooks say now (see `recorded`).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from substrate.agent import checking
from substrate.agent import inbox as hearing
from substrate.agent.answer import answer_of
from substrate.agent.ask import (
    call_model,
    last_model_call,
    last_reply,
    not_payable,
    replay_reply,
    turn_model_call,
)
from substrate.agent.budget import has_last_words
from substrate.agent.calling import call_tools
from substrate.agent.chain import Chain
from substrate.agent.checks import Check, Checks
from substrate.agent.compact import Compact, Strategy, compact_of
from substrate.agent.compacting import keep_room, make_room, note_policy
from substrate.agent.condition import NOTHING, Needs, needs_of
from substrate.agent.cutting import close_cut
from substrate.agent.end import Advice, End, EndedBy, EndReason, Measure, Stop, Verdict
from substrate.agent.ended import answer_in
from substrate.agent.grant import Grant
from substrate.agent.history.keys import PROMPT, WARNING
from substrate.agent.history.rows import value_of
from substrate.agent.hook_fault import fault_of, hook
from substrate.agent.hooks import AnswerType, Tools, model_of, tools_of, typed_of
from substrate.agent.model_call import MODEL_RETRY, note_reply
from substrate.agent.named_step import named_step
from substrate.agent.prompt import Prompt, Text, opening
from substrate.agent.purse import LAST, Purse
from substrate.agent.recorded import (
    before,
    close,
    end_in,
    recall,
    revise,
    turn_ahead,
)
from substrate.agent.stop import answered
from substrate.agent.talk import Talk
from substrate.agent.task import Answer, Task
from substrate.agent.transcript import Transcript
from substrate.agent.verdict import verdict
from substrate.engine.context.context import Context
from substrate.models.messages import (
    Json,
    Reply,
    ToolCall,
    UserMessage,
)
from substrate.models.panel import Answering
from substrate.values.codec import decode, encode
from substrate.values.errors import Misuse
from substrate.values.records import JsonText

__all__ = [
    "MODEL_RETRY",
    "ask",
    "begin",
    "check",
    "finish",
    "follow_advice",
    "hear",
    "leave_out",
    "listen",
    "verdict",
]


_WARNING = (
    "{detail}. Little is left: do only what your answer cannot do without, and answer as soon as "
    "you can."
)


async def begin(ctx: Context, prompt: Prompt | Text, task: Task) -> Transcript:
    """Render the prompt, record it, and return the transcript before the first model call.

    Of a prompt in versions, the run is given one, which is recorded, and so is the day that the
    model is told. A prompt hook that raises pauses the run: mend it, and resume.
    """
    now = ctx.now()

    talk = Talk.of(ctx)
    is_woken = talk is not None and talk.is_woken

    async def render() -> Json:
        # Nobody has said anything where a decision has woken a conversation.
        told: dict[str, Json] = {"woken": True} if is_woken else {"task": task.begun(now).to_json()}
        granted = None if hearing.is_in_a_tool(ctx) else await ctx.granted()
        if granted is not None:
            told["granted"] = decode(granted)
        return {**opening(prompt, task, ctx.run_id), **told}

    # Whatever a prompt raises, its author mends it: nothing of it is an error of the run.
    step = replace(
        named_step(PROMPT, render),
        pause_on=(BaseException,),
        fault_in=partial(fault_of, "prompt"),
    )
    row = await ctx.checkpoint(step).settled()
    recorded = value_of(row) or {}  # of the moment before it, `now`, the loop's own time counts
    version = (recorded["prompt"], recorded["version"]) if "version" in recorded else None
    # What was told stands, whatever this version would tell: older rows have no day, or no task.
    message: UserMessage | None = None
    if "woken" not in recorded:
        message = UserMessage.from_json(recorded["task"]) if "task" in recorded else task.message
    granted = (
        Grant.from_json(JsonText(encode(recorded["granted"]))) if "granted" in recorded else None
    )
    if talk is not None and talk.transcript is not None:
        transcript = talk.transcript.with_task(task, recorded["system"], version, message)
        transcript.chain.begin_message(row.key if message is not None else None)
        await hearing.pass_by(ctx, row)
    else:
        transcript = Transcript.begin(task, recorded["system"], version, message, granted)
        transcript = replace(transcript, chain=Chain.begin(ctx))
    transcript = replace(transcript, began=now)
    if message is not None and "task" in recorded:
        transcript.chain.task_key = row.key
        transcript.chain.note(message, row.key)
    return transcript + await hearing.hear(ctx)


async def hear(ctx: Context) -> UserMessage:
    """Return what people have said to the run since it was last heard, to be added.

    It is the signal ``message``, of any value; it waits for nobody. One that comes later, up to the
    very end of the run, makes another turn, unless a limit is reached: then the last words take it
    in, or the answer's detail tells that it was not read any more.
    """
    Chain.of(ctx).hears = True
    return await hearing.hear(ctx)


async def listen(ctx: Context, stop: Stop, transcript: Transcript) -> Transcript:
    """Return the transcript with the signals that `stop` listens for, and that have come.

    It waits for nobody. One that comes later is heard before the next turn.
    """
    return await hearing.listen(ctx, needs_of(stop).signals, transcript)


async def follow_advice(
    ctx: Context, model: Answering, transcript: Transcript, advice: Verdict, tools: Tools = ()
) -> Transcript:
    """Do what a stop condition advises before the loop goes on; mostly that is nothing.

    A warning, a summary, and why an answer goes back are recorded: they are the same on every
    replay, also where the condition advises something else by now.
    """
    recalled = await recall(ctx, transcript)
    is_decided = recalled is not transcript or turn_ahead(ctx, transcript) is not None
    if is_decided or not isinstance(advice, Advice):
        return recalled
    if advice.measure is Measure.COMPACT:
        known = tools_of(ctx, tools)
        return await make_room(ctx, model_of(ctx, model), transcript, known, is_full=False)
    if advice.measure is Measure.REVISE:
        return await revise(ctx, transcript, advice.detail, advice.source)

    async def warn() -> Json:
        return _WARNING.format(detail=advice.detail)

    step = replace(named_step(WARNING, warn, before(ctx)), pause_on=(BaseException,))
    row = await ctx.checkpoint(step).settled()
    return transcript.warned(value_of(row), row.key)


async def leave_out(
    ctx: Context,
    compact: Sequence[Strategy] | Compact | None,
    model: Answering,
    transcript: Transcript,
    tools: Tools = (),
) -> Transcript:
    """Return the transcript with room in its model's context, as `compact` says.

    It is the same one where there is enough, or nothing is said. What is left out is recorded, so a
    replay, also one that says something else by now, leaves out the same. A context that is full,
    and a budget that advises it, have room made in the same way from then on.
    """
    with hook(ctx, "compact"):
        note_policy(ctx, compact_of(compact))
    return await keep_room(ctx, model_of(ctx, model), transcript, tools_of(ctx, tools))


async def ask(
    ctx: Context,
    model: Answering,
    transcript: Transcript,
    tools: Tools = (),
    *,
    answer: AnswerType = None,
) -> Reply:
    """Call the model once for the whole transcript, and return its reply.

    Where the model cannot answer, its fallback does; the reply says so. Failures that pass by
    themselves are retried. Where the transcript is longer than the model's context, it is summed up
    and asked again; when that doesn't help, the fallback with a larger context is asked. All other
    failures (a missing key, an empty account, a fault in a script) pause the run and say why:
    nothing is lost, and it goes on from here when the cause is mended and the run is resumed.

    With `answer`, a type with named fields, the answer is to be JSON that fits it. A reply that is
    not what was asked for, or empty, or whose calls were cut off, says so; added to a transcript,
    it is followed by what is wrong with it. A model that was told twice (`TypedAnswer` says another
    number) and is still wrong is passed over for the next of its fallback that takes ``invalid``.
    """
    row = turn_ahead(ctx, transcript)
    if row is not None:
        transcript = await recall(ctx, transcript)
        Purse.note(ctx, transcript)
        reply = await replay_reply(ctx, transcript)
        # Last words, of a loop that asks `stop` by itself: what they call was not to be called.
        words = tuple(part for part in reply.parts if not isinstance(part, ToolCall))
        return replace(reply, parts=words) if end_in(row) else reply
    last = transcript.messages[-1]
    if isinstance(last, Reply) and not last.tool_calls:
        with hook(ctx, "stop"):
            raise Misuse("the model has answered, and it did not end the loop; add answered()")
    transcript = await recall(ctx, transcript)
    Purse.note(ctx, transcript)
    model, known = model_of(ctx, model), tools_of(ctx, tools)
    make = partial(turn_model_call, tools=known, typed=typed_of(ctx, answer))
    row, transcript = await call_model(ctx, model, transcript, tools=known, make=make)
    return note_reply(row, transcript)


async def check(
    ctx: Context,
    checks: Sequence[Check] | Checks | None,
    stop: Stop,
    transcript: Transcript,
    *,
    answer: AnswerType = None,
) -> Transcript:
    """Have an answer checked at which the loop would end; it goes back where it does not pass.

    What is wrong is told to the model as often as the checks say; after that `verdict` ends the
    loop as ``unchecked``. What a check has said is recorded and holds, also where it is gone by
    now. In a turn that is recorded nothing is checked any more.
    """
    if answer_in(transcript) is None and not needs_of(stop).finish:
        return transcript
    return await checking.check(ctx, checks, stop, transcript, typed_of(ctx, answer))


async def finish(
    ctx: Context,
    model: Answering,
    transcript: Transcript,
    end: End,
    tools: Tools = (),
    *,
    answer: AnswerType = None,
    checks: Sequence[Check] | Checks | None = None,
    needs: Needs = NOTHING,
) -> Answer:
    """Return the answer. A loop that was cut short gets one last reply, in which to sum up.

    In that reply no tool may be called; they are named, since the transcript speaks of them. With
    `answer`, the answer's `value` is what fits that type, also of a loop that was cut short. Its
    last words are checked once, but by no judge, and do not go back: the answer's detail tells what
    does not pass. `needs` is what the stop condition says that it needs.
    """
    typed = typed_of(ctx, answer)
    transcript = await recall(ctx, transcript)
    while (row := turn_ahead(ctx, transcript)) and end_in(row) is None:
        transcript = await _taken_turn(ctx, model, transcript, tools, answer)
        end = answered()(transcript) or end
    taken = transcript.chain.ended_at  # such a loop takes recorded last words for a turn
    end = taken or (end_in(row) if row else None) or end
    is_cut_short = _is_cut_short(transcript, end)
    # Of a conversation whose budget is used up, a message more is not to cost a call more.
    is_over = transcript.message_at > 0 and end.reason is EndReason.BUDGET
    is_over = is_over and not transcript.since_message().replies
    if row is None and is_cut_short and (is_over or not has_last_words(transcript)):
        transcript.chain.was_cut_short = True  # its grant has no room for them
    elif taken is None and (row or is_cut_short):
        model, known = model_of(ctx, model), tools_of(ctx, tools)
        make = partial(last_model_call, end=end, tools=known, typed=typed)
        if row is not None or not_payable(ctx, model, transcript, make, LAST) is None:
            transcript += await last_reply(ctx, model, transcript, tools=known, make=make)
        transcript.chain.was_cut_short = True
    await close(ctx, transcript)
    await close_cut(ctx)
    failing = ""
    if transcript.chain.was_cut_short and end.reason is not EndReason.UNCHECKED:
        given = answer_of(transcript.since_message(), end, typed)
        failing = await checking.check_last_words(ctx, checks, transcript, given)
    details = (end.detail, failing, await _unread(ctx, transcript))
    end = replace(end, detail="; ".join(filter(None, details)))
    if (talk := Talk.of(ctx)) is not None:
        talk.transcript = transcript
    with hook(ctx, "answer"):
        return answer_of(transcript.since_message(), end, typed, needs.finish)


async def _taken_turn(
    ctx: Context, model: Answering, transcript: Transcript, tools: Tools, answer: AnswerType
) -> Transcript:
    """Replay a turn that was taken where a loop that asks `stop` by itself ends by now."""
    reply = await ask(ctx, model, transcript, tools, answer=answer)
    transcript += reply
    transcript += await call_tools(ctx, tools, reply)
    return await recall(ctx, transcript)


def _is_cut_short(transcript: Transcript, end: End) -> bool:
    """Whether the model is to say what it has: it was at work, and has nothing to say yet."""
    match end.reason:
        case EndReason.MAX_TURNS:
            return True
        case EndReason.BUDGET:
            # An answer that was cut off is what there is: last words would take its place.
            given = answer_in(transcript)
            return given is None or not given.is_cut_short
        case EndReason.DEADLINE | EndReason.SIGNALLED | EndReason.FAILED:
            last = transcript.last_reply
            is_given_up = last is not None and last.invalid is not None and last.invalid.is_last
            has_answered = answer_in(transcript) is not None or end.by is EndedBy.AGENT
            return not (is_given_up or has_answered)
    return False


async def _unread(ctx: Context, transcript: Transcript) -> str:
    """Say what people have said that the model will not read any more."""
    chain, last = transcript.chain, transcript.messages[-1]
    late = [last] if isinstance(last, UserMessage) and chain.has_heard(last) else []
    if chain.was_cut_short or not chain.hears:
        # Else a message that comes now has the loop driven again, and makes another turn.
        late.append(await hearing.hear(ctx))
    return hearing.unread(late)
