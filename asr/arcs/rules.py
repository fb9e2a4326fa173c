"""What changes the weight of arcs, for every set of arcs and of nodes alike.

constrained    label(t,u) := label(t,u) + blank(t,u+1) on the `modified` lattice: a label takes the blank of the
               node it passes through (k2's `rnnt_type="constrained"`).
delay penalty  label(t,u) := label(t,u) + λ·((T−1)/2 − t): early labels are better (Kang et al., ICASSP 2023).
FastEmit       the gradient of label arcs is 1 + λ times what it would be (Yu et al., ICASSP 2021, equation 9).
edges          a path may begin at any (t,0) and end at any (t,U), at a price for every frame that it leaves out: for
               transcripts that begin late or end early (Laptev et al., Interspeech 2023, the W-Transducer).
sigma          every arc := itself − σ, under-normalised: paths of few arcs, which skip frames, are better (Xu et al.,
               ICASSP 2023, section 3.3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from asr.arcs.base import BLANK, LABEL, ArcSet
from asr.arcs.standard import standard_arcs
from asr.nodes.base import Nodes, Topology

IMPOSSIBLE = -1e30  # stands for log 0: finite, so that gradients of unreachable nodes are 0 and not NaN


@dataclass(frozen=True)
class ArcRules:
    """What arcs there are, what their weights are changed by, and what sums over the paths.

    edges: price of a frame, nats; infinite where paths begin at (0,0) and end at (T,U) alone.
    backend: "auto" (triton on a GPU, numba elsewhere), "reference", "numba", "triton" or "k2".
    """

    arcs: ArcSet = field(default_factory=standard_arcs)
    fastemit: float = 0.0
    delay_penalty: float = 0.0
    sigma: float = 0.0
    edges: float = math.inf
    backend: str = "auto"

    @property
    def topology(self) -> Topology:
        """See `ArcSet`."""
        return self.arcs.topology

    def changed(self, nodes: Nodes, weights_AN: Tensor) -> Tensor:
        """The weights with which paths are summed up, from those that the joiner gives."""
        if self.sigma:
            weights_AN = weights_AN - self.sigma
        if self.delay_penalty:
            emits_A1 = self.arcs.emits_A.to(weights_AN)[:, None]
            weights_AN = weights_AN + self.delay_penalty * emits_A1 * earliness(nodes).to(weights_AN.dtype)
        if self.topology == "constrained":
            above = passed_through(nodes)
            forced = torch.nn.functional.pad(weights_AN[BLANK, 1:], (0, 1)).masked_fill(~above, IMPOSSIBLE)
            weights_AN = weights_AN.clone()
            weights_AN[LABEL] = torch.where(above, weights_AN[LABEL], 0.0) + forced
        return weights_AN

    def credited(self, by_AN: Tensor) -> Tensor:
        """Derivatives by the joiner's weights, from those by the changed ones."""
        if self.topology == "constrained":
            by_AN[BLANK, 1:] += by_AN[LABEL, :-1]
        if self.fastemit:
            by_AN = by_AN * (1 + self.fastemit * self.arcs.emits_A.to(by_AN)[:, None])
        return by_AN


def earliness(nodes: Nodes) -> Tensor:
    """(T_b−1)/2 − t of each node, (N,)."""
    utterance, frame, _ = nodes.coordinates()
    return (nodes.frames_B[utterance] - 1) / 2 - frame


def passed_through(nodes: Nodes) -> Tensor:
    """Whether node n + 1 is (t,u+1), the next position of node n's frame, (N,)."""
    above = torch.ones(len(nodes), dtype=torch.bool, device=nodes.first_R.device)
    above[nodes.node_offsets[1:] - 1] = False
    return above
