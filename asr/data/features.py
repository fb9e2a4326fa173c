"""Filterbank features: from a cut, or read back where they were computed before."""

from __future__ import annotations

import math
from collections.abc import Callable
from io import BytesIO

import numpy as np
import soundfile
import torch
from lhotse import Fbank, FbankConfig, MonoCut, MultiCut, Recording
from lhotse.audio import AudioSource
from lhotse.cut import Cut, MixedCut, PaddingCut
from lhotse.utils import compute_num_frames
from torch import Tensor

from asr.data.held import require_files
from asr.data.lhotse_audio import as_sound, disagreement
from asr.data.sound import as_named, quiet
from asr.errors import InputError
from asr.frames import FRAME_SECONDS

SAMPLING_RATE = 16000  # Hz, of what the filterbank reads; other audio is resampled
FRAME_SAMPLES = round(FRAME_SECONDS * SAMPLING_RATE)  # fewest that make a frame
OPPOSITE_POWER = 0.01  # of the mean of channels, against theirs, under which they are of opposite phase
SOURCE_RATE = "source_sampling_rate"  # what transforms of Lhotse's that change the rate call that of their input

# What a value may be. Samples in [−1, 1] have log-mel energies of −16 (silence, floored) to 12 (a square wave of full
# scale). Samples of 16 bits that were taken for floats reach 32,768, and energies of 33; we allow four times as much,
# +12 dB, and for overshoot of a resampling. Below, stored features may have another floor than ours, but no float32
# but 0 has a logarithm of less than −103.
LARGEST_SAMPLE = 2.0**17
LEAST_FEATURE, LARGEST_FEATURE = -110.0, 40.0


def make_fbank(mel_bins: int) -> Fbank:
    """Kaldi-compatible log-mel filterbank: 25 ms Povey window, 10 ms shift, 20–7600 Hz, no dither."""
    return Fbank(FbankConfig(sampling_rate=SAMPLING_RATE, num_filters=mel_bins))


def frame_count(cut: Cut) -> int:
    """Feature frames (10 ms) that a cut will have, known without reading it."""
    return int(cut.num_frames if cut.has_features else compute_num_frames(cut.duration, FRAME_SECONDS, SAMPLING_RATE))


def load_samples(cut: Cut) -> np.ndarray:
    """Samples (N,) in [−1, 1] at 16 kHz, as one channel.

    Raises InputError where audio is missing, unreadable, damaged, or not of the length or the sampling rate that its
    manifest says; where it is not finite or absurd, or too short for a feature frame.
    """
    require_recording(cut)
    require_files(cut)
    check_rates(cut)
    try:
        with as_sound():
            samples = (cut if cut.sampling_rate == SAMPLING_RATE else cut.resample(SAMPLING_RATE)).load_audio()
    except Exception as error:  # every audio backend has its own exceptions
        raise InputError(f"unreadable audio ({disagreement(cut) or one_line(error)})") from error
    if 0 < samples.shape[-1] < FRAME_SAMPLES:
        raise InputError(f"{samples.shape[-1]} samples of audio, a feature frame needs {FRAME_SAMPLES}")
    return check_samples(mono(samples))


def mono(samples_CN: np.ndarray) -> np.ndarray:
    """The mean of the channels, (N,); where they cancel each other out, the first."""
    return samples_CN[0] if len(samples_CN) == 1 or cancel_out(samples_CN) else samples_CN.mean(axis=0)


def cancel_out(samples_CN: np.ndarray) -> bool:
    """Whether the channels are of opposite phase, so that next to nothing is left of their mean."""
    if len(samples_CN) < 2 or not samples_CN.size:
        return False
    return bool(np.mean(samples_CN.mean(axis=0) ** 2) < OPPOSITE_POWER * np.mean(samples_CN**2))


def require_recording(cut: Cut) -> None:
    """Raise InputError where a cut, or a part that it is mixed of, has no audio."""
    if not all(part.has_recording for part in heard_parts(cut)):
        raise InputError("the cut has no audio: give a manifest that names its recording")


def heard_parts(cut: Cut) -> list[MonoCut | MultiCut]:
    """The cuts that a cut is made of, without padding."""
    parts = [track.cut for track in cut.tracks] if isinstance(cut, MixedCut) else [cut]
    return [part for part in parts if not isinstance(part, PaddingCut)]


def check_rates(cut: Cut) -> None:
    """Raise InputError where an audio file has another sampling rate than the manifest says: Lhotse believes it."""
    for recording in (part.recording for part in heard_parts(cut)):
        said = declared_rate(recording)
        for source in recording.sources:
            rate = file_rate(source)
            if rate not in (None, said):
                raise InputError(f"the audio has {rate} samples a second, the manifest says {said}: prepare it again")


def declared_rate(recording: Recording) -> int:
    """The sampling rate (Hz) that a recording's files have by the manifest, before Lhotse resamples them."""
    rates = [getattr(transform, SOURCE_RATE, None) for transform in recording.transforms or []]
    return int(next((rate for rate in rates if rate is not None), recording.sampling_rate))


def file_rate(source: AudioSource) -> int | None:
    """The sampling rate (Hz) in the header of an audio file; None where it has none that counts, or cannot be read."""
    if source.type == "file" and not source.source.endswith(".opus"):  # which is decoded at whatever rate is asked for
        file = source.source
    elif source.type == "memory":
        file = BytesIO(source.source)
    else:
        return None  # a stream, which would be opened twice
    try:
        with quiet():
            return int(soundfile.info(as_named(file) if isinstance(file, str) else file).samplerate)
    except (soundfile.SoundFileError, OSError):
        return None


def as_int16(samples: np.ndarray) -> np.ndarray:
    """Samples in [−1, 1] as 16-bit integers."""
    return (samples.clip(-1, 1) * np.iinfo(np.int16).max).astype(np.int16)


def load_features(cut: Cut, fbank: Fbank, alter: Callable[[np.ndarray], np.ndarray] | None = None) -> Tensor:
    """Features (T,F) of a cut, stored ones where it has them; `alter` is applied to the samples (N,) before.

    Raises InputError where they cannot be read, are not finite or absurd, have another number of bins or
    frames, or cannot be altered.
    """
    if not cut.has_features:
        samples = load_samples(cut)
        return torch.from_numpy(extract(fbank, alter(samples) if alter else samples))
    if alter:
        raise InputError("noise and rooms need audio, but the cut has stored features: train on the cuts without")
    if cut.num_features != fbank.config.num_filters:
        raise InputError(
            f"stored features have {cut.num_features} bins, the model reads {fbank.config.num_filters}: "
            "compute them again with `asr features`"
        )
    if not math.isclose(cut.frame_shift, FRAME_SECONDS, rel_tol=1e-3):
        raise InputError(
            f"stored features have a frame every {1000 * cut.frame_shift:g} ms, the model reads one every "
            f"{1000 * FRAME_SECONDS:g} ms: compute them again with `asr features`"
        )
    return torch.from_numpy(read_stored(cut))


def read_stored(cut: Cut) -> np.ndarray:
    """The stored features (T,F) of a cut. Raises InputError where they cannot be read, are not finite or absurd."""
    require_files(cut)
    try:
        features = cut.load_features()
    except Exception as error:  # every storage type has its own exceptions
        raise InputError(f"unreadable features ({one_line(error)})") from error
    return check_features(features)


def extract(fbank: Fbank, samples: np.ndarray) -> np.ndarray:
    """Features (T,F) of samples (N,). Raises InputError where they are not finite, or absurd."""
    return check_features(fbank.extract(samples, SAMPLING_RATE))


def check_samples(samples: np.ndarray) -> np.ndarray:
    """`samples`, which are not empty and no larger than audio can be; raises InputError otherwise."""
    largest = float(np.abs(require_finite(samples, "audio")).max())
    if largest > LARGEST_SAMPLE:
        raise InputError(f"audio with a sample of {largest:.2g}, which should lie in [−1, 1]: restore or convert it")
    return samples


def check_features(features: np.ndarray) -> np.ndarray:
    """`features`, which are not empty and no larger or smaller than those of audio; raises InputError otherwise."""
    require_finite(features, "features")
    for value in (float(features.min()), float(features.max())):
        if not LEAST_FEATURE <= value <= LARGEST_FEATURE:
            raise InputError(
                f"features with a value of {value:.3g}: log-mel energies of audio lie in "
                f"{LEAST_FEATURE:g} to {LARGEST_FEATURE:g}"
            )
    return features


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
