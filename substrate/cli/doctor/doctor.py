"""`doctor`: all that keeps an agent from running, in one table, each with its remedy.

It changes nothing: no database is made or migrated, no tool is called, and no model is asked unless
that is wanted. Exit code 0 where nothing fails.
"""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from substrate.cli import format as wording
from substrate.cli.doctor.database import look_at_database
from substrate.cli.doctor.finding import Finding, State, fail, ok, worst
from substrate.cli.doctor.model import call_models, look_at_models, look_at_other_keys
from substrate.cli.doctor.place import look_at_dotenv, look_at_place
from substrate.cli.doctor.tools import look_at_people, look_at_tools
from substrate.cli.exit import Exit
from substrate.cli.fork import agents_of, check_there, hooks_of, load_fork
from substrate.cli.fork_code import ForkBroken
from substrate.cli.invocation import Invocation
from substrate.cli.json_output import print_document
from substrate.cli.screen import open_page, put
from substrate.models.model import disconnect

_STYLES = {State.OK: "green", State.WARN: "yellow", State.FAIL: "red"}


async def doctor(invocation: Invocation, *, is_calling: bool) -> int:
    """Look at everything, and print what was found."""
    check_there(invocation.package)
    found = [*look_at_dotenv(Path.cwd()), *look_at_place(Path.cwd())]
    found += [each async for each in look_at_database()]
    found += await _look_at_fork(invocation, is_calling=is_calling)
    if invocation.is_json:
        print_document(
            {
                "state": worst(found).value,
                "checks": [
                    {
                        "about": each.about,
                        "state": each.state.value,
                        "said": each.said,
                        "remedy": each.remedy or None,
                    }
                    for each in found
                ],
            }
        )
    else:
        put(open_page(), _table(found), *_summary(found, is_calling=is_calling))
    return Exit.FAILED if worst(found) is State.FAIL else Exit.DONE


async def _look_at_fork(invocation: Invocation, *, is_calling: bool) -> Sequence[Finding]:
    try:
        fork = load_fork(invocation.package)
    except ForkBroken as error:
        return [fail("hooks", str(error))]
    every = {"": hooks_of(invocation.package), **agents_of(fork)}
    found = [ok("hooks", f"they load; a worker here drives {fork.driven}")]
    for name, hooks in every.items():
        found += look_at_models(hooks.model, name)
        found += look_at_tools(hooks.tools, name)
        found += look_at_people(hooks, name)
    models = [hooks.model for hooks in every.values()]
    found += look_at_other_keys(models)
    found = list(dict.fromkeys(found))  # one key, or one model, may be that of several agents
    if is_calling:
        try:
            found += [each async for each in call_models(models)]
        finally:
            await disconnect()
    return found


def _table(found: Sequence[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column("state")
    table.add_column("about", overflow="fold")
    table.add_column("said", overflow="fold")
    for each in found:
        said = Text(wording.visible(each.said))
        if each.remedy:
            said.append(f"\n→ {wording.visible(each.remedy)}", "dim")
        table.add_row(Text(each.state.value, _STYLES[each.state]), each.about, said)
    return table


def _summary(found: Sequence[Finding], *, is_calling: bool) -> Sequence[Text]:
    counts = {state: sum(each.state is state for each in found) for state in State}
    told = f"{counts[State.OK]} ok, {counts[State.WARN]} to know, {counts[State.FAIL]} to mend"
    hint = "" if is_calling else "; --call asks each model for a word"
    return [Text(""), Text.assemble((told, _STYLES[worst(found)]), (hint, "dim"))]
