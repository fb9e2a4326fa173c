"""AdamW, and the learning rate as a function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from asr.config import OptimOptions


def make_optimizer(module: nn.Module, encoder: nn.Module, options: OptimOptions) -> torch.optim.AdamW:
    """AdamW over all parameters of `module`, those of its part `encoder` in groups of their own.

    Biases, norms and other vectors are not decayed.
    """
    inside = {id(p) for p in encoder.parameters()}
    groups = []
    for is_encoder in (False, True):
        parameters = [p for p in module.parameters() if p.requires_grad and (id(p) in inside) == is_encoder]
        for decay, chosen in (
            (options.weight_decay, [p for p in parameters if p.ndim >= 2]),
            (0.0, [p for p in parameters if p.ndim < 2]),
        ):
            groups.append({"params": chosen, "weight_decay": decay, "is_encoder": is_encoder})
    beta1, beta2 = options.betas
    return torch.optim.AdamW(groups, lr=options.lr, betas=(beta1, beta2))


def learning_rate(step: int, total_steps: int, options: OptimOptions, is_encoder: bool = True) -> float:
    """The rate of optimiser step `step` (the first is 0): linear warm-up, then the schedule.

    The heads (all but the encoder) warm up first, in `head_warmup_steps`, and the encoder only then: what
    is learnt first is how often each label occurs, and an encoder that takes part in that learns to say
    the same in every frame, from which it takes thousands of steps to recover, if it does.
    """
    begin = options.head_warmup_steps if is_encoder else 0
    end = max(options.warmup_steps, begin) if is_encoder else options.head_warmup_steps
    warmth = min(max(step + 1 - begin, 0) / max(end - begin, 1), 1.0)
    return options.lr * warmth * decay(step, total_steps, options)


def decay(step: int, total_steps: int, options: OptimOptions) -> float:
    """The share of the peak rate that the schedule leaves at a step; 1 until the warm-up is over."""
    after = max(step - options.warmup_steps, 0)
    if options.schedule == "cosine":
        progress = min(after / max(total_steps - options.warmup_steps, 1), 1.0)
        return options.final_lr + (1 - options.final_lr) * 0.5 * (1 + math.cos(math.pi * progress))
    if options.schedule == "inverse_sqrt":
        warmup = max(options.warmup_steps, 1)
        return math.sqrt(warmup / (warmup + after))
    return 1.0


def set_learning_rate(optimizer: torch.optim.Optimizer, step: int, total_steps: int, options: OptimOptions) -> float:
    """Use the rates of `step` in the next step; returns the encoder's."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, total_steps, options, group["is_encoder"])
    return learning_rate(step, total_steps, options)
