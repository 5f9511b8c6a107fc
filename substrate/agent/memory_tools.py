"""`memory_tools`: memory as tools of the model's, in one namespace that the hooks say.

`memory` has the shape of the providers' own memory tool: files below ``/memories``, which here are
the notes of the namespace. `remember` and `recall` are for facts and for whatever else is kept.

- The model names no namespace, so it reaches nothing that lies in another one.
- What it writes is its own word (`agent`), never a person's.
- What it reads is marked as somebody's text, with its source: see `substrate.memory.marked`.
- What does not fit is told to it; only a fault of the hooks pauses the run.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from substrate.agent.hook_fault import hook
from substrate.agent.tool import Tool, tool
from substrate.engine.context.context import Context
from substrate.engine.context.memory import Memory
from substrate.memory.embedder import Embedder, check_embedder
from substrate.memory.marked import marked_hits, marked_names, marked_note
from substrate.memory.shown import Note
from substrate.values.errors import MemoryRefused, Misuse, NoteChanged
from substrate.values.memory import check_namespace

Namespace = str | Callable[[Context], str]
"""A namespace, or a function that tells it for a run."""

Command = Literal["view", "create", "str_replace", "insert", "delete", "rename"]

T = TypeVar("T")

_ROOT = "/memories"
_Path = Annotated[str | None, Field(description="The file, below /memories; /memories lists them.")]


def memory_tools(
    namespace: Namespace, *, reads: Sequence[Namespace] = (), embed: Embedder | None = None
) -> list[Tool]:
    """Return tools by which the model keeps notes and facts in a namespace, and finds them again.

    Args:
        namespace: Whose memory it is, such as ``acme/users/anna``: here it reads and writes. Or a
            function that is given the context of a call and returns it.
        reads: In which others, too, `recall` looks. Nothing is written there.
        embed: What makes vectors of texts, so that `recall` finds what is near in meaning, too.

    Raises:
        InvalidId: a namespace has another form.

    Example:
        >>> [each.name for each in memory_tools("acme/users/anna")]
        ['memory', 'remember', 'recall']
    """
    _check_spaces(namespace, reads)
    check_embedder(embed)

    kept = partial(_kept, namespace, embed)

    async def memory(
        ctx: Context,
        command: Annotated[Command, Field(description="What is done.")],
        *,
        path: _Path = None,
        view_range: Annotated[
            tuple[int, int] | None,
            Field(description="Of view: the first and last line, from 1; -1 is to the end."),
        ] = None,
        file_text: Annotated[str | None, Field(description="Of create: the whole text.")] = None,
        old_str: Annotated[
            str | None, Field(description="Of str_replace: what stands there.")
        ] = None,
        new_str: Annotated[str | None, Field(description="Of str_replace: what shall.")] = None,
        insert_line: Annotated[
            int | None, Field(description="Of insert: behind which line; 0 is before the first.")
        ] = None,
        insert_text: Annotated[
            str | None, Field(description="Of insert: what is put there.")
        ] = None,
        old_path: Annotated[str | None, Field(description="Of rename: the file.")] = None,
        new_path: Annotated[str | None, Field(description="Of rename: its new path.")] = None,
    ) -> str:
        """Keep notes across conversations: view, create, change, delete and rename files."""
        notes = kept(ctx)
        with _TellsMistakes():
            match command:
                case "view":
                    return await _view(ctx, notes, path or _ROOT, view_range)
                case "create":
                    return await _create(ctx, notes, _name(path), _given(file_text, "file_text"))
                case "str_replace":
                    old = _given(old_str, "old_str")
                    await notes.edit_note(_name(path), old, new_str or "")
                    return f"{path} has been edited."
                case "insert":
                    line = _given(insert_line, "insert_line")
                    await notes.insert_note(_name(path), line, _given(insert_text, "insert_text"))
                    return f"The text stands in {path} behind line {line}."
                case "delete":
                    await notes.delete_note(_name(path))
                    return f"{path} is deleted."
                case "rename":
                    await notes.rename_note(_name(old_path), _name(new_path))
                    return f"{old_path} is {new_path} now."

    async def remember(
        ctx: Context,
        subject: Annotated[str, Field(description="Of whom or what: a name, always the same.")],
        predicate: Annotated[str, Field(description="What is said: lives_in, prefers.")],
        value: Annotated[str, Field(description="The value: Bonn, tea without sugar.")],
        *,
        replaces: Annotated[
            bool, Field(description="True where there is one value at a time: it ends the last.")
        ] = False,
    ) -> str:
        """Keep a fact that will be worth knowing in later conversations."""
        with _TellsMistakes():
            policy: Literal["one", "many"] = "one" if replaces else "many"
            id_ = await kept(ctx).remember(subject, predicate, value, policy=policy)
            return f"It is kept, as {id_}."

    async def recall(
        ctx: Context,
        question: Annotated[str, Field(description="What you want to know, in its own words.")],
        k: Annotated[int, Field(ge=1, le=50, description="How many answers at most.")] = 8,
    ) -> str:
        """Find what is kept about a question: facts, notes, and what was said before."""
        with _TellsMistakes():
            spaces = [kept(ctx), *(_kept(each, embed, ctx) for each in reads)]
            found = await ctx.gather(*(each.recall(question, k) for each in spaces))
            best = sorted((hit for hits in found for hit in hits), key=lambda hit: -hit.score)
            return marked_hits(best[:k], _word(ctx))

    return [tool(memory), tool(remember), tool(recall)]


def _check_spaces(namespace: Namespace, reads: Sequence[Namespace]) -> None:
    if isinstance(reads, str):
        raise Misuse(f"reads={reads!r:.220} is one text; write a list: reads=[{reads!r:.220}]")
    for each in (namespace, *reads):
        if not callable(each):
            check_namespace(each)


def _kept(namespace: Namespace, embed: Embedder | None, ctx: Context) -> Memory:
    if isinstance(namespace, str):
        return ctx.memory(namespace, embed=embed)
    with hook(ctx, "tools"):  # what it raises, or returns, no model could mend
        return ctx.memory(namespace(ctx), embed=embed)


class _TellsMistakes:
    """Tells the model what does not fit: a mistake in its arguments is none of the code."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if isinstance(error, Misuse):
            raise MemoryRefused(str(error)) from None


async def _view(ctx: Context, notes: Memory, path: str, lines: tuple[int, int] | None) -> str:
    path = path.rstrip("/") or path
    note = None if path == _ROOT else await notes.note(_name(path))
    if note is not None:
        _check_lines(note, path, lines)
        return marked_note(note, _word(ctx), lines)
    within = [each for each in await notes.notes() if f"{_ROOT}/{each.name}".startswith(f"{path}/")]
    if within:
        return marked_names(within, path, _word(ctx))
    if path == _ROOT:
        return f"{_ROOT} is empty."
    raise MemoryRefused(f"{path} does not exist; view {_ROOT} to see what there is")


def _check_lines(note: Note, path: str, lines: tuple[int, int] | None) -> None:
    there = note.text.count("\n") + 1
    if lines is not None and not (
        1 <= lines[0] <= there and (lines[1] < 0 or lines[1] >= lines[0])
    ):
        raise MemoryRefused(f"{path} has {there} lines, and none of {list(lines)}")


async def _create(ctx: Context, notes: Memory, name: str, text: str) -> str:
    try:
        await notes.write_note(name, text)
    except NoteChanged as error:
        there = await notes.note(name)
        shown = "" if there is None else f"\n{marked_note(there, _word(ctx))}"
        raise MemoryRefused(
            f"{_ROOT}/{name} is there already, with version {error.version}; change it with "
            f"str_replace or insert, or give another path.{shown}"
        ) from None
    return f"{_ROOT}/{name} is written."


def _name(path: str | None) -> str:
    """Return the note of a path, or raise `MemoryRefused`."""
    given = path or ""
    name = given.removeprefix(f"{_ROOT}/")
    is_plain = all(part.strip(".") for part in name.split("/"))
    if name == given or not is_plain or "%" in name or "\\" in name:
        raise MemoryRefused(f"{given!r:.220} is no file below {_ROOT}; write {_ROOT}/plan.md")
    return name


def _given(value: T | None, name: str) -> T:
    if value is None:
        raise MemoryRefused(f"{name} is missing; this command needs it")
    return value


def _word(ctx: Context) -> str:
    """Return a word that no text could know, the same on every replay."""
    return ctx.uuid().hex[:12]
