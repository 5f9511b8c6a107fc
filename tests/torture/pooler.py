"""The real PgBouncer, in front of a server of ours.

It refuses to run as root, and must own what it connects to; so it runs in the same kind of user
namespace as the server does.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from tests.keeper import NAMESPACE, wait_until

_SETTINGS = """
[databases]
* = host={server} port=5432 user=postgres
[pgbouncer]
pool_mode = {mode}
auth_type = any
unix_socket_dir = {folder}
listen_port = 6432
max_client_conn = 1000
default_pool_size = 60
server_idle_timeout = 5
logfile = {folder}/log
"""


def is_installed() -> bool:
    """Whether there is a PgBouncer on this machine."""
    return shutil.which("pgbouncer") is not None


@contextmanager
def pooled(url: str, mode: str) -> Iterator[str]:
    """Run PgBouncer in this pool mode; yield the URL of the same database through it."""
    parts = urlsplit(url)
    server = parse_qs(parts.query)["host"][0]
    folder = Path(tempfile.mkdtemp(prefix="ostinato-pool-"))
    settings = folder / "pgbouncer.ini"
    settings.write_text(_SETTINGS.format(server=server, mode=mode, folder=folder))
    prefix = NAMESPACE if os.geteuid() == 0 else ()
    process = subprocess.Popen(
        [*prefix, "pgbouncer", "-q", str(settings)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        if not wait_until((folder / ".s.PGSQL.6432").exists, 10):
            raise RuntimeError(f"PgBouncer did not start: {_log(folder)}")
        where = quote(str(folder), safe="")
        yield f"postgresql://postgres@/{parts.path[1:]}?host={where}&port=6432"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _log(folder: Path) -> str:
    log = folder / "log"
    return log.read_text() if log.exists() else "it said nothing"
