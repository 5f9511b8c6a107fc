"""What people would do meanwhile: what a run asks is answered as was typed, and once.

A process that goes on after a kill gives the same answer again, which then does not count.
"""

from hashlib import sha256

from substrate.agent.decisions import answer, approve
from substrate.agent.history.questions import read_questions
from substrate.cli.crash.plan import RUN, Drive
from substrate.engine.client import Client
from substrate.values.gates import GateKind, GateState
from substrate.values.records import Run

APPROVE, ANSWER = "--approve", "--answer"
"""What is told where a gate was decided."""


async def answer_all(drive: Drive, client: Client, run: Run) -> set[str]:
    """Answer what the run and all below it ask, as far as that was given; return what was."""
    return await _send(drive, client, run) | await _decide(drive, client)


async def _send(drive: Drive, client: Client, run: Run) -> set[str]:
    """Answer what is asked under the names that were given; return under which."""
    answers = dict(drive.signals)
    asked = await read_questions(client, run, await client.journal(run.id))
    named = [each for each in asked if each.wait.promise.name in answers]
    for each in named:
        name, id_ = each.wait.promise.name, each.wait.promise.id
        # The same question after a kill is answered with the same dedup, and so once.
        dedup = sha256(id_.encode()).hexdigest()[:32]
        await client.signal(each.run_id, name, answers[name], dedup)
    return {each.wait.promise.name for each in named}


async def _decide(drive: Drive, client: Client) -> set[str]:
    """Decide the open gates that are to be decided; return what of that was done."""
    done = set()
    for gate in await client.store.gates.of_tree(RUN):
        if gate.state is not GateState.PENDING:
            continue
        if gate.kind is GateKind.APPROVAL and drive.approves:
            await approve(client, gate, by="crash")
            done.add(APPROVE)
        elif gate.kind is GateKind.QUESTION and drive.answers:
            await answer(client, gate, drive.answers[0], by="crash")
            done.add(ANSWER)
    return done
