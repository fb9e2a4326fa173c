"""The readable lattice against the sum over all of its paths."""

import math

import pytest
import torch
import torchaudio
from lattice_paths import paths, sum_paths
from torch import Tensor

from asr.arcs.standard import standard_arcs
from asr.ops.lattice import reference

SIZES = [(frames, labels) for frames in range(1, 6) for labels in range(5)]
LENGTHS = [(5, 4), (1, 4), (4, 0), (2, 3), (5, 1), (1, 0), (3, 4)]


def random_arcs(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Log-probabilities of blank arcs (B,T,U+1) and label arcs (B,T,U) of nodes with a few other labels."""
    batch, frames, labels = shape
    logits = 3 * torch.randn(batch, frames, labels + 1, 4, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    log_probs = logits.log_softmax(-1)
    return log_probs[..., 0].contiguous(), log_probs[:, :, :labels, 1].contiguous()


def ragged(pad: float | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A batch with the sizes of LENGTHS; what lies beyond an utterance is `pad`, or random like the rest."""
    frames, labels = torch.tensor(LENGTHS).T
    blank, label = random_arcs(len(LENGTHS), int(frames.max()), int(labels.max()))
    if pad is not None:
        for b, (t, u) in enumerate(LENGTHS):
            blank[b, t:], blank[b, :, u + 1 :] = pad, pad
            label[b, t:], label[b, :, u:] = pad, pad
    return blank, label, frames, labels


def log_probability(blank: Tensor, label: Tensor, frames: Tensor, labels: Tensor, topology: str = "regular") -> Tensor:
    """log P of lattices with the standard arcs; a label arc of the last position may hold anything."""
    weights = torch.stack((blank, torch.nn.functional.pad(label, (0, 1), value=math.nan)))
    return reference.log_probability(weights, frames, labels, standard_arcs(topology).moves)


def differentiate(
    blank: Tensor, label: Tensor, frames: Tensor, labels: Tensor, topology: str = "regular"
) -> tuple[Tensor, Tensor, Tensor]:
    """log P and its derivative by every arc; each utterance weighs differently, to show a mix-up."""
    blank, label = blank.clone().requires_grad_(), label.clone().requires_grad_()
    log_p = log_probability(blank, label, frames, labels, topology)
    (log_p * torch.arange(1, len(log_p) + 1)).sum().backward()
    return log_p.detach(), blank.grad, label.grad


def test_oracle_has_every_path_once():
    for frames, labels in SIZES:
        found = [tuple(path) for path in paths(frames, labels)]
        assert len(set(found)) == len(found) == math.comb(frames - 1 + labels, labels)
        assert {path[-1] for path in found} == {("blank", frames - 1, labels)}


@pytest.mark.parametrize(
    ("frames", "labels", "topology"),
    [(*size, "regular") for size in SIZES] + [(*size, "modified") for size in SIZES if size[1] <= size[0]],
)
def test_sum_and_occupations_of_all_paths(frames, labels, topology):
    for seed in range(3):
        blank, label = random_arcs(1, frames, labels, seed=seed)
        log_p, by_blank, by_label = differentiate(
            blank, label, torch.tensor([frames]), torch.tensor([labels]), topology
        )
        expected, blank_occupation, label_occupation = sum_paths(blank[0].numpy(), label[0].numpy(), topology)
        assert float(log_p) == pytest.approx(expected, rel=0, abs=1e-10)
        torch.testing.assert_close(by_blank[0], torch.from_numpy(blank_occupation), rtol=0, atol=1e-10)
        torch.testing.assert_close(by_label[0], torch.from_numpy(label_occupation), rtol=0, atol=1e-10)


def test_gradient_is_that_of_finite_differences():
    frames, labels = torch.tensor([4, 3, 1]), torch.tensor([2, 3, 3])
    arcs = [arc.requires_grad_() for arc in random_arcs(3, 4, 3)]
    assert torch.autograd.gradcheck(lambda blank, label: log_probability(blank, label, frames, labels), arcs)


def test_without_labels_the_path_is_every_blank():
    blank, label = random_arcs(2, 5, 0)
    log_p = log_probability(blank, label, torch.tensor([5, 3]), torch.tensor([0, 0]))
    torch.testing.assert_close(log_p, torch.stack((blank[0, :, 0].sum(), blank[1, :3, 0].sum())), rtol=0, atol=1e-12)


def test_one_frame_emits_all_labels():
    blank, label = random_arcs(1, 1, 40)
    log_p, by_blank, by_label = differentiate(blank, label, torch.tensor([1]), torch.tensor([40]))
    torch.testing.assert_close(log_p[0], label.sum() + blank[0, 0, 40], rtol=0, atol=1e-10)
    assert (by_label == 1).all()
    assert by_blank.flatten().tolist() == [0.0] * 40 + [1.0]


def test_utterances_of_a_batch_equal_themselves_alone():
    blank, label, frames, labels = ragged()
    log_p, by_blank, by_label = differentiate(blank, label, frames, labels)
    for b, (t, u) in enumerate(LENGTHS):
        alone = differentiate(blank[b : b + 1, :t, : u + 1], label[b : b + 1, :t, :u], frames[b, None], labels[b, None])
        torch.testing.assert_close(log_p[b], alone[0][0], rtol=0, atol=1e-12)
        torch.testing.assert_close(by_blank[b, :t, : u + 1], (b + 1) * alone[1][0], rtol=0, atol=1e-12)
        torch.testing.assert_close(by_label[b, :t, :u], (b + 1) * alone[2][0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("pad", [math.nan, math.inf, -math.inf, 1e30])
def test_padding_may_hold_anything_and_has_no_gradient(pad):
    expected = differentiate(*ragged())
    actual = differentiate(*ragged(pad))
    for ours, theirs in zip(actual, expected):
        assert torch.equal(ours, theirs)
    _, blank_grad, label_grad = actual
    for b, (t, u) in enumerate(LENGTHS):
        assert blank_grad[b].count_nonzero() == blank_grad[b, :t, : u + 1].count_nonzero()
        assert label_grad[b].count_nonzero() == label_grad[b, :t, :u].count_nonzero()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_agrees_with_torchaudio():
    generator = torch.Generator().manual_seed(0)
    batch, frames, positions, vocab = 4, 12, 7, 9
    logits = torch.randn(batch, frames, positions, vocab, generator=generator)
    labels = torch.randint(1, vocab, (batch, positions - 1), generator=generator)
    frame_lengths, label_lengths = torch.tensor([12, 9, 3, 1]), torch.tensor([6, 4, 6, 2])
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    targets = torch.nn.functional.pad(labels, (0, 1))[:, None].expand(-1, frames, -1)
    blank, label = standard_arcs().log_probs(ours, targets)
    loss = -log_probability(blank, label[:, :, :-1], frame_lengths, label_lengths)
    expected = torchaudio.functional.rnnt_loss(
        theirs, labels.int(), frame_lengths.int(), label_lengths.int(), blank=0, reduction="none"
    )
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    loss.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)
