"""`asr features`: compute filterbanks once and write a manifest that points to them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from lhotse import CutSet, Fbank, NumpyFilesWriter
from lhotse.cut import Cut, MonoCut

from asr.config import FeaturesConfig
from asr.data.batch import Skipped
from asr.data.corpus import write_cuts
from asr.data.features import SAMPLING_RATE, load_samples, make_fbank
from asr.data.manifest import open_cuts
from asr.errors import InputError
from asr.files import require_writable
from asr.parallel import chunked, start_workers
from asr.progress import progress

CHUNK = 50  # cuts that a process takes at a time


def main(config: FeaturesConfig) -> None:
    """Compute, store, and write the new manifest. Unreadable utterances are named, counted and left out."""
    cuts = open_cuts([config.cuts])
    require_writable(Path(config.output))
    factors = [1.0, *(factor for factor in config.speed_factors if factor != 1.0)]
    done: list[Cut] = []
    skipped: list[Skipped] = []
    total = -(-sum(1 for _ in cuts) // CHUNK)
    storage = str(Path(config.storage).resolve())
    tasks = ((chunk, factors, storage, config.mel_bins) for chunk in chunked(cuts, CHUNK))
    with start_workers(config.jobs, config.scheduler) as workers:
        for stored, unreadable in progress(workers.map(store_chunk, tasks), total, "features", f"batches of {CHUNK}"):
            done += stored
            skipped += unreadable
    for utterance in skipped:
        print(f"skipped {utterance.id}: {utterance.reason}", file=sys.stderr)
    if not done:
        raise InputError(f"{config.cuts}: no utterance could be read")
    write_cuts(CutSet.from_cuts(done), Path(config.output))
    print(f"{config.output}: {len(done)} utterances with features, {len(skipped)} skipped")


def store_chunk(task: tuple[list[Cut], list[float], str, int]) -> tuple[list[Cut], list[Skipped]]:
    """Store features of each cut at each speed; returns cuts with features, and what was unreadable."""
    cuts, factors, storage, mel_bins = task
    torch.set_num_threads(1)
    fbank = make_fbank(mel_bins)
    stored, skipped = [], []
    with NumpyFilesWriter(storage) as writer:
        for cut in cuts:
            try:
                stored += [store(at_speed(cut, factor), fbank, writer) for factor in factors]
            except InputError as error:
                skipped.append(Skipped(cut.id, str(error)))
    return stored, skipped


def at_speed(cut: Cut, factor: float) -> Cut:
    """The cut at another speed, and at the sampling rate of the features."""
    if cut.sampling_rate != SAMPLING_RATE:
        cut = cut.resample(SAMPLING_RATE)
    return cut if factor == 1 else cut.perturb_speed(factor)


def store(cut: Cut, fbank: Fbank, writer: NumpyFilesWriter) -> Cut:
    """Compute and write the features of one cut. Raises InputError where they cannot be."""
    if not isinstance(cut, MonoCut):
        raise InputError(f"a {type(cut).__name__} cannot hold stored features: train on it without `asr features`")
    samples = load_samples(cut)
    described = fbank.extract_from_samples_and_store(samples[None], writer, SAMPLING_RATE, cut.start, cut.channel)
    return replace(cut, features=described)
