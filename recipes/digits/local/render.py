"""One utterance of the digits corpus: from its plan to a FLAC file and its word times.

Apart from prepare.py so that worker processes can import it by name.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from espeak import Prosody, Speech, speak

from asr.data.corpus import write_flac

SAMPLING_RATE = 16000
_AUDIBLE = 0.01  # of the utterance's peak: below it is silence
_SILENCE_SECONDS = (0.1, 0.5)
_SNR_DB = (10.0, 40.0)
_PEAK_DB = (-20.0, -1.0)
_COLOURS = (0.0, 1.0, 2.0)  # white, pink, brown: power falls with the frequency to this power


@dataclass(frozen=True)
class Utterance:
    """What is spoken: ``words`` in a ``voice`` (espeak-ng's "accent+variant"); ``seed`` is the corpus'."""

    id: str
    words: tuple[str, ...]
    voice: str
    seed: int


@dataclass(frozen=True)
class WordTime:
    """A word's ``start`` and ``end`` in seconds from the beginning of the recording."""

    word: str
    start: float
    end: float


def render(utterance: Utterance, path: Path) -> list[WordTime]:
    """Speak ``utterance`` into 16 kHz FLAC at ``path``; the same bytes whatever was rendered before."""
    random = np.random.default_rng(_seed(utterance))
    text, prosody = " ".join(utterance.words).lower(), _prosody(random)
    speech = speak(text, utterance.voice, prosody, seed=int(random.integers(2**31)))
    before, after = (round(SAMPLING_RATE * random.uniform(*_SILENCE_SECONDS)) for _ in range(2))
    clean = np.pad(resample(speech.samples / 2**15, speech.sampling_rate), (before, after))
    write_flac(path, _degrade(clean, before, after, random), SAMPLING_RATE)
    return _word_times(utterance.words, speech, before / SAMPLING_RATE)


def render_task(task: tuple[Utterance, Path]) -> list[WordTime]:
    """`render` with its arguments as one pair, as a pool of processes hands them on."""
    return render(*task)


def resample(samples: np.ndarray, sampling_rate: int) -> np.ndarray:
    """``samples`` of shape (n,) at ``sampling_rate`` Hz, at 16 kHz: the spectrum is cut at 8 kHz."""
    divisor = np.gcd(sampling_rate, SAMPLING_RATE)
    block_in, block_out = sampling_rate // divisor, SAMPLING_RATE // divisor
    # A transform is quick if its length has small factors; what is added here is cut off again.
    blocks = -(-len(samples) // (64 * block_in)) * 64
    spectrum = np.fft.rfft(samples, blocks * block_in)[: blocks * block_out // 2 + 1]
    resampled = np.fft.irfft(spectrum, blocks * block_out) * block_out / block_in
    return resampled[: -(-len(samples) * block_out // block_in)]


def _seed(utterance: Utterance) -> int:
    digest = hashlib.sha256(f"{utterance.seed}/{utterance.id}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def _prosody(random: np.random.Generator) -> Prosody:
    return Prosody(
        rate=int(random.integers(110, 201)),
        pitch=int(random.integers(30, 71)),
        pitch_range=int(random.integers(20, 81)),
        word_gap=int(random.integers(0, 16)),
    )


def _degrade(clean: np.ndarray, before: int, after: int, random: np.random.Generator) -> np.ndarray:
    speech_power = np.mean(clean[before : len(clean) - after] ** 2)
    noisy = clean + _noise(len(clean), random) * np.sqrt(speech_power / _ratio(random.uniform(*_SNR_DB)))
    peak = np.sqrt(_ratio(random.uniform(*_PEAK_DB)))
    return np.round(noisy * (peak * (2**15 - 1) / np.abs(noisy).max())).astype(np.int16)


def _noise(length: int, random: np.random.Generator) -> np.ndarray:
    size = 1 << length.bit_length()
    frequency = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLING_RATE), 50.0)
    colours = [frequency**-colour for colour in _COLOURS]
    weights = random.dirichlet(np.ones(len(colours)))
    power = sum(weight * colour / colour.mean() for weight, colour in zip(weights, colours, strict=True))
    noise = np.fft.irfft(np.fft.rfft(random.standard_normal(size)) * np.sqrt(power))[:length]
    return noise / noise.std()


def _ratio(decibels: float) -> float:
    return 10 ** (decibels / 10)


def _word_times(words: tuple[str, ...], speech: Speech, before: float) -> list[WordTime]:
    level = np.abs(speech.samples.astype(np.int32))
    audible = np.flatnonzero(level > _AUDIBLE * level.max())
    starts = np.array(speech.word_starts)
    # A word ends with the last audible sample before the next one: gaps between words belong to none.
    ends = audible[np.searchsorted(audible, [*starts[1:], len(level)]) - 1] + 1
    seconds = np.round(before + np.stack([starts, ends], axis=1) / speech.sampling_rate, 4)
    return [WordTime(word, start, end) for word, (start, end) in zip(words, seconds.tolist(), strict=True)]
