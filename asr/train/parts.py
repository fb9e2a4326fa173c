"""Parts of a model by name, as in `train.freeze`: which are trained, and at what share of the rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from torch import nn

from asr.config import TrainOptions
from asr.errors import InputError
from asr.models.lora import adapt
from asr.options import did_you_mean
from asr.train.task import Task

MODEL = "model."  # what names of the model's parts go without; others begin with objective


def choose_trained(task: Task, options: TrainOptions) -> None:
    """Add LoRA and freeze modules. Raises InputError where a pattern fits nothing, or nothing is left to be trained."""
    added = []
    if options.lora.rank:
        if not options.init:
            raise InputError(f"train.lora.rank={options.lora.rank}: adapts a trained model; name it, train.init=RUN")
        added = adapt(task.model.encoder, options.lora.rank, options.lora.alpha)
    freeze(task, options.freeze)
    if added and not any(parameter.requires_grad for parameter in added):
        raise InputError(
            f"train.freeze={options.freeze}: freezes what train.lora.rank adds, too; LoRA freezes the encoder by itself"
        )
    if not any(parameter.requires_grad for parameter in task.parameters()):
        raise InputError(f"train.freeze={options.freeze}: leaves nothing to be trained")


def freeze(task: Task, patterns: Sequence[str]) -> None:
    """Have modules compute as in decoding, from weights that stay as they are.

    Their dropout is off. Which sizes of chunks are drawn for an encoder is no matter of its weights, and goes on.
    """
    frozen = fitting(patterns, names_of(task), "train.freeze")
    for name, parameter in task.named_parameters():
        if short(name) in frozen:
            parameter.requires_grad_(False)
    within = [module for name, module in task.named_modules() if short(name) in frozen]
    task.at_rest = [module for module in within if not any(module.children())]
    task.train(task.training)


def fitting(patterns: Iterable[str], names: Sequence[str], option: str) -> dict[str, str]:
    """The names that patterns fit, or that lie in what these fit, each with the last such pattern.

    Raises InputError, with the nearest names, where a pattern of `option` fits nothing.
    """
    found: dict[str, str] = {}
    for pattern in patterns:
        fit = [name for name in names if any(fnmatchcase(outer, pattern) for outer in outwards(name))]
        if not fit:
            outermost = dict.fromkeys(name.partition(".")[0] for name in names)
            nearest = did_you_mean(pattern, names) or f"there are {', '.join(outermost)}"
            raise InputError(f"{option}: {pattern} is no part of the model; {nearest}")
        found |= dict.fromkeys(fit, pattern)
    return found


def outwards(name: str) -> Iterator[str]:
    """A name, and those of all that it lies in: a.b.c, a.b, a."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def names_of(task: nn.Module) -> list[str]:
    """The names of all modules and parameters."""
    names = [name for name, _ in task.named_modules()] + [name for name, _ in task.named_parameters()]
    return [short(name) for name in names if name not in ("", MODEL[:-1])]


def short(name: str) -> str:
    """The name of a part of a task as options have it."""
    return name.removeprefix(MODEL)
