#!/usr/bin/env python3
"""Every way that a training can end: nobody is left, a line says why, and there is a checkpoint.

Signals, a closed terminal, a reader of its output that goes, a full disk, too little memory, a worker or a process that
is killed, and exceptions in twenty places, with 0 to 4 data workers, and 1 and 2 processes. Each training runs until it
has logged three steps, is ended then, and has 30 s to be gone with all of its processes. Its checkpoint has to be of
the last step that it logged; where those who had the weights were killed or could not write, of an earlier one. Linux
only.

    python scripts/torture/endings.py [--quick] [--tries N]
"""

from __future__ import annotations

import importlib
import os
import pty
import random
import re
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path

import processes
import trainings
from processes import Training
from trainings import Tally, wait_for

SECONDS = 30.0
PATIENCE = 180.0  # seconds for the first steps, beside other work
CALLS = 4  # the call, of each process, in which an injected exception is raised
WORKERS, PROCESSES = (0, 1, 2, 4), (1, 2)
LONG = "train.steps=1000000", "train.log_every=1", "train.save_every=1000000", "train.validate_every=1000000"

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


def start(way: Way, directory: Path, options: list[str], workers: int, count: int) -> Training:
    """The training of `count` processes that is to be ended so."""
    directory.mkdir(parents=True)
    run = directory / "run"
    words = [*options, f"run={run}", f"data.workers={workers}", *LONG, *way.options]
    me = [sys.executable, __file__, "--train", way.place, "--", *words]
    if count > 1:
        me[:1] = [str(Path(sys.executable).with_name("torchrun")), "--standalone", f"--nproc-per-node={count}"]
    if way.console == "file":
        return processes.begin(me, run, directory / "log", count > 1)
    console, end = os.pipe() if way.console == "pipe" else pty.openpty()
    terminal = end if way.console == "terminal" else None
    streams = {"stderr": end, **({"stdin": end} if terminal else {})}
    training = processes.begin(me, run, directory / "log", count > 1, terminal, **streams)
    os.close(end)
    training.console = console
    return training


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
    newest = processes.newest_checkpoint(training.run)
    if not way.checkpoint:
        return "a checkpoint of nothing" if newest else ""
    if not newest:
        return "no checkpoint"
    if way.last_step and newest < training.steps():
        return f"the checkpoint is of step {newest}, not {training.steps()}"
    return ""


def ended(name: str, directory: Path, options: list[str], workers: int, count: int) -> str:
    """What is wrong with how a training ended so; "" if nothing."""
    training = start(WAYS[name], directory, options, workers, count)
    try:
        return fault_of(WAYS[name], training)
    finally:
        training.kill()


def main() -> int:
    """See the module."""
    cases = [case for case in product(WAYS, WORKERS, PROCESSES) if WAYS[case[0]].applies(*case[1:])]
    given = trainings.arguments(__doc__, quick=6, full=len(cases))
    random.Random(given.seed).shuffle(cases)
    tally = Tally("endings")
    with tempfile.TemporaryDirectory() as directory:
        trainings.make_corpus(corpus := Path(directory) / "corpus")
        for number, (name, workers, count) in enumerate(islice(cases, given.tries)):
            begun, place = time.monotonic(), Path(directory) / str(number)
            fault = ended(name, place, trainings.options(corpus), workers, count)
            title = f"{name}, {workers} workers, {count} processes, {time.monotonic() - begun:.0f} s"
            tally.note(title, fault and "\n".join([fault, *(place / "log").read_text().splitlines()[-15:]]))
    return tally.end()


def train() -> int:
    """`asr train`, with an exception injected."""
    from asr.cli.main import main as asr

    if sys.argv[2]:
        inject(sys.argv[2])
    return asr(["train", *sys.argv[4:]])


if __name__ == "__main__":
    sys.exit(train() if sys.argv[1:2] == ["--train"] else main())
