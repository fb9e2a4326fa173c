"""Files that never answer where this process reads them itself: without data workers, and in validations.

Nothing that Python can raise gets a thread out of a system call that does not return, as on a dead network mount. So
another thread gives up for it: writes a checkpoint, says why, and ends the process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

from asr.data import reading
from asr.train.loop import Trainer

POLL_SECONDS = 1.0
GRACE_SECONDS = 5.0  # for what is read when a stop is asked for
REFUSED, SIGNALLED = 2, 128  # exit statuses, as `asr.cli.main` has them


@contextlib.contextmanager
def giving_up_readers(trainer: Trainer | None, timeout: float) -> Iterator[None]:
    """In the block, end the process where a cut has been read for `timeout` seconds, or for GRACE_SECONDS and a stop
    is asked for. trainer: None before there is one."""
    ended = threading.Event()
    watch = threading.Thread(target=watch_over, args=(trainer, timeout, ended), daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()


def watch_over(trainer: Trainer | None, timeout: float, ended: threading.Event) -> None:
    """Look now and then whether to give up."""
    while not ended.wait(POLL_SECONDS):
        with reading.held:
            read, number = reading.current, trainer.asked_to_stop if trainer else 0
            seconds = time.monotonic() - read.since if read else 0.0
            if read and (seconds >= timeout or (number and seconds >= GRACE_SECONDS)):
                stopped = f"stopped by {signal.Signals(number).name}, while it was waited for" if number else ""
                remedy = "see to its file, or raise data.timeout"
                give_up(
                    trainer,
                    f"asr train: error: {read.cut_id} has not been read for {seconds:.0f} s: {stopped or remedy}",
                    SIGNALLED + number if number else REFUSED,
                )


def give_up(trainer: Trainer | None, message: str, status: int) -> None:
    """Write a checkpoint where one is due, say why, and end."""
    try:
        if trainer:
            trainer.rescue()
            trainer.run.close()
        print(message, file=sys.stderr, flush=True)
    finally:
        os._exit(status)
