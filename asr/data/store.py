"""Filterbanks that are computed once and stored."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from lhotse import Fbank, Features, NumpyFilesWriter
from lhotse.cut import Cut
from lhotse.cut.data import DataCut

from asr.data.batch import Skipped
from asr.data.features import SAMPLING_RATE, extract, load_samples, make_fbank, require_recording
from asr.errors import InputError
from asr.files import writing
from asr.frames import FRAME_SECONDS


@dataclass(frozen=True)
class Store:
    """Where the features of a manifest are: in `place`, a directory of their own; until all are, in `unfinished`.

    So another manifest may have the same storage, and the same ids; and the same command again replaces what it wrote.
    """

    place: Path

    @property
    def unfinished(self) -> Path:
        """Where they gather."""
        return self.place.with_name(f".{self.place.name}.unfinished")

    def write(self, cut: DataCut, samples: np.ndarray, features: np.ndarray, writer: NumpyFilesWriter) -> Cut:
        """Write the features (T,F) of a cut's samples (N,), in a file whose name follows from the cut's id."""
        described = Features(
            type=Fbank.name,
            num_frames=features.shape[0],
            num_features=features.shape[1],
            frame_shift=FRAME_SECONDS,
            sampling_rate=SAMPLING_RATE,
            start=cut.start,
            duration=round(len(samples) / SAMPLING_RATE, ndigits=8),
            storage_type=writer.name,
            storage_path=str(self.place),
            storage_key=writer.write(digest(cut.id), features),
            channels=cut.channel,
        )
        return replace(cut, features=described)


@dataclass(frozen=True)
class Task:
    """What a process does at a time."""

    cuts: list[Cut]
    factors: list[float]
    store: Store
    mel_bins: int


def store_chunk(task: Task) -> tuple[list[Cut], list[Skipped]]:
    """Store features of each cut at each speed; returns cuts with features, and what was unreadable."""
    torch.set_num_threads(1)
    fbank = make_fbank(task.mel_bins)
    stored, skipped = [], []
    with writing(task.store.unfinished), NumpyFilesWriter(str(task.store.unfinished)) as writer:
        for cut in task.cuts:
            try:
                computed = [compute(at_speed(cut, factor), fbank) for factor in task.factors]
            except InputError as error:
                skipped.append(Skipped(cut.id, str(error)))
            else:
                stored += [task.store.write(*one, writer) for one in computed]
    return stored, skipped


def compute(cut: DataCut, fbank: Fbank) -> tuple[DataCut, np.ndarray, np.ndarray]:
    """A cut with its samples (N,) and features (T,F). Raises InputError where they cannot be."""
    samples = load_samples(cut)
    return cut, samples, extract(fbank, samples)


def at_speed(cut: Cut, factor: float) -> DataCut:
    """The cut at another speed, and at the sampling rate of the features. Raises InputError where it cannot be."""
    require_recording(cut)
    if not isinstance(cut, DataCut):
        raise InputError(f"a {type(cut).__name__} cannot hold stored features: train on it without `asr features`")
    if cut.sampling_rate != SAMPLING_RATE:
        cut = cut.resample(SAMPLING_RATE)
    return cut if factor == 1 else cut.perturb_speed(factor)


def digest(text: str) -> str:
    """Letters and digits that follow from a text, fit for a file's name whatever the text is."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
