"""How many training batches there have been, for what a loss does otherwise at first."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class BatchCount:
    """The number of a module's training batches: its buffer `batches`, which a checkpoint has.

    It is also held here, and read from the buffer only after weights were loaded: a GPU is waited for once.
    """

    def __init__(self, module: nn.Module) -> None:
        module.register_buffer("batches", torch.zeros((), dtype=torch.long))
        module.register_load_state_dict_post_hook(self.forget)  # type: ignore[no-untyped-call]
        self.module = module
        self.done: int | None = 0

    def forget(self, *_: Any) -> None:
        """Other weights were loaded."""
        self.done = None

    def next(self) -> int:
        """How many batches there were before this one, which is counted."""
        batches: Tensor = self.module.get_buffer("batches")
        done = int(batches) if self.done is None else self.done
        batches += 1
        self.done = done + 1
        return done
