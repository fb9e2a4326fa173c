"""A training put together from its parts, and run."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from asr.config import PrunedLossOptions, TrainConfig
from asr.config.schema import to_yaml
from asr.cpus import told_waiting
from asr.data.batch import Skipped
from asr.data.tokenizer import Tokenizer, load_tokenizer, pieces_digest
from asr.data.validation import Report, examine
from asr.device import choose_device, reproducible
from asr.errors import InputError, Stopped
from asr.journal import AGAIN
from asr.machine import machine
from asr.options import require_needed
from asr.progress import told_if_slow
from asr.runs.directory import RunDirectory, curves_written_in_silence, silent_logger
from asr.runs.package import is_package
from asr.runs.state import Checkpoint
from asr.runs.trained import Trained
from asr.train.begin import Begun, begin_from, load_initial
from asr.train.data import TRAINED, TrainingData, estimate_normalization, parts_of, warn_of_unaligned
from asr.train.distributed import Ranks, owned_by_all
from asr.train.loop import Trainer
from asr.train.observe import Observer, validation_decoder
from asr.train.parts import choose_trained
from asr.train.peers import watching_peers
from asr.train.precision import settle_precision
from asr.train.resume import (
    Resumption,
    check_same_run,
    check_same_step,
    check_steps,
    check_tokenizer,
    fewer_steps,
    find_checkpoint,
    write_record,
)
from asr.train.signals import ended_by_interrupts, stopping_on_signals
from asr.train.skips import SkipLog
from asr.train.stuck import giving_up_readers
from asr.train.task import Task, compile_layers, make_task
from asr.version import version


def train(config: TrainConfig, ranks: Ranks) -> None:
    """`main`, as one of the processes that train."""
    run = RunDirectory(Path(config.run))
    if run.path.is_dir() and is_package(run.path):
        raise InputError(f"run={run.path}: is a package; begin from it, train.init={run.path} and another run=")
    device = choose_device(config.train.device)
    with owned_by_all(run.path, ranks), reproducible(device), curves_written_in_silence():
        train_in(run, config, ranks, device)


@dataclass(frozen=True)
class Training:
    """A training put together.

    resumption, checkpoint: what it goes on with. begun: from which trained model, if from one. damaged: messages about
    what of the run cannot be gone on with. precision: what to say of the one that was left to the machine.
    """

    trainer: Trainer
    observer: Observer
    data: TrainingData
    tokenizer: Tokenizer
    resumption: Resumption
    checkpoint: Checkpoint | None
    begun: Begun | None
    damaged: list[str]
    precision: str


def train_in(run: RunDirectory, config: TrainConfig, ranks: Ranks, device: torch.device) -> None:
    """Train in a run's directory that no other training has."""
    training = put_together(run, config, ranks, device)
    trainer, observer = training.trainer, training.observer
    if ranks.leads:
        keep(training, config)
    logger = run.open_logs(trainer.step, trainer.again) if ranks.leads else silent_logger()
    tell_beginning(training, config, logger)
    observer.begin()
    if ranks.leads and training.checkpoint is None:  # a pass over all; what is left out does not change by going on
        parts = parts_of(config, training.data.admission, training.tokenizer)
        with told("examining the manifests", ranks):
            tell_of_faults(examine(parts, config.data.root), trainer)
    with stopping_on_signals(trainer), giving_up_readers(trainer, config.data.timeout), watching_peers(trainer):
        try:
            done = trainer.fit()
            if done:
                observer.validate_averages(trainer)
                observer.end(trainer)
        finally:
            trainer.skips.total()
            run.close()
    logger.info("%s at step %d; checkpoints in %s", "done" if done else "stopped", trainer.step, run.checkpoints)
    if not done:
        raise Stopped(AGAIN * ranks.leads, trainer.stopping or trainer.asked_to_stop or signal.SIGINT)


def put_together(run: RunDirectory, config: TrainConfig, ranks: Ranks, device: torch.device) -> Training:
    """The training of a run, from where it is. Raises InputError for what is at fault, before anything is written."""
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
    precision = settle_precision(config, run, device, ranks)
    task, begun = first_task(config, tokenizer, initial, device)
    data = TrainingData(config, tokenizer, ranks, resumption.rows_known)
    observer = Observer(data, tokenizer, config)
    if checkpoint is None and ranks.leads and (begun is None or begun.needs_statistics):
        what = told("reading the first utterances, for model.normalize", ranks)
        with what, ended_by_interrupts(), giving_up_readers(None, config.data.timeout):
            estimate_normalization(task.model, data)
    trainer = Trainer(
        task,
        lambda start: data.batches(start, lambda: bool(trainer.asked_to_stop)),
        lambda step: observer(step, trainer),
        run,
        config.train,
        config.optim,
        device,
        ranks,
    )
    together = f", {ranks.size} processes" * (ranks.size > 1)
    trainer.told |= {"tokenizer": pieces_digest(tokenizer), "asr": version(), "machine": machine(device) + together}
    if begun is not None:
        trainer.told["init"] = begun.digest
    if checkpoint is not None:
        check_steps(run, checkpoint.step, config.train.steps)
        go_on(trainer, checkpoint, resumption, damaged)
    check_same_step(ranks.share(trainer.step), run)
    return Training(trainer, observer, data, tokenizer, resumption, checkpoint, begun, damaged, precision)


def first_task(
    config: TrainConfig, tokenizer: Tokenizer, initial: Trained | None, device: torch.device
) -> tuple[Task, Begun | None]:
    """What is trained, with fresh weights or a trained model's. Raises InputError where it cannot be validated."""
    torch.manual_seed(config.train.seed)
    task = make_task(config, tokenizer.vocab_size).to(device)
    begun = begin_from(initial, task, config, tokenizer) if initial else None
    choose_trained(task, config.train)
    validation_decoder(task, config, tokenizer, device)  # what it lacks is better said now than in a validation
    if config.train.compile:
        compile_layers(task.model)
    return task, begun


def go_on(trainer: Trainer, checkpoint: Checkpoint, resumption: Resumption, damaged: list[str]) -> None:
    """Put a trainer where a checkpoint is; what metrics have lost since goes to `damaged`."""
    run = trainer.run
    trainer.told |= {name: checkpoint.info[name] for name in checkpoint.info.keys() & {"init"}}
    trainer.restore(checkpoint, elsewhere=resumption.of_stream)
    if trainer.ranks.leads and run.has_lost(checkpoint.info.get("metrics", {})):
        damaged.append(f"{run.metrics}: is not what it was at step {checkpoint.step}: lines were lost, or changed")


def keep(training: Training, config: TrainConfig) -> None:
    """Write into the run's directory what it is gone on with, and decoded."""
    run = training.trainer.run
    training.tokenizer.save(run.tokenizer)
    write_record(run, training.resumption, training.trainer.step)
    if training.begun is not None:
        training.begun.write(run)
    config.train.change = False  # asked for this once
    run.write_config(to_yaml(config))


def tell_beginning(training: Training, config: TrainConfig, logger: logging.Logger) -> None:
    """Log what is trained, from where, by what, and what is doubtful in it."""
    trainer, begun = training.trainer, training.begun
    changed = [f"changed from here on: {change}" for change in training.resumption.changes]
    shorter = [*fewer_steps(training.resumption.steps, config.train.steps), *unfinished(config)]
    for warning in [*training.damaged, *changed, *shorter]:
        logger.warning("%s", warning)
    if begun is not None:
        logger.info("%s", begun.line())
        for doubt in begun.doubts:
            logger.warning("%s", doubt)
    logger.info("%s, %s", what_is_trained(trainer.run, config, trainer), counted_processes(training.data.workers))
    if training.precision:
        logger.info("%s", training.precision)
    if (config.loss.uses_alignment or config.train.frame_weight) and trainer.ranks.leads:
        warn_of_unaligned(training.data)


def tokenizer_of(config: TrainConfig, run: RunDirectory, initial: Trained | None) -> Tokenizer:
    """The tokenizer that is named, else that of the model which the training begins from, else the run's own."""
    if initial is not None and not config.data.tokenizer:
        return initial.tokenizer
    return load_tokenizer(config.data.tokenizer or run.tokenizer)


def tell_of_faults(report: Report, trainer: Trainer) -> None:
    """Name what is wrong with the manifests, and count what is left out; `Observer.begin` has told of validation."""
    wrong = [Skipped(one.id, one.reason) for one in report.findings if not one.left_out]
    SkipLog(trainer.logger, "doubtful, though used:").add(wrong)
    left_out = {one.id: one.reason for one in reversed(report.findings) if one.left_out and one.part == TRAINED}
    named = [Skipped(name, reason) for name, reason in reversed(left_out.items())]
    SkipLog(trainer.logger).add(named)  # another one than of those that are met, which are to be named as well
    trainer.skips.new(named)
    if left_out:
        trainer.logger.warning(
            "%d of %d utterances of %s are left out; unreadable audio is told of when it is met, or by `asr validate`",
            len(left_out),
            report.utterances[TRAINED],
            TRAINED,
        )


def what_is_trained(run: RunDirectory, config: TrainConfig, trainer: Trainer) -> str:
    """The run, its model and loss, what computes it, where it stands and on what, in one line."""
    model, device, ranks = trainer.task.model, trainer.device, trainer.ranks
    views = f" of {config.views} views of each utterance" * (config.views > 1)
    half = config.train.precision == "bfloat16"
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        how = trainer.task.objective.transducer.backends(model.joiner, device)
    where = f"{ranks.size} × {device.type}" if ranks.size > 1 else str(device)
    return (
        f"{run.path}: {counted(model)} parameters, loss {config.loss.name}{views} ({how}), "
        f"step {trainer.step} of {config.train.steps} on {where}"
    )


def counted_processes(workers: int) -> str:
    """What the CPUs are used by, in words."""
    return f"{torch.get_num_threads()} threads that wait {told_waiting()}, {workers} data workers"


def unfinished(config: TrainConfig) -> Iterator[str]:
    """What is to be over in the course of a training, and will not be when its steps are."""
    steps, batches = config.train.steps, config.train.steps * config.train.accumulate  # as each process counts
    lasts = {"optim.warmup_steps": (config.optim.warmup_steps, steps, "steps")}
    if isinstance(config.loss, PrunedLossOptions):
        lasts["loss.warmup_batches"] = config.loss.warmup_batches, batches, "batches"
        lasts["loss.aligned_batches"] = config.loss.aligned_batches, batches, "batches"
    if config.train.frame_weight:
        lasts["train.frame_batches"] = config.train.frame_batches, batches, "batches"
    for name, (value, there, what) in lasts.items():
        if value >= there:
            yield f"{name}={value} is not over in the {there} {what} of this training: lower it, or train longer"


def counted(model: nn.Module) -> str:
    """The number of parameters, and of those that are trained where that is another."""
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return f"{total:,}" if trained == total else f"{trained:,} of {total:,}"


def told(what: str, ranks: Ranks) -> AbstractContextManager[None]:
    """`told_if_slow`, by the first process and on the console: there is no log yet."""
    return told_if_slow(what, lambda line: print(line, file=sys.stderr)) if ranks.leads else nullcontext()
