"""A set of arcs: what a node's outputs choose among, and which choices make an arc.

Heads read the K outputs z of a node. Each gives log-probabilities to C choices in all: blank, the next label, and what
else there is. An arc leads to (t+Δt, u+Δu), and its weight is the product of the choices that make it:

    log w_a = Σ_{c of a} log p_c

So the occupation of a choice is γ_c = Σ_{a with c} γ_a, and that of a head the sum γ_h over its choices; the gradient
of L = −log P keeps, head by head, the form that it has for one softmax (Li et al., ASRU 2019). Of a node nothing needs
to be kept but C numbers: from these and the occupations also follows the L1 norm of its gradient.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from asr.errors import InputError
from asr.nodes.base import Topology

NEXT_LABEL = -1  # stands for the column of the label that the node's label arcs emit
REST = -2  # stands for all columns of a softmax that are no other choice
BLANK, LABEL = 0, 1  # the first two arcs of every set: the shortest of blank and of the label


class Head(Protocol):
    """A distribution that some outputs of a node make, and the choices of it that arcs use.

    size: number of choices. given: the choice, of an earlier head, after which alone this one is made; None: always.
    """

    @property
    def size(self) -> int:
        """See above."""

    @property
    def given(self) -> int | None:
        """See above; the number is counted through all heads."""

    def with_rest(self, given: int | None) -> Head:
        """The same distribution with the rest for a last choice, unless there is none."""

    def log_probs(self, logits: Tensor, target: Tensor) -> list[Tensor]:
        """Log-probability of each choice (...,), at least float32, from logits (...,K) and targets (...,)."""

    def compared(self, logits: Tensor, target: Tensor) -> list[Tensor]:
        """The same but for a number that all arcs of a node share, where that takes less."""

    def by_label(self, logits: Tensor) -> tuple[Tensor | None, list[Tensor]]:
        """Log-probability of each label (...,V′) by its number, where one of the choices is the next label; and of each
        choice (...,), 0 of that one and of the rest.
        """

    def gradient(self, logits_NK: Tensor, target_N: Tensor, by_CN: Tensor) -> Tensor:
        """∂L/∂(the head's own outputs) (N,·) from the occupations of its choices."""

    def probabilities(self, log_probs: Tensor, has_label: Tensor) -> Tensor:
        """Of each choice (C,...), from its log-probability; 0 for the label where there is none."""

    def residuals(self, log_probs_CN: Tensor, by_CN: Tensor, has_label_N: Tensor) -> Tensor:
        """That gradient (·,N) without the logits: of each choice, and the sum of all others, which have one sign."""


@dataclass(frozen=True)
class Softmax:
    """p = softmax(z[begin:end]), of which arcs use `columns` (`NEXT_LABEL`: that of the target, by its own number).

    ∂L/∂z_k = γ_h·p_k − Σ_{choices c in column k} γ_c

    ‖∂L/∂z‖ = γ_h·(1 − Σ_c p_c) + Σ_c |γ_h·p_c − γ_c|

    `REST`, of p_r = Σ p_k over the columns k of no other choice, adds −γ_r·p_k/p_r to these.
    """

    columns: tuple[int, ...]
    begin: int = 0
    end: int | None = None
    given: int | None = None

    @property
    def size(self) -> int:
        """See `Head`."""
        return len(self.columns)

    @property
    def has_rest(self) -> bool:
        """Whether the last choice is the rest."""
        return self.columns[-1] == REST

    def with_rest(self, given: int | None) -> Softmax:
        """See `Head`."""
        outputs = None if self.end is None else self.end - self.begin
        complete = NEXT_LABEL not in self.columns and len(self.columns) == outputs
        return replace(self, columns=self.columns if complete else (*self.columns, REST), given=given)

    def log_probs(self, logits: Tensor, target: Tensor) -> list[Tensor]:
        """See `Head`."""
        log_probs = self.normalised(logits)
        choices = self.of_columns(log_probs, target)
        return [*choices, self.others(log_probs, target, -math.inf).logsumexp(-1)] if self.has_rest else choices

    def compared(self, logits: Tensor, target: Tensor) -> list[Tensor]:
        """See `Head`: the logits of a head that every arc has a choice of."""
        if self.given is not None or self.has_rest:
            return self.log_probs(logits, target)
        return self.of_columns(logits[..., self.begin : self.end], target)

    def of_columns(self, values: Tensor, target: Tensor) -> list[Tensor]:
        """Of the head's outputs (...,·) those of the choices (...,), the rest excepted."""
        if self.columns == tuple(range(values.shape[-1])):
            return list(values.unbind(-1))
        of_target = self.column_of(target)[..., None]
        return [
            values.gather(-1, of_target)[..., 0] if column == NEXT_LABEL else values[..., column]
            for column in self.columns
            if column != REST
        ]

    def by_label(self, logits: Tensor) -> tuple[Tensor | None, list[Tensor]]:
        """See `Head`."""
        log_probs = self.normalised(logits)
        nothing = torch.zeros_like(log_probs[..., 0])
        choices = [nothing if column in (NEXT_LABEL, REST) else log_probs[..., column] for column in self.columns]
        if NEXT_LABEL not in self.columns:
            return None, choices
        return torch.nn.functional.pad(log_probs, (self.begin, 0), value=-math.inf), choices

    def normalised(self, logits: Tensor) -> Tensor:
        """Log-probability of each of the head's outputs."""
        # log_softmax is on a CPU twice as fast as logsumexp.
        return logits[..., self.begin : self.end].log_softmax(dim=-1, dtype=at_least_float32(logits))

    def gradient(self, logits_NK: Tensor, target_N: Tensor, by_CN: Tensor) -> Tensor:
        """See `Head`."""
        dtype = at_least_float32(logits_NK)
        by_CN = by_CN.to(dtype)
        p = logits_NK[:, self.begin : self.end].softmax(dim=1, dtype=dtype)
        others = self.others(p, target_N, 0.0) if self.has_rest else None
        grad = p.mul_(by_CN.sum(0)[:, None])
        for column, by_N in zip(self.columns, by_CN):
            if column == NEXT_LABEL:
                grad.scatter_add_(1, self.column_of(target_N)[:, None], -by_N[:, None])
            elif column != REST:
                grad[:, column] -= by_N
            elif others is not None:
                grad -= others.mul_((by_N / others.sum(1).clamp(min=torch.finfo(dtype).tiny))[:, None])
        return grad.to(logits_NK.dtype)

    def probabilities(self, log_probs: Tensor, has_label: Tensor) -> Tensor:
        """See `Head`."""
        exists = torch.stack([has_label | (column != NEXT_LABEL) for column in self.columns])
        return log_probs.exp().where(exists, 0.0)

    def residuals(self, log_probs_CN: Tensor, by_CN: Tensor, has_label_N: Tensor) -> Tensor:
        """See `Head`."""
        p_CN, occupation_N = self.probabilities(log_probs_CN, has_label_N), by_CN.sum(0)
        others_N = occupation_N * (1 - p_CN.sum(0)).clamp(min=0)
        return torch.cat((occupation_N * p_CN - by_CN, others_N[None]))

    def column_of(self, target: Tensor) -> Tensor:
        """The target's place among the head's outputs; the first for a target that is none (0)."""
        return (target - self.begin).clamp(min=0) if self.begin else target

    def others(self, values: Tensor, target: Tensor, nothing: float) -> Tensor:
        """Values (...,K) of the head's outputs with `nothing` in those of choices other than the rest."""
        chosen = torch.zeros_like(values, dtype=torch.bool)
        if NEXT_LABEL in self.columns:
            chosen.scatter_(-1, self.column_of(target)[..., None], (target > 0)[..., None])
        for column in self.columns:
            if column >= 0:
                chosen[..., column] = True
        return values.masked_fill(chosen, nothing)


@dataclass(frozen=True)
class Sigmoid:
    """p = σ(z_column) of its first choice, 1 − p of its second.

    ∂L/∂z = γ_h·p − γ_first
    """

    column: int
    given: int | None = None

    @property
    def size(self) -> int:
        """See `Head`."""
        return 2

    def with_rest(self, given: int | None) -> Sigmoid:
        """See `Head`."""
        return replace(self, given=given)

    def log_probs(self, logits: Tensor, target: Tensor) -> list[Tensor]:
        """See `Head`."""
        z = logits[..., self.column].to(at_least_float32(logits))
        return [torch.nn.functional.logsigmoid(z), torch.nn.functional.logsigmoid(-z)]

    def compared(self, logits: Tensor, target: Tensor) -> list[Tensor]:
        """See `Head`."""
        return self.log_probs(logits, target)

    def by_label(self, logits: Tensor) -> tuple[Tensor | None, list[Tensor]]:
        """See `Head`."""
        return None, self.log_probs(logits, logits)

    def gradient(self, logits_NK: Tensor, target_N: Tensor, by_CN: Tensor) -> Tensor:
        """See `Head`."""
        z_N = logits_NK[:, self.column].to(at_least_float32(logits_NK))
        by_CN = by_CN.to(z_N.dtype)
        return (by_CN.sum(0) * z_N.sigmoid() - by_CN[0]).to(logits_NK.dtype)[:, None]

    def probabilities(self, log_probs: Tensor, has_label: Tensor) -> Tensor:
        """See `Head`."""
        return log_probs.exp()

    def residuals(self, log_probs_CN: Tensor, by_CN: Tensor, has_label_N: Tensor) -> Tensor:
        """See `Head`."""
        return (by_CN.sum(0) * log_probs_CN[0].exp() - by_CN[0])[None]


@dataclass(frozen=True)
class Arc:
    """An arc (t,u) → (t + frames, u + labels); `choices`: what makes it, counted through all heads."""

    frames: int
    labels: int
    choices: tuple[int, ...]


@dataclass(frozen=True)
class ArcSet:
    """All arcs that leave a node.

    heads: they read the outputs one after the other, and may leave the last ones unread. arcs: those of `BLANK` and
    `LABEL` first; at most one stays in its frame. topology: the one of whose arcs these are a superset, so that a node
    set with a path in it has one here. outputs: K, of the joiner; None: any. blanks: those of the outputs that a blank
    needs and no label.
    """

    name: str
    topology: Topology
    heads: tuple[Head, ...]
    arcs: tuple[Arc, ...]
    outputs: int | None = None
    blanks: tuple[int, ...] = (0,)

    @property
    def moves(self) -> tuple[tuple[int, int], ...]:
        """(Δt, Δu) of each arc."""
        return tuple((arc.frames, arc.labels) for arc in self.arcs)

    @property
    def emits_A(self) -> Tensor:
        """Whether each arc emits a label, (A,)."""
        return torch.tensor([arc.labels > 0 for arc in self.arcs])

    @property
    def each_one_choice(self) -> bool:
        """Whether each arc is the choice of its own number, and nothing else."""
        return all(arc.choices == (number,) for number, arc in enumerate(self.arcs))

    def with_rest(self) -> ArcSet:
        """The same arcs, of heads whose choices are all there is: with the rest of a softmax, which no arc uses."""
        heads: list[Head] = []
        moved: list[int] = []  # to which number each choice
        for head in self.heads:
            begin = sum(before.size for before in heads)
            heads.append(head.with_rest(None if head.given is None else moved[head.given]))
            moved += range(begin, begin + head.size)
        arcs = tuple(replace(arc, choices=tuple(moved[choice] for choice in arc.choices)) for arc in self.arcs)
        return replace(self, heads=tuple(heads), arcs=arcs)

    @property
    def one_softmax(self) -> bool:
        """Whether the only choices are blank and the next label, of one softmax over all outputs."""
        return self.heads == (Softmax((0, NEXT_LABEL), end=self.outputs),)

    def log_probs(self, logits: Tensor, target: Tensor) -> Tensor:
        """Log-probability of every choice (C,...) from logits (...,K) and the next label (...,), 0 where there is none.

        Raises InputError where the joiner has other outputs than these.
        """
        self.check_outputs(logits)
        return torch.stack([choice for head in self.heads for choice in head.log_probs(logits, target)])

    def compared(self, logits: Tensor, target: Tensor) -> Tensor:
        """What the likeliest arc can be told from by `weights`: `log_probs` (C,...) but for a number of each node."""
        self.check_outputs(logits)
        return torch.stack([choice for head in self.heads for choice in head.compared(logits, target)])

    def by_label(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability of every label (...,V′) by its number; 0 and what is beyond the vocabulary are none. And the
        log-weight of every arc (A,...) without that of its label. Raises as `log_probs`.
        """
        self.check_outputs(logits)
        rows, choices = zip(*(head.by_label(logits) for head in self.heads))
        (labels,) = (row for row in rows if row is not None)
        return labels, self.weights(torch.stack([choice for of_head in choices for choice in of_head]))

    def check_outputs(self, logits: Tensor) -> None:
        """Raise InputError where there are not as many logits as these arcs have outputs."""
        if self.outputs not in (None, logits.shape[-1]):
            raise InputError(
                f"loss.arcs.name={self.name}: the joiner has {logits.shape[-1]} outputs a node, and these arcs "
                f"{self.outputs}: was the model made for others?"
            )

    def weights(self, log_probs: Tensor) -> Tensor:
        """Log-weight of every arc (A,...) from those of the choices (C,...)."""
        if self.each_one_choice:
            return log_probs[: len(self.arcs)]
        first, *others = choices_by_arc(tuple(arc.choices for arc in self.arcs), log_probs.device)
        weights = log_probs.index_select(0, first[1])
        for arcs, choices in others:
            weights.index_add_(0, arcs, log_probs.index_select(0, choices))
        return weights

    def by_choice(self, by_AN: Tensor) -> Tensor:
        """Occupations of choices (C,N) from those of arcs."""
        choices = sum(head.size for head in self.heads)
        if self.each_one_choice and len(self.arcs) == choices:
            return by_AN
        by_CN = by_AN.new_zeros(choices, by_AN.shape[1])
        for arc, by_N in zip(self.arcs, by_AN):
            for choice in arc.choices:
                by_CN[choice] += by_N
        return by_CN

    def gradient(self, logits_NK: Tensor, target_N: Tensor, by_CN: Tensor) -> Tensor:
        """∂L/∂logits (N,K) from the occupations of choices; 0 for outputs that no head reads."""
        parts = [head.gradient(logits_NK, target_N, by) for head, by in zip(self.heads, self.by_head(by_CN))]
        grad = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        unread = logits_NK.shape[1] - grad.shape[1]
        return torch.nn.functional.pad(grad, (0, unread)) if unread else grad

    def residuals(self, log_probs_CN: Tensor, by_CN: Tensor, has_label_N: Tensor) -> Tensor:
        """`gradient` of every node (·,N) from what the forward kept; outputs that have one sign as their sum."""
        parts = zip(self.heads, self.by_head(log_probs_CN), self.by_head(by_CN))
        return torch.cat([head.residuals(kept, by, has_label_N) for head, kept, by in parts])

    def norms(self, log_probs_CN: Tensor, by_CN: Tensor, has_label_N: Tensor) -> Tensor:
        """L1 norm of `gradient` of every node (N,), from what the forward kept."""
        return self.residuals(log_probs_CN, by_CN, has_label_N).abs().sum(0)

    def by_head(self, values_CN: Tensor) -> Sequence[Tensor]:
        """Values of choices, those of each head."""
        return torch.split(values_CN, [head.size for head in self.heads])


@functools.cache
def choices_by_arc(choices_A: tuple[tuple[int, ...], ...], device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """The arcs that have a first choice, and which it is; then those that have a second one, and so on."""
    nth = itertools.zip_longest(*choices_A)
    pairs = [[(arc, choice) for arc, choice in enumerate(choices) if choice is not None] for choices in nth]
    with torch.inference_mode(False):  # or they could not be used in training afterwards
        columns = [torch.tensor(column).T.contiguous().to(device) for column in pairs]
        return [(arcs, choices) for arcs, choices in columns]


def at_least_float32(logits: Tensor) -> torch.dtype:
    """The dtype of what is computed from logits."""
    return torch.promote_types(logits.dtype, torch.float32)
