"""What agents keep, shared by all runs: notes, facts, links and what was said, in namespaces.

Here stands what each write decides, over the ledger of its transaction (`substrate.store.ledger`),
and how what is kept is found again. It knows rows and no runs: the engine makes steps of it
(`ctx.memory`), the agent tools, and the command line looks through it.

Nothing is overwritten. Each change has a number of its namespace, so any answer can be asked what
was known when it was given, and from where.
"""

from substrate.memory.shown import Fact, Hit, Link, Note, Reached
from substrate.values.memory import Trust

__all__ = ["Fact", "Hit", "Link", "Note", "Reached", "Trust"]
