"""What memory costs: a write beside a plain step, many writers of one namespace and of 100, a read.

python -m tests.bench.memory [URL of an empty database]
"""

import asyncio
import sys
import tempfile
import time
from datetime import timedelta
from statistics import median, quantiles

from substrate import Client, Context, WorkerOptions, durable
from substrate.store.connect import open_store
from tests.bench.line import Line
from tests.bench.workloads import Gate, gates, mark, marks, sequential

WRITES = 400
RUNS = 64
EACH = 40
LIMITS = WorkerOptions(concurrency=128, poll=timedelta(milliseconds=20))


@durable
async def remembering(ctx: Context, writes: int, spaces: int, name: str) -> None:
    """Write facts one after another, and time each; run k of them writes in namespace k."""
    if name in gates:
        await gates[name].pass_through()
    number = ctx.run_id.rpartition("/")[2]
    memory = ctx.memory(f"bench/{spaces}/{int(number) % spaces}")
    for i in range(writes):
        began = time.perf_counter()
        await memory.remember(f"subject {number}", f"says_{i}", f"value {i} of {number}")
        mark(name, time.perf_counter() - began)


@durable
async def reading(ctx: Context, reads: int) -> None:
    """Read the facts of a subject, and a note, and time each."""
    memory = ctx.memory("bench/1/0")
    await memory.write_note("plan", "x" * 1000)
    for i in range(reads):
        began = time.perf_counter()
        await memory.facts("subject 0", f"says_{i}")
        mark("facts", time.perf_counter() - began)
        began = time.perf_counter()
        await memory.note("plan")
        mark("note", time.perf_counter() - began)


async def lines(url: str) -> list[Line]:
    """Measure memory in a database."""
    store = await open_store(url)
    client = Client(store)
    async with client.work([sequential, remembering, reading], options=LIMITS):
        await client.start(sequential, WRITES, "plain", id="plain")
        await client.result("plain")
        await client.start(remembering, WRITES, 1, "one by one", id="remembering/0")
        await client.result("remembering/0")
        await client.start(reading, WRITES // 2, id="reading")
        await client.result("reading")
        rates = [await rate(client, spaces) for spaces in (1, 100)]
    await store.close()
    plain, write = median(marks["plain"]) * 1e3, median(marks["one by one"]) * 1e3
    facts, note = median(marks["facts"]) * 1e3, median(marks["note"]) * 1e3
    return [
        Line("a fact kept, p50", f"{write:.2f} ms ({write / plain:.1f} × a plain step)", ""),
        Line(f"{RUNS} runs that keep facts in one namespace", rates[0], ""),
        Line(f"the same, in {RUNS} of 100 namespaces", rates[1], ""),
        Line("facts of a subject, a note read, p50", f"{facts:.2f} ms, {note:.2f} ms", ""),
    ]


async def rate(client: Client, spaces: int) -> str:
    """Return the rate of many writers at once, and their p99."""
    name = f"in-{spaces}"
    gate = gates[name] = Gate()
    ids = [f"{name}/{i}" for i in range(RUNS)]
    for id_ in ids:
        await client.start(remembering, EACH, spaces, name, id=id_)
    while gate.waiting < RUNS:
        await asyncio.sleep(0.01)
    began = time.perf_counter()
    gate.opened.set()
    for id_ in ids:
        await client.result(id_)
    writes = RUNS * EACH / (time.perf_counter() - began)
    p99 = quantiles(marks[name], n=100)[98] * 1e3
    return f"{writes:,.0f} a second, p99 {p99:.0f} ms"


def main() -> None:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{folder}/bench.db"
        found = asyncio.run(lines(url))
    print("| what | measured |\n|---|---|")
    for line in found:
        print(f"| {line.what} | {line.measured} |")


if __name__ == "__main__":
    main()
