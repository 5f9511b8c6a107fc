"""How an open question reads, and the command that answers it."""

from collections.abc import Iterable, Iterator

from rich.text import Text

from substrate.agent.history.keys import MESSAGE
from substrate.agent.history.questions import Question
from substrate.cli import format as wording
from substrate.cli.invocation import Invocation
from substrate.cli.show.waits import wait_words
from substrate.values.gates import code_of
from substrate.values.records import Kind

SHOWN_CODE = 8
"""So many characters of a gate's short name are shown: enough to tell it from others."""


def question_words(question: Question) -> str:
    """Return what is asked: ``approval, true or false, until 2026-11-28 09:05:07``."""
    wait = question.wait
    if wait.promise.kind is Kind.GATE:
        return wait_words(wait)
    end = "" if wait.until is None else f", until {wording.moment(wait.until)}"
    return f"{wait.promise.name}: {wait.wanted.words}{end}"


def answering_command(question: Question, invocation: Invocation) -> Text:
    """Return what answers a question, ready for a shell; what is to be filled in is in capitals."""
    wait = question.wait
    wanted, example = wait.wanted, wait.wanted.example
    value = example if isinstance(example, str) else wording.as_json(example)
    if wait.promise.kind is Kind.GATE:
        code = code_of(wait.promise.id)[:SHOWN_CODE]
        if wait.asks_for_approval:
            no = Text(f"  (or {invocation.command('deny', code, '--why', 'REASON')})", "dim")
            return Text(invocation.command("approve", code)).append_text(no)
        # What a model has worded is typed by no one as it is, if it would move a terminal.
        shown = value if value.isprintable() else "VALUE"
        return Text(wording.visible(invocation.command("answer", code, shown)))
    if wait.promise.name == MESSAGE and wanted.is_anything:  # a conversation: words are enough
        return Text(wording.visible(invocation.command("say", question.run_id, "MESSAGE")))
    sent = invocation.command("signal", question.run_id, wait.promise.name, value)
    return Text.assemble(wording.visible(sent), ("  (or false)" if wanted.is_bool else "", "dim"))


def how_to_answer(questions: Iterable[Question], invocation: Invocation) -> Iterator[Text]:
    """Yield a line for each question, and below it the command that answers it.

    Those under one name, of one run, are one line: answers go to them in the order of their keys.
    """
    alike: dict[tuple[str, str, str], list[Question]] = {}
    for each in questions:
        # Each gate is answered by itself; signals of one name, of one run, in the order of keys.
        is_gate = each.wait.promise.kind is Kind.GATE
        name = each.wait.promise.id if is_gate else each.wait.promise.name
        key = (each.run_id, name, each.wait.wanted.words)
        alike.setdefault(key, []).append(each)
    for first, *others in alike.values():
        more = f"; {1 + len(others)} are open, and the first is answered first" if others else ""
        yield Text.assemble(
            ("answer ", "dim"), wording.visible(question_words(first)), (more, "dim")
        )
        yield Text("  ").append_text(answering_command(first, invocation))
