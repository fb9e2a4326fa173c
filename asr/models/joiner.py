"""The joiner: logits of a (frame, label) node."""

from __future__ import annotations

from torch import Tensor, nn

from asr.models.tanh import tanh


class Joiner(nn.Module):
    """tanh(encoder + predictor), then a linear map to K outputs: the vocabulary, and what else a set of arcs reads
    (`asr.arcs`), such as durations.

    Both inputs already have the joiner's width: their projections belong to the encoder's and the
    predictor's side, where they run once per frame and once per label instead of once per node.
    """

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.output = nn.Linear(dim, outputs)

    def forward(self, encoder_NJ: Tensor, predictor_NJ: Tensor) -> Tensor:
        """Rows (N,J) and (N,J) → logits (N,K); any other shapes that broadcast will do, too."""
        return self.output(tanh(encoder_NJ + predictor_NJ))

    def linear_after_tanh(self) -> nn.Linear:
        """The linear map; that there is this method lets kernels stand in for `forward` (`asr.ops.joint.reference`)."""
        return self.output
