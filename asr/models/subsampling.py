"""Four frames become one: two strided convolutions over time and frequency."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asr.models.dropout import Dropout

MIN_FRAMES = 7  # fewest input frames that leave one output frame
SUBSAMPLED_SECONDS = 0.04  # from one output frame to the next


def subsampled_length(frames: Tensor | int) -> Tensor | int:
    """Frames that are left of `frames` input frames (10 ms each); one output frame covers 40 ms."""
    return ((frames - 1) // 2 - 1) // 2


class ConvSubsampling(nn.Module):
    """Two 3×3 convolutions of stride 2, each with ReLU, then a projection to the encoder's width.

    The first has a quarter of `channels`: it runs at twice the rate, where channels cost most.

    No padding in time: an output frame depends on 7 real input frames and on nothing else, so that
    an utterance's output cannot depend on the batch it is in.
    """

    def __init__(self, mel_bins: int, channels: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, channels // 4, 3, stride=2),
            nn.ReLU(),
            nn.Conv2d(channels // 4, channels, 3, stride=2),
            nn.ReLU(),
        )
        bins = int(subsampled_length(mel_bins))
        self.project = nn.Linear(channels * bins, dim)
        self.dropout = Dropout(dropout)

    def forward(self, features_BTF: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """(B,T,F) and lengths (B,) → (B,T',D) and lengths after subsampling (B,)."""
        x = self.convolutions(features_BTF[:, None])
        x = x.permute(0, 2, 1, 3).flatten(2)
        return self.dropout(self.project(x)), torch.as_tensor(subsampled_length(lengths_B))
