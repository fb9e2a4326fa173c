"""Any nodes × any arcs: every loss with every set of arcs, against the sums over paths that the papers define."""

import pytest
import torch
from arc_cases import (
    ARCS,
    CASES,
    DIM,
    NODES,
    V,
    chosen_nodes,
    extra_outputs,
    make_joiner,
    make_loss,
    path_sums,
    with_gradients,
)
from devices import KERNEL_DEVICE

from asr.arcs.hat import hat_arcs
from asr.arcs.multi_blank import multi_blank_arcs
from asr.arcs.standard import standard_arcs
from asr.arcs.tdt import tdt_arcs
from asr.config import FullLossOptions, TdtArcOptions
from asr.errors import InputError
from asr.models.joiner import Joiner

WIDE = {
    "ar": {"left_frames": 9, "right_frames": 9},
    "pruned": {"prune_range": 5, "simple_scale": 0.0, "warmup_batches": 0},
}
REGULARISED = {"fastemit": 0.2, "delay_penalty": 0.1}


@pytest.fixture
def batch():
    """Five utterances; the second has one label a frame, the fourth none, the last is a frame and a label."""
    generator = torch.Generator().manual_seed(0)
    return {
        "encoder_out": torch.randn(5, 6, DIM, generator=generator, dtype=torch.float64).requires_grad_(),
        "encoder_frames": torch.tensor([5, 2, 6, 3, 1]),
        "predictor_out": torch.randn(5, 5, DIM, generator=generator, dtype=torch.float64).requires_grad_(),
        "labels": torch.randint(1, V, (5, 4), generator=generator),
        "label_lengths": torch.tensor([4, 2, 3, 0, 1]),
        "alignment": torch.tensor([[0, 1, 3, 4], [0, 1, 0, 0], [1, 3, 4, 0], [0, 0, 0, 0], [0, 0, 0, 0]]),
    }


def on_kernel_device(batch):
    return {
        key: values.detach().to(KERNEL_DEVICE).requires_grad_(values.requires_grad) for key, values in batch.items()
    }


@pytest.mark.parametrize("regularised", [{}, REGULARISED], ids=["plain", "regularised"])
@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize(("arcs", "topology"), CASES)
def test_loss_and_gradients_are_those_of_the_paths(batch, arcs, topology, nodes, regularised):
    arcs = ARCS[arcs]
    joiner, loss = make_joiner(arcs), make_loss(nodes, arcs, topology, **regularised)
    inside = chosen_nodes(loss, batch)
    expected = path_sums(arcs, topology, joiner, batch, inside, **regularised)
    found = with_gradients(loss(joiner, **batch).per_utterance, joiner, batch)
    for value, wanted in zip(found, with_gradients(expected, joiner, batch), strict=True):
        torch.testing.assert_close(value, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("backend", ["reference", "triton"])
@pytest.mark.parametrize(("arcs", "topology"), CASES)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # Triton's interpreter: inf − inf, masked out
def test_every_backend_gives_the_same(batch, arcs, topology, backend):
    arcs = ARCS[arcs]
    joiner = make_joiner(arcs)
    loss = make_loss("pruned by alignment", arcs, topology, backend=backend, joint="chunked")
    expected = path_sums(arcs, topology, joiner, batch, chosen_nodes(loss, batch))
    expected = with_gradients(expected, joiner, batch)
    if backend == "triton":
        batch, joiner = on_kernel_device(batch), joiner.to(KERNEL_DEVICE)
    found = with_gradients(loss(joiner, **batch).per_utterance, joiner, batch)
    for value, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(value.cpu(), wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("nodes", ["full", "optimized", "pruned by alignment"])
@pytest.mark.parametrize(("arcs", "topology"), CASES)
def test_float32_is_exact_to_a_hundred_thousandth(batch, arcs, topology, nodes):
    arcs = ARCS[arcs]
    exact, loss = make_joiner(arcs), make_loss(nodes, arcs, topology).float()
    expected = path_sums(arcs, topology, exact, batch, chosen_nodes(loss, batch))
    expected = with_gradients(expected, exact, batch)
    joiner = make_joiner(arcs).float()
    batch |= {rows: batch[rows].detach().float().requires_grad_() for rows in ("encoder_out", "predictor_out")}
    found = with_gradients(loss(joiner, **batch).per_utterance, joiner, batch)
    for value, wanted in zip(found, expected, strict=True):
        assert value.dtype == torch.float32
        assert (value.double() - wanted).norm() <= 1e-5 * wanted.norm()


@pytest.mark.parametrize("nodes", [name for name in NODES if name != "full"])
@pytest.mark.parametrize(("arcs", "topology"), CASES)
def test_streaming_changes_nothing(batch, arcs, topology, nodes):
    arcs = ARCS[arcs]
    joiner = make_joiner(arcs)
    whole, streamed = (
        with_gradients(loss(joiner, **batch).per_utterance, joiner, batch)
        for loss in (make_loss(nodes, arcs, topology, chunk_nodes=n, **REGULARISED) for n in (0, 3))
    )
    for value, wanted in zip(streamed, whole, strict=True):
        torch.testing.assert_close(value, wanted, rtol=0, atol=1e-12)


# Untranscribed edges


@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize(("arcs", "topology"), CASES)
def test_paths_may_leave_out_frames_at_their_edges(batch, arcs, topology, nodes):
    arcs = ARCS[arcs]
    for edges in (0.0, 0.7):
        joiner, loss = make_joiner(arcs), make_loss(nodes, arcs, topology, edges=edges, **REGULARISED)
        expected = path_sums(arcs, topology, joiner, batch, chosen_nodes(loss, batch), edges=edges, **REGULARISED)
        found = with_gradients(loss(joiner, **batch).per_utterance, joiner, batch)
        for value, wanted in zip(found, with_gradients(expected, joiner, batch), strict=True):
            torch.testing.assert_close(value, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("backend", ["reference", "triton"])
@pytest.mark.parametrize("arcs", ["standard", "tdt", "tdt, no 0"])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # Triton's interpreter: inf − inf, masked out
def test_every_backend_leaves_out_the_same(batch, arcs, backend):
    arcs = ARCS[arcs]
    joiner, loss = make_joiner(arcs), make_loss("ar", arcs, backend=backend, joint="chunked", edges=0.3)
    expected = path_sums(arcs, "regular", joiner, batch, chosen_nodes(loss, batch), edges=0.3)
    expected = with_gradients(expected, joiner, batch)
    if backend == "triton":
        batch, joiner = on_kernel_device(batch), joiner.to(KERNEL_DEVICE)
    found = with_gradients(loss(joiner, **batch).per_utterance, joiner, batch)
    for value, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(value.cpu(), wanted, rtol=0, atol=1e-10)


def test_a_high_price_leaves_nothing_out(batch):
    joiner = make_joiner(ARCS["tdt"])
    losses = [make_loss("optimized", "tdt", edges=edges)(joiner, **batch).per_utterance for edges in (60.0, None)]
    torch.testing.assert_close(*losses, rtol=0, atol=1e-10)


def test_with_edges_all_nodes_are_taken(batch):
    joiner = make_joiner(ARCS["standard"])
    out = make_loss("optimized", "standard", edges=0.1, gradient_tolerance=0.1)(joiner, **batch)
    assert out.nodes == int((batch["encoder_frames"] * (batch["label_lengths"] + 1)).sum())


# The ladder


@pytest.mark.parametrize("nodes", WIDE)
@pytest.mark.parametrize(("arcs", "topology"), CASES)
def test_wide_bands_and_ranges_are_all_nodes(batch, arcs, topology, nodes):
    arcs = ARCS[arcs]
    joiner = make_joiner(arcs)
    wide, every = (
        with_gradients(loss(joiner, **batch).per_utterance, joiner, batch)
        for loss in (make_loss(nodes, arcs, topology, **WIDE[nodes]), make_loss("optimized", arcs, topology))
    )
    for value, wanted in zip(wide, every, strict=True):
        torch.testing.assert_close(value, wanted, rtol=0, atol=1e-10)


def test_durations_of_one_are_the_modified_topology(batch):
    arcs = {"name": "tdt", "durations": [1]}
    joiner, standard = make_joiner(arcs), Joiner(DIM, V).double()
    standard.load_state_dict({key: value[:V] for key, value in joiner.state_dict().items()})
    found = with_gradients(make_loss("optimized", arcs)(joiner, **batch).per_utterance, joiner, batch)
    expected = make_loss("optimized", "standard", "modified")(standard, **batch).per_utterance
    expected = with_gradients(expected, standard, batch)
    for value, wanted in zip(found[:3], expected[:3]):
        torch.testing.assert_close(value, wanted, rtol=0, atol=1e-10)


def test_without_big_blanks_multi_blank_is_standard(batch):
    joiner = make_joiner(ARCS["standard"])
    for topology in ("regular", "modified", "constrained"):
        found, expected = (
            with_gradients(make_loss("optimized", arcs, topology)(joiner, **batch).per_utterance, joiner, batch)
            for arcs in (ARCS["no big blanks"], "standard")
        )
        for value, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(value, wanted, rtol=0, atol=1e-12)


class AsStandard(torch.nn.Module):
    """Logits of one softmax with the distribution that HAT reads in a joiner's outputs."""

    def __init__(self, joiner):
        super().__init__()
        self.joiner = joiner

    def forward(self, encoder_rows, predictor_rows):
        z = self.joiner(encoder_rows, predictor_rows)
        blank, label = torch.nn.functional.logsigmoid(z[:, :1]), torch.nn.functional.logsigmoid(-z[:, :1])
        return torch.cat((blank, label + z[:, 1:].log_softmax(1)), dim=1)


@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize("topology", ["regular", "modified", "constrained"])
def test_hat_is_standard_after_a_change_of_variables(batch, nodes, topology):
    joiner = make_joiner(ARCS["hat"])
    found = make_loss(nodes, "hat", topology)(joiner, **batch).per_utterance
    expected = make_loss(nodes, "standard", topology)(AsStandard(joiner), **batch).per_utterance
    pairs = zip(with_gradients(found, joiner, batch), with_gradients(expected, joiner, batch), strict=True)
    for value, wanted in pairs:
        torch.testing.assert_close(value, wanted, rtol=0, atol=1e-10)


# In training


def test_tdt_is_under_normalised_unless_told_otherwise():
    assert [make_loss("full", {"name": "tdt", **options}).sigma for options in ({}, {"sigma": 0.0})] == [0.05, 0.0]


def test_the_likeliest_arc_can_be_told_from_unnormalised_outputs():
    generator = torch.Generator().manual_seed(0)
    for arcs in (standard_arcs, hat_arcs):
        check_compared(arcs("modified", V), generator)
    check_compared(tdt_arcs("regular", V, [0, 1, 3]), generator)
    check_compared(multi_blank_arcs("regular", V, [2, 4]), generator)


def check_compared(arcs, generator):
    """Differences between arcs of a node are those of its log-weights, and sums of choices those of their own."""
    logits = torch.randn(50, arcs.outputs, generator=generator).double()
    target = torch.randint(1, V, (50,), generator=generator)
    log_probs = arcs.log_probs(logits, target)
    weights = arcs.weights(log_probs)
    expected = torch.stack([sum(log_probs[choice] for choice in arc.choices) for arc in arcs.arcs])
    assert torch.equal(weights, expected)
    compared = arcs.weights(arcs.compared(logits, target))
    torch.testing.assert_close(compared - compared[0], weights - weights[0], rtol=0, atol=1e-12)


def test_sigma_under_normalises_in_training_alone(batch):
    for arcs in (ARCS["multi_blank"], ARCS["tdt"]):
        joiner, loss = make_joiner(arcs), make_loss("optimized", {**arcs, "sigma": 0.3})
        plain = path_sums(arcs, "regular", joiner, batch)
        torch.testing.assert_close(loss(joiner, **batch).per_utterance, plain, rtol=0, atol=1e-10)
        found = with_gradients(loss.train()(joiner, **batch).per_utterance, joiner, batch)
        expected = with_gradients(path_sums(arcs, "regular", joiner, batch, sigma=0.3), joiner, batch)
        for value, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(value, wanted, rtol=0, atol=1e-10)
        full = make_loss("full", {**arcs, "sigma": 0.3}).train()(joiner, **batch).per_utterance
        torch.testing.assert_close(full, found[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("topology", ["regular", "modified"])
@pytest.mark.parametrize("nodes", NODES)
def test_a_share_of_batches_has_the_plain_loss_on_the_tokens(batch, nodes, topology):
    joiner = make_joiner(ARCS["tdt"])
    loss = make_loss(nodes, {**ARCS["tdt"], "omega": 0.4, "sigma": 0.1}, topology).train()
    inside = chosen_nodes(loss, batch)
    under_normalised = path_sums(ARCS["tdt"], topology, joiner, batch, inside, sigma=0.1)

    def tokens(encoder_rows, predictor_rows):
        return joiner(encoder_rows, predictor_rows)[..., :V]

    plain = path_sums(ARCS["standard"], topology, tokens, batch, inside)
    torch.manual_seed(0)
    plain_batches = 0
    for _ in range(40):
        found = loss(joiner, **batch).per_utterance
        is_plain = bool((found - plain).abs().max() < 1e-10)
        plain_batches += is_plain
        torch.testing.assert_close(found, plain if is_plain else under_normalised, rtol=0, atol=1e-10)
        if is_plain and plain_batches == 1:
            pairs = zip(with_gradients(found, joiner, batch), with_gradients(plain, joiner, batch), strict=True)
            for value, wanted in pairs:
                torch.testing.assert_close(value, wanted, rtol=0, atol=1e-10)
    assert 8 <= plain_batches <= 24


# Bad input


@pytest.mark.parametrize(
    ("arcs", "options", "message"),
    [
        ({"name": "tdt", "durations": [0, 2]}, {}, r"loss.arcs.durations=\[0, 2\]: 1 must be among them"),
        ({"name": "tdt", "durations": []}, {}, r"loss.arcs.durations=\[\]: 1 must be among them"),
        ({"name": "tdt", "durations": [1, 2, 1]}, {}, r"durations=\[1, 2, 1\]: give each number of frames once"),
        ({"name": "tdt", "durations": [1, -1]}, {}, r"loss.arcs.durations=\[1, -1\]: must be >= 0"),
        ({"name": "tdt"}, {"topology": "constrained"}, "loss.topology=constrained: .* use topology=modified"),
        (
            {"name": "tdt", "omega": 1.5},
            {},
            "loss.arcs.omega=1.5: must be 0.0 to 1|loss.arcs.omega=1.5: must be 0 to 1",
        ),
        (
            {"name": "tdt", "durations": [1, 2], "omega": 0.1},
            {},
            "loss.arcs.omega=0.1: without duration 0 .* add 0 to loss.arcs.durations, or use loss.topology=modified",
        ),
        ({"name": "multi_blank", "big_blanks": [1, 2]}, {}, r"loss.arcs.big_blanks=\[1, 2\]: must be >= 2"),
        ({"name": "multi_blank", "big_blanks": [2, 2]}, {}, r"loss.arcs.big_blanks=\[2, 2\]: give each number of"),
        ({"name": "standard", "durations": [1]}, {}, "set of arcs 'standard': unknown option durations"),
        ("tdd", {}, "no set of arcs is called 'tdd'; did you mean tdt.*choices: standard, hat, multi_blank, tdt"),
    ],
    ids=str,
)
@pytest.mark.parametrize("nodes", ["full", "pruned"])
def test_arcs_that_cannot_be(nodes, arcs, options, message):
    with pytest.raises(InputError, match=message) as caught:
        make_loss(nodes, arcs, **options)
    assert len(str(caught.value).splitlines()) == 1


def test_omega_without_duration_0_has_the_modified_topology(batch):
    arcs = {"name": "tdt", "durations": [1, 2], "omega": 0.1}
    assert make_loss("optimized", arcs, "modified").plain_rules.arcs.moves == standard_arcs("modified").moves


@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize("arcs", ["tdt", "multi_blank", "standard", "hat"])
def test_a_joiner_of_other_arcs_is_refused(batch, nodes, arcs):
    joiner = Joiner(DIM, V + 1).double()
    outputs = V + extra_outputs(ARCS[arcs])
    message = (
        f"loss.arcs.name={arcs}: the joiner has 6 outputs a node, and these arcs {outputs}: was the model made for"
    )
    with pytest.raises(InputError, match=message):
        make_loss(nodes, ARCS[arcs])(joiner, **batch)


@pytest.mark.parametrize("nodes", NODES)
def test_labels_without_duration_0_need_a_frame_each(batch, nodes):
    batch["encoder_frames"][0] = 3
    with pytest.raises(
        InputError, match=r"has 4 labels, more than its frames: arcs.durations=\[3, 1, 2\] needs a frame"
    ):
        make_loss(nodes, ARCS["tdt, no 0"])(make_joiner(ARCS["tdt, no 0"]), **batch)


def test_utterances_with_too_few_frames_are_known_before_training():
    """What `asr.data.sampler.Admission` is told."""
    assert FullLossOptions().labels_take_frames == ""
    assert FullLossOptions(arcs=TdtArcOptions()).labels_take_frames == ""
    assert FullLossOptions(arcs=TdtArcOptions(durations=[1, 2])).labels_take_frames == "arcs.durations=[1, 2]"
    assert FullLossOptions(topology="modified").labels_take_frames == "topology=modified"


def test_the_fused_joiner_knows_the_standard_arcs_alone(batch):
    joiner, gpu = make_joiner(ARCS["tdt"]), torch.device("cuda")
    assert make_loss("optimized", "tdt").backends(joiner, gpu) == "chunked joiner, lattice by triton"
    with pytest.raises(
        InputError, match="loss.joint=fused: the kernels know the standard arcs, and not tdt; use joint"
    ):
        make_loss("optimized", "tdt", joint="fused")(joiner, **batch)
