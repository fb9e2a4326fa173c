#!/usr/bin/env python3
"""Train on hostile batches under a memory limit, and check that none needs more.

Fits the prediction of `asr.data.memory` to a few small batches of noise, then draws batches as a corpus at its worst
would have them: one long utterance among many short ones, nothing but the longest, hundreds of the shortest, labels as
dense as frames allow. Each is divided as training divides it, and the peak memory of every step, resident on a CPU,
allocated on a GPU, is compared with the limit. Options after -- go to `asr train`.

    python scripts/check_memory.py --batches 200 --extra-mb 400 -- model=debug loss=full
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from asr.cli.compose import compose
from asr.data.batch import Batch
from asr.data.memory import BatchSize, MemoryLimit, fit_weights
from asr.device import choose_device
from asr.errors import InputError
from asr.frames import FRAME_SECONDS, FrameTiming
from asr.runs.directory import RunDirectory, silent_logger
from asr.train.distributed import ALONE
from asr.train.loop import Trainer
from asr.train.precision import settle_precision
from asr.train.preflight import measure_peak_mb, noise_batch, probe_sizes
from asr.train.task import make_task

LONGEST = 20.0  # seconds


@dataclass(frozen=True)
class Utterance:
    """What a limit needs to know of a cut."""

    id: str
    duration: float
    labels: int

    @property
    def feature_frames(self) -> int:
        """Of its features, and enough for some of any encoder."""
        return max(round(self.duration / FRAME_SECONDS), 20)


@dataclass(frozen=True)
class Measure:
    """The size that utterances are padded to."""

    timing: FrameTiming

    def __call__(self, utterances: Sequence[Utterance]) -> BatchSize:
        """Of the longest."""
        frames = max(self.timing.length(one.feature_frames) for one in utterances)
        return BatchSize(len(utterances), frames, max(one.labels for one in utterances))


def hostile(draw: random.Random) -> list[Utterance]:
    """More utterances than may fit, of the worst mixtures."""
    kind = draw.randrange(4)
    if kind == 0:
        lengths = [LONGEST] + [draw.uniform(0.2, 1.0)] * draw.randint(1, 100)
    elif kind == 1:
        lengths = [draw.uniform(0.9, 1.0) * LONGEST for _ in range(draw.randint(1, 10))]
    elif kind == 2:
        lengths = [draw.uniform(0.2, 0.6) for _ in range(draw.randint(50, 400))]
    else:
        lengths = [draw.uniform(0.2, LONGEST) for _ in range(draw.randint(1, 30))]
    density = draw.choice([1.0, 5.0, 10.0])  # labels a second, of at most 12.5 that CTC can emit where all are equal
    return [Utterance(f"u{i}", length, max(int(length * density), 1)) for i, length in enumerate(lengths)]


def noise(utterances: Sequence[Utterance], mel_bins: int, vocab_size: int, timing: FrameTiming) -> Batch:
    """A padded batch of noise with these lengths."""
    batch = noise_batch(Measure(timing)(utterances), mel_bins, vocab_size, timing)
    lengths = torch.tensor([one.feature_frames for one in utterances])
    batch.feature_frames = lengths.clamp(max=batch.features.shape[1])
    batch.label_lengths = torch.tensor([u.labels for u in utterances])
    return batch


def main() -> None:
    """Read the options, and check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--extra-mb", type=float, default=400, help="the limit, beyond what the process itself needs")
    parser.add_argument("--vocab-size", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("options", nargs="*", help="options of `asr train`, after --")
    given = parser.parse_args()
    config = compose("train", ["run=check", *given.options])
    device = choose_device(config.train.device)
    torch.manual_seed(0)
    task = make_task(config, given.vocab_size).to(device)
    of_model = config.model.mel_bins, given.vocab_size, task.model.timing
    measure = Measure(task.model.timing)
    silent_logger()
    with tempfile.TemporaryDirectory() as directory:
        run = RunDirectory(Path(directory))
        if told := settle_precision(config, run, device, ALONE):
            print(told)
        trainer = Trainer(task, lambda _: iter(()), lambda _: {}, run, config.train, config.optim, device)

        def peak(batch: Batch) -> float:
            return measure_peak_mb(lambda: trainer.train_step([batch]), device)

        longest = Utterance("longest", LONGEST, int(10 * LONGEST))
        probes = probe_sizes([measure([longest] * 2)])
        peak(noise_batch(probes[0], *of_model))
        weights = fit_weights(probes, [peak(noise_batch(size, *of_model)) for size in probes])
        limit = MemoryLimit(measure, weights, weights[0] + given.extra_mb)
        if not limit.fits([longest]):
            raise InputError(f"one utterance needs {limit.needed_mb([longest]):.0f} MB: give a larger --extra-mb")
        draw, errors, highest, batches = random.Random(given.seed), [], 0.0, 0
        while batches < given.batches:
            for utterances in limit.split(hostile(draw)):
                found = peak(noise(utterances, *of_model))
                errors.append(limit.needed_mb(utterances) / found - 1)
                highest, batches = max(highest, found), batches + 1
    print(f"{batches} batches: peak {highest:.0f} MB, limit {limit.max_mb:.0f} MB")
    print(f"predicted against measured: {min(errors):+.1%} to {max(errors):+.1%}")
    if highest > limit.max_mb:
        raise SystemExit("a batch needed more than the limit")


if __name__ == "__main__":
    main()
