"""The times of words that silence separates: an aligner for recordings as simple as these."""

import numpy as np

FRAME_SECONDS = 0.01
SMOOTHING_FRAMES = 5
SHORTEST_WORD_FRAMES = 15
LONGEST_WORD_FRAMES = 65
SHORTEST_PAUSE_FRAMES = 8
THRESHOLDS = np.arange(0.03, 0.5, 0.01)  # of the loudness of speech, tried in this order


def word_times(samples: np.ndarray, rate: int, count: int) -> list[tuple[float, float]]:
    """Start and duration of each of `count` words, seconds; none where silence does not separate as many."""
    spoken = find_words(loudness(samples, rate), count)
    return [(round(a * FRAME_SECONDS, 2), round((b - a) * FRAME_SECONDS, 2)) for a, b in spoken]


def loudness(samples: np.ndarray, rate: int) -> np.ndarray:
    """Smoothed root mean square of frames of 10 ms, (n,)."""
    shift = round(rate * FRAME_SECONDS)
    frames = samples[: len(samples) // shift * shift].reshape(-1, shift).astype(float)
    return np.convolve(np.sqrt((frames**2).mean(axis=1)), np.ones(SMOOTHING_FRAMES) / SMOOTHING_FRAMES, "same")


def find_words(loudness: np.ndarray, count: int) -> list[tuple[int, int]]:
    """First and end frame of each of `count` words, by the lowest threshold that finds as many; else none."""
    for threshold in THRESHOLDS * np.quantile(loudness, 0.95):
        spoken = stretches(loudness > threshold)
        lengths = [end - begin for begin, end in spoken]
        if len(spoken) == count and max(lengths) <= LONGEST_WORD_FRAMES:
            return spoken
    return []


def stretches(loud: np.ndarray) -> list[tuple[int, int]]:
    """Begin and end of stretches of true values; short gaps are closed, then short stretches dropped."""
    edges = np.flatnonzero(np.diff(loud.astype(int), prepend=0, append=0)).tolist()
    merged: list[tuple[int, int]] = []
    for begin, end in zip(edges[::2], edges[1::2]):
        if merged and begin - merged[-1][1] < SHORTEST_PAUSE_FRAMES:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((begin, end))
    return [(begin, end) for begin, end in merged if end - begin >= SHORTEST_WORD_FRAMES]
