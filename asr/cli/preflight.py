"""`asr preflight`: how much memory a training will need, before it begins."""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Generator, Iterator
from itertools import islice
from pathlib import Path

import torch

from asr.config import PreflightConfig
from asr.data.batch import Batch, Position, Skipped
from asr.data.dataset import Draw
from asr.data.memory import BatchSize, fit_weights, limit_for, predict_mb
from asr.data.tokenizer import load_tokenizer
from asr.device import choose_device
from asr.errors import InputError
from asr.options import require_needed
from asr.runs.directory import RunDirectory, silent_logger
from asr.train.begin import load_initial
from asr.train.data import TrainingData, estimate_normalization
from asr.train.loop import Trainer
from asr.train.parts import choose_trained
from asr.train.precision import LEFT, best_precision
from asr.train.preflight import measure_peak_mb, noise_batch, probe_sizes
from asr.train.skips import NAMED, grouped
from asr.train.task import make_task


def main(config: PreflightConfig) -> None:
    """Print what batches need, and try the one that needs most. Raises InputError for input at fault.

    Goes through the draws of the first epoch as training will, fits the prediction of `asr.data.memory` to a few small
    batches of noise, and trains one step on the very batch for which it predicts most.
    """
    initial = load_initial(config)
    require_needed(config.data, "data.", but=["tokenizer"] if initial else [])
    device = choose_device(config.train.device)
    tokenizer = initial.tokenizer if initial and not config.data.tokenizer else load_tokenizer(config.data.tokenizer)
    data = TrainingData(config, tokenizer)
    draws = list(epoch_of(data))
    sizes = [data.measure(draw.cuts) for draw in draws]
    tell([one for draw in draws for one in draw.refused])
    if config.train.precision in LEFT:
        config.train.precision, _ = best_precision(config.train.precision, device)
    torch.manual_seed(config.train.seed)
    task = make_task(config, tokenizer.vocab_size).to(device)
    choose_trained(task, config.train)
    estimate_normalization(task.model, data)
    silent_logger()
    with tempfile.TemporaryDirectory() as directory:
        run = RunDirectory(Path(directory))
        trainer = Trainer(task, no_batches, lambda _: {}, run, config.train, config.optim, device)
        probes = probe_sizes(sizes, config.views)
        sizes_of_model = config.model.mel_bins, tokenizer.vocab_size, task.model.timing, config.views
        trainer.train_step([noise_batch(probes[0], *sizes_of_model)])  # compiles, allocates
        peaks = [measure(trainer, noise_batch(size, *sizes_of_model)) for size in probes]
        weights = fit_weights(probes, peaks)
        worst = max(range(len(draws)), key=lambda index: predict_mb(weights, sizes[index]))
        measured = measure(trainer, data.train_set[draws[worst]])
    report(sizes, worst, weights, measured, config.views)


def no_batches(start: Position) -> Generator[Batch, None, None]:
    """The training stream of a trainer that is given its batches."""
    yield from ()


def epoch_of(data: TrainingData) -> Iterator[Draw]:
    """The draws of the first epoch, of all processes."""
    for draw in data.stream(Position()).whole():
        assert draw.position is not None
        if draw.position.epoch > 0:
            return
        yield draw


def tell(refused: list[Skipped]) -> None:
    """Name the first utterances that will not be trained on, and count them all."""
    for line in islice(grouped({one.id: one.reason for one in refused}), NAMED):
        print(f"skipped {line}", file=sys.stderr)
    if refused:
        print(f"skipped {len(refused)} utterances", file=sys.stderr)


def measure(trainer: Trainer, batch: Batch) -> float:
    """Peak memory of a step, MB."""
    if not len(batch):
        raise InputError(f"the largest batch cannot be read: {batch.skipped[0].id}: {batch.skipped[0].reason}")
    return measure_peak_mb(lambda: trainer.train_step([batch]), trainer.device)


def report(sizes: list[BatchSize], worst: int, weights: list[float], measured: float, views: int) -> None:
    """Print the prediction, how it compares, and the options that use it."""
    size, predicted = sizes[worst], predict_mb(weights, sizes[worst])
    utterances, each = [s.utterances // views for s in sizes], f" in {views} views each" * (views > 1)
    print(f"{len(sizes)} batches an epoch, of {min(utterances)} to {max(utterances)}{each}")
    print(
        f"largest: {utterances[worst]} utterances of up to {size.frames} frames (after subsampling), "
        f"{size.labels} labels"
    )
    print(f"peak predicted {predicted:.0f} MB, measured {measured:.0f} MB ({predicted / measured - 1:+.1%})")
    shown = ",".join(f"{weight:.4g}" for weight in weights)
    lowest = math.ceil(limit_for(weights, size))
    print(
        f"as it is, or divided where max_memory_mb is lower: data.max_memory_mb={lowest} data.memory_weights=[{shown}]"
    )
