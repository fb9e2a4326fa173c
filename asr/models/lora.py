"""Low-rank adaptation (LoRA; Hu et al., ICLR 2022): a linear map W + α/R · B·A, of which A and B alone are trained.

The sum stands in the weight's place, as a parametrisation of torch, so that it holds for whatever reads the weight:
attention multiplies by parts of it, and never calls the layer that a wrapper would replace.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from asr.errors import InputError
from asr.models.attention import RelativeSelfAttention
from asr.models.conformer import Conformer, FeedForward

PARTS = ".parametrizations.weight"  # what names in a state dict have after that of an adapted map


class LowRank(nn.Module):
    """W (O,I) → W + scale · up·down, from up (O,R) and down (R,I). `up` begins as zeros: at first it is W."""

    scale: Tensor

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        self.down = nn.Parameter(torch.randn(rank, inputs, device=weight.device) * inputs**-0.5)
        self.up = nn.Parameter(weight.new_zeros(outputs, rank))
        self.register_buffer("scale", weight.new_tensor(alpha / rank))

    def forward(self, weight: Tensor) -> Tensor:
        """The map's weight (O,I)."""
        with torch.autocast(weight.device.type, enabled=False):
            return weight + self.scale * (self.up @ self.down)


def adapt(encoder: Conformer, rank: int, alpha: float) -> list[nn.Parameter]:
    """Freeze an encoder, and add to the maps of attention and feed-forward what is trained instead, and returned."""
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    for linear in maps(encoder):
        parametrize.register_parametrization(linear, "weight", LowRank(linear.weight, rank, alpha))
    return [parameter for parameter in encoder.parameters() if parameter.requires_grad]


def maps(encoder: Conformer) -> list[nn.Linear]:
    """The linear maps of attention and of the feed-forward modules."""
    parts = [part for part in encoder.modules() if isinstance(part, (RelativeSelfAttention, FeedForward))]
    return [module for part in parts for module in part.modules() if isinstance(module, nn.Linear)]


def merged(weights: dict[str, Tensor], where: object) -> dict[str, Tensor]:
    """The state dict of a model without LoRA that computes the same. Raises InputError where there is no LoRA in it.

    where: what messages call the weights.
    """
    ending = f"{PARTS}.original"
    adapted = [name.removesuffix(ending) for name in weights if name.endswith(ending)]
    if not adapted:
        raise InputError(f"{where}: trained with train.lora, but has none in its weights: were they merged before?")
    plain = {name: value for name, value in weights.items() if PARTS not in name}
    for name in adapted:
        up, down, scale = (weights[f"{name}{PARTS}.0.{part}"] for part in ("up", "down", "scale"))
        plain[f"{name}.weight"] = weights[f"{name}{ending}"] + scale * (up @ down)
    return plain
