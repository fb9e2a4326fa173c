"""Weights, gradients and optimiser state divided over the processes, by torch's `fully_shard` (FSDP2): for models whose
training one GPU cannot hold (Rajbhandari et al., "ZeRO", SC 2020, stage 3).

A layer's weights are brought together where it computes, and the others stay divided. What is written to a
checkpoint is whole, so a run may go on with or without sharding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(module: nn.Module, layers: Iterable[nn.Module]) -> None:
    """Divide the weights of `module`, those of the first process, each of `layers` by itself."""
    tensors = [*module.parameters(), *module.buffers()]
    for tensor in tensors:
        distributed.broadcast(tensor.detach(), 0)
    mesh = init_device_mesh(tensors[0].device.type, (distributed.get_world_size(),))
    parts = [*layers, module]
    for part in parts:
        fully_shard(part, mesh=mesh)
    for part, before in zip(parts, [module, *parts]):
        # Said, not left to the order of the last forwards: which those were may differ, after a validation.
        part.set_modules_to_backward_prefetch([before])  # type: ignore[operator]


def align_buffers(module: nn.Module) -> None:
    """Where weights are divided, give all processes the buffers of the first, as data-parallel training does."""
    if isinstance(module, FSDPModule):
        for buffer in module.buffers():
            distributed.broadcast(buffer, 0)


@contextmanager
def whole(module: nn.Module) -> Iterator[None]:
    """With all weights on every process: for what the processes do not do in step, such as validating."""
    parts = [part for part in module.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(part is not module, recurse=False)


def gathered(state: Any, keep: bool = True) -> Any:
    """A nested state with whole tensors, on the CPU, in place of divided ones, or without `keep` with nothing.

    All processes have to call this alike. No more than one tensor at a time is whole where it is divided.
    """
    if isinstance(state, DTensor):
        tensor = state.full_tensor()
        return tensor.cpu() if keep else None
    if isinstance(state, dict):
        return {key: gathered(value, keep) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [gathered(value, keep) for value in state]
    return state


def divided_like(state: Any, current: Any) -> Any:
    """The inverse of `gathered`: tensors of a nested state divided as those in the same place of `current` are."""
    if isinstance(current, DTensor):
        return divide(state, current)
    if isinstance(current, dict):
        return {key: divided_like(value, current.get(key)) for key, value in state.items()}
    return state


def divided_for(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """The state of an optimiser, of which the tensors that are as large as their weight are divided as it is."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    moments = {
        index: {
            name: divide(value, weights[index]) if isinstance(value, Tensor) and value.ndim else value
            for name, value in one.items()
        }
        for index, one in state["state"].items()
    }
    return {**state, "state": moments}


def divide(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, which every process has, divided as `like` is."""
    if not isinstance(like, DTensor):
        return value
    placed: Tensor = distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return placed
