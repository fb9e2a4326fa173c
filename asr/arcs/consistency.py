"""Consistency of two views of an utterance: a node's choices are drawn to those of the same node in the other view.

    D = Σ_n Σ_heads γ'_h(n) · Σ_c q_c·log(q_c / p_c)

with the probabilities p_c of a head's choices in one view and q_c in the other, which is taken as it is, and γ'_h, how
often the other's paths come to this head: the occupation of the node there, times q of the choice after which alone
the head is asked. It is how far the arcs that leave a node differ, where the paths of the other view pass. The paths
of a transcript use some of a head's choices alone; with the rest (`ArcSet.with_rest`) they are all there is.

−∂D/∂log p_c = γ'_h·q_c, which stands beside the occupations γ_c = −∂L/∂log p_c as if paths made choice c so much more
often: the merged gradient (`asr.arcs.base`) and its norm follow without the logits.

After CR-CTC (Yao et al., ICLR 2025: both views drawn to each other, each held fixed in its turn) and Transducer
Consistency Regularization (Tseng et al., arXiv 2410.07491: weighted by occupation).
"""

from __future__ import annotations

import torch
from torch import Tensor

from asr.arcs.base import ArcSet


def choices_made(arcs: ArcSet, log_probs: Tensor, occupation: Tensor, has_label: Tensor) -> Tensor:
    """How often each choice (C,...) is made at nodes of some occupation (...): γ_h·p_c.

    arcs: with the rest. log_probs: of the choices (C,...). has_label: whether a node has a next label (...).
    """
    made: list[Tensor] = []
    for head, of_head in zip(arcs.heads, arcs.by_head(log_probs)):
        asked = occupation if head.given is None else made[head.given]
        made.extend((asked * head.probabilities(of_head, has_label)).unbind())
    return torch.stack(made)


def divergence(made: Tensor, log_probs: Tensor, other_log_probs: Tensor) -> Tensor:
    """D of each node (...), nats, differentiable by log p_c.

    made: γ'_h·q_c of each choice (C,...); log_probs, other_log_probs: log p_c and log q_c.
    """
    terms = made * (other_log_probs - log_probs)
    return terms.where(made > 0, 0.0).sum(0)


def other_view(values: Tensor, dim: int) -> Tensor:
    """What the other view has: the second half of a dimension for the first, and the first for the second."""
    return values.roll(values.shape[dim] // 2, dim)
