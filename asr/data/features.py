"""Filterbank features: from a cut, or read back where they were computed before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from lhotse import Fbank, FbankConfig
from lhotse.cut import Cut
from lhotse.utils import compute_num_frames
from torch import Tensor

from asr.errors import InputError

SAMPLING_RATE = 16000  # Hz, of what the filterbank reads; other audio is resampled
FRAME_SECONDS = 0.01
FRAME_SAMPLES = 160  # fewest samples that make a frame


def make_fbank(mel_bins: int) -> Fbank:
    """Kaldi-compatible log-mel filterbank: 25 ms Povey window, 10 ms shift, 20–7600 Hz, no dither."""
    return Fbank(FbankConfig(sampling_rate=SAMPLING_RATE, num_filters=mel_bins))


def frame_count(cut: Cut) -> int:
    """Feature frames (10 ms) that a cut will have, known without reading it."""
    return int(cut.num_frames if cut.has_features else compute_num_frames(cut.duration, FRAME_SECONDS, SAMPLING_RATE))


def load_samples(cut: Cut) -> np.ndarray:
    """Samples (N,) in [−1, 1] at 16 kHz, channels averaged.

    Raises InputError where audio is missing, unreadable, not finite, or too short for a feature frame.
    """
    if not cut.has_recording:
        raise InputError("the cut has no audio: give a manifest that names its recording")
    if cut.sampling_rate != SAMPLING_RATE:
        cut = cut.resample(SAMPLING_RATE)
    try:
        samples = cut.load_audio()
    except Exception as error:  # every audio backend has its own exceptions
        raise InputError(f"unreadable audio ({one_line(error)})") from error
    if 0 < samples.shape[-1] < FRAME_SAMPLES:
        raise InputError(f"{samples.shape[-1]} samples of audio, a feature frame needs {FRAME_SAMPLES}")
    return require_finite(samples.mean(axis=0), "audio")


def as_int16(samples: np.ndarray) -> np.ndarray:
    """Samples in [−1, 1] as 16-bit integers."""
    return (samples.clip(-1, 1) * np.iinfo(np.int16).max).astype(np.int16)


def load_features(cut: Cut, fbank: Fbank, alter: Callable[[np.ndarray], np.ndarray] | None = None) -> Tensor:
    """Features (T,F) of a cut, stored ones where it has them; `alter` is applied to the samples (N,) before.

    Raises InputError where they cannot be read, are not finite, have another number of bins, or cannot be altered.
    """
    if not cut.has_features:
        samples = load_samples(cut)
        return torch.from_numpy(fbank.extract(alter(samples) if alter else samples, SAMPLING_RATE))
    if alter:
        raise InputError("noise and rooms need audio, but the cut has stored features: train on the cuts without")
    if cut.num_features != fbank.config.num_filters:
        raise InputError(
            f"stored features have {cut.num_features} bins, the model reads {fbank.config.num_filters}: "
            "compute them again with `asr features`"
        )
    try:
        features = cut.load_features()
    except Exception as error:  # every storage type has its own exceptions
        raise InputError(f"unreadable features ({one_line(error)})") from error
    return torch.from_numpy(require_finite(features, "features"))


def require_finite(values: np.ndarray, what: str) -> np.ndarray:
    """`values`, non-empty and without NaN or infinity; raises InputError otherwise."""
    if values.size == 0:
        raise InputError(f"empty {what}")
    if not np.isfinite(values).all():
        raise InputError(f"{what} with NaN or infinite values")
    return values


def one_line(error: BaseException) -> str:
    """The first line of an exception's message, with its type."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
