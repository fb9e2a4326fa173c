"""The joiner on every node of the padded grid, materialised: readable, and as large as it gets.

Also what a joiner is, and how one says that it is the standard one, so that kernels may stand in for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

Joiner = Callable[[Tensor, Tensor], Tensor]

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class LossInputs:
    """The arguments of `asr.losses.base.TransducerLoss.forward`, checked; the shapes are there.

    The frames of utterances, the lengths of their labels and the alignment are on the CPU, the rest where the model is.

    consistency: weight of the divergence between rows b and b + B/2, two views of an utterance; 0: there are no views.
    """

    joiner: Joiner
    encoder_out: Tensor
    encoder_frames: Tensor
    predictor_out: Tensor
    labels: Tensor
    label_lengths: Tensor
    alignment: Tensor | None = None
    consistency: float = 0.0


def linear_after_tanh(joiner: Joiner) -> nn.Linear | None:
    """The linear map of the standard joiner, linear(tanh(encoder row + predictor row)); None of any other joiner.

    A joiner says that it is the standard one by a method `linear_after_tanh() -> nn.Linear` in the class that has its
    `forward`: a subclass with a `forward` of its own does not inherit the promise. It is not taken at its word where
    more goes on than the map: other parameters, a map that is not plainly `nn.Linear` with a bias, hooks, or a
    `forward` in the place of a module's own.
    """
    owner = next((kind for kind in type(joiner).__mro__ if "forward" in vars(kind)), object)
    if not isinstance(joiner, nn.Module) or "linear_after_tanh" not in vars(owner):
        return None
    linear: nn.Linear = vars(owner)["linear_after_tanh"](joiner)
    plain = type(linear) is nn.Linear and list(map(id, joiner.parameters())) == [id(linear.weight), id(linear.bias)]
    hooked = any(getattr(module, hooks) for module in joiner.modules() for hooks in HOOKS)
    replaced = any("forward" in vars(module) for module in joiner.modules())
    return linear if plain and not hooked and not replaced else None


def grid_logits(joiner: Joiner, encoder_out_BTD: Tensor, predictor_out_BUD: Tensor) -> Tensor:
    """Logits (B,T,U+1,V) of all pairs of a frame (B,T,D) and a label position (B,U+1,D).

    `joiner(rows_ND, rows_ND) -> logits_NV` sees one row per node.
    """
    batch, frames, _ = encoder_out_BTD.shape
    positions = predictor_out_BUD.shape[1]
    encoder_rows = encoder_out_BTD[:, :, None].expand(-1, -1, positions, -1).flatten(0, 2)
    predictor_rows = predictor_out_BUD[:, None].expand(-1, frames, -1, -1).flatten(0, 2)
    return joiner(encoder_rows, predictor_rows).view(batch, frames, positions, -1)
