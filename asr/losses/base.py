"""The interface of every transducer loss."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from asr.arcs.rules import ArcRules
from asr.config import LossOptions
from asr.errors import InputError
from asr.losses.rules import make_rules, plain_rules
from asr.ops.joint.reference import Joiner, LossInputs


@dataclass
class LossOutput:
    """What a loss returns.

    per_utterance: (B,), nats, −log P(y|x) or a weighted sum of such and of others; differentiable.
    parts: the terms of the sum by name, each (B,), detached, without its weight: for logging.
    nodes: how many (frame, label) nodes the joiner was evaluated on. kept: on how many of them the backward
    evaluates the gradient. widened: utterances whose restricted nodes allowed no path, and were widened.
    unaligned: utterances that were not restricted, since their alignment is unknown.
    finite: whether the loss of each utterance is, (B,) on the CPU, where that is known already.
    """

    per_utterance: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    nodes: int = 0
    kept: int = 0
    widened: int = 0
    unaligned: int = 0
    finite: Tensor | None = None


class NotFiniteError(InputError):
    """The loss of an utterance is NaN or infinite. utterance: its place in the batch."""

    def __init__(self, utterance: int) -> None:
        super().__init__(f"utterance {utterance} of the batch: its loss is not finite: NaN or inf among its logits")
        self.utterance = utterance


@dataclass(frozen=True)
class LossSizes:
    """vocab_size: V, blank included; encoder_dim, predictor_dim: widths of the joiner's rows, None where not told."""

    vocab_size: int
    encoder_dim: int | None = None
    predictor_dim: int | None = None

    def widths(self, loss: str) -> tuple[int, int]:
        """Of the encoder's rows and of the predictor's. Raises InputError where `loss`, which needs them, has none."""
        if self.encoder_dim is None or self.predictor_dim is None:
            raise InputError(
                f"loss {loss} has parameters of its own: give it encoder_dim and predictor_dim, the D of encoder_out "
                "(B,T,D) and of predictor_out (B,U+1,D)"
            )
        return self.encoder_dim, self.predictor_dim


class TransducerLoss(nn.Module):
    """A transducer loss. Subclasses choose nodes and how the logits of those nodes are held; options choose the arcs.

    Parameters that a loss needs for itself (a simple joiner, say) are its own and train with the model.

    Topologies: `regular`, any number of labels a frame; `modified`, at most one; `constrained`, at most one and
    then a blank. A stateless predictor cannot tell "no" said twice from "no" said once in the regular topology,
    where both labels may come from the same frame with the same context; in the others the frame has moved on.
    """

    def __init__(self, sizes: LossSizes, options: LossOptions) -> None:
        super().__init__()
        self.sizes, self.options = sizes, options
        self.rules = make_rules(options, sizes.vocab_size)
        self.sigma, self.omega = (getattr(options.arcs, name, 0.0) for name in ("sigma", "omega"))
        self.plain_rules = plain_rules(self.rules, options.topology, self.omega) if self.omega else self.rules

    def forward(
        self,
        joiner: Joiner,
        encoder_out: Tensor,
        encoder_frames: Tensor,
        predictor_out: Tensor,
        labels: Tensor,
        label_lengths: Tensor,
        alignment: Tensor | None = None,
        views: int = 1,
    ) -> LossOutput:
        """Loss of a batch.

        joiner: (rows (N,D), rows (N,D)) → logits (N,K): V, and what else the arcs read.
        encoder_out: (B,T,D); encoder_frames: (B,), valid frames of each utterance, at least 1.
        predictor_out: (B,U+1,D), one row per label position.
        labels: (B,U), each in [1,V); label_lengths: (B,), may be 0. Blank is 0.
        alignment: (B,U), the frame of each label, negative where unknown; only alignment-restricted losses read it.
        views: 2 where rows b and b + B/2 are two views of one utterance, which `consistency` then draws together.
        Frames, labels, their lengths and the alignment are looked at by the CPU: on a GPU it waits for it, unless they
        are still on the CPU.
        Raises InputError, naming the utterance, where lengths or labels are impossible, and its subclass
        `NotFiniteError` where a loss is NaN or infinite.
        """
        check_shapes(encoder_out, encoder_frames, predictor_out, labels, label_lengths, alignment)
        device = encoder_out.device
        encoder_frames, label_lengths, seen, alignment = on_cpu(encoder_frames, label_lengths, labels, alignment)
        check_lengths(encoder_out, encoder_frames, predictor_out, label_lengths)
        check_labels(seen, label_lengths, self.sizes.vocab_size)
        consistency = self.consistency(views)
        if consistency:
            check_views(encoder_frames, seen, label_lengths)
        if self.rules.topology != "regular":
            too_many = label_lengths > encoder_frames
            what = f"labels, more than its frames: {self.options.labels_take_frames} needs a frame each"
            refuse_first(too_many, label_lengths, what)
        targets = labels.to(device, non_blocking=True), label_lengths, alignment
        inputs = LossInputs(joiner, encoder_out, encoder_frames, predictor_out, *targets, consistency)
        out = self.compute(inputs, self.drawn_rules())
        if consistency and "consistency" not in out.parts:
            raise InputError(f"loss.consistency={consistency:g}: loss {self.options.name} compares no views; use 0")
        check_finite(out)
        return out

    def consistency(self, views: int) -> float:
        """The weight of the divergence between so many views. Raises InputError where training lacks a second one."""
        if self.options.consistency and views == 1 and self.training and torch.is_grad_enabled():
            raise InputError(
                f"loss.consistency={self.options.consistency:g}: it compares two views of each utterance: give rows b "
                "and b + B/2 of the batch the same one, and views=2"
            )
        return self.options.consistency if views == 2 else 0.0

    def drawn_rules(self) -> ArcRules:
        """The rules for a batch: in training under-normalised, or in a share omega of batches those of plain RNN-T."""
        if not (self.training and torch.is_grad_enabled()):
            return self.rules
        if self.omega and float(torch.rand(())) < self.omega:
            return self.plain_rules
        return replace(self.rules, sigma=self.sigma)

    def compute(self, inputs: LossInputs, rules: ArcRules) -> LossOutput:
        """The loss of checked inputs."""
        raise NotImplementedError

    def backends(self, joiner: Joiner, device: torch.device) -> str:
        """What computes the loss of a joiner on a device, in words."""
        return "torch, all nodes at once"


def on_cpu(*counts: Tensor | None) -> list[Any]:
    """Tensors of whole numbers on the CPU; those that are elsewhere by one copy, which waits for the device once."""
    elsewhere = [values for values in counts if values is not None and values.device.type != "cpu"]
    if not elsewhere:
        return list(counts)
    sizes = [values.numel() for values in elsewhere]
    parts = iter(torch.split(torch.cat([values.flatten().long() for values in elsewhere]).cpu(), sizes))
    return [
        values if values is None or values.device.type == "cpu" else next(parts).view(values.shape) for values in counts
    ]


def check_shapes(
    encoder_out: Tensor,
    encoder_frames: Tensor,
    predictor_out: Tensor,
    labels: Tensor,
    label_lengths: Tensor,
    alignment: Tensor | None,
) -> None:
    """Raise InputError, naming the argument at fault, where something is no tensor of its shape."""
    check_tensor("encoder_out", encoder_out, "(B,T,D)")
    check_tensor("predictor_out", predictor_out, "(B,U+1,D)")
    check_counts("encoder_frames", encoder_frames, "(B,)", len(encoder_out))
    check_counts("labels", labels, "(B,U)", len(encoder_out))
    check_counts("label_lengths", label_lengths, "(B,)", len(encoder_out))
    if alignment is not None:
        check_counts("alignment", alignment, "(B,U)", len(encoder_out))
    batch, positions = len(encoder_out), labels.shape[1] + 1
    if predictor_out.shape[:2] != (batch, positions):
        raise InputError(
            f"predictor_out has shape {tuple(predictor_out.shape)}, but {batch} utterances with up to "
            f"{positions - 1} labels need ({batch}, {positions}, D)"
        )


def check_lengths(encoder_out: Tensor, encoder_frames: Tensor, predictor_out: Tensor, label_lengths: Tensor) -> None:
    """Raise InputError, naming the first utterance at fault, where shapes and lengths disagree."""
    frames, positions = encoder_out.shape[1], predictor_out.shape[1]
    refuse_first(
        (encoder_frames < 1) | (encoder_frames > frames), encoder_frames, f"frames, but encoder_out holds 1 to {frames}"
    )
    refuse_first(
        (label_lengths < 0) | (label_lengths >= positions),
        label_lengths,
        f"labels, but the label tensor holds 0 to {positions - 1}",
    )


def check_tensor(name: str, value: object, shape: str) -> Tensor:
    """The tensor that an argument is to be. Raises InputError where it is none, or has not as many dimensions."""
    if not isinstance(value, Tensor):
        raise InputError(f"{name} must be a tensor of shape {shape}, and is a {type(value).__name__}")
    if value.ndim != shape.count(",") + (not shape.endswith(",)")):
        raise InputError(f"{name} must have shape {shape}, and has {tuple(value.shape)}")
    return value


def check_counts(name: str, value: object, shape: str, batch: int) -> None:
    """Raise InputError where an argument is no tensor of whole numbers with a row for each utterance."""
    tensor = check_tensor(name, value, shape)
    if tensor.dtype.is_floating_point or tensor.dtype.is_complex or tensor.dtype == torch.bool:
        raise InputError(f"{name} must hold whole numbers, and is of {tensor.dtype}: give .long() of it")
    if len(tensor) != batch:
        raise InputError(f"{name} must have shape {shape}, for {batch} utterances, and has {tuple(tensor.shape)}")


def check_labels(labels: Tensor, label_lengths: Tensor, vocab_size: int) -> None:
    """Raise InputError, naming the first utterance at fault, where a label is blank or not in [0, V)."""
    used = torch.arange(labels.shape[1], device=labels.device) < label_lengths[:, None]
    wrong = used & ((labels < 1) | (labels >= vocab_size))
    if wrong.any():
        utterance, position = (int(i) for i in wrong.nonzero()[0])
        raise InputError(
            f"utterance {utterance} of the batch: label {position} is {int(labels[utterance, position])}, "
            f"but labels are 1 to {vocab_size - 1} (0 is blank): was another tokenizer used?"
        )


def check_views(encoder_frames: Tensor, labels: Tensor, label_lengths: Tensor) -> None:
    """Raise InputError, naming the first, where rows b and b + B/2 are not two views of one utterance."""
    if len(encoder_frames) % 2:
        raise InputError(f"a batch of {len(encoder_frames)} rows cannot hold two views of each utterance")
    padding = torch.arange(labels.shape[1], device=labels.device) >= label_lengths[:, None]
    seen = torch.cat((encoder_frames[:, None], label_lengths[:, None], labels.masked_fill(padding, 0)), dim=1)
    first, second = seen.chunk(2)
    differ = (first != second).any(1)
    if differ.any():
        row = int(differ.nonzero()[0])
        raise InputError(
            f"rows {row} and {row + len(differ)} of a batch are not two views of one utterance: frames or labels differ"
        )


def check_finite(out: LossOutput) -> None:
    """Raise NotFiniteError, naming the first utterance whose loss is NaN or infinite."""
    bad = ~(out.per_utterance.detach().isfinite() if out.finite is None else out.finite)
    if bad.any():
        raise NotFiniteError(int(bad.nonzero()[0]))


def refuse_first(wrong_B: Tensor, values_B: Tensor, what: str) -> None:
    """Raise InputError naming the first utterance where `wrong_B` is true."""
    if wrong_B.any():
        utterance = int(wrong_B.nonzero()[0])
        raise InputError(f"utterance {utterance} of the batch has {int(values_B[utterance])} {what}")
