"""Signals that end a training, with a checkpoint."""

from __future__ import annotations

import signal
from typing import Any

from asr.train.loop import Trainer

NAMES = "SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2"
NO_HANGUP = getattr(signal, "SIGHUP", None), signal.SIG_IGN  # as `nohup` leaves it


def stop_on_signals(trainer: Trainer) -> dict[int, Any]:
    """SIGTERM, SIGHUP, SIGUSR2 and the first Ctrl-C end training after the current step, with a checkpoint.

    A closed terminal sends SIGHUP, but not to what `nohup` has started; Slurm sends SIGUSR2 before a job's time is up,
    where submitit has started it. Returns the handlers there were.

    A second Ctrl-C ends it at once; but not with several processes, to which torchrun passes on every Ctrl-C.
    """

    def stop(number: int, frame: object) -> None:
        if trainer.ranks.size == 1:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        trainer.stop()

    present = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]  # Windows lacks some
    wanted = [number for number in present if (number, signal.getsignal(number)) != NO_HANGUP]
    before = {number: signal.signal(number, stop) for number in wanted}
    return {number: handler for number, handler in before.items() if handler is not None}  # None: not Python's
