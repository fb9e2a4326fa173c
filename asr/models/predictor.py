"""Stateless predictor (Ghodsi et al., ICASSP 2020): an n-gram of embeddings instead of a recurrent network."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from asr.models.dropout import Dropout


class StatelessPredictor(nn.Module):
    """Embeds the last `context_size` labels and mixes them with a depthwise convolution.

    The context before the first label is [−1, …, −1, 0] (blank last); −1 has a zero embedding. This is
    the convention of the sherpa-onnx runtime.

    context_dropout hides the whole context of a label position in training, which keeps the model from
    learning the training transcripts by heart; made for topology=modified, where a label can be placed
    without knowing whether it has been said.
    """

    def __init__(self, vocab_size: int, dim: int, context_size: int, dropout: float, context_dropout: float) -> None:
        super().__init__()
        self.context_size = context_size
        self.embedding = nn.Embedding(vocab_size, dim)
        self.mix = nn.Conv1d(dim, dim, context_size, groups=dim, bias=False) if context_size > 1 else None
        self.dropout = Dropout(dropout)
        self.context_dropout = Dropout(context_dropout)

    def start(self, batch: int, device: torch.device) -> Tensor:
        """The context (B, context_size) before any label."""
        context = torch.full((batch, self.context_size), -1, dtype=torch.long, device=device)
        context[:, -1] = 0
        return context

    def forward(self, context_BC: Tensor) -> Tensor:
        """Labels (B, C ≥ context_size) → outputs (B, C − context_size + 1, D), one per full context."""
        embedded = self.embedding(context_BC.clamp(min=0)) * (context_BC >= 0)[..., None]
        if self.mix is not None:
            embedded = depthwise(embedded, self.mix.weight)
        known = self.context_dropout(torch.ones_like(embedded[..., :1]))
        return self.dropout(torch.relu(embedded)) * known

    def by_place(self) -> Tensor:
        """What each label adds to the sum before the rectifier, for each place in the context (C,V+1,D); the last row
        is that of −1. In evaluation mode, `forward` of one context is the rectified sum of its labels' rows.
        """
        rows_VD = torch.nn.functional.pad(self.embedding.weight, (0, 0, 0, 1))
        return rows_VD[None] if self.mix is None else rows_VD * self.mix.weight.permute(2, 1, 0)

    def positions(self, labels_BU: Tensor) -> Tensor:
        """Outputs (B,U+1,D) at every label position of known labels (B,U), as training needs them.

        Padding of `labels_BU` may hold any value of the vocabulary.
        """
        start = self.start(labels_BU.shape[0], labels_BU.device)
        return self(torch.cat((start, labels_BU), dim=1))


def depthwise(x_BTD: Tensor, weight_D1C: Tensor) -> Tensor:
    """Depthwise convolution over time, (B, T − C + 1, D), as a sum of C products: on a CPU much faster than a
    convolution whose kernel is this short.
    """
    size = x_BTD.shape[1] - weight_D1C.shape[2] + 1
    products = (x_BTD[:, k : k + size] * weight_D1C[:, 0, k] for k in range(weight_D1C.shape[2]))
    return functools.reduce(torch.add, products)
