"""Losses by name: the full loss against path sums and finite differences, input errors, and the CTC part."""

import itertools
import math

import pytest
import torch
from lattice_paths import sum_paths
from torch import Tensor

from asr.errors import InputError
from asr.losses import LossOutput, make
from asr.losses.ctc import CtcLoss
from asr.losses.objective import Objective
from asr.models.joiner import Joiner

VOCAB, DIM = 5, 3
SIZES = {"vocab_size": VOCAB, "encoder_dim": DIM, "predictor_dim": DIM}
FRAMES, LABEL_LENGTHS = torch.tensor([4, 2, 1, 3]), torch.tensor([2, 3, 1, 0])


def random_batch(seed: int = 0) -> dict[str, Tensor]:
    """Four utterances of unequal lengths, as keyword arguments of a loss."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "encoder_out": torch.randn(4, 4, DIM, generator=generator, dtype=torch.float64),
        "encoder_frames": FRAMES.clone(),
        "predictor_out": torch.randn(4, 4, DIM, generator=generator, dtype=torch.float64),
        "labels": torch.randint(1, VOCAB, (4, 3), generator=generator),
        "label_lengths": LABEL_LENGTHS.clone(),
    }


@pytest.fixture
def batch() -> dict[str, Tensor]:
    return random_batch()


@pytest.fixture
def joiner() -> Joiner:
    torch.manual_seed(1)
    return Joiner(DIM, VOCAB).double()


def add(encoder_rows: Tensor, predictor_rows: Tensor) -> Tensor:
    """A joiner whose logits are chosen by the test: the sum of its inputs."""
    return encoder_rows + predictor_rows


def full_loss(joiner, **batch) -> LossOutput:
    return make("full", **SIZES)(joiner, **batch)


def brute_force(joiner, encoder_out, encoder_frames, predictor_out, labels, label_lengths) -> Tensor:
    """−log P(y|x) of each utterance: node by node, path by path."""
    losses = []
    for b, (frames, count) in enumerate(zip(encoder_frames.tolist(), label_lengths.tolist())):
        blank, label = torch.zeros(frames, count + 1).double(), torch.zeros(frames, count).double()
        for t, u in itertools.product(range(frames), range(count + 1)):
            logits = joiner(encoder_out[b, t, None], predictor_out[b, u, None])[0].detach().double()
            blank[t, u] = logits[0] - logits.logsumexp(0)
            if u < count:
                label[t, u] = logits[labels[b, u]] - logits.logsumexp(0)
        losses.append(-sum_paths(blank.numpy(), label.numpy())[0])
    return torch.tensor(losses, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(5))
def test_loss_is_the_sum_over_all_paths(joiner, seed):
    batch = random_batch(seed)
    out = full_loss(joiner, **batch)
    torch.testing.assert_close(out.per_utterance, brute_force(joiner, **batch), rtol=0, atol=1e-10)
    assert torch.equal(out.parts["transducer"], out.per_utterance)
    assert not out.parts["transducer"].requires_grad
    assert out.nodes == 4 * 4 * 4


def test_gradients_of_encoder_predictor_and_joiner_are_finite_differences(joiner, batch):
    weights = dict(joiner.named_parameters())
    inputs = [batch.pop("encoder_out").requires_grad_(), batch.pop("predictor_out").requires_grad_()]

    def loss(encoder_out, predictor_out, *values):
        def joint(*rows):
            return torch.func.functional_call(joiner, dict(zip(weights, values)), rows)

        return full_loss(joint, encoder_out=encoder_out, predictor_out=predictor_out, **batch).per_utterance

    assert list(weights) == ["output.weight", "output.bias"]
    assert torch.autograd.gradcheck(loss, (*inputs, *weights.values()))


def test_padding_changes_neither_loss_nor_gradient(joiner, batch):
    def run(pad):
        encoder_out, predictor_out = batch["encoder_out"].clone(), batch["predictor_out"].clone()
        for b, (frames, count) in enumerate(zip(FRAMES, LABEL_LENGTHS)):
            encoder_out[b, frames:], predictor_out[b, count + 1 :] = pad, pad
        inputs = {"encoder_out": encoder_out.requires_grad_(), "predictor_out": predictor_out.requires_grad_()}
        loss = full_loss(joiner, **{**batch, **inputs}).per_utterance
        return loss, *torch.autograd.grad(loss.sum(), (encoder_out, predictor_out, *joiner.parameters()))

    for zeros, large in zip(run(0.0), run(1e3)):
        torch.testing.assert_close(large, zeros, rtol=0, atol=1e-13)


def test_unused_labels_may_be_anything(joiner, batch):
    expected = full_loss(joiner, **batch).per_utterance
    unused = torch.arange(3) >= LABEL_LENGTHS[:, None]
    for value in (-1, 0, VOCAB, 10**6):
        batch["labels"][unused] = value
        assert torch.equal(full_loss(joiner, **batch).per_utterance, expected)


def test_batch_without_labels_is_the_sum_of_blanks(joiner, batch):
    batch |= {"labels": torch.zeros(4, 0, dtype=torch.long), "label_lengths": torch.zeros(4, dtype=torch.long)}
    batch["predictor_out"] = batch["predictor_out"][:, :1].requires_grad_()
    loss = full_loss(joiner, **batch).per_utterance
    torch.testing.assert_close(loss, brute_force(joiner, **batch), rtol=0, atol=1e-12)
    loss.sum().backward()
    assert (batch["predictor_out"].grad != 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_large_logits_in_half_precision(batch, dtype):
    generator = torch.Generator().manual_seed(0)
    for rows in ("encoder_out", "predictor_out"):
        values = 1e4 * torch.randn(4, 4, VOCAB, generator=generator).clamp(-2, 2)
        batch[rows] = values.to(dtype).requires_grad_()
    loss = full_loss(add, **batch).per_utterance
    assert loss.dtype == torch.float32
    assert loss.max() > 1e4
    torch.testing.assert_close(loss.double(), brute_force(add, **batch), rtol=1e-6, atol=0)
    loss.sum().backward()
    for rows in ("encoder_out", "predictor_out"):
        assert batch[rows].grad.isfinite().all()
        assert batch[rows].grad.any()


@pytest.mark.parametrize(
    ("name", "utterance", "value", "message"),
    [
        ("encoder_frames", 2, 0, "utterance 2 of the batch has 0 frames, but encoder_out holds 1 to 4"),
        ("encoder_frames", 1, 5, "utterance 1 of the batch has 5 frames, but encoder_out holds 1 to 4"),
        ("label_lengths", 3, -1, "utterance 3 of the batch has -1 labels, but the label tensor holds 0 to 3"),
        ("label_lengths", 0, 4, "utterance 0 of the batch has 4 labels, but the label tensor holds 0 to 3"),
        ("labels", (1, 2), 0, "utterance 1 of the batch: label 2 is 0, but labels are 1 to 4"),
        ("labels", (1, 0), VOCAB, "utterance 1 of the batch: label 0 is 5, but labels are 1 to 4"),
        ("labels", (0, 1), -1, "utterance 0 of the batch: label 1 is -1, but labels are 1 to 4"),
    ],
)
def test_impossible_input_names_the_utterance(joiner, batch, name, utterance, value, message):
    batch[name][utterance] = value
    with pytest.raises(InputError, match=message):
        full_loss(joiner, **batch)


@pytest.mark.parametrize("rows", [(slice(None), slice(1, None)), (slice(1, None), slice(None))])
def test_predictor_output_of_the_wrong_shape(joiner, batch, rows):
    batch["predictor_out"] = batch["predictor_out"][rows]
    with pytest.raises(InputError, match=r"4 utterances with up to 3 labels need \(4, 4, D\)"):
        full_loss(joiner, **batch)


@pytest.mark.parametrize("loss", ["full", "optimized", "ar"])
def test_a_loss_without_parameters_needs_no_widths(joiner, batch, loss):
    alignment = torch.full_like(batch["labels"], -1)
    with_widths, without = (
        make(loss, **sizes)(joiner, **batch, alignment=alignment) for sizes in (SIZES, {"vocab_size": VOCAB})
    )
    assert torch.equal(with_widths.per_utterance, without.per_utterance)


@pytest.mark.parametrize("widths", [{}, {"encoder_dim": 3}, {"predictor_dim": 3}])
def test_widths_that_a_loss_needs_are_named(widths):
    with pytest.raises(
        InputError, match="loss pruned has parameters of its own: give it encoder_dim and predictor_dim"
    ):
        make("pruned", vocab_size=VOCAB, **widths)


@pytest.mark.parametrize("name", ["encoder_out", "encoder_frames", "predictor_out", "labels", "label_lengths"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.tolist(), r"must be a tensor of shape \(B.*, and is a list"),
        (lambda value: None, r"must be a tensor of shape \(B.*, and is a NoneType"),
        (lambda value: value[None], r"must have shape \(B.*, and has \(1, 4"),
        (lambda value: value[0], r"must have shape \(B"),
    ],
)
def test_an_argument_that_is_no_such_tensor_is_named(joiner, batch, name, change, message):
    batch[name] = change(batch[name].detach())
    with pytest.raises(InputError, match=f"^{name} {message}"):
        full_loss(joiner, **batch)


@pytest.mark.parametrize("name", ["encoder_frames", "labels", "label_lengths"])
def test_counts_are_whole_numbers_one_for_each_utterance(joiner, batch, name):
    with pytest.raises(InputError, match=f"^{name} must hold whole numbers, and is of torch.float32"):
        full_loss(joiner, **{**batch, name: batch[name].float()})
    with pytest.raises(InputError, match=f"^{name} must have shape .*, for 4 utterances, and has \\(3,"):
        full_loss(joiner, **{**batch, name: batch[name][:3]})


@pytest.mark.parametrize(
    ("alignment", "message"),
    [([[0]], "must be a tensor"), (torch.zeros(4), "must have shape"), (torch.zeros(4, 3), "must hold whole numbers")],
)
def test_an_alignment_that_is_no_such_tensor_is_named(joiner, batch, alignment, message):
    with pytest.raises(InputError, match=f"^alignment {message}"):
        make("ar", **SIZES)(joiner, **batch, alignment=alignment)


def test_unknown_loss_or_option():
    with pytest.raises(InputError, match="no loss is called 'ful'; did you mean full.* choices: full, optimized"):
        make("ful", **SIZES)
    with pytest.raises(InputError, match="loss 'pruned': unknown option prune_rage; did you mean prune_range"):
        make("pruned", **SIZES, prune_rage=1)
    with pytest.raises(InputError, match=r"loss.chunk_nodes=-1: must be >= 0"):
        make("optimized", **SIZES, chunk_nodes=-1)
    with pytest.raises(InputError, match="loss.topology=modfied: unknown value; did you mean modified"):
        make("full", **SIZES, topology="modfied")


def objective(ctc_weight: float, seed: int = 2) -> Objective:
    torch.manual_seed(seed)
    return Objective(make("full", **SIZES), DIM, VOCAB, ctc_weight).double()


def test_objective_is_the_weighted_sum_of_its_parts(joiner, batch):
    out = objective(0.3)(joiner, **batch)
    assert set(out.parts) == {"transducer", "ctc"}
    assert not any(part.requires_grad for part in out.parts.values())
    torch.testing.assert_close(out.parts["transducer"], full_loss(joiner, **batch).per_utterance, rtol=0, atol=0)
    expected = out.parts["transducer"] + 0.3 * out.parts["ctc"]
    torch.testing.assert_close(out.per_utterance, expected, rtol=0, atol=1e-12)
    assert out.parts["ctc"][0] > 0.1
    assert out.nodes == 4 * 4 * 4


def test_objective_trains_the_encoder_by_both_parts(joiner, batch):
    encoder_out = batch["encoder_out"].requires_grad_()
    gradients = []
    for weight in (0.0, 1.0, 2.0):
        loss = objective(weight)(joiner, **batch).per_utterance.sum()
        gradients.append(torch.autograd.grad(loss, encoder_out)[0])
    by_ctc = gradients[1] - gradients[0]
    assert by_ctc.abs().max() > 0.01
    torch.testing.assert_close(gradients[2] - gradients[0], 2 * by_ctc, rtol=0, atol=1e-5)


def test_objective_without_ctc_has_no_ctc(joiner, batch):
    without = objective(0.0)
    assert list(without.parameters()) == []
    assert set(without(joiner, **batch).parts) == {"transducer"}


def ctc_by_brute_force(log_probs_TV: Tensor, labels: list[int]) -> float:
    """−log of the probability of all frame labellings that collapse to `labels`."""
    frames, vocab = log_probs_TV.shape
    total = 0.0
    for path in itertools.product(range(vocab), repeat=frames):
        if [label for label, _ in itertools.groupby(path) if label] == labels:
            total += math.exp(sum(float(log_probs_TV[t, label]) for t, label in enumerate(path)))
    return -math.log(total)


def test_ctc_is_the_sum_over_all_labellings():
    torch.manual_seed(3)
    ctc = CtcLoss(DIM, 4)
    encoder_out = torch.randn(4, 5, DIM)
    frames, label_lengths = torch.tensor([5, 4, 3, 5]), torch.tensor([2, 3, 2, 0])
    labels = torch.tensor([[1, 1, 0], [3, 2, 1], [2, 3, 3], [0, 0, 0]])
    with torch.no_grad():
        loss, log_probs = ctc(encoder_out, frames, labels, label_lengths), ctc.log_probs(encoder_out)
    for b, (t, u) in enumerate(zip(frames.tolist(), label_lengths.tolist())):
        assert float(loss[b]) == pytest.approx(ctc_by_brute_force(log_probs[b, :t], labels[b, :u].tolist()), rel=1e-5)


def test_ctc_with_too_few_frames_is_zero_without_gradient():
    torch.manual_seed(4)
    ctc = CtcLoss(DIM, 4)
    encoder_out = torch.randn(3, 4, DIM, requires_grad=True)
    labels = torch.tensor([[1, 2, 3], [2, 2, 0], [1, 0, 0]])  # two equal labels need a blank between them
    loss = ctc(encoder_out, torch.tensor([2, 2, 1]), labels, torch.tensor([3, 2, 1]))
    loss.sum().backward()
    assert loss[:2].tolist() == [0.0, 0.0]
    assert loss[2] > 0
    assert not encoder_out.grad[:2].any()
    assert encoder_out.grad[2, 0].any()


def test_ctc_of_a_batch_without_labels():
    torch.manual_seed(5)
    ctc = CtcLoss(DIM, 4)
    encoder_out = torch.randn(2, 3, DIM)
    loss = ctc(encoder_out, torch.tensor([3, 2]), torch.zeros(2, 0, dtype=torch.long), torch.tensor([0, 0]))
    blank = -ctc.log_probs(encoder_out)[..., 0]
    torch.testing.assert_close(loss, torch.stack((blank[0].sum(), blank[1, :2].sum())))
