#!/usr/bin/env python3
"""Run a command so that what it starts ends with it, however it ends, and with whoever waits for it.

    python local/supervise.py COMMAND…

bash that is sent a signal dies at once, or waits for what it has started and never hears of it; either way what it
started goes on. So the command gets a process group of its own, to all of which every signal is passed on; who is left
of it when the command has ended is asked to end, too; and a guard beside this process does so where this one is killed.
The exit status is the command's, or 128 and the number of the signal. Of what leaves the group, as torchrun's
processes do, each has to watch its parent.

Polling, not PR_SET_PDEATHSIG, which only Linux has, and which does not reach beyond the first child.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

PASSED_ON = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2
POLL_SECONDS = 0.5
PATIENCE = 600.0  # seconds for a long step and a checkpoint, after which who is left is killed


def exists(group: int) -> bool:
    """Whether a process of the group is left that lives: of a dead one nobody may ever read the status."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):  # macOS has the latter for dead ones
        return False
    return not os.path.isdir("/proc/self") or any(lives_in(group, name) for name in os.listdir("/proc"))


def lives_in(group: int, process: str) -> bool:
    """Whether a process, by its name in /proc, is of the group and no zombie."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            state, _, of_group = file.read().rpartition(b")")[2].split()[:3]
    except (OSError, ValueError):
        return False
    return int(of_group) == group and state not in (b"Z", b"X")


def end(group: int) -> None:
    """Have all of a group end, at last by force."""
    deadline = time.monotonic() + PATIENCE
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGTERM)
        while exists(group) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS / 10)
        os.killpg(group, signal.SIGKILL)


def guard(group: int, parent: int) -> None:
    """Have the group end when the process `parent`, which has started this one, is gone."""
    os.setsid()  # signals to the parent's group are not for this process
    for number in PASSED_ON:
        signal.signal(number, signal.SIG_IGN)
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    end(group)


def pause(group: int) -> None:
    """Ctrl-Z: stop, and go on, together with the group."""
    os.killpg(group, signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)
    os.killpg(group, signal.SIGCONT)


def main(command: list[str]) -> int:
    """Run it; returns its exit status."""
    child = subprocess.Popen(command, preexec_fn=os.setpgrp)
    group, me, received = child.pid, os.getpid(), list[int]()
    beside = os.fork()
    if beside == 0:
        guard(group, me)
        os._exit(0)

    def pass_on(number: int, frame: object) -> None:
        received.append(number)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)

    for number in PASSED_ON:
        if signal.getsignal(number) != signal.SIG_IGN:  # as `nohup` leaves SIGHUP
            signal.signal(number, pass_on)
    signal.signal(signal.SIGTSTP, lambda *_: pause(group))
    status = child.wait()
    end(group)
    os.kill(beside, signal.SIGKILL)
    os.waitpid(beside, 0)
    return 128 + min(received) if received else status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
