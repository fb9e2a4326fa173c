"""The four losses as one family: against path sums and finite differences, against each other, and on bad input."""

import itertools
import math
import subprocess
import sys

import pytest
import torch
import torchaudio
from devices import KERNEL_DEVICE
from lattice_paths import paths

from asr.errors import InputError
from asr.losses import make
from asr.losses.base import NotFiniteError
from asr.losses.simple import Normalised
from asr.models.joiner import Joiner

VOCAB, DIM = 6, 4
SIZES = {"vocab_size": VOCAB, "encoder_dim": DIM, "predictor_dim": DIM}
TOPOLOGIES = ["regular", "modified", "constrained"]
REGULARISED = [{}, {"fastemit": 0.2}, {"delay_penalty": 0.1}]
WIDE = {  # the options with which a loss is the full one
    "full": {},
    "optimized": {},
    "ar": {"left_frames": 5, "right_frames": 5},
    "pruned": {"prune_range": 5, "simple_scale": 0.0, "warmup_batches": 0},
    "pruned by alignment": {"prune_range": 5, "bounds": "alignment"},
}
PACKED = [name for name in WIDE if name != "full"]
NARROW = {
    "ar": {"left_frames": 0, "right_frames": 1},
    "pruned": {"prune_range": 2, "warmup_batches": 0},
    "pruned by alignment": {"prune_range": 2, "bounds": "alignment"},
}


def make_loss(name, seed=3, **options):
    torch.manual_seed(seed)
    return make(name.split()[0], **SIZES, **options).double()


@pytest.fixture
def joiner():
    torch.manual_seed(1)
    return Joiner(DIM, VOCAB).double()


@pytest.fixture
def batch():
    """Four utterances; the second has one label a frame, the last none."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(1, VOCAB, (4, 4), generator=generator)
    return {
        "encoder_out": torch.randn(4, 5, DIM, generator=generator, dtype=torch.float64).requires_grad_(),
        "encoder_frames": torch.tensor([5, 2, 4, 3]),
        "predictor_out": torch.randn(4, 5, DIM, generator=generator, dtype=torch.float64).requires_grad_(),
        "labels": labels,
        "label_lengths": torch.tensor([4, 2, 3, 0]),
        "alignment": torch.tensor([[0, 1, 3, 4], [0, 1, 0, 0], [0, 1, 3, 0], [0, 0, 0, 0]]),
    }


def with_gradients(loss, joiner, batch):
    """Loss, and gradients of a weighted sum of it."""
    out = loss(joiner, **batch)
    weights = out.per_utterance.new_tensor([1.0, 3.0, -0.5, 2.0])
    leaves = [batch["encoder_out"], batch["predictor_out"], *joiner.parameters()]
    return [out.per_utterance, *torch.autograd.grad((out.per_utterance * weights).sum(), leaves)]


@pytest.mark.parametrize("regularised", REGULARISED, ids=str)
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize(("backend", "joint"), [("reference", "chunked"), ("numba", "chunked"), ("triton", "fused")])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # Triton's interpreter: inf − inf, masked out
def test_unrestricted_they_are_all_the_full_loss(joiner, batch, name, topology, regularised, backend, joint):
    expected = with_gradients(make_loss("full", topology=topology, **regularised), joiner, batch)
    loss = make_loss(name, topology=topology, backend=backend, joint=joint, **regularised, **WIDE[name])
    device = KERNEL_DEVICE if backend == "triton" else "cpu"
    batch = {key: values.detach().to(device).requires_grad_(values.requires_grad) for key, values in batch.items()}
    for found, wanted in zip(with_gradients(loss.to(device), joiner.to(device), batch), expected):
        torch.testing.assert_close(found.cpu(), wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("chunk_nodes", [0, 1, 7])
def test_the_size_of_a_chunk_changes_nothing(joiner, batch, name, chunk_nodes):
    options = NARROW.get(name, {})
    expected = with_gradients(make_loss(name, **options), joiner, batch)
    for found, wanted in zip(
        with_gradients(make_loss(name, chunk_nodes=chunk_nodes, **options), joiner, batch), expected
    ):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", WIDE)
def test_float32_agrees_with_torchaudio(joiner, batch, name):
    joiner.float()
    batch |= {rows: batch[rows].detach().float().requires_grad_() for rows in ("encoder_out", "predictor_out")}
    batch["label_lengths"] = torch.tensor([4, 2, 3, 1])  # torchaudio wants a label
    grid = (batch["encoder_out"][:, :, None], batch["predictor_out"][:, None])
    lengths = batch["encoder_frames"].int(), batch["label_lengths"].int()
    loss = torchaudio.functional.rnnt_loss(
        joiner(*grid), batch["labels"].int(), *lengths, blank=0, clamp=-1, reduction="none"
    )
    weights = torch.tensor([1.0, 3.0, -0.5, 2.0])
    leaves = [batch["encoder_out"], batch["predictor_out"], *joiner.parameters()]
    expected = [loss, *torch.autograd.grad((loss * weights).sum(), leaves)]
    for found, wanted in zip(with_gradients(make_loss(name, **WIDE[name]).float(), joiner, batch), expected):
        assert found.dtype == torch.float32
        assert (found - wanted).norm() <= 1e-5 * wanted.norm()


def sum_of_windowed_paths(joiner, batch, b, left, right, topology):
    """−log of the sum over the paths that emit every label near its frame."""
    frames, labels = int(batch["encoder_frames"][b]), int(batch["label_lengths"][b])
    log_probs = joiner(batch["encoder_out"][b, :frames, None], batch["predictor_out"][b, None]).log_softmax(-1)
    scores = []
    for path in paths(frames, labels, topology):
        emitted = [t for kind, t, _ in path if kind == "label"]
        aligned = batch["alignment"][b, :labels].tolist()
        if all(a - left <= t <= a + right for t, a in zip(emitted, aligned)):
            tokens = [0 if kind == "blank" else int(batch["labels"][b, u]) for kind, _, u in path]
            scores.append(sum(log_probs[t, u, token] for (_, t, u), token in zip(path, tokens)))
    return -torch.stack(scores).logsumexp(0)


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize(("left", "right"), [(0, 0), (0, 1), (1, 0), (2, 1)])
def test_ar_is_the_sum_over_paths_in_the_windows(joiner, batch, left, right, topology):
    out = make_loss("ar", left_frames=left, right_frames=right, topology=topology)(joiner, **batch)
    assert out.widened == 0
    for b in range(4):
        expected = sum_of_windowed_paths(joiner, batch, b, left, right, topology)
        torch.testing.assert_close(out.per_utterance[b], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_restricted_losses_have_the_finite_difference_as_their_gradient(joiner, batch, name, topology):
    loss = make_loss(name, topology=topology, delay_penalty=0.1, chunk_nodes=5, **NARROW[name])
    nodes = loss(joiner, **batch).nodes
    assert nodes < (batch["encoder_frames"] * (batch["label_lengths"] + 1)).sum()

    def value(encoder_out, predictor_out):
        return loss(joiner, **{**batch, "encoder_out": encoder_out, "predictor_out": predictor_out}).per_utterance

    assert torch.autograd.gradcheck(value, (batch["encoder_out"], batch["predictor_out"]))


def test_a_restricted_loss_is_an_upper_bound(joiner, batch):
    full = make_loss("full")(joiner, **batch).per_utterance
    for name in NARROW:
        parts = make_loss(name, **NARROW[name])(joiner, **batch).parts
        assert (parts["transducer"] >= full - 1e-12).all()
        assert (parts["transducer"][:3] > full[:3] + 1e-3).any()


def simple_log_probs(loss, batch, b):
    """Log-probabilities (T,U+1,V) of the simple joiner by its definition, without smoothing."""
    return (loss.simple.am(batch["encoder_out"][b])[:, None] + loss.simple.lm(batch["predictor_out"][b])).log_softmax(
        -1
    )


@pytest.mark.parametrize(("lm_scale", "am_scale"), [(0.0, 0.0), (0.25, 0.0), (0.2, 0.3)])
def test_the_simple_loss_is_the_sum_over_paths_of_interpolated_log_probs(joiner, batch, lm_scale, am_scale):
    loss = make_loss("pruned", lm_scale=lm_scale, am_scale=am_scale)
    out = loss(joiner, **batch)
    lm_log_probs = loss.simple.lm(batch["predictor_out"]).log_softmax(-1)
    valid = [lm_log_probs[b, : n + 1].exp() for b, n in enumerate(batch["label_lengths"].tolist())]
    unigram = torch.cat(valid).mean(0).log()
    for b, (frames, labels) in enumerate(zip(batch["encoder_frames"].tolist(), batch["label_lengths"].tolist())):
        am_alone = (loss.simple.am(batch["encoder_out"][b]) + unigram).log_softmax(-1)
        mixed = (1 - lm_scale - am_scale) * simple_log_probs(loss, batch, b)
        mixed = mixed + lm_scale * lm_log_probs[b] + am_scale * am_alone[:, None]
        ids = batch["labels"][b].tolist()
        scores = [
            sum(mixed[t, u, 0 if kind == "blank" else ids[u]] for kind, t, u in path) for path in paths(frames, labels)
        ]
        expected = -torch.stack(scores).logsumexp(0)
        torch.testing.assert_close(out.parts["simple"][b], expected.detach(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("gap", [30.0, 60.0, 90.0, 200.0])
def test_simple_logits_whose_peaks_are_far_apart_have_finite_gradients(gap):
    am, lm = torch.zeros(1, 3, 6), torch.zeros(1, 5, 6)
    am[..., 2], lm[..., 4] = gap, gap  # exp(am − max) · exp(lm − max) = 2 exp(−gap), of float32 the last at 87
    leaves = [am.requires_grad_(), lm.requires_grad_()]
    blank, label = Normalised.apply(am, lm, torch.full((1, 5), 2))
    (blank + label).sum().backward()
    assert all(leaf.grad.isfinite().all() and leaf.grad.abs().max() <= 10 for leaf in leaves)
    exact = (am[:, :, None] + lm[:, None]).detach().double().log_softmax(-1)
    bound = max(0.0, gap + math.log(5e-31)) + 1e-3  # what comes to the normaliser
    assert (blank - exact[..., 0]).abs().max() <= bound
    assert (label - exact[..., 2]).abs().max() <= bound


def test_the_simple_joiner_is_trained(joiner, batch):
    loss = make_loss("pruned", lm_scale=0.2, am_scale=0.2)
    weights = list(loss.simple.parameters())
    assert len(weights) == 4

    loss.eval()
    out = loss(joiner, **batch)
    gradients = torch.autograd.grad(out.per_utterance.sum(), weights)
    for weight, gradient in zip(weights, gradients):
        entry = int(gradient.abs().argmax())
        change = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                weight.view(-1)[entry] += step
                change.append(float((loss(joiner, **batch).parts["simple"] * 0.5).sum()))
                weight.view(-1)[entry] -= step
        assert (change[0] - change[1]) / 2e-6 == pytest.approx(float(gradient.view(-1)[entry]), rel=1e-6)


@pytest.mark.parametrize("name", PACKED)
def test_a_gradient_of_the_gradient_is_refused(joiner, batch, name):
    """It would be zero in silence, where the weights of utterances are what is looked for."""
    weights = torch.ones(4, dtype=torch.float64, requires_grad=True)
    loss = make_loss(name, **WIDE[name])(joiner, **batch).per_utterance @ weights
    (gradient,) = torch.autograd.grad(loss, batch["encoder_out"], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_scales_warm_up_and_are_remembered(joiner, batch):
    loss = make_loss("pruned", simple_scale=0.5, pruned_scale=1.0, warmup_batches=4)
    seen = [loss.scales_after(loss.batch_count.next()) for _ in range(6)]
    assert seen == [
        pytest.approx(pair) for pair in [(1, 0.1), (0.875, 0.325), (0.75, 0.55), (0.625, 0.775), (0.5, 1), (0.5, 1)]
    ]
    assert int(loss.state_dict()["batches"]) == 6
    loss.eval()(joiner, **batch)
    assert loss.scales_after(None) == (0.5, 1.0)
    assert int(loss.batches) == 6


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_the_first_batches_are_restricted_to_the_alignment_and_a_restart_knows_which(joiner, batch, topology):
    options = {"prune_range": 2, "topology": topology}
    batch["encoder_frames"], batch["label_lengths"] = torch.tensor([5, 5, 5, 3]), torch.tensor([2, 2, 2, 0])
    batch["alignment"][:3] = torch.tensor([[3, 4, 0, 0], [0, 1, 0, 0], [-1, -1, 0, 0]])
    by_alignment = make_loss("pruned", bounds="alignment", **options)(joiner, **batch).parts["transducer"]
    batch["encoder_out"] = torch.nn.functional.pad(batch["encoder_out"], (0, 0, 0, 2))  # frames of nobody
    batch["alignment"] = torch.nn.functional.pad(batch["alignment"], (0, 3))
    by_itself = make_loss("pruned", **options)(joiner, **batch).parts["transducer"]
    assert not torch.isclose(by_alignment, by_itself)[:2].any()
    loss = make_loss("pruned", aligned_batches=3, **options)
    for restricted in (True, True, True, False, False):
        out = loss(joiner, **batch)
        found = out.parts["transducer"]
        assert out.unaligned == restricted
        torch.testing.assert_close(found[2:], by_itself[2:])
        torch.testing.assert_close(found[:2], (by_alignment if restricted else by_itself)[:2])
        torch.testing.assert_close(loss.eval()(joiner, **batch).parts["transducer"], by_itself)  # and is not counted
        saved, loss = loss.state_dict(), make_loss("pruned", aligned_batches=3, **options)
        loss.load_state_dict(saved)
    with pytest.raises(InputError, match=r"loss\.aligned_batches=3 needs `alignment`"):
        make_loss("pruned", aligned_batches=3, **options)(joiner, **batch | {"alignment": None})


def test_prune_mass_keeps_more_where_more_is_asked(joiner, batch):
    kept = [make_loss("pruned", prune_mass=mass)(joiner, **batch).nodes for mass in (0.5, 0.9, 1.0)]
    assert kept == sorted(kept)
    assert kept[0] < kept[-1] == int((batch["encoder_frames"] * (batch["label_lengths"] + 1)).sum())


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("name", NARROW)
def test_a_node_set_without_a_path_is_widened_and_counted(joiner, batch, name, topology):
    batch["label_lengths"] = torch.tensor([4, 2, 3, 3])
    batch["encoder_frames"] = torch.tensor([5, 2, 4, 3] if topology != "regular" else [5, 2, 1, 1])
    batch["alignment"] = torch.tensor([[4, 2, 1, 0]] * 4)
    options = NARROW[name] | ({"right_frames": 0} if name == "ar" else {})
    values = with_gradients(make_loss(name, topology=topology, **options), joiner, batch)
    assert all(value.isfinite().all() for value in values)
    expected = {"ar": 1, "pruned": 2} if topology == "regular" else {"ar": 4, "pruned": 0}
    assert make_loss(name, topology=topology, **options)(joiner, **batch).widened == expected[name.split()[0]]


@pytest.mark.parametrize(("name", "who"), [("ar", "loss ar"), ("pruned by alignment", "loss pruned")])
def test_a_restriction_without_an_alignment(joiner, batch, name, who):
    del batch["alignment"]
    with pytest.raises(InputError, match=f"{who} needs `alignment`"):
        make_loss(name, **NARROW[name])(joiner, **batch)


@pytest.mark.parametrize("name", ["ar", "pruned by alignment"])
def test_an_utterance_without_an_alignment_is_not_restricted_and_counted(joiner, batch, name):
    full = make_loss("full")(joiner, **batch).per_utterance
    batch["alignment"][2, 1] = -1
    out = make_loss(name, **NARROW[name])(joiner, **batch)
    assert (out.unaligned, out.widened) == (1, 0)
    torch.testing.assert_close(out.per_utterance[2], full[2], rtol=0, atol=1e-10)
    assert out.per_utterance[0] > full[0] + 1e-3


def test_an_alignment_has_no_mass():
    with pytest.raises(InputError, match="loss.prune_mass=0.9: an alignment has no mass"):
        make_loss("pruned", bounds="alignment", prune_mass=0.9)


@pytest.mark.parametrize("name", WIDE)
def test_logits_that_are_not_finite_name_the_utterance(joiner, batch, name):
    with torch.no_grad():
        batch["encoder_out"][2, 1] = torch.nan
    with pytest.raises(NotFiniteError, match="utterance 2 of the batch: its loss is not finite") as caught:
        make_loss(name, **WIDE[name])(joiner, **batch)
    assert caught.value.utterance == 2


@pytest.mark.parametrize("name", PACKED)
def test_padding_is_never_read(joiner, batch, name):
    options = NARROW.get(name, {})
    expected = with_gradients(make_loss(name, **options), joiner, batch)
    with torch.no_grad():
        for b in range(4):
            frames, labels = int(batch["encoder_frames"][b]), int(batch["label_lengths"][b])
            batch["encoder_out"][b, frames:] = torch.nan
            batch["predictor_out"][b, labels + 1 :] = torch.nan
            batch["labels"][b, labels:], batch["alignment"][b, labels:] = 10**6, -5
    loss = make_loss(name, **options)
    for found, wanted in zip(with_gradients(loss, joiner, batch), expected):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    assert all(p.grad is None or p.grad.isfinite().all() for p in loss.parameters())


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("topology", ["modified", "constrained"])
def test_more_labels_than_frames_name_the_utterance(joiner, batch, name, topology):
    batch["label_lengths"] = torch.tensor([1, 3, 2, 0])
    with pytest.raises(InputError, match="utterance 1 of the batch has 3 labels, more than its frames"):
        make_loss(name, topology=topology)(joiner, **batch)


@pytest.mark.parametrize("name", WIDE)
def test_fewer_frames_than_labels_are_legal_in_the_regular_topology(joiner, batch, name):
    batch["encoder_frames"] = torch.tensor([1, 1, 2, 1])
    for value in with_gradients(make_loss(name), joiner, batch):
        assert value.isfinite().all()


@pytest.mark.parametrize("name", PACKED)
def test_a_joiner_that_is_no_module_is_refused(batch, name):
    with pytest.raises(InputError, match=f"loss {name.split()[0]}: the joiner must be a torch.nn.Module"):
        make_loss(name)(lambda a, b: a + b, **batch)


@pytest.mark.parametrize("name", WIDE)
def test_a_batch_without_any_label(joiner, batch, name):
    batch |= {"labels": torch.zeros(4, 0, dtype=torch.long), "label_lengths": torch.zeros(4, dtype=torch.long)}
    batch |= {"alignment": batch["labels"], "predictor_out": batch["predictor_out"][:, :1].detach().requires_grad_()}
    blank = joiner(batch["encoder_out"], batch["predictor_out"].expand(-1, 5, -1)).log_softmax(-1)[..., 0]
    expected = -torch.stack([row[:n].sum() for row, n in zip(blank, batch["encoder_frames"])])
    parts = make_loss(name)(joiner, **batch).parts
    torch.testing.assert_close(parts["transducer"], expected.detach(), rtol=0, atol=1e-10)


def test_kept_nodes_are_counted(joiner, batch):
    exact, skipping = (make_loss("optimized", gradient_tolerance=t)(joiner, **batch) for t in (0.0, 0.4))
    assert exact.kept == exact.nodes == skipping.nodes
    assert 0 < skipping.kept < skipping.nodes
    assert torch.equal(exact.per_utterance, skipping.per_utterance)


@pytest.mark.parametrize("name", WIDE)
def test_utterances_do_not_affect_each_other(joiner, batch, name):
    options = {} if name == "full" else {**NARROW.get(name, {})}
    together = make_loss(name, **options)(joiner, **batch).per_utterance
    for b in range(4):
        alone = {key: value[b : b + 1] for key, value in batch.items()}
        found = make_loss(name, **options)(joiner, **alone).per_utterance
        torch.testing.assert_close(found, together[b : b + 1], rtol=0, atol=1e-12)


def test_every_combination_of_paths_is_in_the_full_loss(joiner, batch):
    """The oracle of this file against the family's root, once."""
    out = make_loss("full")(joiner, **batch)
    for b, window in itertools.product(range(4), [9]):
        expected = sum_of_windowed_paths(joiner, batch, b, window, window, "regular")
        torch.testing.assert_close(out.per_utterance[b], expected, rtol=0, atol=1e-10)


def test_the_library_needs_neither_hydra_nor_lhotse():
    script = (
        "import sys\n"
        "for name in ('hydra', 'omegaconf', 'lhotse', 'sentencepiece', 'soundfile', 'matplotlib', 'tensorboard'):\n"
        "    sys.modules[name] = None\n"
        "import asr.losses\n"
        "for arcs in ('standard', 'hat', 'multi_blank', 'tdt'):\n"
        "    asr.losses.make('pruned', vocab_size=5, encoder_dim=3, predictor_dim=3, prune_range=5, arcs=arcs)\n"
        "    asr.losses.make('full', vocab_size=5, arcs=arcs)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_what_computes_a_loss_is_said():
    joiner, sizes = Joiner(4, 5), {"vocab_size": 5, "encoder_dim": 4, "predictor_dim": 4}
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert "torch" in make("full", **sizes).backends(joiner, cpu)
    assert make("pruned", **sizes).backends(joiner, cpu) == "numba joiner, lattice by numba"
    assert make("pruned", joint="chunked", **sizes).backends(joiner, cpu) == "chunked joiner, lattice by numba"
    assert make("pruned", **sizes).backends(joiner, gpu) == "fused joiner, lattice by triton"
    assert make("ar", backend="reference", joint="chunked", **sizes).backends(joiner, gpu) == (
        "chunked joiner, lattice by reference"
    )
    assert make("optimized", **sizes).backends(torch.nn.Bilinear(4, 4, 5), gpu) == "chunked joiner, lattice by triton"
