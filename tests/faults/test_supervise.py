"""What a recipe's run.sh has started ends with it, whoever is sent which signal; and ranks end with torchrun."""

import functools
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import torture
from left import lives
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from asr import orphans
from asr.cli import torchrun

SUPERVISE = Path(__file__).resolve().parents[2] / "local" / "supervise.py"
# A shell that waits for a child, as run.sh does for `asr`; the child says when it has been asked to end.
COMMAND = "bash -c 'trap \"echo asked; exit 0\" TERM INT HUP; echo $$ $PPID; while :; do sleep 0.02; done'; exit $?"


# The command is long under way when the supervisor hears that it has started it, as on a busy machine.
SLOW = """
import subprocess, sys, time
import supervise
start = subprocess.Popen
subprocess.Popen = lambda *words, **how: (start(*words, **how), time.sleep(1.0))[0]
sys.exit(supervise.main(sys.argv[1:]))
"""


def supervised(slow=False):
    """A command under supervision, in a session of its own, which hears SIGHUP though the tests may not."""
    words = [sys.executable, *(["-c", SLOW] if slow else [str(SUPERVISE)]), "bash", "-c", COMMAND]
    heard = functools.partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)
    environment = {**os.environ, "PYTHONPATH": str(SUPERVISE.parent)}
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heard, env=environment
    )


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells processes by /proc")
@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize(
    ("number", "to_shell", "status"),
    [(signal.SIGHUP, False, 129), (signal.SIGKILL, False, -9), (signal.SIGKILL, True, 137)],
)
def test_nobody_is_left(number, to_shell, status, slow):
    with supervised(slow) as supervisor:
        child, shell = map(int, supervisor.stdout.readline().split())
        os.kill(shell if to_shell else supervisor.pid, number)
        said = [*supervisor.stdout]  # until all have closed it
        assert {*said} == {"asked\n"}  # twice, where who is left is asked while it ends
        assert supervisor.wait() == status
        assert not lives(child)
        assert not lives(shell)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells processes by /proc")
def test_what_somebody_stops_stays_so_until_they_have_it_go_on():
    with supervised() as supervisor:
        _, shell = map(int, supervisor.stdout.readline().split())
        os.kill(shell, signal.SIGSTOP)
        time.sleep(1.0)  # in which it would be sent SIGCONT
        assert Path(f"/proc/{shell}/stat").read_text().rpartition(") ")[2][0] == "T"
        os.kill(shell, signal.SIGCONT)
        os.kill(supervisor.pid, signal.SIGTERM)
        assert supervisor.wait() == 128 + signal.SIGTERM


@pytest.fixture
def terminal():
    """Both ends of one."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)


def heard(terminal, text):
    """What comes from a terminal, up to a text; less, where that does not come."""
    found = b""
    while text not in found and select.select([terminal], [], [], 60)[0]:
        found += os.read(terminal, 1000)
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells processes by /proc")
def test_a_command_may_read_from_the_terminal_and_hears_what_is_typed(terminal):
    ours, theirs = terminal
    command = "read line; echo got $line; trap 'echo interrupted; exit 7' INT; echo ready; while :; do sleep 0.02; done"
    words = [sys.executable, str(SUPERVISE), "bash", "-c", command]
    session = torture("processes").in_a_session
    with subprocess.Popen(
        words, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=lambda: session(theirs)
    ) as supervisor:
        os.close(theirs)
        os.write(ours, b"this\n")
        told = heard(ours, b"ready")
        os.write(ours, b"\x03" if b"got this" in told else b"")
        ended = heard(ours, b"interrupted") if b"ready" in told else b""
        if not ended:
            supervisor.kill()  # and the guard all others
    assert b"got this" in told
    assert b"interrupted" in ended
    assert supervisor.returncode == 7


def test_the_status_of_a_command_is_passed_on():
    assert subprocess.run([sys.executable, str(SUPERVISE), "bash", "-c", "exit 3"]).returncode == 3


# torchrun


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (SignalException("got signal", signal.SIGTERM), 143, ""),
        (2, 2, ""),
        (130, 130, ""),
        (-9, 137, "training process 1 was killed by signal 9\n"),
        (None, 0, ""),
    ],
)
def test_the_end_of_torchrun_is_a_status_and_no_traceback(error, status, said, monkeypatch, capsys, tmp_path):
    def run(_):
        if isinstance(error, int):
            raise ChildFailedError("asr", {1: ProcessFailure(1, 17, error, str(tmp_path / "none"))})
        if error:
            raise error

    monkeypatch.setattr(torchrun, "run", run)
    assert torchrun.main(["--standalone", "train.py"]) == status
    assert capsys.readouterr().err == said


def test_a_process_hears_that_its_parent_is_gone(monkeypatch):
    parents, heard = [7, 7, 1], []
    monkeypatch.setattr(os, "getppid", lambda: parents.pop(0) if len(parents) > 1 else parents[0])
    monkeypatch.setattr(orphans, "POLL_SECONDS", 0.0)
    orphans.when_orphaned(lambda: heard.append("gone"))
    deadline = time.monotonic() + 60
    while not heard:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert heard == ["gone"]
