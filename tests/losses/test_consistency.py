"""Two views of an utterance: their divergence written out node by node, its gradient, and what it leaves as it is."""

import pytest
import torch
from arc_cases import (
    ARCS,
    CASES,
    DIM,
    NODES,
    V,
    chosen_nodes,
    make_joiner,
    make_loss,
    path_sums,
    with_gradients,
    written_out,
)

from asr.arcs.consistency import choices_made, other_view
from asr.config import FullLossOptions
from asr.errors import InputError
from asr.losses import LossOutput, TransducerLoss, make
from asr.losses.base import LossSizes
from asr.models.joiner import Joiner
from asr.nodes.base import all_nodes
from asr.ops.joint.chunked import evaluate, index_nodes
from asr.ops.lattice.paths import occupations

WEIGHT = 0.3


@pytest.fixture
def batch():
    """Three utterances, the second with a label a frame, the third with none; two views of each."""
    generator = torch.Generator().manual_seed(0)

    def rows(*shape):
        return torch.randn(6, *shape, DIM, generator=generator, dtype=torch.float64).requires_grad_()

    return {
        "encoder_out": rows(4),
        "encoder_frames": torch.tensor([4, 2, 3] * 2),
        "predictor_out": rows(4),
        "labels": torch.randint(1, V, (3, 3), generator=generator).repeat(2, 1),
        "label_lengths": torch.tensor([3, 2, 0] * 2),
        "alignment": torch.tensor([[0, 1, 3], [0, 1, 0], [0, 0, 0]] * 2),
    }


def softmax_divergence(z, other, columns):
    """Of the probabilities of these columns, and of all others together."""
    p, q = z.softmax(0), other.softmax(0)
    p, q = (torch.cat((values[columns], 1 - values[columns].sum(0, keepdim=True))) for values in (p, q))
    return (q * (q / p).log()).sum()


def node_divergence(arcs, z, other, y):
    """From the logits of a node and the next label, 0 if it has none."""
    label = [y] if y else []
    if arcs["name"] == "hat":
        blank, other_blank = z[0].sigmoid(), other[0].sigmoid()
        labels = softmax_divergence(z[1:], other[1:], [y - 1]) if y else 0.0
        return other_blank * (other_blank / blank).log() + (1 - other_blank) * (
            ((1 - other_blank) / (1 - blank)).log() + labels
        )
    if arcs["name"] == "tdt":
        q = other[V:].softmax(0)
        return softmax_divergence(z[:V], other[:V], [0, *label]) + (q * (q / z[V:].softmax(0)).log()).sum()
    return softmax_divergence(z, other, [0, *label, *range(V, len(z))])


def path_occupations(arcs, topology, joiner, batch, inside, **options):
    """γ of the nodes (T_b,U_b+1) of each row."""
    sizes = zip(batch["encoder_frames"].tolist(), batch["label_lengths"].tolist())
    count = len(written_out(arcs, topology))
    added = [
        torch.zeros(count, frames, labels + 1, dtype=torch.float64, requires_grad=True) for frames, labels in sizes
    ]
    losses = path_sums(arcs, topology, joiner, batch, inside, added=added, **options)
    return [-by_arc.sum(0) for by_arc in torch.autograd.grad(losses.sum(), added)]


def expected_losses(arcs, topology, joiner, batch, inside, **options):
    """Losses with the weighted divergence, and the divergence; the other view's part has no gradient."""
    losses = path_sums(arcs, topology, joiner, batch, inside, **options)
    occupation = path_occupations(arcs, topology, joiner, batch, inside, **options)
    divergences = []
    for b, (frames, labels) in enumerate(zip(batch["encoder_frames"].tolist(), batch["label_lengths"].tolist())):
        other = (b + 3) % 6
        z, z_other = (
            joiner(batch["encoder_out"][row, :frames, None], batch["predictor_out"][row, None, : labels + 1])
            for row in (b, other)
        )
        y = batch["labels"][b].tolist()
        nodes = [
            occupation[other][t, u] * node_divergence(arcs, z[t, u], z_other[t, u].detach(), y[u] if u < labels else 0)
            for t in range(frames)
            for u in range(labels + 1)
        ]
        divergences.append(torch.stack(nodes).sum())
    return losses + WEIGHT * torch.stack(divergences), torch.stack(divergences).detach()


@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize(("arcs", "topology"), CASES)
def test_loss_and_gradients_are_those_of_the_formula(batch, arcs, topology, nodes):
    arcs = ARCS[arcs]
    joiner, loss = make_joiner(arcs), make_loss(nodes, arcs, topology, consistency=WEIGHT, fastemit=0.2)
    inside = chosen_nodes(loss, batch, views=2)
    expected, divergence = expected_losses(arcs, topology, joiner, batch, inside, fastemit=0.2)
    out = loss(joiner, **batch, views=2)
    torch.testing.assert_close(out.parts["consistency"], divergence, rtol=0, atol=1e-10)
    torch.testing.assert_close(out.parts["transducer"], (expected - WEIGHT * divergence).detach(), rtol=0, atol=1e-10)
    found = with_gradients(out.per_utterance, joiner, batch)
    for value, wanted in zip(found, with_gradients(expected, joiner, batch), strict=True):
        torch.testing.assert_close(value, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize("arcs", ["standard", "hat", "multi_blank", "tdt"])
def test_the_gradient_is_the_finite_difference(batch, arcs, nodes):
    """Of what belongs to one view: the other then stays as it is."""
    joiner, loss = make_joiner(ARCS[arcs]), make_loss(nodes, ARCS[arcs], consistency=WEIGHT)
    first, size = slice(0, 3), 1e-5
    leaves = [batch["encoder_out"], batch["predictor_out"]]
    gradients = torch.autograd.grad(loss(joiner, **batch, views=2).per_utterance[first].sum(), leaves)
    directions = [torch.zeros_like(leaf) for leaf in leaves]
    for direction in directions:
        direction[first] = torch.randn(3, 4, DIM, dtype=torch.float64)

    def moved(by):
        rows = {name: batch[name].detach() + by * d for name, d in zip(("encoder_out", "predictor_out"), directions)}
        return float(loss(joiner, **batch | rows, views=2).per_utterance[first].sum().detach())

    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions))
    assert slope == pytest.approx((moved(size) - moved(-size)) / (2 * size), rel=1e-6)


@pytest.mark.parametrize("nodes", [name for name in NODES if name != "full"])
@pytest.mark.parametrize("arcs", ["standard", "hat", "multi_blank", "tdt"])
def test_streaming_changes_nothing(batch, arcs, nodes):
    arcs = ARCS[arcs]
    joiner = make_joiner(arcs)
    whole, streamed = (
        with_gradients(loss(joiner, **batch, views=2).per_utterance, joiner, batch)
        for loss in (make_loss(nodes, arcs, consistency=WEIGHT, chunk_nodes=n) for n in (0, 3))
    )
    for value, wanted in zip(streamed, whole, strict=True):
        torch.testing.assert_close(value, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("nodes", NODES)
def test_views_that_agree_have_nothing_to_learn_from_each_other(batch, nodes):
    batch |= {
        rows: batch[rows][:3].repeat(2, 1, 1).detach().requires_grad_() for rows in ("encoder_out", "predictor_out")
    }
    joiner = make_joiner(ARCS["tdt"])
    out = make_loss(nodes, ARCS["tdt"], consistency=5.0)(joiner, **batch, views=2)
    assert out.parts["consistency"].abs().max() <= 1e-12
    plain = make_loss(nodes, ARCS["tdt"])(joiner, **batch).per_utterance
    pairs = zip(with_gradients(out.per_utterance, joiner, batch), with_gradients(plain, joiner, batch), strict=True)
    for value, wanted in pairs:
        torch.testing.assert_close(value, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("nodes", NODES)
def test_without_a_weight_or_a_second_view_nothing_changes(batch, nodes):
    joiner = make_joiner(ARCS["hat"])
    weighted, plain = (make_loss(nodes, ARCS["hat"], consistency=weight) for weight in (WEIGHT, 0.0))
    expected = with_gradients(plain(joiner, **batch).per_utterance, joiner, batch)
    for loss, views in ((plain, 2), (weighted, 1)):  # as in a validation, the latter
        out = loss(joiner, **batch, views=views)
        assert "consistency" not in out.parts
        for value, wanted in zip(with_gradients(out.per_utterance, joiner, batch), expected, strict=True):
            assert torch.equal(value, wanted)


def test_pruning_keeps_the_same_nodes_of_both_views_and_weighs_them_as_its_loss(batch):
    options = {"consistency": WEIGHT, "simple_scale": 0.4, "pruned_scale": 0.7, "warmup_batches": 0}
    joiner, loss = make_joiner(ARCS["standard"]), make_loss("pruned", ARCS["standard"], **options)
    apart = chosen_nodes(loss, batch)
    assert {(b % 3, t, u) for b, t, u in apart if b < 3} != {(b % 3, t, u) for b, t, u in apart if b >= 3}
    out = loss(joiner, **batch, views=2)
    assert out.nodes == len(chosen_nodes(loss, batch, views=2))
    simple, transducer, divergence = (out.parts[name] for name in ("simple", "transducer", "consistency"))
    expected = 0.4 * simple + 0.7 * (transducer + WEIGHT * divergence)
    torch.testing.assert_close(out.per_utterance.detach(), expected, rtol=0, atol=1e-12)
    assert (divergence[[0, 1, 3, 4]] > 1e-3).all()


@pytest.mark.parametrize(("arcs", "topology"), CASES)
def test_the_norm_of_a_nodes_gradient_is_known_without_its_logits(batch, arcs, topology):
    rules = make_loss("full", ARCS[arcs], topology).rules
    joiner, nodes = make_joiner(ARCS[arcs]), all_nodes(batch["encoder_frames"], batch["label_lengths"])
    complete, index = rules.arcs.with_rest(), index_nodes(nodes, 4, batch["labels"])
    rows = batch["encoder_out"].flatten(0, 1), batch["predictor_out"].flatten(0, 1)
    log_probs = evaluate(joiner, complete, index, 0, *rows).detach()
    _, by_arc = occupations(nodes, complete.weights(log_probs), rules)
    made = choices_made(complete, log_probs, by_arc.sum(0), index.target_N > 0)
    by_choice = complete.by_choice(by_arc) + WEIGHT * other_view(made, 1)
    logits = joiner(rows[0][index.encoder_row_N], rows[1][index.predictor_row_N])
    gradient = complete.gradient(logits, index.target_N, by_choice)
    found = complete.residuals(log_probs, by_choice, index.target_N > 0).abs().sum(0)
    torch.testing.assert_close(found, gradient.abs().sum(1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("arcs", ["standard", "hat", "multi_blank", "tdt"])
def test_float32_is_exact_where_one_view_is_sure_and_the_other_is_not(batch, arcs):
    """What is left to other labels is then less than the rounding of 1."""
    arcs = ARCS[arcs]
    exact = make_joiner(arcs)
    with torch.no_grad():
        batch["encoder_out"][3:] *= 12
    expected = with_gradients(
        make_loss("optimized", arcs, consistency=WEIGHT)(exact, **batch, views=2).per_utterance, exact, batch
    )
    joiner = make_joiner(arcs).float()
    batch |= {rows: batch[rows].detach().float().requires_grad_() for rows in ("encoder_out", "predictor_out")}
    loss = make_loss("optimized", arcs, consistency=WEIGHT).float()
    found = with_gradients(loss(joiner, **batch, views=2).per_utterance, joiner, batch)
    for value, wanted in zip(found, expected, strict=True):
        assert (value.double() - wanted).norm() <= 1e-5 * wanted.norm()


@pytest.mark.parametrize("nodes", ["full", "optimized"])
def test_a_vocabulary_of_blank_and_one_label_has_no_rest(batch, nodes):
    torch.manual_seed(0)
    joiner = Joiner(DIM, 2).double()
    batch["labels"].clamp_(max=1)
    loss = make(nodes, vocab_size=2, encoder_dim=DIM, predictor_dim=DIM, consistency=WEIGHT)
    for value in with_gradients(loss(joiner, **batch, views=2).per_utterance, joiner, batch):
        assert value.isfinite().all()


# Bad input


def alter(name, row, value):
    def altered(batch):
        batch[name] = batch[name].clone()
        batch[name][row] = value

    return altered


@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize(
    ("altered", "message"),
    [
        (
            alter("encoder_frames", 4, 3),
            "rows 1 and 4 of a batch are not two views of one utterance: frames or labels",
        ),
        (alter("label_lengths", 3, 2), "rows 0 and 3 of a batch are not two views"),
        (alter("labels", (0, 0), 0), "label 0 is 0"),
        (lambda batch: batch.update({k: v[:5] for k, v in batch.items()}), "a batch of 5 rows cannot hold two views"),
    ],
    ids=["frames", "lengths", "labels", "odd"],
)
def test_rows_that_are_no_views(batch, nodes, altered, message):
    altered(batch)
    with pytest.raises(InputError, match=message) as caught:
        make_loss(nodes, "standard", consistency=WEIGHT)(make_joiner(ARCS["standard"]), **batch, views=2)
    assert len(str(caught.value).splitlines()) == 1


def test_padding_of_labels_may_differ(batch):
    loss, joiner = make_loss("optimized", "standard", consistency=WEIGHT), make_joiner(ARCS["standard"])
    wanted = loss(joiner, **batch, views=2)
    batch["labels"] = batch["labels"].clone()
    batch["labels"][2] = 10**6
    assert torch.equal(loss(joiner, **batch, views=2).per_utterance, wanted.per_utterance)


def test_training_needs_a_second_view(batch):
    loss, joiner = make_loss("optimized", "standard", consistency=WEIGHT).train(), make_joiner(ARCS["standard"])
    with pytest.raises(InputError, match=r"loss.consistency=0.3: it compares two views .* and views=2"):
        loss(joiner, **batch)
    with torch.no_grad():
        loss(joiner, **batch)


def test_alignments_that_differ_between_views(batch):
    batch["alignment"][4] = torch.tensor([1, 1, 0])
    with pytest.raises(InputError, match="loss ar: two views of an utterance must have the same nodes: do their align"):
        make_loss("ar", "standard", consistency=WEIGHT)(make_joiner(ARCS["standard"]), **batch, views=2)


class Constant(TransducerLoss):
    """A loss from elsewhere, which knows no views."""

    def compute(self, inputs, rules):
        return LossOutput(inputs.encoder_out.sum((1, 2)))


def test_a_loss_that_does_not_compare_views(batch):
    loss = Constant(LossSizes(V, DIM, DIM), FullLossOptions(consistency=WEIGHT))
    with pytest.raises(InputError, match="loss.consistency=0.3: loss full compares no views; use 0"):
        loss(make_joiner(ARCS["standard"]), **batch, views=2)


def test_the_kernels_of_the_standard_joiner_know_no_views(batch):
    loss, gpu = make_loss("optimized", "standard", consistency=WEIGHT), torch.device("cuda")
    assert loss.backends(make_joiner(ARCS["standard"]), gpu) == "chunked joiner, lattice by triton"
    with pytest.raises(InputError, match="loss.joint=fused: the kernels know no loss.consistency=0.3; use joint=auto"):
        make_loss("optimized", "standard", consistency=WEIGHT, joint="fused")(
            make_joiner(ARCS["standard"]), **batch, views=2
        )
