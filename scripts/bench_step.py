#!/usr/bin/env python3
"""How long a training step takes: forward, backward, clipping and optimiser, on one batch, without loading data.

By default a Conformer of 12 layers, d=256 (model=medium), V=500, the pruned loss, and 8 utterances of 102 s in all,
with 4 labels a second; features are random. Options after -- go to `asr train`: model=…, loss=…, train.compile=true.
Where these ask for two views of each utterance, the batch has every other one of the 8 twice, as one of training would.
Beside the clock's seconds, which other work on the machine lengthens, those of the CPU are told.

    python scripts/bench_step.py --steps 5 --threads 2
    python scripts/bench_step.py -- loss=optimized model.checkpoint_layers=true
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from pathlib import Path

import torch

from asr.cli.compose import compose
from asr.data.batch import Batch, Position
from asr.device import choose_device, reproducible
from asr.runs.directory import RunDirectory
from asr.train.distributed import ALONE
from asr.train.loop import Trainer
from asr.train.precision import settle_precision
from asr.train.task import compile_layers, make_task
from asr.train.window import peak_memory_mb

SECONDS = [9.0, 10.5, 12.0, 12.5, 13.0, 14.0, 15.0, 16.0]
LABELS_PER_SECOND = 4
FRAMES_PER_SECOND = 100


def make_batch(seconds: list[float], mel_bins: int, vocab_size: int, views: int = 1) -> Batch:
    """Utterances of these lengths, of noise; of several views each has every `views`th of them."""
    distinct = seconds[::views]
    seconds = distinct * views
    generator = torch.Generator().manual_seed(0)
    frames = torch.tensor([round(length * FRAMES_PER_SECOND) for length in seconds])
    lengths = torch.tensor([round(length * LABELS_PER_SECOND) for length in seconds])
    labels = torch.randint(1, vocab_size, (len(distinct), int(lengths.max())), generator=generator)
    ids = [f"u{number}" for number in range(len(seconds))]
    return Batch(
        ids=ids,
        texts=ids,
        features=torch.randn(len(seconds), int(frames.max()), mel_bins, generator=generator),
        feature_frames=frames,
        labels=labels.repeat(views, 1),
        label_lengths=lengths,
        seconds=sum(distinct),
        position=Position(0, 1),
        views=views,
    )


def main() -> None:
    """Read the options, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5, help="steps that are measured, after one that is not")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--vocab-size", type=int, default=500)
    parser.add_argument("options", nargs="*", help="options of `asr train`, after --")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    logging.getLogger("asr").setLevel(logging.ERROR)
    config = compose("train", ["model=medium", "loss=pruned", "run=bench", *given.options])
    device = choose_device(config.train.device)
    torch.manual_seed(0)
    task = make_task(config, given.vocab_size).to(device)
    if config.train.compile:
        compile_layers(task.model)
    batch = make_batch(SECONDS, config.model.mel_bins, given.vocab_size, config.views)
    with tempfile.TemporaryDirectory() as directory:
        run = RunDirectory(Path(directory))
        if told := settle_precision(config, run, device, ALONE):
            print(told)
        trainer = Trainer(task, lambda _: iter(()), lambda _: {}, run, config.train, config.optim, device)
        with reproducible(device):  # as in training
            times = [time_step(trainer, batch) for _ in range(given.steps + 1)]
    parameters = sum(p.numel() for p in task.model.parameters())
    (first, _), (clock, cpu) = times[0], zip(*times[1:])
    middle, speed = statistics.median(cpu), batch.seconds / statistics.median(cpu)
    print(f"{statistics.median(clock):.2f} s/step, median of {min(clock):.2f} to {max(clock):.2f}; first {first:.2f} s")
    print(f"{middle:.2f} s of CPU/step, {min(cpu):.2f} to {max(cpu):.2f}: {speed:.1f} s of audio/s of CPU")
    views = f" in {batch.views} views" * (batch.views > 1)
    print(f"{batch.seconds:.0f} s of audio{views}, {parameters:,} parameters, {given.threads} threads, {device}")
    print(f"peak memory {peak_memory_mb(device):.0f} MB")


def time_step(trainer: Trainer, batch: Batch) -> tuple[float, float]:
    """Seconds of one step, by the clock and of the CPU."""
    started, cpu = time.perf_counter(), time.process_time()
    trainer.train_step([batch])
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started, time.process_time() - cpu


if __name__ == "__main__":
    main()
