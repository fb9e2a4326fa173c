"""Signals that end a training, with a checkpoint."""

from __future__ import annotations

import signal
from typing import Any

from asr.train.loop import Trainer


def stop_on_signals(trainer: Trainer) -> dict[int, Any]:
    """SIGTERM, SIGUSR2 and the first Ctrl-C end training after the current step, with a checkpoint.

    Slurm sends SIGUSR2 before a job's time is up, where submitit has started it. Returns the handlers there were.

    A second Ctrl-C ends it at once; but not with several processes, to which torchrun passes on every Ctrl-C.
    """

    def stop(number: int, frame: object) -> None:
        if trainer.ranks.size == 1:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        trainer.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)}
    return {number: handler for number, handler in before.items() if handler is not None}  # None: not Python's
