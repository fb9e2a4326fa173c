"""Cross entropy of frames whose labels are known: its value, its weight over a training, and where it has none."""

import pytest
import torch

from asr.losses import make
from asr.losses.frames import UNKNOWN, FrameLoss
from asr.losses.objective import Objective

VOCAB, DIM = 5, 8
LABELS = torch.tensor([[0, 3, 3, UNKNOWN], [UNKNOWN] * 4, [4, UNKNOWN, UNKNOWN, 0]])


def encoded():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 4, DIM, dtype=torch.float64, generator=generator).requires_grad_()


def test_it_is_that_of_the_known_frames_and_so_is_its_gradient():
    loss, encoder_out = FrameLoss(DIM, VOCAB, 1.0, 1).double(), encoded()
    found = loss(encoder_out, LABELS)
    p = loss.output(encoder_out).softmax(2)
    expected = [-(p[0, 0, 0] * p[0, 1, 3] * p[0, 2, 3]).log(), torch.tensor(0.0), -(p[2, 0, 4] * p[2, 3, 0]).log()]
    assert found.tolist() == pytest.approx([float(value) for value in expected], rel=1e-6)
    (gradient,) = torch.autograd.grad(found.sum(), encoder_out)
    hot = torch.nn.functional.one_hot(LABELS.clamp(min=0), VOCAB)
    known = (LABELS != UNKNOWN)[..., None]
    torch.testing.assert_close(gradient, (known * (p - hot)) @ loss.output.weight, rtol=1e-5, atol=1e-7)


def objective(weight):
    torch.manual_seed(0)
    transducer = make("optimized", vocab_size=VOCAB, encoder_dim=DIM, predictor_dim=DIM)
    return Objective(transducer, DIM, VOCAB, 0.3, frame_weight=weight, frame_batches=4).double()


def test_its_weight_falls_to_nothing_and_goes_on_where_it_was():
    inputs = (
        torch.nn.Bilinear(DIM, DIM, VOCAB).double(),
        encoded(),
        torch.tensor([4, 4, 3]),
        torch.randn(3, 3, DIM, dtype=torch.float64),
        torch.tensor([[3, 1], [2, 2], [4, 1]]),
        torch.tensor([2, 2, 1]),
    )
    plain, with_frames = objective(0.0), objective(0.8)
    without = plain(*inputs).per_utterance
    for weight in (0.8, 0.6, 0.4, 0.2, 0.0, 0.0):
        out = with_frames(*inputs, frame_labels=LABELS)
        expected = without + weight * out.parts["frames"] if weight else without
        assert ("frames" in out.parts) == (weight > 0)  # it is not computed for nothing
        torch.testing.assert_close(out.per_utterance, expected, rtol=1e-6, atol=0)
        if weight == 0.6:  # as after a restart
            before, with_frames = with_frames, objective(0.8)
            with_frames.load_state_dict(before.state_dict())
    out.per_utterance.sum().backward()
    assert not any(p.grad.any() for p in with_frames.frames.parameters())  # there, or other processes would wait for it
    with torch.no_grad():
        assert torch.equal(with_frames(*inputs).per_utterance, without)
    assert torch.equal(with_frames.eval()(*inputs).per_utterance, without)
    assert "frames" not in plain(*inputs).parts
