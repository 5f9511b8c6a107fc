"""The commands that look at what agents keep, with their options and their help."""

from typing import Annotated

import typer

from substrate.cli.commands.begin import begin
from substrate.cli.commands.forgetting import forget

_Namespace = Annotated[
    str, typer.Argument(metavar="NAMESPACE", help="As `memory list` has it: acme/users/anna")
]
_AsOf = Annotated[
    str | None,
    typer.Option(metavar="N|WHEN", help="As it was known at this number, or moment: 7d."),
]

memory = typer.Typer(
    help="What agents keep: notes, facts, links, and what was said.", no_args_is_help=True
)


@memory.command("list")
def list_namespaces(
    context: typer.Context,
    prefix: Annotated[
        str, typer.Argument(metavar="PREFIX", help="Only namespaces that begin so.")
    ] = "",
) -> int:
    """List the namespaces there are, with the number of their last change.

    memory list acme/
    """
    from substrate.cli.show.memory import list_namespaces as list_

    return begin(list_, context, prefix)


@memory.command("show")
def show_namespace(context: typer.Context, namespace: _Namespace, as_of: _AsOf = None) -> int:
    """Show what a namespace holds, as Markdown: facts, links, notes, what was said.

    memory show acme/users/anna
    memory show acme/users/anna --as-of 12
    memory show acme/users/anna --as-of 7d > anna.md
    """
    from substrate.cli.show.memory import show_namespace as show_

    return begin(show_, context, namespace, as_of)


@memory.command("search")
def search(
    context: typer.Context,
    namespace: _Namespace,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="In words.")],
    *,
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, max=100, help="At most so many.")] = 8,
    as_of: _AsOf = None,
) -> int:
    """Find what a namespace has about a question, with the words that it is found by.

    memory search acme/users/anna "where does she live?"
    """
    from substrate.cli.show.memory import search as search_

    return begin(search_, context, namespace, question, k, as_of)


@memory.command("why")
def why(
    context: typer.Context,
    id: Annotated[
        str, typer.Argument(metavar="ID", help="Of what is remembered, or of a step that has read.")
    ],
) -> int:
    """Tell why something is remembered, or what a run knew when it decided.

    Of an id: who said so and when, since when it is true, what became of it. Of
    a step: what it found, as of which number, and what has become of that since.

      memory why "acme/users/anna#12"
      memory why "report/1#recall.0"
    """
    from substrate.cli.show.memory import explain

    return begin(explain, context, id)


@memory.command("reindex")
def reindex(
    context: typer.Context,
    namespace: _Namespace,
    embed: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="all-MiniLM-L6-v2 or hashed-ngrams:512; else its own."),
    ] = None,
) -> int:
    """Make the vectors of a namespace anew, of this embedder from now on.

    Cut off, it goes on where a recall by that embedder needs them, or here.

      memory reindex acme/users/anna
      memory reindex acme/users/anna --embed all-MiniLM-L6-v2
    """
    from substrate.cli.act.reindex import remake

    return begin(remake, context, namespace, embed)


@memory.command("export")
def export(
    context: typer.Context,
    namespace: _Namespace,
    *,
    to: Annotated[str | None, typer.Option(metavar="FILE", help="There when it is whole.")] = None,
) -> int:
    """Export all that a namespace has and has had, as lines of JSON.

    memory export acme/users/anna --to anna.jsonl
    """
    from substrate.cli.act.moving import export as export_

    return begin(export_, context, namespace, to)


@memory.command("import")
def import_exported(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="What was exported.")],
    *,
    into: Annotated[
        str | None, typer.Option(metavar="NAMESPACE", help="Not the one it was exported from.")
    ] = None,
) -> int:
    """Import what was exported, with its numbers, sources and times.

    It is checked first, to its end. Cut off, the same command goes on.

      memory import anna.jsonl
      memory import anna.jsonl --into acme/users/anna-old
    """
    from substrate.cli.act.moving import import_exported as import_

    return begin(import_, context, file, into)


memory.command("forget")(forget)
