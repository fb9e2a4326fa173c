"""Utterances end to end, without the padding between them."""

from __future__ import annotations

import torch
from torch import Tensor

WORTH = 200_000  # padded frames an utterance × dim² from which on packing pays: 5.4 frames of width 192, 22 of 96


def is_worth_it(sizes: list[int], dim: int) -> bool:
    """Whether layers of this width take less time for utterances one after the other than for all in their padding.

    A frame costs some multiple of dim² operations; an utterance by itself costs calls, whatever its length. The number
    is between batches of digits, which lose by it, and bucketed ones of read sentences, which gain. An utterance
    without frames needs its padding.
    """
    padding = len(sizes) * max(sizes) - sum(sizes)
    return min(sizes) > 0 and padding * dim**2 > WORTH * len(sizes)


def pack(x_BTD: Tensor, sizes: list[int]) -> Tensor:
    """(B,T,D) → (1,N,D): the first frames of each utterance, as many as it has."""
    return torch.cat([x_TD[:size] for x_TD, size in zip(x_BTD.unbind(), sizes)])[None]


def unpack(x_1ND: Tensor, sizes: list[int], frames: int) -> Tensor:
    """The opposite of `pack` (B,T,D), T = frames, with zeros as padding."""
    utterances = torch.split(x_1ND[0], sizes)
    return torch.stack([torch.nn.functional.pad(x_TD, (0, 0, 0, frames - len(x_TD))) for x_TD in utterances])
