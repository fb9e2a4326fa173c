"""Modules as programs of `torch.export`, for AOTInductor, ExecuTorch and whatever else reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from asr.export.sherpa import Part


def write(part: Part, path: Path) -> None:
    """The part as a program."""
    shapes = tuple(dict.fromkeys(sizes, torch.export.Dim.AUTO) for sizes in part.dynamic)
    with torch.no_grad():
        program = torch.export.export(part.module.eval(), part.example, dynamic_shapes=shapes)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names files of this machine
    torch.export.save(program, path)


def load(path: Path) -> Callable[..., tuple[Tensor, ...]]:
    """What a file computes, a tuple of tensors."""
    module = torch.export.load(path).module()

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            found = module(*inputs)
        return found if isinstance(found, tuple) else (found,)

    return run
