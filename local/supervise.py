#!/usr/bin/env python3
"""Run a command so that what it starts ends with it, however it ends, and with whoever waits for it.

    python local/supervise.py COMMAND…

bash that is sent a signal dies at once, or waits for what it has started and never hears of it; either way what it
started goes on. So the command gets a process group of its own, to all of which every signal is passed on; who is left
of it when the command has ended is asked to end, too; and a guard beside this process does so where this one is killed.
At a terminal that group is in front: it may read, as debuggers do, and hears Ctrl-C and Ctrl-Z itself.
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
BY_TERMINALS = signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU
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


def guard(told: int, parent: int) -> None:
    """Have a group end when the process `parent`, which has started this one, is gone. told: a pipe that names it."""
    os.setsid()  # signals to the parent's group are not for this process
    for number in PASSED_ON:
        signal.signal(number, signal.SIG_IGN)
    group = os.read(told, 20)  # nothing where no command was started
    while group and os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    if group:
        end(int(group))


def start_guard() -> tuple[int, int]:
    """Fork a guard; returns its process, and a pipe on which its group is to be told to it."""
    parent = os.getpid()
    told, tell = os.pipe()
    beside = os.fork()
    if beside == 0:
        os.close(tell)
        guard(told, parent)
        os._exit(0)
    os.close(told)
    return beside, tell


# The terminal


def front() -> int:
    """The process group that the terminal listens to, of which standard input is; 0 where it is of none."""
    try:
        return os.tcgetpgrp(0)
    except OSError:
        return 0


def bring_to_front(group: int) -> None:
    """Have the terminal listen to a process group."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])  # which stops those who ask and are not in front
    with contextlib.suppress(OSError):
        os.tcsetpgrp(0, group)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTTOU])


def lead(in_front: bool, tell: int, blocked: set[int]) -> None:
    """Be a process group of one's own, which the guard knows before it runs anything.

    blocked: the signals that do not reach it then.
    """
    os.setpgrp()
    os.write(tell, str(os.getpgrp()).encode())
    if in_front:
        bring_to_front(os.getpgrp())
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def give_back(group: int) -> None:
    """Be in front again, where the group is."""
    if front() == group:
        bring_to_front(os.getpgrp())


def pause(group: int) -> None:
    """Stop, together with all that a shell knows of, and go on together with the group."""
    give_back(group)
    before = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    os.killpg(os.getpgrp(), signal.SIGTSTP)  # not SIGSTOP: where no shell is, nobody would have it go on
    signal.signal(signal.SIGTSTP, before)
    if front() == os.getpgrp():
        bring_to_front(group)
    os.killpg(group, signal.SIGCONT)


def wait(group: int) -> int:
    """The exit status of its leader; stops when a terminal has that stopped.

    Who sends it SIGSTOP means to send SIGCONT as well.
    """
    while True:
        _, status = os.waitpid(group, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            return os.waitstatus_to_exitcode(status)
        if os.WSTOPSIG(status) in BY_TERMINALS:
            pause(group)


def main(command: list[str]) -> int:
    """Run it; returns its exit status."""
    in_front = front() == os.getpgrp()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # until there is somebody to pass them on to
    beside, tell = start_guard()  # first: this process may be killed at any time
    child = subprocess.Popen(command, preexec_fn=lambda: lead(in_front, tell, blocked))
    os.close(tell)
    group, received = child.pid, list[int]()

    def pass_on(number: int, frame: object) -> None:
        received.append(number)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)

    for number in PASSED_ON:
        if signal.getsignal(number) != signal.SIG_IGN:  # as `nohup` leaves SIGHUP, and `&` in a script SIGINT
            signal.signal(number, pass_on)
    signal.signal(signal.SIGTSTP, lambda *_: os.killpg(group, signal.SIGTSTP))
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    status = wait(group)
    give_back(group)
    end(group)
    os.kill(beside, signal.SIGKILL)
    os.waitpid(beside, 0)
    return 128 + min(received) if received else status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
