"""The joiner on every node of the padded grid, materialised: readable, and as large as it gets."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Joiner = Callable[[Tensor, Tensor], Tensor]


def grid_logits(joiner: Joiner, encoder_out_BTD: Tensor, predictor_out_BUD: Tensor) -> Tensor:
    """Logits (B,T,U+1,V) of all pairs of a frame (B,T,D) and a label position (B,U+1,D).

    `joiner(rows_ND, rows_ND) -> logits_NV` sees one row per node.
    """
    batch, frames, _ = encoder_out_BTD.shape
    positions = predictor_out_BUD.shape[1]
    encoder_rows = encoder_out_BTD[:, :, None].expand(-1, -1, positions, -1).flatten(0, 2)
    predictor_rows = predictor_out_BUD[:, None].expand(-1, frames, -1, -1).flatten(0, 2)
    return joiner(encoder_rows, predictor_rows).view(batch, frames, positions, -1)
