"""A process that runs one PostgreSQL server for as long as its parent lives.

The keeper is a process of its own, in a session of its own, so that nothing which ends the parent
ends it first: not Ctrl-C, not a signal to the parent's group, not SIGKILL. It makes a cluster in a
temporary folder, starts the server in the foreground as its child, says where on standard output,
and then watches its parent. When the parent says so or is gone, it stops the server and removes
the folder. Should the server itself die, it is started again on the same data, so a test
that kills it sees a crash and a recovery.

The server listens on a Unix socket inside the folder and nowhere else. Durability settings are
PostgreSQL's own: what is acknowledged has been flushed.

PostgreSQL refuses to run as root, and as a user without an account. There the server runs in a
user namespace in which this user is called `nobody`, so it owns what we own and nothing outside
changes. Where such namespaces are not permitted, root runs it as the real `nobody`.

Usage: keeper.py FOLDER_OF_THE_SERVER_PROGRAMS. It uses the standard library alone.
"""

import json
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Cluster", "has_account", "keep", "wait_until"]

NOBODY = 65534  # the one account besides root that practically every system and image has
NAMESPACE = ("unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}")
LONGEST_FOLDER = 70  # a Unix socket's path, file name included, ends at 103 bytes on some systems
START_LIMIT_S = 60.0
WATCH_INTERVAL_S = 0.1
SETTINGS = {
    "port": "5432",  # a part of the socket's name, no port of this machine
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "64MB",
}


class NotStartedError(Exception):
    """The cluster could not be made or started. The message is what PostgreSQL said."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """One data folder, the programs that serve it, and the identity they run under."""

    folder: Path
    programs: Path
    prefix: tuple[str, ...] = ()
    identity: Mapping[str, Any] | None = None

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What the server programs printed."""
        return self.folder / "log"

    def popen(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a server program, its output appended to the log, the caller's PG… unset."""
        environment = {name: value for name, value in os.environ.items() if name[:2] != "PG"}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*self.prefix, str(self.programs / program), *arguments],
                cwd=self.folder,
                env=environment | {"LC_ALL": "C", "TZ": "UTC"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **(self.identity or {}),
            )

    def create(self) -> None:
        """Make the cluster: superuser `postgres`, UTF-8, C collation, no password on the socket."""
        cluster = ("-D", str(self.data), "-U", "postgres", "-A", "trust")
        if self.popen("initdb", *cluster, "-E", "UTF8", "--locale=C", "--no-sync").wait() != 0:
            raise NotStartedError(self.log.read_text(errors="replace"))

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server and return once it takes connections."""
        settings = SETTINGS | {"unix_socket_directories": str(self.folder)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        server = self.popen("postgres", "-D", str(self.data), *options)
        wait_until(lambda: server.poll() is not None or self.is_ready(server.pid), START_LIMIT_S)
        if server.poll() is not None or not self.is_ready(server.pid):
            stop(server)
            raise NotStartedError(self.log.read_text(errors="replace"))
        return server

    def start_again(self) -> subprocess.Popen[bytes]:
        """Start the server after a crash, once the dead server's children have let go."""
        for _ in range(100):
            try:
                return self.start()
            except NotStartedError:
                time.sleep(WATCH_INTERVAL_S)
        return self.start()

    def is_ready(self, pid: int) -> bool:
        """Tell whether the server of this pid takes connections, as its own pid file says."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def wait_until(condition: Callable[[], bool], limit_s: float) -> bool:
    """Return true as soon as the condition holds, false when the limit has passed without it.

    What takes long to look at, such as a command, is looked at less often: it would take the core
    from what is waited for.
    """
    deadline = time.monotonic() + limit_s
    began = time.monotonic()
    while not condition():
        looked = time.monotonic()
        if looked > deadline:
            return False
        time.sleep(max(0.005, 2 * (looked - began)))
        began = time.monotonic()
    return True


def stop(server: subprocess.Popen[bytes]) -> None:
    """End the server at once, without a checkpoint: its data goes with it."""
    if server.poll() is None:
        server.send_signal(signal.SIGQUIT)
    try:
        server.wait(timeout=15)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def can_enter_namespace() -> bool:
    """Tell whether this machine lets us make the namespace; many containers do not."""
    try:
        return (
            subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
        )
    except FileNotFoundError:
        return False


def has_account() -> bool:
    """Tell whether this user has a name, without which PostgreSQL does not start."""
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return True


def cluster_in(folder: Path, programs: Path) -> Cluster:
    """Choose the identity for the server: ours, if PostgreSQL accepts it, else another."""
    is_root = os.geteuid() == 0
    if (is_root or not has_account()) and can_enter_namespace():
        return Cluster(folder, programs, prefix=NAMESPACE)
    if not is_root:
        return Cluster(folder, programs)
    identity = {"user": NOBODY, "group": NOBODY, "extra_groups": ()}
    os.chown(folder, NOBODY, NOBODY)
    cluster = Cluster(folder, programs, identity=identity)
    try:
        cluster.popen("postgres", "--version").wait()
    except PermissionError:  # the programs lie below a folder that only root may enter
        cluster = Cluster(folder, copy_programs(programs, folder / "copy"), identity=identity)
    return cluster


def copy_programs(programs: Path, into: Path) -> Path:
    """Copy an installation and the libraries a wheel keeps beside it; return its programs."""
    package = programs.parents[1]
    copy = into / package.name / programs.parent.name
    shutil.copytree(programs.parent, copy, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, into / libraries.name)
    return copy / programs.name


def watch(cluster: Cluster, is_over: Callable[[], bool]) -> None:
    """Run the server until standard input says something, or ends, or it is over."""
    server = cluster.start()
    try:
        print(json.dumps({"folder": str(cluster.folder)}), flush=True)
        while not is_over() and not select.select([sys.stdin], [], [], WATCH_INTERVAL_S)[0]:
            if server.poll() is not None:
                server = cluster.start_again()
    finally:
        stop(server)


def keep(programs: Path) -> None:
    """Make, run and remove one server. Prints one JSON line: its folder, or the error."""
    parent = os.getppid()
    told = threading.Event()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    base = tempfile.gettempdir()
    base = base if len(base) <= LONGEST_FOLDER else "/tmp"
    with tempfile.TemporaryDirectory(prefix="ostinato-pg-", dir=base) as folder:
        try:
            cluster = cluster_in(Path(folder), programs)
            cluster.create()
            # A forked child of the parent keeps the pipe open, hence the look at the parent.
            watch(cluster, lambda: told.is_set() or os.getppid() != parent)
        except NotStartedError as error:
            print(json.dumps({"error": str(error)}), flush=True)


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
