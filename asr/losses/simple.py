"""The simple joiner: an addition of projected encoder and predictor output, cheap enough for every node.

Kuang et al., "Pruned RNN-T for fast, memory-efficient ASR training", Interspeech 2022, sections 3.1 and 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from asr.nodes.base import valid_frames
from asr.ops.joint.reference import LossInputs
from asr.ops.packing import pack, unpack


class SimpleJoiner(nn.Module):
    """Logits am(t) + lm(u) of every node, of which only blank and the next label are ever held.

    Their normaliser is a product of matrices: Σ_v exp(am_v + lm_v) = exp(am − max) · exp(lm − max)ᵀ.

    lm_scale, am_scale: shares of the log-probabilities that are replaced by those of the predictor alone, and of
    the encoder with the average distribution of the predictor. They keep the sum from explaining everything by one.
    """

    def __init__(
        self, vocab_size: int, encoder_dim: int, predictor_dim: int, lm_scale: float = 0.0, am_scale: float = 0.0
    ) -> None:
        super().__init__()
        self.am, self.lm = nn.Linear(encoder_dim, vocab_size), nn.Linear(predictor_dim, vocab_size)
        self.lm_scale, self.am_scale = lm_scale, am_scale

    def forward(self, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        """Log-probability of blank (B,T,U+1) and of the next label (B,T,U+1; at U: of anything), at least float32."""
        with torch.autocast(inputs.encoder_out.device.type, enabled=False):
            am_BTV = projected(self.am, inputs.encoder_out, inputs.encoder_frames)
            lm_BUV = projected(self.lm, inputs.predictor_out, inputs.label_lengths + 1)
            return smoothed_arcs(am_BTV, lm_BUV, inputs, self.lm_scale, self.am_scale)


def projected(linear: nn.Linear, rows_BTD: Tensor, lengths_B: Tensor) -> Tensor:
    """The map of rows (B,T,V), zeros for padding, which may hold anything, even NaN, and often is half of the batch."""
    sizes = lengths_B.tolist()
    return unpack(linear(pack(rows_BTD, sizes).to(linear.weight.dtype)), sizes, rows_BTD.shape[1])


def zero_padding(rows_BTD: Tensor, lengths_B: Tensor) -> Tensor:
    """(B,T,D) with zeros from each utterance's length on."""
    used_BT = valid_frames(lengths_B.to(rows_BTD.device, non_blocking=True), rows_BTD.shape[1])
    return rows_BTD.where(used_BT[..., None], 0.0)


def smoothed_arcs(
    am_BTV: Tensor, lm_BUV: Tensor, inputs: LossInputs, lm_scale: float, am_scale: float
) -> tuple[Tensor, Tensor]:
    """The interpolated log-probabilities of `SimpleJoiner.forward`."""
    targets_BU = nn.functional.pad(inputs.labels.clamp(0, am_BTV.shape[2] - 1), (0, 1))
    joint = Normalised.apply(am_BTV, lm_BUV, targets_BU)  # type: ignore[no-untyped-call]
    blank, label = ((1 - lm_scale - am_scale) * arcs for arcs in joint)
    lm_log_probs = lm_BUV.log_softmax(2)
    if lm_scale:
        blank = blank + lm_scale * lm_log_probs[:, None, :, 0]
        label = label + lm_scale * lm_log_probs.gather(2, targets_BU[..., None])[:, None, :, 0]
    if am_scale:
        unigram = unigram_log_probs(lm_log_probs, inputs.label_lengths)
        average_BUV = unigram.expand(len(am_BTV), 1, -1).expand_as(lm_BUV)
        alone = Normalised.apply(am_BTV, average_BUV, targets_BU)  # type: ignore[no-untyped-call]
        blank, label = blank + am_scale * alone[0], label + am_scale * alone[1]
    return blank, label


class Normalised(torch.autograd.Function):
    """Log-probabilities of blank and of the targets (B,T,U+1) under softmax(am + lm).

    By hand, of what takes (B,T,V) there is no more than exp(am − max) until the backward, and there the gradient.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, am_BTV: Tensor, lm_BUV: Tensor, targets_BU: Tensor
    ) -> tuple[Tensor, Tensor]:
        am_max, lm_max = am_BTV.amax(2, keepdim=True), lm_BUV.amax(2, keepdim=True)
        am_exp, lm_exp = (am_BTV - am_max).exp_(), (lm_BUV - lm_max).exp_()
        product = am_exp @ lm_exp.transpose(1, 2)
        product += least(product.dtype)
        ctx.save_for_backward(am_exp, lm_exp, product, targets_BU)
        normaliser = product.log() + am_max + lm_max.transpose(1, 2)
        am_label = am_BTV.gather(2, targets_BU[:, None].expand(-1, am_BTV.shape[1], -1))
        lm_label = lm_BUV.gather(2, targets_BU[..., None]).transpose(1, 2)
        blank = am_BTV[:, :, :1] + lm_BUV[:, :, 0][:, None]
        return blank - normaliser, am_label + lm_label - normaliser

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        am_exp, lm_exp, product, targets_BU = ctx.saved_tensors  # type: ignore[attr-defined]
        by_blank, by_label = grads
        by_product = -(by_blank + by_label) / product
        am_grad, lm_grad = (by_product @ lm_exp).mul_(am_exp), (by_product.transpose(1, 2) @ am_exp).mul_(lm_exp)
        am_grad[:, :, 0] += by_blank.sum(2)
        lm_grad[:, :, 0] += by_blank.sum(1)
        am_grad.scatter_add_(2, targets_BU[:, None].expand(-1, am_grad.shape[1], -1), by_label)
        lm_grad.scatter_add_(2, targets_BU[..., None], by_label.sum(1)[..., None])
        return am_grad, lm_grad, None


def least(dtype: torch.dtype) -> float:
    """What keeps a sum of probabilities from being zero, and is far enough above the smallest number to be divided by.

    Where am and lm have their highest logits at different outputs, far above the others, the sum is next to nothing.
    """
    return float(torch.finfo(dtype).tiny ** 0.8)  # 5e-31 in float32


def unigram_log_probs(lm_log_probs_BUV: Tensor, label_lengths_B: Tensor) -> Tensor:
    """The mean distribution (V,) over the batch's valid label positions, as log-probabilities."""
    count = int((label_lengths_B + 1).sum())
    mean = zero_padding(lm_log_probs_BUV.exp(), label_lengths_B + 1).sum((0, 1)) / count
    return (mean + least(mean.dtype)).log()
