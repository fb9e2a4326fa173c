"""Several processes that train one model, as `torchrun` starts them.

    python -m asr.cli.torchrun --nproc-per-node 2 -m asr.cli.main train …

Each process takes every size-th batch of the one stream of training batches, so no process ever has more to do than
another, and all average their gradients in every step (`DistributedDataParallel`, or `fully_shard`; NCCL between GPUs,
gloo between CPUs). Whatever else they have to agree on is a small object that each tells all others: `Ranks.share`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from asr.errors import InputError
from asr.orphans import when_orphaned
from asr.runs.lock import owned
from asr.train.shard import shard

Value = TypeVar("Value")

# The first process draws, scores and saves while the others wait; a process that died is noticed by torchrun, at once.
TIMEOUT = timedelta(hours=2)


@dataclass(frozen=True)
class Ranks:
    """Which of the training processes this is.

    rank: its number, of `size`; local_rank: its number on this machine. group: what small objects go through.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    group: Any = None

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes checkpoints and logs."""
        return self.rank == 0

    def share(self, value: Value) -> list[Value]:
        """The value that each process gave, in order of rank; all processes have to call this alike.

        Raises InputError where another process has ended.
        """
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        try:
            distributed.all_gather_object(values, value, self.group)
        except RuntimeError as error:
            raise InputError(f"another training process has ended: see its message ({_first_line(error)})") from error
        return values

    def wrap(self, module: nn.Module, layers: Iterable[nn.Module] = ()) -> nn.Module:
        """`module`, with the weights and buffers of the first process, and gradients averaged in every backward.

        layers: if any, parts by which the weights are divided over the processes.
        """
        layers = list(layers)
        if self.size == 1:
            return module
        if not layers:
            return DistributedDataParallel(module)
        shard(module, layers)
        return module

    def accumulating(self, module: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Averages gradients only in the backward of the last batch of a step."""
        if isinstance(module, FSDPModule):
            module.set_requires_gradient_sync(last)
        if isinstance(module, DistributedDataParallel) and not last:
            return module.no_sync()
        return nullcontext()


ALONE = Ranks()


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Meet the other processes that `torchrun` has started, for as long as the block runs; `ALONE` without it.

    device: cpu, cuda or auto. Raises InputError where there are more processes than GPUs.
    """
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        yield ALONE
        return
    local_rank = int(os.environ["LOCAL_RANK"])
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        claim_gpu(local_rank)
    # torchrun was killed, perhaps while this process was still starting: no other will end this one.
    parent = os.environ.get("ASR_TORCHRUN")
    when_orphaned(lambda: os.kill(os.getpid(), signal.SIGTERM), int(parent) if parent else None)
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    try:
        group = distributed.new_group(backend="gloo", timeout=TIMEOUT)  # so that agreeing never waits for a GPU
        yield Ranks(distributed.get_rank(), size, local_rank, group)
    finally:
        distributed.destroy_process_group()


@contextmanager
def owned_by_all(directory: Path, ranks: Ranks) -> Iterator[None]:
    """`owned`, by the first process for all of them. Raises InputError in each where another training has it."""
    with ExitStack() as stack:
        refusal = ""
        if ranks.leads:
            try:
                stack.enter_context(owned(directory))
            except InputError as error:
                refusal = str(error)
        refusal = ranks.share(refusal)[0]
        if refusal:
            raise InputError(refusal)
        yield


def claim_gpu(local_rank: int) -> None:
    """Make GPU number `local_rank` this process's own. Raises InputError where there is none."""
    if local_rank >= torch.cuda.device_count():
        raise InputError(
            f"process {local_rank + 1} on this machine has no GPU of its own, it has {torch.cuda.device_count()}: "
            "start fewer (torchrun --nproc-per-node), or use train.device=cpu"
        )
    torch.cuda.set_device(local_rank)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def join_tasks() -> None:
    """In a job of several tasks that submitit has started, say in torchrun's words which of them this is."""
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return
    import submitit  # type: ignore[import-untyped]

    if submitit.JobEnvironment().num_tasks > 1:
        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
