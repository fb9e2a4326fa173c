#!/usr/bin/env python3
"""End trainings in every way that they can end, and check what is left: nobody, a line that says why, and a checkpoint.

    python scripts/check_endings.py DIR [--ways NAME…] [--workers 0 1 2 4] [--processes 1 2] [--jobs N] -- OPTION…

OPTIONs go to `asr train` and name data and a small model. Every training runs until it has logged three steps, is ended
then, and has 30 seconds to be gone with all of its processes. Its checkpoint has to be of the last step that it logged;
where those who had the weights were killed or could not write, of an earlier one. Linux only. Prints a line for each
training, and a table of the ways; the exit status is 0 only if all ended well.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib
import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import tempfile
import termios
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

SECONDS = 30.0
PATIENCE = 180.0  # seconds for the first steps, beside other work
MARK = "ASR_CHECK_ENDINGS"  # in the environment of every process of a training
CALLS = 4  # the call, of each process, in which an injected exception is raised

# Where exceptions are injected: module and name.
PLACES = [
    "asr.train.loop Trainer.take",
    "asr.train.loop Trainer.train_step",
    "asr.train.loop Trainer.backward",
    "asr.train.loop Trainer.forward",
    "asr.train.loop Trainer.account",
    "asr.train.loop Trainer.log",
    "asr.train.loop Trainer.save_and_validate",
    "asr.train.loop set_learning_rate",
    "asr.train.loop align_buffers",
    "asr.train.loop seed_torch",
    "asr.train.task Task.outputs",
    "asr.train.task Task.loss",
    "asr.train.distributed Ranks.share",
    "asr.runs.directory RunDirectory.write_metrics",
    "asr.data.dataset SpeechDataset.load",
    "asr.data.dataset SpeechDataset.collate",
    "asr.data.dataset load_features",
    "asr.losses.objective Objective.forward",
    "asr.models.conformer Conformer.forward",
    "torch.optim AdamW.step",
]
MANY_CALLS = 60  # enough for some steps
OFTEN_IN_A_STEP = {
    "asr.train.distributed Ranks.share",
    "asr.data.dataset SpeechDataset.load",
    "asr.data.dataset load_features",
}
OF_THE_FIRST = {"asr.runs.directory RunDirectory.write_metrics"}


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
        path = self.run / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)

    def processes(self) -> list[int]:
        """All that belong to it and live."""
        return [pid for pid in pids() if f"{MARK}={self.mark}".encode() in environment(pid) and not is_zombie(pid)]

    def ranks(self) -> list[int]:
        """The processes that train, in order."""
        found = {}
        for pid in self.processes():
            values = dict(part.split(b"=", 1) for part in environment(pid).split(b"\0") if b"=" in part)
            if b"RANK" in values and parent(pid) == self.process.pid:
                found[int(values[b"RANK"])] = pid
        return [found[rank] for rank in sorted(found)] or [self.process.pid]

    def workers(self) -> list[int]:
        """The data workers of the first process."""
        return [pid for pid in self.processes() if parent(pid) == self.ranks()[0]]


def pids() -> list[int]:
    """Of all processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def environment(pid: int) -> bytes:
    """What a process was started with; empty for one that is gone."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def status_fields(pid: int) -> list[str]:
    """Of /proc/PID/stat, from the state on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return ["Z", "0"]


def is_zombie(pid: int) -> bool:
    """Whether only its exit status is left."""
    return status_fields(pid)[0] == "Z"


def parent(pid: int) -> int:
    """The process that started it."""
    return int(status_fields(pid)[1])


# Ways to end


@dataclass(frozen=True)
class Way:
    """How a training is ended, and what is to be found then.

    end: does it; nothing, where it ends by itself. says: what its log does. options: of the training, in addition.
    last_step: whether the checkpoint is of the last step that was logged. status: of its exit. place: see PLACES.
    console: what stderr is. checkpoint: whether there is one. applies: to so many workers and processes.
    """

    end: Callable[[Training], None] = lambda training: None
    says: str = ""
    options: tuple[str, ...] = ()
    last_step: bool = True
    status: tuple[int, ...] = (2, 1)
    place: str = ""
    console: str = "file"
    checkpoint: bool = True
    applies: Callable[[int, int], bool] = field(default=lambda workers, processes: True)


def send(number: int) -> Callable[[Training], None]:
    """A signal to the process that was started."""
    return lambda training: os.kill(training.process.pid, number)


def interrupt(training: Training) -> None:
    """Ctrl-C: a signal to the whole process group."""
    os.killpg(training.process.pid, signal.SIGINT)


def close_console(training: Training) -> None:
    """The reader of its pipe goes, or its terminal is closed."""
    assert training.console is not None
    os.close(training.console)
    training.console = None


def lose_reader(training: Training) -> None:
    """The reader goes; it has to go on for three steps more, and is stopped then."""
    close_console(training)
    steps = training.steps()
    wait_for(lambda: training.steps() >= steps + 3 or training.process.poll() is not None, PATIENCE)
    interrupt(training)


def exhaust_memory(training: Training) -> None:
    """The first process gets no more address space than it has, and its files are asked for next."""
    pid = training.ranks()[0]
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    size = pages * os.sysconf("SC_PAGE_SIZE")
    resource.prlimit(pid, resource.RLIMIT_AS, (size, size))


def fill_disk(training: Training) -> None:
    """The first process can write no more than a little into any file: what it logs for some steps, and why it ends."""
    resource.prlimit(training.ranks()[0], resource.RLIMIT_FSIZE, (20_000, 20_000))


def kill_worker(training: Training) -> None:
    """As the system does when memory runs out."""
    os.kill(training.workers()[0], signal.SIGKILL)


def kill_rank(rank: int) -> Callable[[Training], None]:
    """One of the processes that train."""
    return lambda training: os.kill(training.ranks()[rank], signal.SIGKILL)


def several(workers: int, processes: int) -> bool:
    """Whether there are several processes."""
    return processes > 1


WAYS = {
    "done": Way(says="done at step 6", options=("train.steps=6",), status=(0,)),
    "SIGTERM": Way(send(signal.SIGTERM), "stopped at step", status=(143,)),
    "Ctrl-C": Way(interrupt, "stopped at step", status=(130,)),
    "SIGHUP": Way(send(signal.SIGHUP), "stopped at step", status=(129,)),
    "terminal closed": Way(
        close_console, console="terminal", status=(129,), applies=lambda w, processes: processes == 1
    ),
    "reader gone, then Ctrl-C": Way(lose_reader, console="pipe", status=(130,)),
    "refused": Way(says="error: data.max_seconds=-1", options=("data.max_seconds=-1",), status=(2,), checkpoint=False),
    "diverged": Way(says="training diverged", options=("optim.lr=1e30", "optim.warmup_steps=0", "train.log_every=100")),
    "out of memory": Way(exhaust_memory, "out of memory|annot allocate memory|MemoryError", last_step=False),
    "disk full": Way(fill_disk, "File too large", last_step=False),
    "worker killed": Way(kill_worker, "a data worker was killed by SIGKILL", applies=lambda w, _: w > 0),
    "rank 1 killed": Way(kill_rank(1), "another training process has ended", applies=several),
    "rank 0 killed": Way(kill_rank(0), "another training process has ended", last_step=False, applies=several),
    **{
        place: Way(says="InjectedError", place=place, last_step="AdamW" not in place and "share" not in place)
        for place in PLACES
    },
}


class InjectedError(Exception):
    """What a program at fault raises."""


def inject(place: str) -> None:
    """Have what is at `place` raise in call number CALLS, in the last process; or in the first, which alone does it."""
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if rank != (0 if place in OF_THE_FIRST else size - 1):
        return
    module, _, name = place.partition(" ")
    owner = importlib.import_module(module)
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    function, calls = getattr(owner, last), []

    def failing(*arguments: object, **options: object) -> object:
        calls.append(None)
        if len(calls) == (MANY_CALLS if place in OFTEN_IN_A_STEP else CALLS):
            raise InjectedError(place)
        return function(*arguments, **options)

    setattr(owner, last, failing)


# Running them


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def in_a_session(terminal: int | None) -> None:
    """Leave that of this script, for one of this terminal if there is one; `nohup` of this script does not count."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.setsid()
    if terminal is not None:
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def start(way: Way, directory: Path, options: list[str], workers: int, processes: int) -> Training:
    """The training that is to be ended so."""
    directory.mkdir(parents=True)
    mark, run, log = uuid.uuid4().hex, directory / "run", directory / "log"
    words = [
        *options,
        f"run={run}",
        f"data.workers={workers}",
        "train.steps=1000000",
        "train.log_every=1",
        "train.save_every=1000000",
        "train.validate_every=1000000",
        *way.options,
    ]
    me = [sys.executable, __file__, "--train", way.place, "--"]
    if processes > 1:
        me = [str(Path(sys.executable).with_name("torchrun")), "--standalone", f"--nproc-per-node={processes}", *me[1:]]
    output, console = os.open(log, os.O_WRONLY | os.O_CREAT), None
    if way.console == "pipe":
        console, end = os.pipe()
    elif way.console == "terminal":
        console, end = pty.openpty()
    else:
        end = output
    process = subprocess.Popen(
        [*me, *words],
        stdin=end if way.console == "terminal" else subprocess.DEVNULL,
        stdout=output,
        stderr=end,
        env={**os.environ, MARK: mark},
        preexec_fn=lambda: in_a_session(end if way.console == "terminal" else None),
    )
    for used in {end, output}:
        os.close(used)
    return Training(run, process, log, mark, processes > 1, console)


def fault_of(way: Way, training: Training) -> str:
    """What is wrong with how it ended; "" if nothing."""
    if not (way.place or not way.checkpoint or way.status == (0,) or "diverged" in way.says):
        if not wait_for(lambda: training.steps() >= 3 or training.process.poll() is not None, PATIENCE):
            return "never began"
        way.end(training)
    else:
        wait_for(lambda: training.process.poll() is not None, PATIENCE)
    if not wait_for(lambda: training.process.poll() is not None and not training.processes(), SECONDS):
        return f"{len(training.processes())} processes are left after {SECONDS:.0f} s"
    return left_behind(way, training)


def left_behind(way: Way, training: Training) -> str:
    """What is wrong with the exit status, the message or the checkpoint."""
    status, text = training.process.returncode, training.log.read_text(errors="replace")
    if status not in way.status and not (training.by_torchrun and status and 0 not in way.status):
        return f"exit status {status}"  # torchrun has one of its own for all that is not 0
    if way.console == "file" and not re.search(way.says, text):
        return f"no line says {way.says!r}"
    steps = [int(path.name.split("-")[1]) for path in (training.run / "checkpoints").glob("st*-*")]
    if not way.checkpoint:
        return "a checkpoint of nothing" if steps else ""
    if not steps:
        return "no checkpoint"
    if way.last_step and max(steps) < training.steps():
        return f"the checkpoint is of step {max(steps)}, not {training.steps()}"
    return ""


def check(name: str, directory: Path, options: list[str], workers: int, processes: int) -> tuple[str, str, float]:
    """The way, what is wrong with it, and how many seconds it took from beginning to end."""
    way, started = WAYS[name], time.monotonic()
    title = f"{name}, {workers} workers, {processes} processes"
    training = start(way, directory, options, workers, processes)
    try:
        return title, fault_of(way, training), time.monotonic() - started
    finally:
        for pid in training.processes():
            os.kill(pid, signal.SIGKILL)
        if training.console is not None:
            os.close(training.console)


def cases(names: list[str], workers: list[int], processes: list[int]) -> Iterator[tuple[str, int, int]]:
    """Every combination that there is."""
    return (case for case in product(names, workers, processes) if WAYS[case[0]].applies(*case[1:]))


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="NAME")
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 1, 2, 4])
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    given, options = parser.parse_args(words[:at]), words[at + 1 :]
    passed: dict[str, list[bool]] = {}
    given.directory.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=given.directory))
    with ThreadPoolExecutor(given.jobs) as pool:
        wanted = list(cases(given.ways, given.workers, given.processes))
        done = pool.map(lambda case: check(case[1][0], work / str(case[0]), options, *case[1][1:]), enumerate(wanted))
        for (name, *_), (number, (title, fault, seconds)) in zip(wanted, enumerate(done)):
            passed.setdefault(name, []).append(not fault)
            print(f"{'FAILED' if fault else 'ok'}  {title}: {fault or f'{seconds:.0f} s'}", flush=True)
            if fault:
                print(f"        {work / str(number) / 'log'}", flush=True)
    for name, results in passed.items():
        print(f"{name}: {sum(results)}/{len(results)}")
    return 0 if all(all(results) for results in passed.values()) else 1


def train() -> int:
    """`asr train`, with an exception injected."""
    from asr.cli.main import main as asr

    if sys.argv[2]:
        inject(sys.argv[2])
    return asr(["train", *sys.argv[4:]])


if __name__ == "__main__":
    sys.exit(train() if sys.argv[1:2] == ["--train"] else main())
