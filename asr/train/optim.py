"""AdamW or ScaledAdam, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from asr.config import OptimOptions
from asr.train.parts import fitting, names_of, short
from asr.train.scaled_adam import ScaledAdam


def make_optimizer(module: nn.Module, encoder: nn.Module, options: OptimOptions) -> torch.optim.Optimizer:
    """The optimiser of all parameters of `module` that are trained, those of its part `encoder` in groups of their own.

    AdamW does not decay biases, norms and other vectors; ScaledAdam decays nothing. Parameters of `lr_factors` are in
    groups of their own, too, one set for each pattern. Raises InputError where one fits nothing.
    """
    inside = {id(p) for p in encoder.parameters()}
    pattern_of = fitting(options.lr_factors, names_of(module), "optim.lr_factors")
    trained = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = []
    for pattern, factor in {"": 1.0, **options.lr_factors}.items():
        fitted = [p for name, p in trained if pattern_of.get(short(name), "") == pattern]
        for is_encoder in (False, True):
            parameters = [p for p in fitted if (id(p) in inside) == is_encoder]
            for decay, chosen in (
                (options.weight_decay, [p for p in parameters if p.ndim >= 2]),
                (0.0, [p for p in parameters if p.ndim < 2]),
            ):
                groups.append({"params": chosen, "weight_decay": decay, "is_encoder": is_encoder, "factor": factor})
    beta1, beta2 = options.betas
    if options.name == "scaled_adam":
        return ScaledAdam(groups, options.lr, (beta1, beta2), options.scale_lr)
    return torch.optim.AdamW(groups, lr=options.lr, betas=(beta1, beta2))


def learning_rate(step: int, total_steps: int, options: OptimOptions, is_encoder: bool = True, epoch: int = 0) -> float:
    """The rate of optimiser step `step` (the first is 0) in epoch `epoch`: linear warm-up, times the schedule.

    The heads (all but the encoder) warm up first, in `head_warmup_steps`, and the encoder only then: what
    is learnt first is how often each label occurs, and an encoder that takes part in that learns to say
    the same in every frame, from which it takes thousands of steps to recover, if it does.
    """
    begin = options.head_warmup_steps if is_encoder else 0
    end = max(options.warmup_steps, begin) if is_encoder else options.head_warmup_steps
    warmth = min(max(step + 1 - begin, 0) / max(end - begin, 1), 1.0)
    if step >= begin:
        warmth = options.warmup_start + (1 - options.warmup_start) * warmth
    return options.lr * warmth * decay(step, total_steps, options, epoch)


def decay(step: int, total_steps: int, options: OptimOptions, epoch: int = 0) -> float:
    """The share of the peak rate that the schedule leaves at a step; 1 until the warm-up is over, but for `eden`.

    Eden (Yao et al., "Zipformer", ICLR 2024) is ((t² + s²)/s²)^−¼ · ((e² + d²)/d²)^−¼ of step t and epoch e: constant
    at first, in the end t^−½ · e^−½, so that neither the size of batches nor that of the corpus says when to begin.
    """
    if options.schedule == "eden":
        by_step, by_epoch = (
            1 + (x / turn) ** 2 for x, turn in ((step, options.eden_steps), (epoch, options.eden_epochs))
        )
        return (by_step * by_epoch) ** -0.25
    after = max(step - options.warmup_steps, 0)
    if options.schedule == "cosine":
        progress = min(after / max(total_steps - options.warmup_steps, 1), 1.0)
        return options.final_lr + (1 - options.final_lr) * 0.5 * (1 + math.cos(math.pi * progress))
    if options.schedule == "inverse_sqrt":
        warmup = max(options.warmup_steps, 1)
        return math.sqrt(warmup / (warmup + after))
    return 1.0


def set_learning_rate(
    optimizer: torch.optim.Optimizer, step: int, total_steps: int, options: OptimOptions, epoch: int = 0
) -> float:
    """Use the rates of `step` in the next step; returns the encoder's, without factors."""
    for group in optimizer.param_groups:
        group["lr"] = group["factor"] * learning_rate(step, total_steps, options, group["is_encoder"], epoch)
    return learning_rate(step, total_steps, options, epoch=epoch)
