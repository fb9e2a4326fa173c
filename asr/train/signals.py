"""Signals that end a training, with a checkpoint."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Collection, Iterator

from asr.train.loop import Trainer

NAMES = "SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2"
ENOUGH = b"\0"  # no signal's number


@contextlib.contextmanager
def stopping_on_signals(trainer: Trainer) -> Iterator[None]:
    """In the block SIGTERM, SIGHUP, SIGUSR2 and the first Ctrl-C end training after a step, with a checkpoint.

    What it waits for is said at once. A closed terminal sends SIGHUP; Slurm sends SIGUSR2 before a job's time is up,
    where submitit has started it. What was ignored stays so, as SIGHUP below `nohup`, and SIGINT below a script's `&`.

    A second Ctrl-C ends it at once; but not with several processes, to which torchrun passes on every Ctrl-C.
    """

    def stop(number: int, frame: object) -> None:
        if trainer.ranks.size == 1 and signal.SIGINT in wanted:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        trainer.stop(number)

    present = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]  # Windows lacks some
    wanted = [number for number in present if signal.getsignal(number) != signal.SIG_IGN]
    with heard_at_once(wanted, trainer):
        before = {number: signal.signal(number, stop) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                if handler is not None:  # None: not Python's
                    signal.signal(number, handler)


@contextlib.contextmanager
def ended_by_interrupts() -> Iterator[None]:
    """In the block Ctrl-C ends the process there and then, as SIGTERM does: a file may be read that never answers."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def heard_at_once(numbers: Collection[int], trainer: Trainer) -> Iterator[None]:
    """Have signals told in the log when they come: Python's handlers wait until what computes or reads is through."""
    read, write = os.pipe()
    if hasattr(os, "set_blocking"):  # Windows lacks it, and asks for none, up to Python 3.11
        os.set_blocking(write, False)
    teller = threading.Thread(target=tell, args=(read, numbers, trainer), daemon=True)
    teller.start()
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        with contextlib.suppress(BlockingIOError):
            os.write(write, ENOUGH)
            teller.join()
        for file in (read, write):
            os.close(file)


def tell(read: int, numbers: Collection[int], trainer: Trainer) -> None:
    """Say of the first signal that it was heard, and what the end of the training waits for."""
    told = False
    while (byte := os.read(read, 1)) not in (ENOUGH, b""):
        if byte[0] in numbers and not told:
            told = True
            trainer.logger.info("%s: stopping after %s", signal.Signals(byte[0]).name, trainer.doing)
