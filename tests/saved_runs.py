"""Runs of small models that were never trained: what is on disk of a training of one step."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from small_model import small_options

from asr.config import PrunedLossOptions, TrainConfig, TrainOptions
from asr.config.schema import to_yaml
from asr.data.tokenizer import SentencePieceTokenizer, pieces_digest, train_tokenizer
from asr.files import write_atomically
from asr.runs import state
from asr.runs.directory import RunDirectory
from asr.train.parts import choose_trained
from asr.train.task import Task, make_task


def char_tokenizer(*texts: str) -> SentencePieceTokenizer:
    """The characters of texts."""
    return train_tokenizer(texts, "char")


def small_config(**options: Any) -> TrainConfig:
    """Of a training with a pruned loss and CTC; `train`, `loss` and `optim` as they are, all others of the model."""
    whole = {name: options.pop(name) for name in ("train", "loss", "optim", "data") if name in options}
    config = TrainConfig(run="", model=small_options(**options), loss=PrunedLossOptions(prune_range=3))
    return replace(config, **whole)


def save_run(path: Path, tokenizer: SentencePieceTokenizer, config: TrainConfig | None = None, seed: int = 1) -> Path:
    """Write a run with random weights; returns its path."""
    save_task(path, tokenizer, config or small_config(), random_task(tokenizer, config or small_config(), seed))
    return path


def random_task(tokenizer: SentencePieceTokenizer, config: TrainConfig, seed: int) -> Task:
    """A task whose weights, normalisation included, are all random."""
    torch.manual_seed(seed)
    task = make_task(config, tokenizer.vocab_size)
    choose_trained(task, config.train)
    for value in task.state_dict().values():
        if value.is_floating_point() and value.ndim:
            value.uniform_(0.1, 0.5)
    return task


def save_task(path: Path, tokenizer: SentencePieceTokenizer, config: TrainConfig, task: Task, step: int = 1) -> None:
    """Write a run with the weights of a task in its checkpoint."""
    run = RunDirectory(path)
    write_atomically(run.config, to_yaml(replace(config, run=str(path))).encode())
    tokenizer.save(run.tokenizer)
    parts = {"model": task.model.state_dict(), "objective": task.objective.state_dict()}
    if config.train.ema:
        parts["ema"] = {"weights": task.model.state_dict(), "steps": 1}
    state.save(run.checkpoints, state.Checkpoint(step, {}, parts, {"tokenizer": pieces_digest(tokenizer)}))


def beginning(path: Path, **options: Any) -> TrainOptions:
    """Options of a training that begins from a run."""
    return TrainOptions(init=str(path), **options)
