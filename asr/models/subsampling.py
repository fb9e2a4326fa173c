"""Several frames become one: strided convolutions over time and frequency."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from asr.frames import FrameTiming
from asr.models.dropout import Dropout


def frame_timing(factor: int) -> FrameTiming:
    """How the frames of a `ConvSubsampling` lie in time; each convolution doubles what one more frame reads.

    2, 4, 8 and 16 frames become one, each of which depends on 3, 7, 15 and 31.
    """
    return FrameTiming(factor, 2 * factor - 1)


class ConvSubsampling(nn.Module):
    """3×3 convolutions of stride 2, each with ReLU, then a projection to the encoder's width.

    factor: frames that become one, a power of 2. The first of several convolutions has a quarter of `channels`: it runs
    at the highest rate, where channels cost most.

    No padding in time: an output frame depends on real input frames and on nothing else, so that an utterance's output
    cannot depend on the batch it is in.
    """

    def __init__(self, mel_bins: int, channels: int, dim: int, dropout: float, factor: int = 4) -> None:
        super().__init__()
        self.timing = frame_timing(factor)
        count = factor.bit_length() - 1
        sizes = [1, *([channels // 4] if count > 1 else []), *[channels] * max(count - 1, 1)]
        self.convolutions = nn.Sequential(
            *(part for size in pairwise(sizes) for part in (nn.Conv2d(*size, 3, stride=2), nn.ReLU()))
        )
        bins = self.timing.length(mel_bins)  # over frequency as over time
        self.project = nn.Linear(channels * bins, dim)
        self.dropout = Dropout(dropout)

    def forward(self, features_BTF: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """(B,T,F) and lengths (B,) → (B,T',D) and lengths after subsampling (B,)."""
        x = self.convolutions(features_BTF[:, None])
        x = x.permute(0, 2, 1, 3).flatten(2)
        return self.dropout(self.project(x)), self.timing.length(lengths_B)
