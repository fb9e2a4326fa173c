"""`torchrun`, whose end is told in words: `python -m asr.cli.torchrun` takes the same options.

The exit status is that of the process that failed first, or 128 and the number of the signal that ended them all, where
torchrun has a traceback and 1.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

PARENT = "ASR_TORCHRUN"  # names this process to those that it starts: `asr.train.distributed.joined`
SHUTDOWN_SECONDS = "120"  # for a checkpoint to be written, after which torchrun kills


def main(words: Sequence[str]) -> int:
    """Run torchrun with these options; returns the exit status."""
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", SHUTDOWN_SECONDS)
    os.environ[PARENT] = str(os.getpid())  # whose end is theirs
    try:
        run(parse_args(list(words)))  # type: ignore[no-untyped-call]
    except SignalException as stop:
        return 128 + int(stop.sigval)
    except ChildFailedError as failed:
        rank, failure = failed.get_first_failure()
        return told(rank, failure.exitcode)
    finally:
        del os.environ[PARENT]
    return 0


def told(rank: int, status: int) -> int:
    """What the exit status of a process becomes; who was killed could not say so itself."""
    if status >= 0:
        return status
    print(f"training process {rank} was killed by signal {-status}", file=sys.stderr)
    return 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
