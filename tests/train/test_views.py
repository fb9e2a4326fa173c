"""Training on two views of each utterance: what a batch holds and what is counted, and the views of CTC."""

import pytest
import torch

from asr.config import DataOptions, FullLossOptions, ModelOptions, OptimizedLossOptions, TrainConfig, TrainOptions
from asr.data.batch import Position
from asr.data.memory import BatchSize
from asr.data.tokenizer import load_tokenizer
from asr.errors import InputError
from asr.losses import make
from asr.losses.ctc import ctc_divergence
from asr.losses.objective import Objective
from asr.models.subsampling import frame_timing
from asr.train.data import TrainingData
from asr.train.preflight import noise_batch, probe_sizes


def config_of(corpus, loss, **train):
    data = DataOptions(
        train_cuts=[str(corpus.train)], valid_cuts=[str(corpus.dev)], max_seconds=8.0, max_utterances=7, buckets=2
    )
    return TrainConfig(run="", model=ModelOptions(), loss=loss, data=data, train=TrainOptions(**train))


@pytest.mark.parametrize(
    ("loss", "train", "views"),
    [
        (FullLossOptions(), {}, 1),
        (OptimizedLossOptions(consistency=0.2), {}, 2),
        (FullLossOptions(), {"ctc_consistency": 0.1}, 2),
    ],
)
def test_a_batch_of_views_is_no_larger_and_has_half_as_many_utterances(tiny_corpus, loss, train, views):
    data = TrainingData(config_of(tiny_corpus, loss, **train), load_tokenizer(tiny_corpus.tokenizer))
    draws = [draw for draw, _ in zip(data.stream(Position()).whole(), range(12))]
    for draw in draws:
        assert len(draw.cuts) <= 7 // views
        assert views * len(draw.cuts) * max(cut.duration for cut in draw.cuts) <= 8.0 + 2 * 1.5
        assert data.measure(draw.cuts).utterances == views * len(draw.cuts)
    batch = data.train_set[draws[0]]
    assert (batch.views, len(batch)) == (views, views * len(draws[0].cuts))
    assert batch.seconds == pytest.approx(sum(cut.duration for cut in draws[0].cuts))


def test_probes_are_of_whole_utterances():
    for size in probe_sizes([BatchSize(9, 100, 20), BatchSize(3, 700, 120)], views=2):
        assert size.utterances % 2 == 0
    batch = noise_batch(BatchSize(6, 20, 4), 8, 5, frame_timing(4), views=2)
    assert (batch.views, len(batch.ids), len(batch.features), len(batch.labels)) == (2, 6, 6, 6)
    assert torch.equal(*batch.labels.chunk(2))
    assert not torch.equal(*batch.features.chunk(2))


def objective(ctc_weight=0.3, ctc_consistency=0.0):
    torch.manual_seed(0)
    transducer = make("optimized", vocab_size=5, encoder_dim=8, predictor_dim=8)
    return Objective(transducer, 8, 5, ctc_weight, ctc_consistency).double()


def test_the_views_of_ctc_are_drawn_together():
    torch.manual_seed(1)
    encoder_out = torch.randn(4, 6, 8, dtype=torch.float64, requires_grad=True)
    frames, lengths = torch.tensor([6, 4, 6, 4]), torch.tensor([2, 1, 2, 1])
    labels = torch.randint(1, 5, (2, 2)).repeat(2, 1)
    joiner = torch.nn.Bilinear(8, 8, 5).double()
    inputs = joiner, encoder_out, frames, torch.randn(4, 3, 8, dtype=torch.float64), labels, lengths
    plain, together = objective()(*inputs, views=2), objective(ctc_consistency=0.2)(*inputs, views=2)
    p = objective().ctc.log_probs(encoder_out).double()
    expected = [
        sum((p[o, t].exp() * (p[o, t] - p[b, t])).sum() for t in range(frames[b])) for b, o in enumerate((2, 3, 0, 1))
    ]
    torch.testing.assert_close(
        together.parts["ctc_consistency"].double(), torch.stack(expected).detach(), rtol=1e-5, atol=1e-6
    )
    difference = together.per_utterance - plain.per_utterance
    torch.testing.assert_close(difference, 0.3 * 0.2 * torch.stack(expected), rtol=1e-5, atol=1e-6)
    assert "ctc_consistency" not in objective(ctc_consistency=0.2)(*inputs).parts
    # The other view is taken as it is: the gradient is p − q of every frame.
    log_probs = p.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(ctc_divergence(log_probs, frames).sum(), log_probs)
    assert torch.allclose(gradient[1, :4], -p[3, :4].exp())
    assert not gradient[1, 4:].any()


def test_a_share_of_a_ctc_loss_that_there_is_not():
    with pytest.raises(InputError, match="train.ctc_consistency=0.2: it is a share of the CTC loss; set train.ctc_wei"):
        objective(0.0, 0.2)
