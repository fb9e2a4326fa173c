"""Multi-head self-attention with relative positions (Dai et al., ACL 2019, section 3.3)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from asr.models.dropout import Dropout


def relative_positions(queries: int, keys: int, dim: int, device: torch.device) -> Tensor:
    """Sinusoids (P,D) of the distances from query to key: S−1, …, 0, …, −(T−1), where P = T + S − 1.

    The T queries are the last of the S keys.
    """
    distance = torch.arange(keys - 1, -queries, -1, device=device, dtype=torch.float32)
    rate = torch.exp(torch.arange(0, dim, 2, device=device) * (-math.log(10000.0) / dim))
    angle = distance[:, None] * rate
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)[:, :dim]


def shift_to_keys(scores: Tensor) -> Tensor:
    """(…,T,P) by distance → (…,T,S) by key, S = P − T + 1: entry (i, j) is the score of distance (S − T) + i − j."""
    queries, distances = scores.shape[-2:]
    scores = scores.contiguous()
    *outer, _, across = scores.stride()
    # One row down, one distance back: a view, where padding and reshaping would copy the largest tensor of a layer.
    strides = (*outer, distances - across, across)
    shape = (*scores.shape[:-1], distances - queries + 1)
    return scores.as_strided(shape, strides, scores.storage_offset() + queries - 1)


def hidden(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What hides the scores to which it is added: 0 where the mask is true, elsewhere half of the least number, which
    stays finite whatever is added, and whose exponential is an exact zero.
    """
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min / 2)


def within(mask_BTS: Tensor | None, size: int) -> Tensor | None:
    """The mask of the first `size` frames."""
    return None if mask_BTS is None else mask_BTS[:, :size, :size]


class RelativeSelfAttention(nn.Module):
    """Attention whose scores are (q + u)·k + (q + v)·r(i − j), with learnt biases u and v per head."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, dim // heads
        self.scale = self.head_dim**-0.5
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.position = nn.Linear(dim, dim, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(heads, 1, self.head_dim))
        self.position_bias = nn.Parameter(torch.zeros(heads, 1, self.head_dim))
        self.output = nn.Linear(dim, dim)
        self.dropout = Dropout(dropout)
        self.known_HDP: Tensor | None = None

    @torch.no_grad()
    def know_positions(self, frames: int) -> None:
        """Keep `project` of the distances of so many frames, for weights that change no more."""
        dim, device = self.position.in_features, self.position.weight.device
        self.known_HDP = self.project(relative_positions(frames, frames, dim, device)).contiguous()

    def _apply(self, *args: Any, **options: Any) -> RelativeSelfAttention:
        self.known_HDP = None  # on another device, or of another dtype, it is no longer that of the weights
        return super()._apply(*args, **options)  # type: ignore[no-any-return, no-untyped-call]

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        self.known_HDP = None
        super()._load_from_state_dict(*args, **options)

    def project(self, positions_PD: Tensor) -> Tensor:
        """What queries are multiplied by for their scores by distance (heads,D/heads,P)."""
        return self.position(positions_PD).view(-1, self.heads, self.head_dim).permute(1, 2, 0) * self.scale

    def knows(self, keys: int) -> bool:
        """Whether `project` of the distances of so many frames is kept, and may be used."""
        known = self.known_HDP
        return known is not None and keys <= known.shape[2] // 2 + 1 and not (self.training or torch.is_grad_enabled())

    def by_distance(self, positions_PD: Tensor | None, queries: int, keys: int) -> Tensor:
        """`project`; of positions that are not given, as it was kept."""
        if positions_PD is not None:
            return self.project(positions_PD)
        if self.known_HDP is None:
            raise ValueError("positions_PD may be None where `knows` says so")
        middle = self.known_HDP.shape[2] // 2
        return self.known_HDP[..., middle + 1 - keys : middle + queries]

    def forward(
        self,
        x_BTD: Tensor,
        memory_BSD: Tensor,
        positions_PD: Tensor | None,
        mask_BTS: Tensor | None,
        sizes: list[int] | None = None,
    ) -> Tensor:
        """Attend from `x_BTD` to `memory_BSD`, of which it is the end; returns (B,T,D).

        positions_PD: `relative_positions`, which may be None where `knows` says so. mask_BTS: true where it may look;
        None: everywhere. sizes: frames of the utterances that lie end to end in the one row that there is (`pack`),
        each of which attends to itself, with positions and mask of the longest; None: a row is an utterance.
        """
        frames = self.project_frames(x_BTD, memory_BSD)
        if sizes is None:
            position = self.by_distance(positions_PD, x_BTD.shape[1], memory_BSD.shape[1])
            return self.output(self.attend(*frames, position, mask_BTS, self.dropout))
        most = max(sizes)
        position = self.by_distance(positions_PD, most, most)
        drawn = self.dropout.draw((len(sizes), self.heads, most, most))
        attended = []
        for number, (size, *own) in enumerate(zip(sizes, *(torch.split(part, sizes, dim=1) for part in frames))):
            of_weights = None if drawn is None else drawn[number : number + 1, :, :size, :size]
            drop = functools.partial(self.dropout.keep, drawn=of_weights)
            distances = position[..., most - size : most + size - 1]
            attended.append(self.attend(own[0], own[1], own[2], distances, within(mask_BTS, size), drop))
        return self.output(torch.cat(attended, dim=1))

    def attend(
        self,
        query_BTD: Tensor,
        key_BSD: Tensor,
        value_BSD: Tensor,
        position_HDP: Tensor,
        mask_BTS: Tensor | None,
        drop: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """What each frame finds (B,T,D), from queries, keys and values, and what `by_distance` makes of distances."""
        query, key, value = map(self.by_head, (query_BTD, key_BSD, value_BSD))
        by_position = shift_to_keys((query + self.position_bias) @ position_HDP)
        if mask_BTS is not None:
            by_position = by_position + hidden(mask_BTS, by_position.dtype)[:, None]
        by_content = (query + self.content_bias).flatten(0, 1), key.flatten(0, 1).transpose(1, 2)
        scores = torch.baddbmm(by_position.flatten(0, 1), *by_content, alpha=self.scale).view_as(by_position)
        weights = drop(torch.softmax(scores, dim=-1))
        return (weights @ value).transpose(1, 2).flatten(2)

    def project_frames(self, x_BTD: Tensor, memory_BSD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B,T,D) of `x_BTD`, keys and values (B,S,D) of `memory_BSD`."""
        dim, weight, bias = x_BTD.shape[2], self.query_key_value.weight, self.query_key_value.bias
        if memory_BSD is x_BTD:
            query, key, value = nn.functional.linear(x_BTD, weight, bias).chunk(3, dim=2)
            return query, key, value
        query = nn.functional.linear(x_BTD, weight[:dim], bias[:dim])
        key, value = nn.functional.linear(memory_BSD, weight[dim:], bias[dim:]).chunk(2, dim=2)
        return query, key, value

    def by_head(self, x_BTD: Tensor) -> Tensor:
        """(B,T,D) → (B,heads,T,D/heads)."""
        return x_BTD.reshape(*x_BTD.shape[:2], self.heads, self.head_dim).transpose(1, 2)
