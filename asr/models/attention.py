"""Multi-head self-attention with relative positions (Dai et al., ACL 2019, section 3.3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from asr.models.dropout import Dropout


def relative_positions(frames: int, dim: int, device: torch.device) -> Tensor:
    """Sinusoids (2T−1, D) of the distances T−1, …, 0, …, −(T−1) from query to key."""
    distance = torch.arange(frames - 1, -frames, -1, device=device, dtype=torch.float32)
    rate = torch.exp(torch.arange(0, dim, 2, device=device) * (-math.log(10000.0) / dim))
    angle = distance[:, None] * rate
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)[:, :dim]


def shift_to_keys(scores: Tensor) -> Tensor:
    """(…,T,2T−1) by distance → (…,T,T) by key: entry (i, j) is the score of distance i − j."""
    frames = scores.shape[-2]
    padded = nn.functional.pad(scores, (1, 0))
    skewed = padded.reshape(*scores.shape[:-2], 2 * frames, frames)[..., 1:, :]
    return skewed.reshape(scores.shape)[..., :frames]


class RelativeSelfAttention(nn.Module):
    """Attention whose scores are (q + u)·k + (q + v)·r(i − j), with learnt biases u and v per head."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, dim // heads
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.position = nn.Linear(dim, dim, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(heads, 1, self.head_dim))
        self.position_bias = nn.Parameter(torch.zeros(heads, 1, self.head_dim))
        self.output = nn.Linear(dim, dim)
        self.dropout = Dropout(dropout)

    def forward(self, x_BTD: Tensor, positions_PD: Tensor, mask_BTT: Tensor) -> Tensor:
        """Attend where `mask_BTT` is true; returns (B,T,D)."""
        batch, frames, dim = x_BTD.shape
        query, key, value = (
            self.query_key_value(x_BTD).view(batch, frames, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        )
        position = self.position(positions_PD).view(-1, self.heads, self.head_dim).permute(1, 2, 0)
        by_content = (query + self.content_bias) @ key.transpose(-1, -2)
        by_position = shift_to_keys((query + self.position_bias) @ position)
        scores = (by_content + by_position) / math.sqrt(self.head_dim)
        scores = scores.masked_fill(~mask_BTT[:, None], torch.finfo(scores.dtype).min)
        weights = self.dropout(torch.softmax(scores, dim=-1))
        return self.output((weights @ value).transpose(1, 2).reshape(batch, frames, dim))
