"""Augmentation whose every random choice follows from a key, never from hidden generator state.

The key names the run's seed, the epoch and the utterance, so a resumed run, or one with another number
of workers, draws the same.
"""

from __future__ import annotations

import hashlib
import random

import torch
from torch import Tensor

from asr.config import SpecAugmentOptions


def keyed_random(*key: object) -> random.Random:
    """A generator that depends on `key` alone, the same on every machine."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big"))


def spec_augment(features_TF: Tensor, options: SpecAugmentOptions, rng: random.Random) -> Tensor:
    """A copy of (T,F) with random bands of time and of frequency set to the utterance's mean.

    The number of time masks grows with the length of the utterance (Park et al., ICASSP 2020, section 3.1).
    """
    frames, bins = features_TF.shape
    masked = features_TF.clone()
    mean = features_TF.mean()
    for _ in range(options.frequency_masks):
        start, stop = draw_band(bins, options.frequency_mask_bins, rng)
        masked[:, start:stop] = mean
    longest = min(options.time_mask_frames, int(options.time_mask_share * frames))
    for _ in range(time_mask_count(options.time_masks, frames)):
        start, stop = draw_band(frames, longest, rng)
        masked[start:stop] = mean
    return masked


def time_mask_count(per_ten_seconds: int, frames: int) -> int:
    """Time masks of an utterance of `frames` feature frames: in proportion, but at least one if any."""
    return max(round(per_ten_seconds * frames / 1000), 1) if per_ten_seconds else 0


def draw_band(size: int, widest: int, rng: random.Random) -> tuple[int, int]:
    """Start and stop of a band inside [0, size), of a width drawn from 0 to `widest`."""
    width = rng.randint(0, min(widest, size))
    start = rng.randint(0, size - width)
    return start, start + width


def draw_speed(factors: list[float], rng: random.Random) -> float:
    """One of the speed factors, all equally likely."""
    return rng.choice(factors)


def seed_torch(*key: object) -> None:
    """Seed torch's global generators from `key`: dropout of a step then depends on the step alone."""
    torch.manual_seed(keyed_random(*key).getrandbits(63))
