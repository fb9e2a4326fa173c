#!/usr/bin/env python3
"""How long a training step takes: forward, backward, clipping and optimiser, on one batch, without loading data.

By default a Conformer of 12 layers, d=256 (model=medium), V=500, the pruned loss, and 8 utterances of 102 s in all,
with 4 labels a second; features are random. Options after -- go to `asr train`: model=…, loss=…, train.compile=true.

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
from asr.train.loop import Trainer
from asr.train.task import compile_layers, make_task
from asr.train.window import peak_memory_mb

SECONDS = [9.0, 10.5, 12.0, 12.5, 13.0, 14.0, 15.0, 16.0]
LABELS_PER_SECOND = 4
FRAMES_PER_SECOND = 100


def make_batch(seconds: list[float], mel_bins: int, vocab_size: int) -> Batch:
    """Utterances of these lengths, of noise."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.tensor([round(length * FRAMES_PER_SECOND) for length in seconds])
    lengths = torch.tensor([round(length * LABELS_PER_SECOND) for length in seconds])
    shape = len(seconds), int(lengths.max())
    ids = [f"u{number}" for number in range(len(seconds))]
    return Batch(
        ids=ids,
        texts=ids,
        features=torch.randn(len(seconds), int(frames.max()), mel_bins, generator=generator),
        feature_frames=frames,
        labels=torch.randint(1, vocab_size, shape, generator=generator),
        label_lengths=lengths,
        seconds=sum(seconds),
        position=Position(0, 1),
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
    batch = make_batch(SECONDS, config.model.mel_bins, given.vocab_size)
    with tempfile.TemporaryDirectory() as directory:
        run = RunDirectory(Path(directory))
        trainer = Trainer(task, lambda _: iter(()), lambda _: {}, run, config.train, config.optim, device)
        with reproducible(device):  # as in training
            times = [time_step(trainer, batch) for _ in range(given.steps + 1)]
    parameters = sum(p.numel() for p in task.model.parameters())
    first, times = times[0], times[1:]
    print(f"{statistics.median(times):.2f} s/step, median of {min(times):.2f} to {max(times):.2f}; first {first:.2f} s")
    print(f"{sum(SECONDS):.0f} s of audio, {parameters:,} parameters, {given.threads} threads, {device}")
    print(f"peak memory {peak_memory_mb(device):.0f} MB")


def time_step(trainer: Trainer, batch: Batch) -> float:
    """Seconds of one step."""
    started = time.perf_counter()
    trainer.train_step([batch])
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
