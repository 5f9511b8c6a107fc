"""Python commands as processes of their own that need not import what others have imported.

::

    python = Warm("substrate.*", "rich.live", env=environment)
    process = python.start("agent", "runs", cwd=folder, env=environment)  # python -m agent runs

Half a second of a command's time is Python and its imports, and the tests type hundreds. Here a
process that has imported the named modules is forked instead. What is forked is what a person's
command is: a process with its own id, arguments, environment, folder and streams, which a signal
ends, whose `__main__` is the module, and which leaves by Python's own way out.

The processes of one test session share the one that is forked: which is first to use it starts it.

It differs in what is imported already, in the hash seed, which all of them share, and in what
Python is told by options and by ``PYTHON…`` variables: a test about those starts Python itself.

This file is the program of the process that is forked, too: it uses the standard library alone.
"""

import atexit
import contextlib
import fcntl
import gc
import hashlib
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

__all__ = ["SHARED", "Command", "Warm"]

SHARED = "OSTINATO_TEST_WARM"
"""The variable that names the folder in which the processes of a session find what they share."""
STREAMS = 3
NUMBER = struct.Struct("!i")


class Command:
    """A command that was started. It has the manners of `subprocess.Popen`."""

    def __init__(
        self, pid: int, told: socket.socket, stdout: IO[str] | None, stderr: IO[str] | None
    ) -> None:
        self.pid = pid
        self.stdout = stdout
        self.stderr = stderr
        self.returncode: int | None = None
        self._told = told
        self._readers: list[threading.Thread] = []
        self._said: dict[IO[str] | None, str] = {}

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        if self.returncode is None and select.select([self._told], [], [], 0)[0]:
            self._end()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return the exit code."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self._end()
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end of what it prints, and its own; return what it printed.

        One that took too long may be asked again: what has been read so far is kept.
        """
        if not self._readers:
            streams = [each for each in (self.stdout, self.stderr) if each is not None]
            self._readers = [threading.Thread(target=self._read, args=(s,)) for s in streams]
            for reader in self._readers:
                reader.daemon = True
                reader.start()
        for reader in self._readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        self.wait(timeout)
        return self._said.get(self.stdout, ""), self._said.get(self.stderr, "")

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it ended just now
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def forget(self) -> None:
        """Be told nothing more of it."""
        self._told.close()

    def _read(self, stream: IO[str]) -> None:
        with stream:
            self._said[stream] = stream.read()

    def _end(self) -> None:
        told = self._told.recv(NUMBER.size)
        assert told, f"the process that commands are forked from has ended before {self.pid}"
        (self.returncode,) = NUMBER.unpack(told)
        self._told.close()


class Warm:
    """A Python that has imported some modules, started when it is first used.

    ``package.*`` stands for all modules of a package. It ends with the process that started it, or
    with the last of those that share it.
    """

    def __init__(self, *modules: str, env: Mapping[str, str]) -> None:
        self._modules = modules
        self._env = dict(env)
        self._lock = threading.Lock()
        self._control: socket.socket | None = None

    def start(
        self,
        module: str,
        *arguments: str,
        cwd: Path,
        env: Mapping[str, str],
        stdio: tuple[int, int, int] | None = None,
    ) -> Command:
        """Start ``python -m module arguments``.

        Its output goes to pipes, as text, and its input is empty; or `stdio` has the three files.
        """
        if stdio is not None:
            return Command(*self._ask(module, arguments, cwd, env, stdio), None, None)
        (out, its_out), (err, its_err) = os.pipe(), os.pipe()
        files = (os.open(os.devnull, os.O_RDONLY), its_out, its_err)
        try:
            pid, told = self._ask(module, arguments, cwd, env, files)
        finally:
            for each in files:
                os.close(each)
        return Command(pid, told, os.fdopen(out), os.fdopen(err))

    def close(self) -> None:
        """Let it end; it begins anew when it is used again. What was started goes on, untold."""
        if self._control is not None:
            self._control.close()
            self._control = None

    def _ask(
        self,
        module: str,
        arguments: tuple[str, ...],
        cwd: Path,
        env: Mapping[str, str],
        files: tuple[int, int, int],
    ) -> tuple[int, socket.socket]:
        told, telling = socket.socketpair()
        asked = {"module": module, "arguments": arguments, "cwd": str(cwd), "env": dict(env)}
        text = json.dumps(asked).encode()
        with telling, self._lock:
            control = self._begun()
            socket.send_fds(control, [NUMBER.pack(len(text))], [*files, telling.fileno()])
            control.sendall(text)
        (pid,) = NUMBER.unpack(told.recv(NUMBER.size))
        return pid, told

    def _begun(self) -> socket.socket:
        if self._control is None:
            folder = os.environ.get(SHARED)
            self._control = self._shared(Path(folder)) if folder else self._own()
            atexit.register(self.close)
        return self._control

    def _own(self) -> socket.socket:
        control, its = socket.socketpair()
        with its:
            self._start_server(its)
        return control

    def _shared(self, folder: Path) -> socket.socket:
        """Return a line to the one that others have started with the same modules, or start it."""
        means = json.dumps([self._modules, self._env]).encode()
        path = folder / hashlib.sha256(means).hexdigest()[:16]
        control = socket.socket(socket.AF_UNIX)
        with locked(path):
            try:
                control.connect(str(path))
            except (FileNotFoundError, ConnectionRefusedError):
                path.unlink(missing_ok=True)
                with socket.socket(socket.AF_UNIX) as listening:
                    listening.bind(str(path))
                    listening.listen()
                    self._start_server(listening)
                control.connect(str(path))
        return control

    def _start_server(self, its: socket.socket) -> None:
        server = subprocess.Popen(
            [sys.executable, __file__, str(its.fileno()), *self._modules],
            env=self._env,
            stdin=subprocess.DEVNULL,
            pass_fds=[its.fileno()],
        )
        # It ends when nobody holds the other end, so nobody need wait for it.
        server.returncode = 0


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep others from beginning, or ending, what is shared under this name."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# ------------------------------------------------------------------------------------------------
# The process that is forked


def load(name: str) -> None:
    """Import a module, or each one of a package."""
    found = importlib.import_module(name.removesuffix(".*"))
    if name.endswith(".*"):
        for each in pkgutil.walk_packages(found.__path__, f"{found.__name__}."):
            own = each.name.rpartition(".")[2]
            if own.isidentifier() and own != "__main__":
                importlib.import_module(each.name)


def serve(first: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Fork for each command that is asked for, until nobody can ask any more.

    `first` is the line to the one who asks, or a socket at which more than one may come to ask.
    Return in each of the forked processes: what is to be done there, and its three streams.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the commands and for pytest
    signal.signal(signal.SIGCHLD, lambda *_: None)
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes)
    running: dict[int, socket.socket] = {}
    listening = [first] if first.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) else []
    controls = [first.accept()[0]] if listening else [first]
    while controls:
        ready, _, _ = select.select([woken, *listening, *controls], [], [])
        if woken in ready:
            os.read(woken, 4096)
            reap(running)
        for control in [each for each in controls if each in ready]:
            if (taken := take(control)) is None:
                control.close()
                controls.remove(control)
                continue
            asked, files = taken
            telling = socket.socket(fileno=files.pop())
            if (pid := os.fork()) == 0:
                forget(*listening, *controls, telling, *running.values())
                os.close(woken)
                os.close(wakes)
                return asked, files
            for each in files:
                os.close(each)
            telling.sendall(NUMBER.pack(pid))
            running[pid] = telling
        if listening and (first in ready or not controls):
            controls += come(first)
    os._exit(0)


def forget(*lines: socket.socket) -> None:
    """Be no process that is asked any more."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for each in lines:
        each.close()


def come(listening: socket.socket) -> list[socket.socket]:
    """Return the line of one who has come to ask; where there is none, nobody can any more."""
    path = Path(listening.getsockname())
    with locked(path):
        if select.select([listening], [], [], 0)[0]:
            return [listening.accept()[0]]
        path.unlink(missing_ok=True)
        return []


def reap(running: dict[int, socket.socket]) -> None:
    """Tell of each process that has ended how it did."""
    for pid in list(running):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            with running.pop(pid) as telling, contextlib.suppress(OSError):
                telling.sendall(NUMBER.pack(os.waitstatus_to_exitcode(status)))


def take(control: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Read what is asked for, with its files; None where who asked has ended."""
    length, files, _, _ = socket.recv_fds(control, NUMBER.size, STREAMS + 1)
    text = read(control, *NUMBER.unpack(length)) if length else None
    if text is None:
        for each in files:
            os.close(each)
        return None
    return json.loads(text), files


def read(control: socket.socket, length: int) -> bytes | None:
    """Read so many bytes; None where they end in the middle."""
    found = b""
    while len(found) < length:
        if not (more := control.recv(length - len(found))):
            return None
        found += more
    return found


def become(asked: dict[str, Any], files: list[int]) -> None:
    """Be the command in all but what is imported."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    before = (sys.stdin, sys.stdout, sys.stderr)
    sys.stdin, sys.stdout, sys.stderr = (stream(i, each) for i, each in enumerate(before))
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    sys.argv = [asked["module"], *asked["arguments"]]
    sys.orig_argv = [sys.executable, "-m", *sys.argv]
    sys.path.insert(0, asked["cwd"])
    runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)


def stream(number: int, like: Any) -> io.TextIOWrapper:
    """Open a standard stream as Python does, to be read and written as this one."""
    mode = "r" if number == 0 else "w"
    raw = io.FileIO(number, mode, closefd=False)
    buffer: Any = io.BufferedReader(raw) if number == 0 else io.BufferedWriter(raw)
    buffer.raw.name = like.name
    is_by_line = number == 2 or (number == 1 and raw.isatty())
    text: Any = io.TextIOWrapper(buffer, like.encoding, like.errors, line_buffering=is_by_line)
    text.mode = mode
    return text


def leave(code: Any) -> None:
    """End as Python does, but leave it to the system to take all that is imported away.

    Return without having ended, where Python has more to do or to say.
    """
    threading._shutdown()
    atexit._run_exitfuncs()
    gc.collect()  # what is complained of when it goes away
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
        if code is None or isinstance(code, int):
            os._exit(code or 0)


if __name__ == "__main__":
    del sys.path[0]  # this folder, in which none of them is
    for name in sys.argv[2:]:
        load(name)
    gc.collect()
    gc.freeze()  # what is shared with the forked stays so
    try:
        become(*serve(socket.socket(fileno=int(sys.argv[1]))))
    except SystemExit as end:
        leave(end.code)
        raise
