"""`memory forget`: what would go is told, a person says yes, and what came of it is told.

Nothing of what is forgotten is printed: only ids, numbers, and where texts are left.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.text import Text

from substrate.cli import format as wording
from substrate.cli.database import opened
from substrate.cli.errors import UsageError, blaming_what_was_typed
from substrate.cli.exit import Exit
from substrate.cli.invocation import Invocation
from substrate.cli.json_output import print_document
from substrate.cli.screen import open_page, open_screen, put
from substrate.engine.client import Client
from substrate.values.forgetting import Forgetting

_MOST = 20  # ids that are told


@dataclass(frozen=True, slots=True)
class TypedForgetting:
    """What is to be forgotten, as it was typed."""

    namespace: str | None
    subject: str | None
    note: str | None
    run: str | None
    is_below: bool
    is_everywhere: bool
    #: Only to be told what would go.
    is_look: bool
    #: Without a question.
    is_sure: bool

    async def ask(self, client: Client, *, look: bool) -> Forgetting:
        """Forget it, or look what would go."""
        with blaming_what_was_typed():
            return await client.forget(
                self.namespace,
                subject=self.subject,
                note=self.note,
                run=self.run,
                below=self.is_below,
                everywhere=self.is_everywhere,
                look=look,
            )


async def forget(invocation: Invocation, typed: TypedForgetting) -> int:
    """Forget what was typed, for good, when a person has seen what goes."""
    async with opened(invocation) as client:
        # To look changes nothing, whatever else was typed.
        if typed.is_look or not typed.is_sure:
            found = await typed.ask(client, look=True)
            if typed.is_look and invocation.is_json:
                print_document(asdict(found))
                return 0
            put(open_page() if typed.is_look else open_screen(), *_plan(found, typed))
            if typed.is_look:
                return 0
            if not _is_sure(invocation):
                put(open_screen(), Text("nothing was changed", "dim"))
                return Exit.FAILED
        told = await typed.ask(client, look=False)
    if invocation.is_json:
        print_document(asdict(told))
    else:
        put(open_page(), *_outcome(told))
    return 0 if told.counts or told.runs else Exit.FAILED


def _is_sure(invocation: Invocation) -> bool:
    if invocation.is_json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("nobody can be asked here whether to forget it for good; add --yes")
    sys.stderr.write("forget it for good? yes/no > ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _plan(found: Forgetting, typed: TypedForgetting) -> Iterator[Text]:
    yield Text(f"goes from memory: {_counted(found.counts) or 'nothing'}")
    yield from _ids("loses all contents", found.runs, "run")
    yield from _ids("goes on, and has to end first", found.living, "run")
    if not typed.is_everywhere:
        yield from _ids("says a text of it, and stays (--everywhere)", found.elsewhere, "run")
    else:
        yield from _ids("says a text of it, and loses all contents", found.elsewhere, "run")
    yield from _ids("mentions it, and stays", found.mentions, "")
    yield from _limits(found)


def _outcome(told: Forgetting) -> Iterator[Text]:
    nothing = "nothing was there; `memory list` has the namespaces, `runs` the runs"
    yield Text(f"forgotten: {_counted(told.counts) or nothing}")
    yield from _ids("has lost all contents", told.runs, "run")
    yield from _ids("says a text of it, and has stayed", told.elsewhere, "run")
    yield from _ids("mentions it, and has stayed", told.mentions, "")
    for each in told.left:
        yield Text(f"still in files: {each}", "yellow")
    yield from _limits(told)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {table}" for table, number in counts.items())


def _ids(what: str, ids: Sequence[str], kind: str) -> Iterator[Text]:
    for each in ids[:_MOST]:
        yield Text.assemble(f"{kind} ".lstrip(), (wording.visible(each), "bold"), f" {what}")
    if len(ids) > _MOST:
        yield Text(f"and {len(ids) - _MOST} more, each of which {what}")


def _limits(told: Forgetting) -> Iterator[Text]:
    yield Text("not reached: " + "; ".join(told.not_covered), "dim")
