"""Images inside a page: what the model hears, and how likely paths pass through each node of its lattice."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
import soundfile
from PIL import Image

from asr.data.features import SAMPLING_RATE, as_int16

LEVELS = 40  # of a spectrogram: more are not seen, and take more room
MOST_COLUMNS = 1600  # of a spectrogram
LOUDEST, QUIETEST = 99.5, 5.0  # percentiles of the features that the colours reach from and to
# Matplotlib's "magma" (van der Walt and Smith, CC0), from which the colours between are interpolated.
MAGMA = (0, 0, 4), (40, 17, 89), (114, 31, 129), (183, 55, 121), (241, 96, 93), (254, 175, 119), (252, 253, 191)
OCCUPIED = 58, 116, 214  # a blue that is seen on white and on black


def spectrogram(features_TF: np.ndarray) -> str:
    """Features, one column a frame, or a mean of several where they are many, as the URI of a PNG image."""
    together = -(-len(features_TF) // MOST_COLUMNS)
    means = [features_TF[n : n + together].mean(axis=0) for n in range(0, len(features_TF), together)]
    values = np.stack(means).T[::-1]
    low, high = np.percentile(values, [QUIETEST, LOUDEST])
    levels = ((values - low) / max(high - low, 1e-6)).clip(0, 1) * (LEVELS - 1)
    at = np.linspace(0, 1, len(MAGMA))
    palette = np.stack([np.interp(np.linspace(0, 1, LEVELS), at, channel) for channel in zip(*MAGMA)], axis=1)
    return png(levels.round(), palette.round())


def occupation(values_TU: np.ndarray) -> str:
    """Shares in [0, 1], a column a frame and the first label below, as an image that is the clearer the less."""
    palette = np.tile(OCCUPIED, (256, 1))
    return png((values_TU.T[::-1] * 255).round().clip(0, 255), palette, bytes(range(256)))


def png(levels_HW: np.ndarray, palette_L3: np.ndarray, opacity: bytes | None = None) -> str:
    """The URI of an image of numbered colours; opacity: of each of these."""
    image, file = Image.fromarray(levels_HW.astype(np.uint8)), BytesIO()
    image.putpalette(palette_L3.astype(np.uint8).tobytes())
    image.save(file, "PNG", optimize=True, **({"transparency": opacity} if opacity else {}))
    return uri("image/png", file.getvalue())


def flac(samples: np.ndarray) -> str:
    """The URI of a sound file of samples (N,) in [−1, 1] at 16 kHz, 16 bits each, which nothing is lost of."""
    file = BytesIO()
    soundfile.write(file, as_int16(samples), SAMPLING_RATE, format="FLAC")
    return uri("audio/flac", file.getvalue())


def uri(kind: str, content: bytes) -> str:
    """The content as part of a page."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
