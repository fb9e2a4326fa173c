"""Fresh weights that let speech through: variance kept, no constants, quiet residual branches, blank likely."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

BRANCH_SCALE = 0.1
BLANK_PRIOR = 0.9  # most of the arcs of a path are blanks: frames outnumber labels
LOGIT_SCALE = 0.1


@torch.no_grad()
def initialize(module: nn.Module) -> None:
    """He initialisation (He et al., ICCV 2015) of matrices and convolutions, zero biases, in place.

    torch's default shrinks a signal by √3 in each layer and draws biases as large as what is left of it:
    an encoder's output is then nearly the same in all frames, and training takes long to undo that.
    """
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Conv1d, nn.Conv2d)):
            followed_by_relu = isinstance(part, nn.Conv2d)
            fan_in = part.weight[0].numel()
            nn.init.normal_(part.weight, std=math.sqrt((2.0 if followed_by_relu else 1.0) / fan_in))
            if part.bias is not None:
                nn.init.zeros_(part.bias)


@torch.no_grad()
def quieten(branches: list[nn.Linear]) -> None:
    """Scale down the outputs of residual branches, in place.

    Fresh attention averages over the utterance: at full strength it adds the same vector to all frames.
    """
    for branch in branches:
        branch.weight.mul_(BRANCH_SCALE)


@torch.no_grad()
def expect_blank(weight_VD: Tensor, bias_V: Tensor) -> None:
    """Make a layer of logits predict blank (0) with probability BLANK_PRIOR, the rest evenly, in place.

    From a uniform start, the first thing to be learnt would be this prior, with gradients so large that
    they flatten the encoder.
    """
    weight_VD.mul_(LOGIT_SCALE)
    bias_V.zero_()
    bias_V[0] = math.log(BLANK_PRIOR / (1 - BLANK_PRIOR) * (len(bias_V) - 1))
