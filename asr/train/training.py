"""A training put together from its parts, and run."""

from __future__ import annotations

import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import nn

from asr.config import TrainConfig
from asr.config.schema import to_yaml
from asr.data.tokenizer import Tokenizer, load_tokenizer, pieces_digest
from asr.device import choose_device, make_reproducible
from asr.errors import InputError
from asr.files import write_atomically
from asr.options import require_needed
from asr.progress import told_if_slow
from asr.runs.directory import RunDirectory, silent_logger
from asr.runs.package import is_package
from asr.runs.trained import Trained
from asr.train.begin import begin_from, load_initial
from asr.train.data import TrainingData, estimate_normalization, warn_of_unaligned
from asr.train.distributed import Ranks, owned_by_all
from asr.train.loop import Trainer
from asr.train.observe import Observer, validation_decoder
from asr.train.parts import choose_trained
from asr.train.resume import (
    check_same_run,
    check_same_step,
    check_steps,
    check_tokenizer,
    find_checkpoint,
    write_record,
)
from asr.train.signals import stop_on_signals
from asr.train.task import compile_layers, make_task
from asr.version import version


def train(config: TrainConfig, ranks: Ranks) -> None:
    """`main`, as one of the processes that train."""
    run = RunDirectory(Path(config.run))
    if run.path.is_dir() and is_package(run.path):
        raise InputError(f"run={run.path}: is a package; begin from it, train.init={run.path} and another run=")
    with owned_by_all(run.path, ranks):
        train_in(run, config, ranks)


def train_in(run: RunDirectory, config: TrainConfig, ranks: Ranks) -> None:
    """Train in a run's directory that no other training has."""
    knows_pieces = run.tokenizer.is_dir() or config.train.init
    require_needed(config.data, "data.", but=["tokenizer"] if knows_pieces else [])
    with told("reading the training manifests", ranks):
        resumption = check_same_run(run, config)
    damaged: list[str] = []
    checkpoint = find_checkpoint(run, damaged)
    initial = load_initial(config) if checkpoint is None else None
    tokenizer = tokenizer_of(config, run, initial)
    check_tokenizer(run, tokenizer, config.data.tokenizer)
    if config.train.shard and (config.train.compile or config.optim.name == "scaled_adam"):
        raise InputError("train.shard=true goes neither with optim.name=scaled_adam nor with train.compile=true")
    device = choose_device(config.train.device)
    make_reproducible(device)
    torch.manual_seed(config.train.seed)
    task = make_task(config, tokenizer.vocab_size).to(device)
    begun = begin_from(initial, task, config, tokenizer) if initial else None
    choose_trained(task, config.train)
    validation_decoder(task, config, tokenizer, device)  # what it lacks is better said now than in a validation
    if config.train.compile:
        compile_layers(task.model)
    data = TrainingData(config, tokenizer, ranks)
    observer = Observer(data, tokenizer, config)
    if checkpoint is None and ranks.leads and (begun is None or begun.needs_statistics):
        with told("reading the first utterances, for model.normalize", ranks):
            estimate_normalization(task.model, data)
    trainer = Trainer(
        task,
        lambda start: data.batches(start, lambda: trainer.asked_to_stop),
        lambda step: observer(step, trainer),
        run,
        config.train,
        config.optim,
        device,
        ranks,
    )
    trainer.told |= {"tokenizer": pieces_digest(tokenizer), "asr": version()}
    if begun is not None:
        trainer.told["init"] = begun.digest
    if checkpoint is not None:
        trainer.told |= {name: checkpoint.info[name] for name in checkpoint.info.keys() & {"init"}}
        check_steps(run, checkpoint.step, config.train.steps)
        trainer.restore(checkpoint, elsewhere=resumption.of_stream)
    check_same_step(ranks.share(trainer.step), run)
    if ranks.leads:
        tokenizer.save(run.tokenizer)
        write_record(run, resumption, trainer.step)
        if begun is not None:
            begun.write(run)
        config.train.change = False  # asked for this once
        write_atomically(run.config, to_yaml(config).encode())
    logger = run.open_logs(trainer.step, trainer.again) if ranks.leads else silent_logger()
    for message in damaged:
        logger.warning("%s", message)
    for change in resumption.changes:
        logger.warning("changed from here on: %s", change)
    if begun is not None:
        logger.info("%s", begun.line())
        for doubt in begun.doubts:
            logger.warning("%s", doubt)
    logger.info(
        "%s: %s parameters, loss %s (%s), %s on %s",
        run.path,
        counted(task.model),
        config.loss.name + f" of {config.views} views of each utterance" * (config.views > 1),
        task.objective.transducer.backends(task.model.joiner, device),
        f"step {trainer.step} of {config.train.steps}",
        f"{ranks.size} × {device.type}" if ranks.size > 1 else device,
    )
    if (config.loss.uses_alignment or config.train.frame_weight) and ranks.leads:
        warn_of_unaligned(data)
    observer.begin()
    before = stop_on_signals(trainer)
    try:
        done = trainer.fit()
        if done:
            observer.validate_averages(trainer)
    finally:
        trainer.skips.total()
        run.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    logger.info("%s at step %d; checkpoints in %s", "done" if done else "stopped", trainer.step, run.checkpoints)
    if not done:
        raise KeyboardInterrupt("run the same command again to go on" * ranks.leads)


def tokenizer_of(config: TrainConfig, run: RunDirectory, initial: Trained | None) -> Tokenizer:
    """The tokenizer that is named, else that of the model which the training begins from, else the run's own."""
    if initial is not None and not config.data.tokenizer:
        return initial.tokenizer
    return load_tokenizer(config.data.tokenizer or run.tokenizer)


def counted(model: nn.Module) -> str:
    """The number of parameters, and of those that are trained where that is another."""
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return f"{total:,}" if trained == total else f"{trained:,} of {total:,}"


def told(what: str, ranks: Ranks) -> AbstractContextManager[None]:
    """`told_if_slow`, by the first process and on the console: there is no log yet."""
    return told_if_slow(what, lambda line: print(line, file=sys.stderr)) if ranks.leads else nullcontext()
