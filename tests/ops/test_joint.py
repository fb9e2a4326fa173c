"""Losses from packed nodes and streamed logits, against the whole grid and autograd."""

import copy
import math

import pytest
import torch

from asr.arcs.hat import hat_arcs
from asr.arcs.multi_blank import multi_blank_arcs
from asr.arcs.rules import ArcRules
from asr.arcs.standard import standard_arcs
from asr.arcs.tdt import tdt_arcs
from asr.losses import make
from asr.nodes.base import all_nodes
from asr.ops.joint.chunked import PackedSettings, evaluate, index_nodes, largest, packed_loss
from asr.ops.joint.reference import grid_logits
from asr.ops.lattice.paths import occupations

VOCAB, DIM = 5, 3


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
    settings = PackedSettings(chunk_nodes, 0.0, ArcRules(standard_arcs(topology)))
    loss, _, kept, _ = packed_loss(joiner, nodes, encoder_out, predictor_out, labels, settings)
    assert int(kept) == len(nodes) if topology == "regular" else 0 < int(kept) <= len(nodes)  # some no path reaches
    weights = torch.tensor([1.0, 3.0, -0.5], dtype=torch.double)
    return [loss, *torch.autograd.grad((loss * weights).sum(), [encoder_out, predictor_out, *joiner.parameters()])]


@pytest.mark.parametrize("topology", ["regular", "modified"])
@pytest.mark.parametrize("chunk_nodes", [0, 1, 7, 1000])
def test_streamed_loss_and_gradients_are_those_of_the_full_grid(inputs, chunk_nodes, topology):
    from asr.ops.lattice.reference import log_probability

    joiner, encoder_out, predictor_out, labels, frames, lengths = inputs
    log_probs = grid_logits(joiner, encoder_out, predictor_out).log_softmax(-1)
    targets = torch.nn.functional.pad(labels, (0, 1))[:, None, :, None].expand(-1, 5, -1, 1)
    weights = torch.stack((log_probs[..., 0], log_probs.gather(3, targets)[..., 0]))
    loss = -log_probability(weights, frames, lengths, standard_arcs(topology).moves)
    weights = torch.tensor([1.0, 3.0, -0.5], dtype=torch.double)
    leaves = [encoder_out, predictor_out, *joiner.parameters()]
    expected = [loss, *torch.autograd.grad((loss * weights).sum(), leaves)]
    for found, wanted in zip(streamed(inputs, chunk_nodes, topology), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)


def test_streamed_gradient_is_the_finite_difference(inputs):
    joiner, encoder_out, predictor_out, labels, frames, lengths = inputs
    nodes = all_nodes(frames, lengths)

    def loss(encoder_out, predictor_out):
        return packed_loss(joiner, nodes, encoder_out, predictor_out, labels, PackedSettings(4, 0.0, ArcRules()))[0]

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
    rows = encoder_out.float(), predictor_out.float()
    loss, *_ = packed_loss(joiner, all_nodes(frames, lengths), *rows, labels, PackedSettings(0, 0.0, ArcRules()))
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
        loss, *_ = packed_loss(joiner, all_nodes(frames, lengths), *leaves, labels, PackedSettings(0, 0.0, ArcRules()))
    loss.sum().backward()
    assert loss.dtype == torch.float32
    assert [logits.dtype for logits in seen] == [torch.bfloat16] * 2
    assert torch.equal(*seen)
    assert all(torch.isfinite(leaf.grad).all() and leaf.grad.any() for leaf in leaves)


RULES = [
    ArcRules(),
    ArcRules(standard_arcs("modified"), 0.5, 0.1),
    ArcRules(standard_arcs("constrained"), 0.2),
    ArcRules(hat_arcs("regular"), 0.1),
    ArcRules(hat_arcs("constrained")),
    ArcRules(multi_blank_arcs("regular", 3, [4, 2]), sigma=0.1),
    ArcRules(tdt_arcs("regular", 3, [1, 0])),
    ArcRules(tdt_arcs("modified", 3, [0, 1]), 0.3),
]


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_the_norm_of_a_nodes_gradient_is_known_without_its_logits(inputs, rules):
    joiner, encoder_out, predictor_out, labels, frames, lengths = inputs
    labels = labels % 2 + 1  # below V = 3 of those arcs that read further outputs
    nodes = all_nodes(frames, lengths)
    index = index_nodes(nodes, encoder_out.shape[1], labels)
    rows = encoder_out.flatten(0, 1), predictor_out.flatten(0, 1)
    log_probs = evaluate(joiner, rules.arcs, index, 0, *rows).detach()
    _, by_arc = occupations(nodes, rules.arcs.weights(log_probs), rules)
    by_choice = rules.arcs.by_choice(by_arc)
    logits = joiner(rows[0][index.encoder_row_N], rows[1][index.predictor_row_N])
    gradient = rules.arcs.gradient(logits, index.target_N, by_choice)
    found = rules.arcs.residuals(log_probs, by_choice, index.target_N > 0).abs().sum(0)
    torch.testing.assert_close(found, gradient.abs().sum(1), rtol=0, atol=1e-12)


def test_the_largest_nodes_cover_each_utterance():
    nodes = all_nodes(torch.tensor([2, 2]), torch.tensor([1, 1]))
    values = torch.tensor([5.0, 90.0, 3.0, 2.0, 0.0, 1e-3, 0.0, 1e-9])
    for tolerance, kept in ((0.0, [0, 1, 2, 3, 5, 7]), (0.05, [0, 1, 5]), (0.2, [1, 5])):
        assert largest(values, nodes, tolerance).nonzero()[:, 0].tolist() == kept


class ScaledJoiner(torch.nn.Module):
    """A sum of its inputs, with weights to learn."""

    def __init__(self, vocab_size):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1.0))
        self.output = torch.nn.Linear(vocab_size, vocab_size)
        torch.nn.init.eye_(self.output.weight)

    def forward(self, encoder_rows, predictor_rows):
        return self.output(self.scale * (encoder_rows + predictor_rows))


def learnt_inputs(vocab_size, frames, labels):
    """Inputs under which label u is nearly certain at frame 4u, and blank everywhere else."""
    generator = torch.Generator().manual_seed(0)
    encoder_out = torch.randn(1, frames, vocab_size, generator=generator)
    encoder_out[..., 0] += 8
    label_ids = torch.randint(1, vocab_size, (1, labels), generator=generator)
    encoder_out[0, 4 * torch.arange(labels), label_ids[0]] += 20
    predictor_out = torch.randn(1, labels + 1, vocab_size, generator=generator)
    return encoder_out.double(), predictor_out.double(), label_ids, torch.tensor([frames]), torch.tensor([labels])


@pytest.mark.parametrize("tolerance", [1e-3, 1e-2])
@pytest.mark.parametrize("learnt", [False, True])
def test_gradients_within_the_tolerance_from_few_nodes(learnt, tolerance):
    torch.manual_seed(0)
    vocab_size, joiner = 30, ScaledJoiner(30).double()
    encoder_out, predictor_out, labels, frames, lengths = learnt_inputs(vocab_size, 100, 20)
    if not learnt:
        encoder_out = torch.randn_like(encoder_out)
    leaves = [encoder_out.requires_grad_(), predictor_out.requires_grad_(), *joiner.parameters()]
    nodes = all_nodes(frames, lengths)

    def run(tolerance):
        settings = PackedSettings(64, tolerance, ArcRules())
        loss, _, kept, _ = packed_loss(joiner, nodes, encoder_out, predictor_out, labels, settings)
        return loss, torch.autograd.grad(loss.sum(), leaves), int(kept)

    exact_loss, exact, _ = run(0.0)
    loss, found, kept = run(tolerance)
    assert torch.equal(loss, exact_loss)
    errors = [float((a - b).norm() / b.norm()) for a, b in zip(found, exact)]
    assert max(errors) <= tolerance
    assert max(errors) > 0
    assert kept < (5 * 100 if learnt else 0.8 * len(nodes))


@pytest.mark.parametrize("learnt", [False, True])
def test_exact_gradients_leave_out_what_rounding_loses_and_no_more(learnt):
    torch.manual_seed(0)
    joiner = ScaledJoiner(30)
    encoder_out, predictor_out, labels, frames, lengths = learnt_inputs(30, 100, 20)
    rows = encoder_out if learnt else torch.randn_like(encoder_out), predictor_out
    nodes = all_nodes(frames, lengths)

    def run(dtype, loss):
        leaves = [values.to(dtype).requires_grad_() for values in rows]
        module = copy.deepcopy(joiner).to(dtype)
        total, kept = loss(module, *leaves)
        return torch.autograd.grad(total.sum(), [*leaves, *module.parameters()]), kept

    def streamed_loss(module, *leaves):
        return packed_loss(module, nodes, *leaves, labels, PackedSettings(64, 0.0, ArcRules()))[::2]

    def plain_loss(module, *leaves):
        settings = {"vocab_size": 30, "encoder_dim": 30, "predictor_dim": 30}
        out = make("full", **settings)(module, leaves[0], frames, leaves[1], labels, lengths)
        return out.per_utterance, None

    wanted, _ = run(torch.float64, plain_loss)
    plain, _ = run(torch.float32, plain_loss)
    found, kept = run(torch.float32, streamed_loss)
    for ours, theirs, exact in zip(found, plain, wanted, strict=True):
        assert float((ours - exact).norm()) <= 1.5 * float((theirs - exact).norm()) + 1e-7 * float(exact.norm())
    assert kept < (0.3 if learnt else 0.6) * len(nodes)
