"""Noise and rooms: augmentation of the samples of an utterance, every choice of which follows from a key."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lhotse import CutSet
from lhotse.audio.mixer import AudioMixer
from lhotse.augmentation.rir import ReverbWithImpulseResponse
from lhotse.augmentation.utils import FastRandomRIRGenerator
from lhotse.cut import Cut

from asr.config import DataOptions, NoiseOptions, RoomOptions
from asr.data.augment import keyed_random
from asr.data.features import SAMPLING_RATE, load_samples
from asr.data.manifest import open_cuts
from asr.errors import InputError


@dataclass(frozen=True)
class WaveAugmentation:
    """Puts an utterance into a room and adds noise, each with its probability.

    Lhotse's CutMix goes through the noises from cut to cut, so that what one gets depends on those before it; begun
    anew for each cut it would shuffle all the noises to take one. So the choice is ours, and the mixing Lhotse's.
    """

    noise: NoiseOptions
    rooms: RoomOptions
    noises: Sequence[Cut]
    seed: int

    def __call__(self, samples: np.ndarray, epoch: int, cut_id: str) -> np.ndarray:
        """An augmented copy of samples (N,) at 16 kHz; the same for the same seed, epoch and cut.

        Raises InputError where noise cannot be read.
        """
        rng = keyed_random("waves", self.seed, epoch, cut_id)
        if rng.random() < self.rooms.probability:
            samples = reverberated(samples, self.rooms.longest_t60, rng)
        if self.noises and rng.random() < self.noise.probability:
            noise = load_noise(rng.choice(self.noises), len(samples), rng)
            samples = mixed(samples, noise, rng.uniform(*self.noise.snr_db))
        return samples


def make_waves(options: DataOptions, seed: int) -> WaveAugmentation | None:
    """The augmentation that options ask for, None if none. Raises InputError for what cannot be."""
    noise, rooms = options.noise, options.rooms
    if len(noise.snr_db) != 2 or noise.snr_db[0] > noise.snr_db[1]:
        raise InputError(f"data.noise.snr_db={noise.snr_db}: give the lowest and the highest, as in [10,20]")
    if not noise.cuts and not rooms.probability:
        return None
    noises = list(open_cuts(noise.cuts, options.root)) if noise.cuts else []
    return WaveAugmentation(noise, rooms, noises, seed)


def require_audio(cuts: CutSet) -> None:
    """Raise InputError where the first cut has stored features, which noise and rooms cannot be put into."""
    first = next(iter(cuts), None)
    if first is not None and first.has_features:
        raise InputError(
            f"data.noise and data.rooms need audio, but {first.id} has stored features: train on the cuts without"
        )


def load_noise(noise: Cut, count: int, rng: random.Random) -> np.ndarray:
    """`count` samples at 16 kHz of a noise: of a random place in it, or repeated where it is too short."""
    seconds = count / SAMPLING_RATE
    if noise.duration > seconds:
        noise = noise.truncate(offset=rng.uniform(0, noise.duration - seconds), duration=seconds, preserve_id=True)
    try:
        return np.resize(load_samples(noise), count)
    except InputError as error:
        raise InputError(f"noise {noise.id}: {error}") from error


def mixed(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Samples (N,) plus noise (N,), which is scaled to lie `snr_db` decibels below them; silence stays silence."""
    mixer = AudioMixer(samples[None], SAMPLING_RATE)
    mixer.add_to_mix(noise[None], snr=snr_db)
    return mixer.mixed_audio[0]


def reverberated(samples: np.ndarray, longest_t60: float, rng: random.Random) -> np.ndarray:
    """Samples (N,) as heard in a random room, of the same length, power and onset (FRA-RIR, Luo and Yu 2022).

    Lhotse's generator draws from torch's global one beside its own two, so that its seeds alone decide nothing.
    """
    room_seed, source_seed, torch_seed = (rng.getrandbits(31) for _ in range(3))
    generator = FastRandomRIRGenerator(SAMPLING_RATE, max_T60=longest_t60, room_seed=room_seed, source_seed=source_seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed)
        return ReverbWithImpulseResponse(rir_generator=generator)(samples[None], SAMPLING_RATE)[0]
