"""A moving average of a model's weights, made as it trains."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


class MovingAverage:
    """a ← a + (θ − a)·max(1 − decay, 1/t) after step t: the mean of all θ so far, until 1/(1 − decay) steps are done,
    then an exponential average that remembers about so many (Polyak and Juditsky, 1992; Tarvainen and Valpola, 2017).

    weights: the state dict of the averaged model. Tensors of whole numbers, such as counts, are the latest.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay, self.steps = model, decay, 0
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the model as it is after a step."""
        self.steps += 1
        share = max(1 - self.decay, 1 / self.steps)
        latest = self.model.state_dict()
        floats = {name: value for name, value in latest.items() if value.is_floating_point()}
        # Together: on a GPU one launch for dozens of tensors. But not those that are divided, which do not mix.
        whole = {name: value for name, value in floats.items() if not isinstance(value, DTensor)}
        if whole:
            torch._foreach_lerp_([self.weights[name] for name in whole], list(whole.values()), share)
        for name in floats.keys() - whole.keys():
            self.weights[name].lerp_(latest[name], share)
        for name in latest.keys() - floats.keys():
            self.weights[name].copy_(latest[name])

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes."""
        return {"weights": self.weights, "steps": self.steps}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from there. The tensors are copied."""
        self.steps = saved["steps"]
        weights: dict[str, Tensor] = saved["weights"]
        for name, value in self.weights.items():
            value.copy_(weights[name])
