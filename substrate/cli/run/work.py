"""`worker`: drive the runs of a queue until a signal says stop, a log line for each run.

The first SIGTERM or SIGINT ends the claiming; steps under way may end within the grace period, and
every run is given back. That is how a worker ends, so its exit code is 0.
"""

import logging
import socket
import sys
from contextlib import redirect_stdout

from rich.text import Text

from substrate.cli import format as wording
from substrate.cli.database import missing_file, open_or_make_database, opened
from substrate.cli.exit import Exit
from substrate.cli.fork import load_fork
from substrate.cli.invocation import Invocation
from substrate.cli.json_output import print_document
from substrate.cli.screen import open_page, put
from substrate.cli.secrecy import RedactingFormatter
from substrate.cli.signals import stopping_on_signals
from substrate.cli.streams import PipeSafeStream
from substrate.engine.worker.options import WorkerOptions
from substrate.models.model import disconnect

log = logging.getLogger("ostinato")


async def check(invocation: Invocation) -> int:
    """Say whether a worker of this host holds its lease; exit code 1 where none does."""
    host = socket.gethostname()
    async with opened(invocation) as client:
        count = await client.store.count_workers(host)
    if invocation.is_json:
        print_document({"host": host, "workers": count})
    else:
        said = wording.count(count, "worker") if count else "no worker"
        put(open_page(), Text(f"{said} on {host} with a lease that holds"))
    return Exit.DONE if count else Exit.FAILED


async def work(invocation: Invocation, queue: str, options: WorkerOptions) -> int:
    """Drive runs until a signal comes."""
    fork = load_fork(invocation.package)
    fork.check_key()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))
    log.addHandler(handler)
    log.setLevel(logging.DEBUG if invocation.is_debug else logging.INFO)
    new = missing_file()
    async with open_or_make_database() as client:
        if new is not None:
            log.info("the database %r is new", str(new))
        with stopping_on_signals() as stop, redirect_stdout(PipeSafeStream(sys.stderr)):
            async with client.work(fork.functions, queue=queue, options=options):
                log.info(
                    "worker of queue %s: %s, up to %d at once",
                    queue,
                    fork.driven,
                    options.concurrency,
                )
                stopped = await stop.wait()
                shutdown_grace = options.shutdown_grace.total_seconds()
                log.info("%s: what is under way has %.0f s to end", stopped, shutdown_grace)
            await disconnect()
            log.info("every run is given back")
    if invocation.is_json:
        print_document({"queue": queue, "stopped_by": stopped.number.name})
    return 0
