"""The joiner on every node of the padded grid, materialised: readable, and as large as it gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Joiner = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class LossInputs:
    """The arguments of `asr.losses.base.TransducerLoss.forward`, checked; the shapes are there."""

    joiner: Joiner
    encoder_out: Tensor
    encoder_frames: Tensor
    predictor_out: Tensor
    labels: Tensor
    label_lengths: Tensor
    alignment: Tensor | None = None


def grid_logits(joiner: Joiner, encoder_out_BTD: Tensor, predictor_out_BUD: Tensor) -> Tensor:
    """Logits (B,T,U+1,V) of all pairs of a frame (B,T,D) and a label position (B,U+1,D).

    `joiner(rows_ND, rows_ND) -> logits_NV` sees one row per node.
    """
    batch, frames, _ = encoder_out_BTD.shape
    positions = predictor_out_BUD.shape[1]
    encoder_rows = encoder_out_BTD[:, :, None].expand(-1, -1, positions, -1).flatten(0, 2)
    predictor_rows = predictor_out_BUD[:, None].expand(-1, frames, -1, -1).flatten(0, 2)
    return joiner(encoder_rows, predictor_rows).view(batch, frames, positions, -1)
