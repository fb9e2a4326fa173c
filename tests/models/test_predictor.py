"""The stateless predictor: sherpa-onnx's convention, and training and search reading the same contexts."""

import pytest
import torch

from asr.models.predictor import StatelessPredictor

CPU = torch.device("cpu")
VOCAB, DIM = 7, 16


def build(context_size: int, dropout: float = 0.0, context_dropout: float = 0.0) -> StatelessPredictor:
    torch.manual_seed(context_size)
    return StatelessPredictor(VOCAB, DIM, context_size, dropout, context_dropout).double()


@pytest.mark.parametrize(("context_size", "row"), [(1, [0]), (2, [-1, 0]), (3, [-1, -1, 0])])
def test_context_before_the_first_label(context_size, row):
    assert build(context_size).start(2, CPU).tolist() == [row, row]


def test_missing_label_has_a_zero_embedding():
    predictor = build(3)
    context = torch.tensor([[-1, 4, 2]])
    embedded = torch.stack((torch.zeros(DIM).double(), predictor.embedding.weight[4], predictor.embedding.weight[2]))
    expected = torch.relu((predictor.mix.weight[:, 0] * embedded.T).sum(1))
    torch.testing.assert_close(predictor(context)[0, 0], expected, rtol=0, atol=1e-12)
    predictor(context).sum().backward()
    assert not predictor.embedding.weight.grad[0].any()


def test_blank_has_an_embedding_of_its_own():
    predictor = build(1)
    expected = torch.relu(predictor.embedding.weight[0])
    assert expected.any()
    assert torch.equal(predictor(predictor.start(1, CPU))[0, 0], expected)


@pytest.mark.parametrize("context_size", [1, 2, 3])
def test_positions_equal_stepping(context_size):
    predictor = build(context_size)
    labels = torch.randint(1, VOCAB, (3, 6))
    known = predictor.positions(labels)
    assert known.shape == (3, 7, DIM)
    context = predictor.start(3, CPU)
    for u in range(7):
        torch.testing.assert_close(known[:, u], predictor(context)[:, 0], rtol=0, atol=1e-12)
        if u < 6:
            context = torch.cat((context[:, 1:], labels[:, u, None]), dim=1)


@pytest.mark.parametrize("context_size", [1, 2, 3])
def test_position_depends_on_the_last_labels_only(context_size):
    predictor = build(context_size)
    labels = torch.randint(1, VOCAB, (1, 8))
    changed = labels.clone()
    changed[0, 3] = labels[0, 3] % (VOCAB - 1) + 1
    differs = (predictor.positions(labels) != predictor.positions(changed)).any(dim=-1)[0]
    assert differs.nonzero()[:, 0].tolist() == list(range(4, 4 + context_size))


def test_no_labels_leave_the_first_position():
    assert build(2).positions(torch.zeros(2, 0, dtype=torch.long)).shape == (2, 1, DIM)


def test_context_dropout_hides_whole_positions_in_training_only():
    predictor = build(2, context_dropout=0.5)
    labels = torch.randint(1, VOCAB, (4, 50))
    hidden = (predictor.positions(labels) == 0).all(dim=2)
    shown = predictor.eval().positions(labels)
    assert 60 < int(hidden.sum()) < 140  # of 204; beyond 5 standard deviations
    torch.testing.assert_close(predictor.train().positions(labels).shape, shown.shape)
    assert not (shown == 0).all(dim=2).any()


@pytest.mark.parametrize("context_size", [1, 2, 3])
def test_tables_give_the_output_of_every_context(context_size):
    predictor = build(context_size, dropout=0.5, context_dropout=0.5).eval()
    label = torch.arange(-1, VOCAB)
    context_NC = torch.cartesian_prod(*[label] * context_size).view(-1, context_size)
    rows = [table[labels] for table, labels in zip(predictor.by_place(), context_NC.T, strict=True)]
    assert torch.equal(sum(rows[1:], rows[0]).relu(), predictor(context_NC)[:, 0])
