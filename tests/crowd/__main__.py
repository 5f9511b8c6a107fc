"""`make memory`; with a number of agents, of facts, and a seed: `python -m tests.crowd 8 800 7`."""

import asyncio
import sys

from tests.crowd import main

GIVEN = list(map(int, sys.argv[1:]))
AGENTS, TOTAL, SEED = [*GIVEN, *(20, 10_000, 7)[len(GIVEN) :]]
sys.exit(asyncio.run(main(AGENTS, TOTAL, SEED)))
