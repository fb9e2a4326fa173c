"""Lattices over node sets, and losses from packed nodes, against all paths one by one."""

import math
import random
from itertools import pairwise

import numpy as np
import pytest
import torch
from lattice_paths import paths

from asr.nodes.base import all_nodes, make_nodes
from asr.ops.joint.chunked import packed_loss
from asr.ops.joint.reference import grid_logits
from asr.ops.lattice.cpu import forward_backward

VOCAB, DIM = 5, 3


def random_nodes(draw, frames, labels, topology):
    """Random intervals that have a complete path: bounds of a random path, widened."""
    path = [(t, u) for _, t, u in draw.choice(list(paths(frames, labels, topology)))]
    path += [(frames - 1, labels), *((t, u) for (t, _), (_, u) in pairwise(path))]  # rows share a position
    first, last = [], []
    for t in range(frames):
        positions = [u for frame, u in path if frame == t]
        first.append(max(min(positions) - draw.randint(0, 2), 0))
        last.append(min(max(positions) + draw.randint(0, 2), labels))
    return first, [high - low + 1 for low, high in zip(first, last)]


def sum_inside(blank, label, first, count, topology):
    """log P and occupations over the paths of which every node is in the set."""
    inside = {(t, u) for t in range(len(first)) for u in range(first[t], first[t] + count[t])}
    arcs = {"blank": blank, "label": label}
    chosen = [p for p in paths(*label.shape, topology) if all((t, u) in inside for _, t, u in p)]
    scores = [math.fsum(float(arcs[kind][t, u]) for kind, t, u in path) for path in chosen]
    log_p = max(scores) + math.log(math.fsum(math.exp(s - max(scores)) for s in scores))
    occupations = {kind: np.zeros(values.shape) for kind, values in arcs.items()}
    for path, score in zip(chosen, scores):
        for kind, t, u in path:
            occupations[kind][t, u] += math.exp(score - log_p)
    return log_p, occupations


@pytest.mark.parametrize("topology", ["regular", "modified"])
@pytest.mark.parametrize("seed", range(60))
def test_forward_backward_is_the_sum_over_paths_inside_the_set(seed, topology):
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    sizes = [(frames := draw.randint(1, 5), draw.randint(0, min(frames, 4))) for _ in range(3)]
    sets = [random_nodes(draw, *size, topology) for size in sizes]
    nodes = make_nodes(
        torch.tensor([frames for frames, _ in sizes]),
        torch.tensor([labels for _, labels in sizes]),
        torch.tensor([value for first, _ in sets for value in first]),
        torch.tensor([value for _, count in sets for value in count]),
    )
    arcs = [(rng.normal(-1, 2, (frames, labels + 1)), rng.normal(-1, 2, (frames, labels))) for frames, labels in sizes]
    b, t, u = (axis.tolist() for axis in nodes.coordinates())
    blank = torch.tensor([arcs[i][0][j, k] for i, j, k in zip(b, t, u)])
    label = torch.tensor([arcs[i][1][j, k] if k < sizes[i][1] else math.nan for i, j, k in zip(b, t, u)])
    total, by_blank, by_label = forward_backward(nodes, blank, label, topology)
    for i in range(3):
        log_p, occupations = sum_inside(*arcs[i], *sets[i], topology)
        assert float(total[i]) == pytest.approx(log_p, abs=1e-10)
        for n in (n for n in range(len(nodes)) if b[n] == i):
            assert float(by_blank[n]) == pytest.approx(occupations["blank"][t[n], u[n]], abs=1e-10)
            emitted = occupations["label"][t[n], u[n]] if u[n] < sizes[i][1] else 0.0
            assert float(by_label[n]) == pytest.approx(emitted, abs=1e-10)


class ProductJoiner(torch.nn.Module):
    """Not the usual sum: a joiner may be any module."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(2 * DIM, 4), torch.nn.Linear(4, VOCAB)

    def forward(self, encoder_rows, predictor_rows):
        rows = torch.cat((encoder_rows * predictor_rows, predictor_rows), dim=1)
        return self.second(torch.sigmoid(self.first(rows)))


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    joiner = ProductJoiner().double()
    encoder_out = torch.randn(3, 5, DIM, dtype=torch.double, requires_grad=True)
    predictor_out = torch.randn(3, 4, DIM, dtype=torch.double, requires_grad=True)
    labels = torch.randint(1, VOCAB, (3, 3))
    return joiner, encoder_out, predictor_out, labels, torch.tensor([5, 2, 3]), torch.tensor([3, 0, 2])


def streamed(inputs, chunk_nodes, topology="regular"):
    """Loss and gradients of a weighted sum, so that the utterances' gradients differ."""
    joiner, encoder_out, predictor_out, labels, frames, lengths = inputs
    nodes = all_nodes(frames, lengths)
    loss = packed_loss(joiner, nodes, encoder_out, predictor_out, labels, forward_backward, chunk_nodes, topology)
    weights = torch.tensor([1.0, 3.0, -0.5], dtype=torch.double)
    return [loss, *torch.autograd.grad((loss * weights).sum(), [encoder_out, predictor_out, *joiner.parameters()])]


@pytest.mark.parametrize("topology", ["regular", "modified"])
@pytest.mark.parametrize("chunk_nodes", [0, 1, 7, 1000])
def test_streamed_loss_and_gradients_are_those_of_the_full_grid(inputs, chunk_nodes, topology):
    from asr.losses.full import arc_log_probs
    from asr.ops.lattice.reference import log_probability

    joiner, encoder_out, predictor_out, labels, frames, lengths = inputs
    blank, label = arc_log_probs(grid_logits(joiner, encoder_out, predictor_out), labels)
    loss = -log_probability(blank, label, frames, lengths, topology)
    weights = torch.tensor([1.0, 3.0, -0.5], dtype=torch.double)
    leaves = [encoder_out, predictor_out, *joiner.parameters()]
    expected = [loss, *torch.autograd.grad((loss * weights).sum(), leaves)]
    for found, wanted in zip(streamed(inputs, chunk_nodes, topology), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)


def test_streamed_gradient_is_the_finite_difference(inputs):
    joiner, encoder_out, predictor_out, labels, frames, lengths = inputs
    nodes = all_nodes(frames, lengths)

    def loss(encoder_out, predictor_out):
        return packed_loss(joiner, nodes, encoder_out, predictor_out, labels, forward_backward, 4)

    assert torch.autograd.gradcheck(loss, (encoder_out, predictor_out))


def test_padding_is_never_read(inputs):
    expected = streamed(inputs, 4)
    _, encoder_out, predictor_out, labels, frames, lengths = inputs
    with torch.no_grad():
        for b in range(3):
            encoder_out[b, frames[b] :] = math.nan
            predictor_out[b, lengths[b] + 1 :] = math.nan
            labels[b, lengths[b] :] = 10**6
    for found, wanted in zip(streamed(inputs, 4), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


class FrozenJoiner(torch.nn.Module):
    """Without anything to train, but for a parameter that is never used."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(2))

    def forward(self, encoder_rows, predictor_rows):
        return torch.tanh(encoder_rows + predictor_rows) @ torch.ones(DIM, VOCAB)


def test_a_joiner_with_an_unused_parameter_and_float32(inputs):
    _, encoder_out, predictor_out, labels, frames, lengths = inputs
    joiner = FrozenJoiner()
    loss = packed_loss(
        joiner,
        all_nodes(frames, lengths),
        encoder_out.float(),
        predictor_out.float(),
        labels,
        forward_backward,
        0,
    )
    assert loss.dtype == torch.float32
    loss.sum().backward()
    assert torch.equal(joiner.unused.grad, torch.zeros(2))
    assert encoder_out.grad.any()


def test_half_precision_of_the_caller_holds_in_the_backward(inputs):
    """Under autocast the joiner's second evaluation must give the logits of the first."""
    joiner, encoder_out, predictor_out, labels, frames, lengths = inputs
    joiner.float()
    seen = []
    joiner.second.register_forward_hook(lambda module, given, logits: seen.append(logits.detach()))
    with torch.autocast("cpu", torch.bfloat16):
        leaves = [encoder_out.bfloat16().detach().requires_grad_(), predictor_out.bfloat16().detach().requires_grad_()]
        loss = packed_loss(joiner, all_nodes(frames, lengths), *leaves, labels, forward_backward, 0)
    loss.sum().backward()
    assert loss.dtype == torch.float32
    assert [logits.dtype for logits in seen] == [torch.bfloat16] * 2
    assert torch.equal(*seen)
    assert all(torch.isfinite(leaf.grad).all() and leaf.grad.any() for leaf in leaves)
