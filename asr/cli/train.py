"""`asr train`: put the parts together, and train."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from asr.align.tokens import aligned_words
from asr.cli.compose import from_yaml, to_yaml
from asr.config import TrainConfig
from asr.data.batch import Batch, Position
from asr.data.dataset import Augmentation, Draw, SpeechDataset
from asr.data.manifest import open_cuts
from asr.data.memory import Measure, make_limit
from asr.data.sampler import Admission, OnePass, TrainingStream, make_loader
from asr.data.tokenizer import Tokenizer, load_tokenizer
from asr.data.waves import make_waves, require_audio
from asr.decode.make import make_search
from asr.decode.search import Search
from asr.decode.stream import chunk_frames
from asr.errors import InputError
from asr.files import write_atomically
from asr.losses import make as make_loss
from asr.losses.objective import Objective
from asr.models.normalize import GlobalNormalize
from asr.models.subsampling import MIN_FRAMES, subsampled_length
from asr.models.transducer import Transducer
from asr.plot.lattice import draw_lattice, view_lattice
from asr.train import state
from asr.train.distributed import ALONE, Ranks, joined
from asr.train.loop import Trainer
from asr.train.run import RunDirectory, silent_logger
from asr.train.task import Task
from asr.train.validate import validate

LEFT_FRAMES, RIGHT_FRAMES, PRUNE_RANGE = 5, 10, 5  # of the bounds drawn over the lattice in TensorBoard
ALIGNMENT_UTTERANCES = 1000  # that are looked at for times of words
NORMALIZE_UTTERANCES = 500  # that the statistics of the features are estimated on
MAY_CHANGE = {  # options that a run may be continued with at another value
    "model.checkpoint_layers",
    "data.workers",
    "train.steps",
    "train.shard",
    "train.accumulate",  # with another number of processes: see check_batches_per_step
    "train.device",
    "train.log_every",
    "train.validate_every",
    "train.save_every",
    "train.average_last",
}


def main(config: TrainConfig) -> None:
    """Train a transducer, or go on with an interrupted run. Raises InputError for input at fault."""
    with joined(config.train.device) as ranks:
        train(config, ranks)


def train(config: TrainConfig, ranks: Ranks) -> None:
    """`main`, as one of the processes that train."""
    run = RunDirectory(Path(config.run))
    check_same_run(run, config)
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


def check_same_step(steps: list[int], run: RunDirectory) -> None:
    """Raise InputError where processes did not find the same checkpoint."""
    if len(set(steps)) > 1:
        raise InputError(f"the processes found checkpoints of steps {steps}: {run.path} must be one directory for all")


def warn_of_unaligned(data: TrainingData) -> None:
    """Say so where the first training utterances have no times of their words."""
    sample = [bool(aligned_words(cut)) for cut in data.train_cuts.subset(first=ALIGNMENT_UTTERANCES)]
    if not all(sample):
        logging.getLogger("asr").warning(
            "%d of the first %d training utterances have no times of words and are not restricted: "
            "see `asr align` and `asr attach`",
            sample.count(False),
            len(sample),
        )


def stop_on_signals(trainer: Trainer) -> dict[int, Any]:
    """SIGTERM, SIGUSR2 and the first Ctrl-C end training after the current step, with a checkpoint.

    Slurm sends SIGUSR2 before a job's time is up, where submitit has started it. Returns the handlers there were.

    A second Ctrl-C ends it at once; but not with several processes, to which torchrun passes on every Ctrl-C.
    """

    def stop(number: int, frame: object) -> None:
        if trainer.ranks.size == 1:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        trainer.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)}
    return {number: handler for number, handler in before.items() if handler is not None}  # None: not Python's


def check_same_run(run: RunDirectory, config: TrainConfig) -> None:
    """Raise InputError where the run directory was begun with options that change the result."""
    if not state.resumable(run.checkpoints):
        return
    if not run.config.is_file():
        raise InputError(f"{run.path} has checkpoints but no config.yaml: give another run=, or delete the directory")
    before = flatten(dataclasses.asdict(from_yaml(run.config.read_text(), "train")))
    now = flatten(dataclasses.asdict(config))
    changed = [key for key in now if before.get(key) != now[key] and key not in MAY_CHANGE | {"run"}]
    if changed:
        key = changed[0]
        raise InputError(
            f"{run.path} was begun with {key}={before.get(key)}, not {now[key]}"
            + (f" (and {len(changed) - 1} more options differ)" if len(changed) > 1 else "")
            + ": give another run=, or delete the directory"
        )


def flatten(nested: dict[str, object], prefix: str = "") -> dict[str, object]:
    """{"a": {"b": 1}} → {"a.b": 1}."""
    flat: dict[str, object] = {}
    for key, value in nested.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def choose_device(name: str) -> torch.device:
    """The device called `name`; `auto` is the GPU where there is one. Raises InputError where there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device=cuda, but torch sees no GPU: use device=cpu or auto")
    return torch.device(name)


def make_task(config: TrainConfig, vocab_size: int) -> Task:
    """Model and objective with fresh weights."""
    width = config.model.joiner_dim
    options = dataclasses.asdict(config.loss)
    loss = make_loss(options.pop("name"), vocab_size=vocab_size, encoder_dim=width, predictor_dim=width, **options)
    return Task(Transducer(config.model, vocab_size), Objective(loss, width, vocab_size, config.train.ctc_weight))


def compile_layers(model: Transducer) -> None:
    """Have the encoder's layers compiled when they are first called. Raises InputError without a compiler."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise InputError(
            f"train.compile=true needs a C++ compiler, and {compiler} is not installed: install it or set CXX"
        )
    for layer in model.encoder.layers:
        layer.compile(dynamic=True)  # of one code for all layers and all lengths


def encoder_frames(frames: int) -> int:
    """Frames after subsampling of so many feature frames."""
    return int(subsampled_length(frames))


class TrainingData:
    """Training and validation batches of a configuration."""

    def __init__(self, config: TrainConfig, tokenizer: Tokenizer, ranks: Ranks = ALONE) -> None:
        self.options, self.seed, self.ranks = config.data, config.train.seed, ranks
        self.measure = Measure(encoder_frames, tokenizer)
        self.limit = make_limit(config.data, self.measure)
        self.admission = Admission(
            tokenizer,
            config.data.min_duration,
            config.data.max_duration,
            encoder_frames,
            config.train.ctc_weight > 0,
            config.loss.topology != "regular",
            self.limit,
        )
        self.train_cuts = open_cuts(config.data.train_cuts).filter(self.admission)
        self.valid_cuts = open_cuts(config.data.valid_cuts).filter(self.admission)
        augmentation = Augmentation(config.data.spec_augment, config.train.seed)
        waves = make_waves(config.data, config.train.seed)
        if waves:
            require_audio(self.train_cuts)
        self.train_set = SpeechDataset(config.model.mel_bins, MIN_FRAMES, tokenizer, augmentation, waves)
        self.valid_set = SpeechDataset(config.model.mel_bins, MIN_FRAMES, tokenizer)

    def batches(self, start: Position) -> Iterator[Batch]:
        """Endless training batches of this process from `start` on."""
        return iter(make_loader(self.train_set, self.stream(start), self.options.workers))

    def stream(self, start: Position) -> TrainingStream:
        """What decides which cuts make a batch."""
        place = self.ranks.rank, self.ranks.size
        return TrainingStream(self.train_cuts, self.options, self.seed, start, self.admission, *place, self.limit)

    def validation(self) -> Iterator[Batch]:
        """This process's share of the validation batches, once. Loaded here: workers would take longer to start."""
        share = OnePass(self.valid_cuts, self.options, self.ranks.rank, self.ranks.size)
        return iter(make_loader(self.valid_set, share, workers=0))

    def report_refused(self, warn: object) -> None:
        """Name the utterances that could not be trained on, the first 20 of them, and count them all."""
        assert callable(warn)
        refused = self.admission.refused
        for cut_id, reason in list(refused.items())[:20]:
            warn("skipped %s: %s", cut_id, reason)
        if refused:
            warn("%d utterances were skipped in all", len(refused))


def estimate_normalization(model: Transducer, data: TrainingData) -> None:
    """Set the statistics of a `global` normalisation from the first training utterances."""
    if not isinstance(model.encoder.normalize, GlobalNormalize):
        return
    sample = []
    for cut in data.train_cuts.subset(first=NORMALIZE_UTTERANCES):
        try:
            sample.append(data.valid_set.load(cut, None))
        except InputError:  # the training loop will name it
            continue
    if not sample:
        raise InputError(
            f"no utterance of {', '.join(data.options.train_cuts)} can be trained on"
            + "".join(f"; {cut}: {why}" for cut, why in list(data.admission.refused.items())[:1])
        )
    model.encoder.normalize.estimate(sample)


def validation_search(task: Task, config: TrainConfig, tokenizer: Tokenizer) -> tuple[Search, int]:
    """The search of validations for the weights as they are, and the chunks that the encoder works in.

    Raises InputError where the search lacks something.
    """
    was_training = task.training
    task.eval()  # a search may evaluate the model as soon as it is made
    search = make_search(config.decode, task.model, config.loss.topology, tokenizer)
    task.train(was_training)
    return search, chunk_frames(config.model, config.decode.chunk_seconds, streaming=False)


def run_validation(
    step: int, trainer: Trainer, data: TrainingData, tokenizer: Tokenizer, config: TrainConfig
) -> dict[str, float]:
    """Validate, log the metrics, and show a few hypotheses."""
    search, chunk = validation_search(trainer.task, config, tokenizer)
    metrics, utterances = validate(
        trainer.task, data.validation(), search, tokenizer, trainer.device, trainer.ranks, chunk
    )
    if metrics and trainer.ranks.leads:
        trainer.run.write_metrics(step, metrics, "validation")
        trainer.logger.info("step %d  validation: loss %.3f  WER %.2f %%", step, metrics["loss"], metrics["wer"])
        shown = (f"{u.id}  \nREF {u.reference}  \nHYP {u.hypothesis}" for u in utterances[:5])
        trainer.run.write_examples(step, "\n\n".join(shown))
        show_lattice(step, trainer, data, tokenizer)
    return metrics


def show_lattice(step: int, trainer: Trainer, data: TrainingData, tokenizer: Tokenizer) -> None:
    """Draw the lattice of the first validation utterance for TensorBoard."""
    was_training = trainer.task.training
    batch = data.valid_set[Draw([next(iter(data.valid_cuts))])].to(trainer.device)
    if len(batch):
        view = view_lattice(trainer.task.eval(), batch, tokenizer.pieces, LEFT_FRAMES, RIGHT_FRAMES, PRUNE_RANGE)
        trainer.run.write_figure(step, "validation/lattice", draw_lattice(view, f"{batch.ids[0]}, step {step}"))
    trainer.task.train(was_training)
