"""Nodes that matter, found ahead of the forward: what is left out is bounded, whatever the lattice is like."""

import functools
from types import SimpleNamespace

import pytest
import torch

from asr.losses import make

TOPOLOGIES = ["regular", "modified", "constrained"]
VOCAB, WIDTH = 20, 24


SIZES = {"vocab_size": VOCAB, "encoder_dim": WIDTH, "predictor_dim": WIDTH}
SKIPPING = {  # arcs, and how many outputs they read beyond the vocabulary
    "hat": ({"name": "hat"}, 0),
    "multi_blank": ({"name": "multi_blank", "big_blanks": [2, 4]}, 2),
    "tdt": ({"name": "tdt", "durations": [0, 1, 2, 3, 4], "sigma": 0.0}, 5),
    "tdt, no 0": ({"name": "tdt", "durations": [1, 3, 5], "sigma": 0.0}, 3),
}


class Logits(torch.nn.Module):
    """Logits are a linear map of the sum of both rows."""

    def __init__(self, extra=0):
        super().__init__()
        self.output = torch.nn.Linear(WIDTH, VOCAB + extra)

    def forward(self, encoder_rows, predictor_rows):
        return self.output(torch.tanh(encoder_rows + predictor_rows))


def learnt(topology, steps, seed=0, shapes=((60, 12), (35, 9), (3, 1)), arcs="standard", extra=0):
    """A joiner and inputs, trained together for some steps."""
    torch.manual_seed(seed)
    frames, lengths = torch.tensor(shapes).T
    joiner = Logits(extra).double()
    encoder_out = torch.randn(len(shapes), int(frames.max()), WIDTH).double().requires_grad_()
    predictor_out = torch.randn(len(shapes), int(lengths.max()) + 1, WIDTH).double().requires_grad_()
    labels = torch.randint(1, VOCAB, (len(shapes), int(lengths.max())))
    batch = {
        "encoder_out": encoder_out,
        "encoder_frames": frames,
        "predictor_out": predictor_out,
        "labels": labels,
        "label_lengths": lengths,
    }
    loss = make("optimized", **SIZES, topology=topology, arcs=arcs)
    optimizer = torch.optim.Adam([encoder_out, predictor_out, *joiner.parameters()], lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(joiner, **batch).per_utterance.sum().backward()
        optimizer.step()
    return joiner, batch


@pytest.fixture(scope="module")
def learnt_once():
    """A function that trains for some arcs, topology and steps, but only once."""

    @functools.cache
    def trained(arcs, topology, steps):
        arcs, extra = SKIPPING.get(arcs, (arcs, 0))
        return learnt(topology, steps, arcs=arcs, extra=extra)

    return trained


def run(joiner, batch, topology, tolerance, loss="optimized", views=1, **options):
    """The output and the gradients of encoder, predictor and joiner."""
    loss = make(loss, **SIZES, topology=topology, gradient_tolerance=tolerance, **options)
    out = loss(joiner, **batch, views=views)
    leaves = [batch["encoder_out"], batch["predictor_out"], *joiner.parameters()]
    return out, torch.autograd.grad(out.per_utterance.sum(), leaves)


def relative_errors(found, exact):
    return [float((a - b).norm() / b.norm()) for a, b in zip(found, exact)]


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("steps", [0, 5, 20, 60, 200])
def test_gradients_are_within_the_tolerance_at_every_stage_of_training(steps, topology):
    joiner, batch = learnt(topology, steps)
    exact_out, exact = run(joiner, batch, topology, 0.0)
    out, found = run(joiner, batch, topology, 1e-3)
    assert max(relative_errors(found, exact)) <= 1e-3
    torch.testing.assert_close(out.per_utterance, exact_out.per_utterance, rtol=1e-6, atol=1e-9)
    assert out.kept <= out.nodes <= exact_out.nodes


@pytest.mark.parametrize("topology", ["regular", "modified"])
@pytest.mark.parametrize("arcs", SKIPPING)
@pytest.mark.parametrize("steps", [0, 20, 200])
def test_gradients_of_all_arcs_are_within_the_tolerance(steps, arcs, topology):
    arcs, extra = SKIPPING[arcs]
    joiner, batch = learnt(topology, steps, arcs=arcs, extra=extra)
    exact_out, exact = run(joiner, batch, topology, 0.0, arcs=arcs)
    out, found = run(joiner, batch, topology, 1e-3, arcs=arcs)
    assert max(relative_errors(found, exact)) <= 1e-3
    torch.testing.assert_close(out.per_utterance, exact_out.per_utterance, rtol=1e-6, atol=1e-9)
    assert out.kept < exact_out.kept
    assert out.nodes <= exact_out.nodes
    if steps == 200 and arcs["name"] == "tdt":  # which is the surest of its path
        assert out.nodes < 0.85 * exact_out.nodes


@pytest.mark.parametrize("loss", ["ar", "pruned"])
@pytest.mark.parametrize("arcs", SKIPPING)
def test_gradients_on_few_nodes_are_within_the_tolerance(arcs, loss):
    arcs, extra = SKIPPING[arcs]
    joiner, batch = learnt("regular", 60, arcs=arcs, extra=extra)
    batch["alignment"] = (torch.arange(12) * 5).minimum(batch["encoder_frames"][:, None] - 1)
    options = {"bounds": "alignment"} if loss == "pruned" else {}
    exact_out, exact = run(joiner, batch, "regular", 0.0, loss, arcs=arcs, **options)
    out, found = run(joiner, batch, "regular", 1e-3, loss, arcs=arcs, **options)
    assert 0 < max(relative_errors(found, exact)) <= 1e-3
    assert out.kept < exact_out.kept
    assert out.nodes == exact_out.nodes


def in_two_views(batch, noise, masked):
    """Each utterance twice, with noise and a mask over other frames."""
    batch = {name: values.detach().repeat(2, *[1] * (values.dim() - 1)) for name, values in batch.items()}
    first, second = batch["encoder_out"].chunk(2)
    second += noise * torch.randn(second.shape, generator=torch.Generator().manual_seed(0)).double()
    second[:, 10 : 10 + masked], first[:, 30 : 30 + masked] = float(second.mean()), 0.0
    for rows in ("encoder_out", "predictor_out"):
        batch[rows].requires_grad_()
    return batch


@pytest.mark.parametrize("weight", [0.2, 1.0])
@pytest.mark.parametrize(("noise", "masked"), [(0.03, 0), (0.3, 0), (0.0, 8), (1.0, 6)])
@pytest.mark.parametrize(
    ("arcs", "topology", "steps"),
    [
        ("standard", "regular", 0),
        ("standard", "modified", 200),
        ("hat", "modified", 200),
        ("multi_blank", "modified", 60),
        ("tdt", "regular", 60),
        ("tdt, no 0", "regular", 200),
    ],
)
def test_gradients_of_views_that_are_drawn_together_are_within_the_tolerance(
    learnt_once, arcs, topology, steps, noise, masked, weight
):
    joiner, batch = learnt_once(arcs, topology, steps)
    batch, options = in_two_views(batch, noise, masked), {"arcs": SKIPPING.get(arcs, (arcs,))[0], "consistency": weight}
    exact_out, exact = run(joiner, batch, topology, 0.0, views=2, **options)
    out, found = run(joiner, batch, topology, 1e-3, views=2, **options)
    assert 0 < max(relative_errors(found, exact)) <= 1e-3
    torch.testing.assert_close(out.per_utterance, exact_out.per_utterance, rtol=1e-6, atol=1e-7)
    assert out.kept < out.nodes <= exact_out.nodes
    if (arcs, steps) == ("standard", 200):
        assert out.nodes < 0.95 * exact_out.nodes


def test_with_sigma_nothing_is_left_out_in_the_forward():
    """The loss of a path then grows with its length, and says no more how large gradients are."""
    arcs = {"name": "tdt", "sigma": 0.05}
    joiner, batch = learnt("regular", 200, arcs=arcs, extra=5)
    exact_out, exact = run(joiner, batch, "regular", 0.0, arcs=arcs)
    out, found = run(joiner, batch, "regular", 1e-3, arcs=arcs)
    assert out.nodes == exact_out.nodes
    assert out.kept < exact_out.kept
    assert max(relative_errors(found, exact)) <= 1e-3


def test_there_is_no_search_on_a_gpu():
    loss = make("optimized", vocab_size=VOCAB, encoder_dim=WIDTH, predictor_dim=WIDTH, gradient_tolerance=1e-3)
    on_gpu = SimpleNamespace(device=torch.device("cuda"))
    inputs = SimpleNamespace(
        encoder_out=on_gpu, encoder_frames=torch.tensor([5, 3]), label_lengths=torch.tensor([2, 0])
    )
    nodes, known = loss.choose_nodes(inputs, loss.rules)
    assert len(nodes) == 5 * 3 + 3
    assert known is None


class Sum(torch.nn.Module):
    """Logits are the sum of both rows, times a weight. evaluated: how many rows it was called with."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()).double())
        self.evaluated = 0

    def forward(self, encoder_rows, predictor_rows):
        self.evaluated += len(encoder_rows)
        return self.weight * (encoder_rows + predictor_rows)


def batch_of_logits(encoder_logits_TV, predictor_logits_UV, labels):
    """One utterance."""
    return {
        "encoder_out": encoder_logits_TV[None].double().requires_grad_(),
        "encoder_frames": torch.tensor([len(encoder_logits_TV)]),
        "predictor_out": predictor_logits_UV[None].double().requires_grad_(),
        "labels": torch.tensor(labels)[None],
        "label_lengths": torch.tensor([len(labels)]),
    }


def optimized(vocab_size, topology, **options):
    return make(
        "optimized",
        vocab_size=vocab_size,
        encoder_dim=vocab_size,
        predictor_dim=vocab_size,
        topology=topology,
        **options,
    )


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_peaked_lattice_needs_a_few_nodes_of_each_frame(topology):
    """Label u is nearly certain at frame 4u, once, and blank at all others."""
    frames, labels = 160, [1 + u % 19 for u in range(40)]
    encoder, predictor = torch.zeros(frames, VOCAB), torch.zeros(41, VOCAB)
    encoder[:, 0] = 10
    for u, label in enumerate(labels):
        encoder[4 * u, label] = 20
        predictor[u + 1, label] = -20
    joiner, batch = Sum(), batch_of_logits(encoder, predictor, labels)
    leaves = [batch["encoder_out"], batch["predictor_out"], joiner.weight]
    exact, out = (optimized(VOCAB, topology, gradient_tolerance=t)(joiner, **batch) for t in (0.0, 1e-3))
    assert out.nodes <= joiner.evaluated - exact.nodes <= 1.2 * out.nodes  # once: the search keeps what it has found
    gradients = [torch.autograd.grad(o.per_utterance.sum(), leaves) for o in (out, exact)]
    assert max(relative_errors(*gradients)) <= 1e-3
    torch.testing.assert_close(out.per_utterance, exact.per_utterance, rtol=1e-6, atol=1e-9)
    assert exact.nodes == 160 * 41
    assert out.nodes < 160 * 12


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_lattice_that_misleads_gets_all_its_nodes(topology):
    """All is nearly certain to be blank, but for an end that is out of reach by then."""
    frames, labels = 40, [1] * 10
    encoder = torch.full((frames, 3), -30.0)
    encoder[:, 0] = 30
    if topology == "regular":
        encoder[-1] = torch.tensor([-30.0, 30.0, -30.0])
    batch = batch_of_logits(encoder, torch.zeros(11, 3), labels)
    exact, out = (optimized(3, topology, gradient_tolerance=t)(Sum(), **batch) for t in (0.0, 1e-3))
    assert float(exact.per_utterance.detach()) >= 60
    assert out.nodes == exact.nodes == 40 * 11
    assert torch.equal(out.per_utterance, exact.per_utterance)


def test_padding_is_never_read_and_utterances_do_not_affect_each_other():
    joiner, batch = learnt("regular", 60)
    exact_out, exact = run(joiner, batch, "regular", 1e-3)
    with torch.no_grad():
        for b, (frames, labels) in enumerate(zip(batch["encoder_frames"].tolist(), batch["label_lengths"].tolist())):
            batch["encoder_out"][b, frames:], batch["predictor_out"][b, labels + 1 :] = torch.nan, torch.nan
            batch["labels"][b, labels:] = 10**6
    out, found = run(joiner, batch, "regular", 1e-3)
    assert out.nodes == exact_out.nodes
    assert max(relative_errors(found, exact)) <= 1e-12
    for b in range(3):
        alone, _ = run(joiner, {key: value[b : b + 1] for key, value in batch.items()}, "regular", 1e-3)
        torch.testing.assert_close(alone.per_utterance[0], exact_out.per_utterance[b], rtol=1e-6, atol=1e-9)


def test_a_delay_penalty_makes_weights_positive_so_nothing_is_left_out():
    batch = batch_of_logits(torch.eye(3)[:1].repeat(50, 1) * 20, torch.zeros(4, 3), [1, 2, 1])
    out = optimized(3, "modified", gradient_tolerance=1e-3, delay_penalty=0.01)(Sum(), **batch)
    assert out.nodes == 50 * 4
