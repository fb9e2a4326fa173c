"""A training put together from its parts, and run."""

from __future__ import annotations

import signal
from pathlib import Path

import torch

from asr.config import TrainConfig
from asr.config.schema import to_yaml
from asr.data.tokenizer import load_tokenizer
from asr.device import choose_device
from asr.errors import InputError
from asr.files import write_atomically
from asr.options import require_needed
from asr.runs import state
from asr.runs.directory import RunDirectory, silent_logger
from asr.train.data import TrainingData, estimate_normalization, warn_of_unaligned
from asr.train.distributed import Ranks
from asr.train.loop import Trainer
from asr.train.observe import run_validation, validation_search
from asr.train.resume import check_same_run, check_same_step
from asr.train.signals import stop_on_signals
from asr.train.task import compile_layers, make_task


def train(config: TrainConfig, ranks: Ranks) -> None:
    """`main`, as one of the processes that train."""
    run = RunDirectory(Path(config.run))
    check_same_run(run, config)
    require_needed(config.data, "data.", but=["tokenizer"] if run.tokenizer.is_dir() else [])
    tokenizer = load_tokenizer(config.data.tokenizer or run.tokenizer)
    if state.resumable(run.checkpoints) and load_tokenizer(run.tokenizer).pieces != tokenizer.pieces:
        raise InputError(
            f"{config.data.tokenizer} is not the tokenizer that {run.path} was begun with: give another run="
        )
    if config.train.shard and (config.train.compile or config.optim.name == "scaled_adam"):
        raise InputError("train.shard=true goes neither with optim.name=scaled_adam nor with train.compile=true")
    device = choose_device(config.train.device)
    torch.manual_seed(config.train.seed)
    task = make_task(config, tokenizer.vocab_size).to(device)
    validation_search(task, config, tokenizer)  # what is missing is better said now than at the first validation
    if config.train.compile:
        compile_layers(task.model)
    data = TrainingData(config, tokenizer, ranks)
    damaged: list[str] = []
    checkpoint = state.newest_sound(run.checkpoints, damaged)
    if checkpoint is None and ranks.leads:
        estimate_normalization(task.model, data)
    trainer = Trainer(
        task,
        data.batches,
        lambda step: run_validation(step, trainer, data, tokenizer, config),
        run,
        config.train,
        config.optim,
        device,
        ranks,
    )
    if checkpoint is not None:
        trainer.restore(checkpoint)
    check_same_step(ranks.share(trainer.step), run)
    if ranks.leads:
        tokenizer.save(run.tokenizer)
        write_atomically(run.config, to_yaml(config).encode())
    logger = run.open_logs(trainer.step) if ranks.leads else silent_logger()
    for message in damaged:
        logger.warning("%s", message)
    parameters = sum(p.numel() for p in task.model.parameters())
    logger.info(
        "%s: %s parameters, loss %s (%s), %s on %s",
        run.path,
        f"{parameters:,}",
        config.loss.name,
        task.objective.transducer.backends(task.model.joiner, device),
        f"step {trainer.step} of {config.train.steps}",
        f"{ranks.size} × {device.type}" if ranks.size > 1 else device,
    )
    if config.loss.uses_alignment and ranks.leads:
        warn_of_unaligned(data)
    before = stop_on_signals(trainer)
    try:
        done = trainer.fit()
    finally:
        data.report_refused(logger.warning)
        run.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    logger.info("%s at step %d; checkpoints in %s", "done" if done else "stopped", trainer.step, run.checkpoints)
    if not done:
        raise KeyboardInterrupt("run the same command again to go on" * ranks.leads)
