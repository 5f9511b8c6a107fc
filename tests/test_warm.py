"""What is typed in most tests is forked, and does what it would do in a Python of its own."""

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fork import COMMANDS, environment_of
from tests.keeper import wait_until
from tests.warm import Warm

LIMIT_S = 30

WAYS = {
    "to its end": "print('out'); print('err', file=sys.stderr)",
    "with a code": "sys.exit(7)",
    "with a code beyond a byte": "sys.exit(256 + 7)",
    "with a sentence": "sys.exit('so it ended')",
    "with an error": "print('before'); raise LookupError('no owls')",
    "with an error that has a cause": "raise LookupError('a') from OSError('b')",
    "interrupted": "raise KeyboardInterrupt",
    "at once": "print('kept back'); os._exit(3)",
    "killed": "os.kill(os.getpid(), 9)",
    "by a signal": "os.kill(os.getpid(), 15)",
    "while a thread runs": "threading.Timer(0.1, print, ['last']).start()",
    "with something to do": "atexit.register(print, 'at exit')",
    "with a program below": "print(os.system('exit 3'), flush=True)",
    "with no output left": "os.close(1); print('lost')",
    "what is never awaited": "async def owl(): ...\nowls = [owl()]; owls.append(owls); del owls",
    "arguments": "print(sys.argv[1:], sys.orig_argv[1:])",
    "environment": "print(sorted(os.environ), os.getcwd(), sys.path[:2])",
    "streams": "print(*[(s.name, s.mode, s.encoding, s.errors, s.line_buffering, s.isatty())"
    " for s in (sys.stdin, sys.stdout, sys.stderr)], repr(sys.stdin.read()))",
    "signals": "print(*map(signal.getsignal, (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD,"
    " signal.SIGPIPE)))",
    "itself": "print(__name__, sys.modules['__main__'].__dict__ is globals(), __spec__.name,"
    " os.path.basename(__file__), sys.argv[0] == __file__)",
    "open files": "print(sorted(os.listdir('/dev/fd')))",
    "other processes": "print(multiprocessing.get_context('spawn').Pool(1).map(abs, [-1]))",
}
HEADER = "import asyncio, atexit, multiprocessing, os, signal, sys, threading\n"


@pytest.mark.parametrize("way", WAYS)
def test_it_ends_as_in_a_python_of_its_own(tmp_path: Path, way: str):
    """Its exit code, its output and what it finds are those of an interpreter that has started."""
    body = WAYS[way].replace("\n", "\n    ")
    (tmp_path / "owls.py").write_text(f"{HEADER}\nif __name__ == '__main__':\n    {body}\n")
    command, set_ = ["owls", "a b", "--c=ä"], environment_of("sqlite:///x.db", MORE="1")

    forked = COMMANDS.start(*command, cwd=tmp_path, env=set_)
    out, err = forked.communicate(LIMIT_S)
    started = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tmp_path,
        env=set_,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )

    assert (forked.returncode, out) == (started.returncode, started.stdout), err
    assert last_of(err) == last_of(started.stderr)


def last_of(told: str) -> str:
    """Return what is told beside the lines of a traceback, which begins elsewhere in a fork."""
    return "\n".join(line for line in told.splitlines() if not re.match(r" +|Traceback", line))


def test_signals(tmp_path: Path):
    """A signal reaches it while it runs; its process goes away, and its exit code is told."""
    program = "import signal, time\nprint('here', flush=True)\nwhile True: time.sleep(0.01)\n"
    (tmp_path / "waits.py").write_text(program)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        process = COMMANDS.start("waits", cwd=tmp_path, env=environment_of(""))
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.communicate(0.01)
        process.send_signal(number)
        process.communicate(LIMIT_S)
        assert process.returncode == -number
        assert not Path(f"/proc/{process.pid}").exists()


def test_a_terminal(tmp_path: Path):
    """On a terminal it knows that it is on one."""
    (tmp_path / "owls.py").write_text(
        "import sys, os\nprint(sys.stdout.isatty(), sys.stdout.line_buffering, os.ttyname(0))\n"
    )
    ours, theirs = pty.openpty()
    name = os.ttyname(theirs)
    files = (theirs, theirs, theirs)
    process = COMMANDS.start("owls", cwd=tmp_path, env=environment_of(""), stdio=files)
    os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as screen:
        assert screen.read(1000) == f"True True {name}\r\n".encode()
        assert process.wait(LIMIT_S) == 0


def test_many_at_once(tmp_path: Path):
    """Each of many has its own id, output and end, in whatever order they end."""
    program = "import sys, time\nn = int(sys.argv[1])\ntime.sleep(n % 3 / 50)\nsys.exit(n)\n"
    (tmp_path / "owls.py").write_text(program)
    started = [
        COMMANDS.start("owls", f"{i}", cwd=tmp_path, env=environment_of("")) for i in range(9)
    ]

    assert len({each.pid for each in started}) == 9
    for each in reversed(started):
        each.communicate(LIMIT_S)
    assert [each.returncode for each in started] == list(range(9))


def test_it_ends_with_who_started_it(tmp_path: Path):
    """Nothing is left when the process that started it is killed."""
    program = (
        "import os, sys, time\nfrom pathlib import Path\nfrom tests.warm import Warm\n"
        "python = Warm(env=dict(os.environ))\n"
        "told = python.start('parent', cwd=Path(sys.argv[1]), env={}).communicate()\n"
        "print(told[0], flush=True)\ntime.sleep(60)\n"
    )
    (tmp_path / "parent.py").write_text("import os\nprint(os.getppid())\n")
    command = [sys.executable, "-c", program, tmp_path]
    kit = environment_of("")
    with subprocess.Popen(command, env=kit, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        server = int(process.stdout.readline())
        os.kill(server, 0)
        process.kill()

    assert wait_until(lambda: has_ended(server), LIMIT_S)


def has_ended(pid: int) -> bool:
    """Say whether a process is gone, or waits for whoever inherits it to look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z"
    except FileNotFoundError:
        return True


def test_it_takes_a_fraction(tmp_path: Path):
    """What is imported already is not imported again, which is what this is for."""
    (tmp_path / "owls.py").write_text(
        "import sys\nbefore = set(sys.modules)\n"
        "import substrate.cli.run.work, substrate.cli.show.show\n"
        "print(sorted(set(sys.modules) - before))\n"
    )
    forked = COMMANDS.start("owls", cwd=tmp_path, env=environment_of("")).communicate(LIMIT_S)
    python = Warm(env=environment_of(""))
    bare = python.start("owls", cwd=tmp_path, env=environment_of("")).communicate(LIMIT_S)
    python.close()

    assert forked == ("[]\n", "")
    assert "'substrate.cli.show.show'" in bare[0]
