"""Utterances end to end, without the padding between them."""

from __future__ import annotations

import torch
from torch import Tensor


def pack(x_BTD: Tensor, frames_B: Tensor) -> Tensor:
    """(B,T,D) → (1,N,D): the first frames of each utterance, as many as it has."""
    return torch.cat([x_TD[:frames] for x_TD, frames in zip(x_BTD.unbind(), frames_B.tolist())])[None]


def unpack(x_1ND: Tensor, frames_B: Tensor, frames: int) -> Tensor:
    """The opposite of `pack` (B,T,D), T = frames, with zeros as padding."""
    utterances = torch.split(x_1ND[0], frames_B.tolist())
    return torch.stack([torch.nn.functional.pad(x_TD, (0, 0, 0, frames - len(x_TD))) for x_TD in utterances])
