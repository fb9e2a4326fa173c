"""Processes that train together and hear of each other, so that one that hangs is found by the others.

A process that dies closes its connections, which the others notice at once. One that hangs, stopped, or waiting for a
disk that does not answer, keeps them open, and all wait for it. So each says every few seconds, in a thread of its own
and through torchrun's store, that it lives and what it is at; who is silent for too long is ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from asr.errors import InputError
from asr.train.loop import Trainer
from asr.train.stuck import REFUSED, give_up

BEAT_SECONDS = 5.0
SILENCE_SECONDS = 40.0  # after which a process is given up
REAPED_SECONDS = 0.5  # until torchrun has read the status of a process that has died
GRACE_SECONDS = 10.0  # for this one to end by itself, once the silent one is gone


@dataclass
class Beat:
    """A sign of life. number: how many there were. doing: what the process waits for or computes. ended: the last."""

    rank: int
    pid: int
    host: str
    number: int = 0
    doing: str = ""
    ended: bool = False

    def __str__(self) -> str:
        return f"training process {self.rank} (process {self.pid} on {self.host})"


@dataclass
class Watch:
    """What this process has heard of the others, and when, by its own clock."""

    heard: dict[int, tuple[Beat, float]] = field(default_factory=dict)
    looked: float = 0.0

    def hear(self, beats: list[Beat], now: float) -> list[Beat]:
        """Take in the latest beats; returns those of processes that have been silent for too long.

        Where this process itself has slept since it last looked, all may have.
        """
        slept = now - self.looked > SILENCE_SECONDS / 2
        self.looked = now
        for beat in beats:
            known = self.heard.get(beat.rank)
            if slept or known is None or known[0].number != beat.number:
                self.heard[beat.rank] = beat, now
        return [beat for beat, since in self.heard.values() if now - since >= SILENCE_SECONDS and not beat.ended]


@contextlib.contextmanager
def watching_peers(trainer: Trainer) -> Iterator[None]:
    """In the block, tell the other processes that this one lives, and end those that are silent.

    Where all are on one machine: the store of several hosts may be out of reach for a while, and nobody here may end a
    process there.
    """
    if trainer.ranks.size == 1 or int(os.environ.get("LOCAL_WORLD_SIZE", 0)) != trainer.ranks.size:
        yield
        return
    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    mine, ended = Beat(trainer.ranks.rank, os.getpid(), platform.node()), threading.Event()
    watch = Watch()
    threading.Thread(target=exchange, args=(store, mine, watch, trainer, ended), daemon=True).start()
    try:
        yield
    except InputError:
        for line in gone(watch, mine.host):
            print(line, file=sys.stderr, flush=True)
        raise
    finally:
        ended.set()
        mine.ended = True
        with contextlib.suppress(RuntimeError):  # the process that has the store is gone
            say(store, mine)


def gone(watch: Watch, host: str) -> Iterator[str]:
    """What the others on this machine were at that have died, in words: they cannot say it themselves."""
    if watch.heard:
        time.sleep(REAPED_SECONDS)
    for beat, _ in [*watch.heard.values()]:
        if beat.host == host and not beat.ended and not lives(beat.pid):
            yield f"{beat} is gone: it was last at {beat.doing}"


def lives(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def exchange(store: TCPStore, mine: Beat, watch: Watch, trainer: Trainer, ended: threading.Event) -> None:
    """Say and hear, until the training has ended."""
    others = [rank for rank in range(trainer.ranks.size) if rank != mine.rank]
    with contextlib.suppress(RuntimeError):  # the store is gone: so is a process, and the others hear of it
        while not ended.wait(BEAT_SECONDS):
            mine.number, mine.doing = mine.number + 1, trainer.doing
            say(store, mine)
            silent = watch.hear([*hear(store, others)], time.monotonic())
            if silent and not ended.is_set():
                end_all(silent, mine, ended, lambda message: give_up(trainer, message, REFUSED))


def key() -> str:
    """Where signs of life are: those of the processes that torchrun has started anew are others."""
    return f"asr/beats/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/"


def say(store: TCPStore, beat: Beat) -> None:
    """Tell the others."""
    store.set(f"{key()}{beat.rank}", json.dumps(asdict(beat)))


def hear(store: TCPStore, ranks: list[int]) -> Iterator[Beat]:
    """The latest beats of these processes, of those that have begun."""
    for rank in ranks:
        if store.check([f"{key()}{rank}"]):
            yield Beat(**json.loads(store.get(f"{key()}{rank}")))


def end_all(silent: list[Beat], mine: Beat, ended: threading.Event, give_up: Callable[[str], None]) -> None:
    """Kill the silent processes of this machine, upon which this one ends as where another has died; or give it up."""
    told = "; ".join(
        f"{one} has not answered for {SILENCE_SECONDS:.0f} s: it was last at {one.doing}" for one in silent
    )
    if mine.rank == min({*range(mine.rank + 1)} - {one.rank for one in silent}):
        print(f"asr train: error: {told}", file=sys.stderr, flush=True)
    for one in silent:
        if one.host == mine.host:
            with contextlib.suppress(OSError):
                os.kill(one.pid, signal.SIGKILL)
    if not ended.wait(GRACE_SECONDS):
        give_up(f"asr train: error: given up, since {silent[0]} does not answer")
