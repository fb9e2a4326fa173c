"""Filterbank features: from a cut, or read back where they were computed before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from lhotse import Fbank, FbankConfig
from lhotse.cut import Cut
from lhotse.utils import compute_num_frames
from torch import Tensor

from asr.data.lhotse_audio import disagreement, install
from asr.errors import InputError

SAMPLING_RATE = 16000  # Hz, of what the filterbank reads; other audio is resampled
FRAME_SECONDS = 0.01
FRAME_SAMPLES = 160  # fewest samples that make a frame
OPPOSITE_POWER = 0.01  # of the mean of channels, against theirs, under which they are of opposite phase

install()


def make_fbank(mel_bins: int) -> Fbank:
    """Kaldi-compatible log-mel filterbank: 25 ms Povey window, 10 ms shift, 20–7600 Hz, no dither."""
    return Fbank(FbankConfig(sampling_rate=SAMPLING_RATE, num_filters=mel_bins))


def frame_count(cut: Cut) -> int:
    """Feature frames (10 ms) that a cut will have, known without reading it."""
    return int(cut.num_frames if cut.has_features else compute_num_frames(cut.duration, FRAME_SECONDS, SAMPLING_RATE))


def load_samples(cut: Cut) -> np.ndarray:
    """Samples (N,) in [−1, 1] at 16 kHz, as one channel.

    Raises InputError where audio is missing, unreadable, damaged, or not of the length that its manifest says; where it
    is not finite, or too short for a feature frame.
    """
    if not cut.has_recording:
        raise InputError("the cut has no audio: give a manifest that names its recording")
    try:
        samples = (cut if cut.sampling_rate == SAMPLING_RATE else cut.resample(SAMPLING_RATE)).load_audio()
    except Exception as error:  # every audio backend has its own exceptions
        raise InputError(f"unreadable audio ({disagreement(cut) or one_line(error)})") from error
    if 0 < samples.shape[-1] < FRAME_SAMPLES:
        raise InputError(f"{samples.shape[-1]} samples of audio, a feature frame needs {FRAME_SAMPLES}")
    return require_finite(mono(samples), "audio")


def mono(samples_CN: np.ndarray) -> np.ndarray:
    """The mean of the channels, (N,); where they cancel each other out, the first."""
    return samples_CN[0] if cancel_out(samples_CN) else samples_CN.mean(axis=0)


def cancel_out(samples_CN: np.ndarray) -> bool:
    """Whether the channels are of opposite phase, so that next to nothing is left of their mean."""
    if len(samples_CN) < 2 or not samples_CN.size:
        return False
    return bool(np.mean(samples_CN.mean(axis=0) ** 2) < OPPOSITE_POWER * np.mean(samples_CN**2))


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
    """The first line of an exception's message, and the next if it only announces that; with its type, if not ours."""
    lines = [line.strip()[:200] for line in str(error).strip().splitlines()] or [""]
    message = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return ": ".join(filter(None, ("" if isinstance(error, InputError) else type(error).__name__, message)))
