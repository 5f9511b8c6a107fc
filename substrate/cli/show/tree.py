"""A tree of rows on a page, as rich draws one, with remarks between them that are no branches."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

GUIDE = 4
"""How many characters a level of the tree takes."""

_GUIDE_STYLE = Style(dim=True)


@dataclass(slots=True)
class Node:
    """A row of a tree, with the rows below it; the root's own label is not drawn."""

    #: What stands there, on one line or several.
    label: Text = field(default_factory=Text)
    #: Whether it is a remark between branches, and none itself.
    is_remark: bool = False
    #: What is below it, in order.
    below: "list[Node]" = field(default_factory=list)

    def add(self, label: Text, *, is_remark: bool = False) -> "Node":
        """Add a row below, and return it."""
        self.below.append(Node(label, is_remark))
        return self.below[-1]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw what is below: the first level without guides."""
        for node in self.below:
            yield from _drawn(node, "", "", console, options)
            yield from _level(node.below, "", console, options)


def _level(
    nodes: list[Node], above: str, console: Console, options: ConsoleOptions
) -> Iterator[Segment]:
    for i, node in enumerate(nodes):
        # A remark at the end does not keep the last branch from being the last.
        is_over = all(each.is_remark for each in nodes[i + 1 :])
        beside = above + ("    " if is_over else "│   ")
        branch = beside if node.is_remark else above + ("└── " if is_over else "├── ")
        yield from _drawn(node, branch, beside, console, options)
        yield from _level(node.below, beside, console, options)


def _drawn(
    node: Node, branch: str, beside: str, console: Console, options: ConsoleOptions
) -> Iterable[Segment]:
    """Yield a row's own lines, each after its guides."""
    room = options.update(width=options.max_width - cell_len(branch), height=None)
    for guide, line in zip(
        _first_then(branch, beside), console.render_lines(node.label, room, pad=False), strict=False
    ):
        yield Segment(guide, _GUIDE_STYLE)
        yield from line
        yield Segment.line()


def _first_then(first: str, then: str) -> Iterator[str]:
    yield first
    while True:
        yield then
