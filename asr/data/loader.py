"""Batches that are loaded in processes of their own, which end when their reader does, however it ends."""

from __future__ import annotations

import atexit
import contextlib
import functools
import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from asr.data.batch import Batch
from asr.data.dataset import Draw, SpeechDataset
from asr.errors import InputError
from asr.orphans import when_orphaned

POLL_SECONDS = 1.0  # between two looks at whether to wait on for a batch
SHOWN = 5  # cuts of a batch that a message names
# They reach the whole process group, or a worker alone; the process that trains decides when its workers end.
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2") if hasattr(signal, name)]


@dataclass(frozen=True)
class Loader:
    """The batches of the draws of a sampler, the same for any number of processes; iterable again and again.

    workers: processes that load; 0: this one does. waiting: called about every second that a worker's batch is waited
    for, with the seconds so far and the draw in question; raises what is to end the waiting.

    An iterator that is closed, deleted, or left over when Python exits takes its workers with it. Raises InputError
    where a worker dies.
    """

    dataset: SpeechDataset
    sampler: Sampler[Draw]
    workers: int = 0
    waiting: Callable[[float, Draw], None] = lambda seconds, draw: None

    def __iter__(self) -> Generator[Batch, None, None]:
        return self.in_workers() if self.workers else self.here()

    def here(self) -> Generator[Batch, None, None]:
        """Batches that this process loads."""
        yield from DataLoader(self.dataset, None, sampler=self.sampler)

    def in_workers(self) -> Generator[Batch, None, None]:
        """Batches that workers load, in order."""
        draws = Noted(self.sampler)
        with started(Packed(self.dataset), draws, self.workers) as (batches, workers):
            while (packed := self.next_of(batches, workers, draws.drawn)) is not None:
                yield pickle.loads(packed)
                draws.drawn.popleft()
        if draws.fault is not None:
            raise draws.fault

    def next_of(self, batches: Iterator[bytes], workers: Sequence[BaseProcess], drawn: deque[Draw]) -> bytes | None:
        """What comes next, None after the last; however long it takes, unless a worker dies or `waiting` has enough."""
        waited = 0.0
        while True:
            try:
                with hearing_of_death(workers):
                    return next(batches, None)
            except (DeathError, RuntimeError) as error:
                for worker in (worker for worker in workers if worker.exitcode):
                    raise InputError(_death(worker, drawn[0])) from error
                if "timed out" not in str(error):  # DataLoader's only word for it
                    raise
            waited += POLL_SECONDS
            self.waiting(waited, drawn[0])


@contextlib.contextmanager
def giving_back() -> Iterator[None]:
    """After the block, in which `hearing_of_death` leaves nobody to hear of children that end, who heard of them before
    does again: another part of the program, or torch, which sees to it but once in a process."""
    before = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, before)


class DeathError(BaseException):
    """A worker has died. Not an `Exception`: it may arise in a sampler, which would take it for a damaged manifest."""


@contextlib.contextmanager
def hearing_of_death(workers: Sequence[BaseProcess]) -> Iterator[None]:
    """Raises DeathError in the block once a worker is dead: what it had begun to hand over would be waited for without
    end. Only there: torch's own handler raises wherever this process happens to be, in an optimiser's step too."""

    def look(*_: object) -> None:
        if any(worker.exitcode for worker in workers):  # one that has nothing more to do ends with 0
            raise DeathError

    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        yield
        return
    signal.signal(signal.SIGCHLD, look)
    try:
        look()
        yield
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


class Packed(Dataset[bytes]):
    """Batches as bytes, which a pipe carries.

    torch would put tensors into shared memory, of which a container may have little, and open sockets in TMPDIR, whose
    path may be too long for one; either is an error in a thread of the worker, of which its reader never hears.
    """

    def __init__(self, dataset: SpeechDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, draw: Draw) -> bytes:
        return pickle.dumps(self.dataset[draw], pickle.HIGHEST_PROTOCOL)


class Noted(Sampler[Draw]):
    """The draws of a sampler, noted when they are made: those that are not loaded yet, and what ended them.

    What a sampler raises would leave torch's loader half made, with queues that nobody closes; it comes after the
    batches before, as where there are no workers.
    """

    def __init__(self, sampler: Iterable[Draw]) -> None:
        self.sampler, self.drawn = sampler, deque[Draw]()
        self.fault: Exception | None = None

    def __iter__(self) -> Iterator[Draw]:
        try:
            for draw in self.sampler:
                self.drawn.append(draw)
                yield draw
        except Exception as error:
            self.fault = error


@contextlib.contextmanager
def started(dataset: Packed, sampler: Noted, workers: int) -> Iterator[tuple[Iterator[bytes], Sequence[BaseProcess]]]:
    """What the workers load, and the workers, for as long as the block runs; at the latest until Python exits."""
    begin = functools.partial(_start_worker, os.getpid())
    loader = DataLoader(dataset, None, sampler=sampler, num_workers=workers, timeout=POLL_SECONDS, worker_init_fn=begin)
    before = multiprocessing.active_children()
    processes: list[BaseProcess] = []
    end = functools.partial(_end, processes)
    atexit.register(end)  # before the exit of multiprocessing, which waits for workers without end
    fault = None
    try:
        try:
            batches = iter(loader)
        except OSError as error:  # not kept: it holds what there is of the iterator, which is to go at once
            fault = str(error)
        finally:
            processes += [child for child in multiprocessing.active_children() if child not in before]
        if fault is not None:
            raise InputError(f"data.workers={workers}: cannot start them ({fault}); use data.workers=0")
        with giving_back():
            try:
                yield batches, processes
            finally:
                end()
    finally:
        atexit.unregister(end)
        end()


def _end(processes: Sequence[BaseProcess]) -> None:
    # At once, and whatever they do: they have nothing to lose, and end for nothing else.
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


def _start_worker(parent: int, worker: int) -> None:
    """Be a worker of the process `parent`, which is told and not asked for: it may be gone by now."""

    def pass_on(number: int, frame: object) -> None:
        if os.getppid() == parent:
            os.kill(parent, signal.SIGTERM)

    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as `nohup` leaves SIGHUP
            signal.signal(number, pass_on)
    signal.set_wakeup_fd(-1)  # that the process has which trains
    torch.set_num_threads(1)
    # torch has a worker notice it, too, but then wait until its last batch is read, which nobody does any more. It
    # keeps the connections open that it was forked with, and other training processes do not hear of the death.
    when_orphaned(lambda: os._exit(1), parent)


def _death(worker: BaseProcess, draw: Draw) -> str:
    code: Any = worker.exitcode
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    return (
        f"a data worker was {how}, while a batch of {named(draw)} was waited for: if memory ran out, lower "
        "data.workers, data.lookahead or data.max_seconds"
    )


def named(draw: Draw) -> str:
    """The cuts of a draw, in words."""
    return shortened([cut.id for cut in draw.cuts])


def shortened(names: Sequence[str]) -> str:
    """The first of many names, in words."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
