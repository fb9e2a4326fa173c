"""Trainings that are under way: started, all their processes found again by a mark, and what they have written.

Linux only.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MARK = "ASR_TORTURE"  # in the environment of every process of a training
# Metrics that no training repeats.
CLOCKS = "audio_seconds_per_second", "waiting_share", "step_seconds", "step_cpu_seconds", "peak_mb"


@dataclass
class Training:
    """A training that is under way. console: the end of its terminal or pipe that a person would hold, while open."""

    run: Path
    process: subprocess.Popen[bytes]
    log: Path
    mark: str
    by_torchrun: bool = False
    console: int | None = None

    def steps(self) -> int:
        """Steps that are logged."""
        return max((int(row["step"]) for row in lines(self.run)), default=0)

    def last_line(self) -> str:
        """What it has printed last."""
        return (self.log.read_text(encoding="utf-8", errors="replace").splitlines() or [""])[-1]

    def processes(self) -> list[int]:
        """All that belong to it and live."""
        return [pid for pid in pids() if f"{MARK}={self.mark}".encode() in environment(pid) and not is_zombie(pid)]

    def ranks(self) -> list[int]:
        """The processes that train, in order."""
        return [pid for _, pid in sorted((rank_of(pid), pid) for pid in self.processes() if trains(pid))]

    def workers(self) -> list[int]:
        """The data workers of the first process."""
        first = self.ranks()[0]
        return [pid for pid in self.processes() if parent(pid) == first]

    def kill(self) -> None:
        """All processes, at once; and let go of its console."""
        while found := self.processes():
            for pid in found:
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        if self.console is not None:
            os.close(self.console)
            self.console = None


def begin(
    command: list[str], run: Path, log: Path, by_torchrun: bool = False, terminal: int | None = None, **how: Any
) -> Training:
    """Start a training whose every process is marked. terminal: its own, if any. how: as `subprocess.Popen` has it;
    what it prints is added to `log` else."""
    mark = uuid.uuid4().hex
    with log.open("ab") as file:
        streams = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": file, **how}
        environment = {**os.environ, **streams.pop("env", {}), MARK: mark}
        process = subprocess.Popen(command, env=environment, preexec_fn=lambda: in_a_session(terminal), **streams)
    return Training(run, process, log, mark, by_torchrun)


def in_a_session(terminal: int | None) -> None:
    """Leave that of this script, for one of this terminal if there is one; `nohup` and `&` of this script do not count:
    they leave signals ignored."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    if terminal is not None:
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def asr(words: list[str], processes: int = 1) -> list[str]:
    """The command `asr`, as several processes where there are to be."""
    several = ["asr.cli.torchrun", "--standalone", f"--nproc-per-node={processes}", "-m"] * (processes > 1)
    return [sys.executable, "-m", *several, "asr.cli.main", *words]


# Processes


def pids() -> list[int]:
    """Of all."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def environment(pid: int) -> bytes:
    """What a process was started with; empty for one that is gone."""
    return read(pid, "environ")


def command(pid: int) -> bytes:
    """The command line of a process; a forked one has that of its parent, and one that is gone has none."""
    return read(pid, "cmdline")


def read(pid: int, name: str) -> bytes:
    """A file of /proc/PID; empty where the process is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def status_fields(pid: int) -> list[str]:
    """Of /proc/PID/stat, from the state on."""
    return read(pid, "stat").decode(errors="replace").rpartition(") ")[2].split() or ["Z", "0"]


def is_zombie(pid: int) -> bool:
    """Whether only its exit status is left."""
    return status_fields(pid)[0] == "Z"


def parent(pid: int) -> int:
    """The process that started it."""
    return int(status_fields(pid)[1])


def trains(pid: int) -> bool:
    """Whether it is one of those that train, and neither a data worker nor what has started them."""
    words = command(pid).split(b"\0")
    starts = any(name in word for word in words for name in (b"torchrun", b"supervise")) or words[0] == b"bash"
    return (b"train" in words or b"--train" in words) and not starts and command(parent(pid)) != command(pid)


def rank_of(pid: int) -> int:
    """Its number among those that torchrun has started; 0 where it did not."""
    values = dict(part.split(b"=", 1) for part in environment(pid).split(b"\0") if b"=" in part)
    return int(values.get(b"RANK", b"0"))


# What a run has come to


def lines(run: Path) -> Iterator[dict[str, Any]]:
    """The lines of metrics.jsonl, but for one that a kill has cut short."""
    path = run / "metrics.jsonl"
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.endswith("}"):
            yield json.loads(line)


def metrics(run: Path) -> list[dict[str, Any]]:
    """The same without what is read off a clock."""
    return [{name: value for name, value in row.items() if not name.endswith(CLOCKS)} for row in lines(run)]


def steps_done(run: Path) -> list[int]:
    """The steps whose metrics are written, in order."""
    return [row["step"] for row in lines(run) if "train/loss" in row]


def checkpoints(run: Path, pattern: str) -> set[str]:
    """Names in the checkpoint directory."""
    return {path.name for path in (run / "checkpoints").glob(pattern)}


def newest_checkpoint(run: Path) -> int:
    """The step of the newest one that is whole; 0 where there is none."""
    return max((int(name.split("-")[1]) for name in checkpoints(run, "st*-*")), default=0)
