"""Batched greedy search against one utterance and one frame at a time."""

import pytest
import torch
from random_models import random_encoded, random_model
from torch import Tensor

from asr.decode import greedy
from asr.decode.greedy import GreedySearch
from asr.decode.search import Hypothesis, search_all
from asr.models.transducer import Transducer

LONGEST = 12


@torch.no_grad()
def naive_greedy(model: Transducer, encoder_out_TJ: Tensor, limit: int) -> Hypothesis:
    """Textbook greedy search of one utterance; the predictor reads all labels so far, as in training."""
    tokens, frames, score, confidences = [], [], 0.0, []
    for t, frame in enumerate(encoder_out_TJ):
        for _ in range(limit):
            predicted = model.predict(torch.tensor([tokens], dtype=torch.long))[:, -1]
            log_probs = model.joiner(frame[None], predicted)[0].log_softmax(-1)
            best = int(log_probs.argmax())
            score += float(log_probs[best])
            if best == 0:
                break
            tokens.append(best)
            frames.append(t)
            confidences.append(float(log_probs[best].exp()))
    return Hypothesis(tokens, frames, score, confidences)


def decode(model: Transducer, limit: int, encoded: Tensor, frames: Tensor) -> list[Hypothesis]:
    """What greedy search finds, one hypothesis for each utterance."""
    found = search_all(GreedySearch(model, limit), encoded, frames)
    assert all(len(hypotheses) == 1 for hypotheses in found)
    return [hypothesis for (hypothesis,) in found]


def assert_same(actual: Hypothesis, expected: Hypothesis) -> None:
    assert actual.tokens == expected.tokens
    assert actual.frames == expected.frames
    assert actual.score == pytest.approx(expected.score, rel=1e-9)
    assert actual.confidences == pytest.approx(expected.confidences, rel=1e-9)


@pytest.mark.parametrize("rows", [1, 16, 64])
@pytest.mark.parametrize("seed", range(30))
def test_batch_equals_the_naive_loop(seed, rows, monkeypatch):
    monkeypatch.setattr(greedy, "ROWS", rows)
    model, (encoded, frames) = random_model(seed), random_encoded(seed)
    limit = 1 + seed % 4
    found = decode(model, limit, encoded, frames)
    assert len(found) == len(encoded)
    assert any(hypothesis.tokens for hypothesis in found)
    for hypothesis, row, length in zip(found, encoded, frames):
        assert_same(hypothesis, naive_greedy(model, row[:length], limit))


@pytest.mark.parametrize("seed", range(5))
def test_result_does_not_depend_on_the_batch(seed):
    model, (encoded, frames) = random_model(seed), random_encoded(100 + seed)
    together = decode(model, 3, encoded, frames)
    for size in (1, 2):
        parts = zip(encoded.split(size), frames.split(size))
        found = [h for rows, lengths in parts for h in decode(model, 3, rows[:, : lengths.max()], lengths)]
        for hypothesis, expected in zip(found, together, strict=True):
            assert_same(hypothesis, expected)


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_no_frame_emits_more_than_the_limit(limit):
    model = random_model(0)
    model.joiner.output.bias.data[0] = -1e3  # never blank: every frame emits all that it may
    encoded, frames = random_encoded(0)
    for hypothesis, length in zip(decode(model, limit, encoded, frames), frames.tolist()):
        assert hypothesis.frames == [t for t in range(length) for _ in range(limit)]
        assert 0 not in hypothesis.tokens


@torch.no_grad()
def path_score(model: Transducer, encoder_out_TJ: Tensor, hypothesis: Hypothesis, limit: int) -> float:
    """Sum of the log-probabilities of the arcs of a path: no blank leaves a frame that was cut off."""
    predicted = model.predict(torch.tensor([hypothesis.tokens], dtype=torch.long))[0]
    score, u = 0.0, 0
    for t, frame in enumerate(encoder_out_TJ):
        emitted = [token for token, at in zip(hypothesis.tokens, hypothesis.frames) if at == t]
        for arc in [*emitted, 0][:limit]:
            score += float(model.joiner(frame[None], predicted[u, None])[0].log_softmax(-1)[arc])
            u += arc != 0
    return score


@pytest.mark.parametrize("limit", [1, 3])
def test_score_is_the_sum_of_the_arcs_taken(limit):
    model, (encoded, frames) = random_model(7), random_encoded(7)
    for hypothesis, row, length in zip(decode(model, limit, encoded, frames), encoded, frames):
        assert hypothesis.score < -1e-3
        assert hypothesis.score == pytest.approx(path_score(model, row[:length], hypothesis, limit), rel=1e-5)


def test_model_that_always_says_blank_gives_nothing():
    model, (encoded, frames) = random_model(0), random_encoded(0)
    torch.nn.init.zeros_(model.joiner.output.weight)
    model.joiner.output.bias.data = torch.tensor([20.0, 0.0, 0.0, 0.0]).double()
    arc = float(model.joiner.output.bias.detach().log_softmax(-1)[0])
    for hypothesis, length in zip(decode(model, 5, encoded, frames), frames.tolist()):
        assert (hypothesis.tokens, hypothesis.frames) == ([], [])
        assert hypothesis.score == pytest.approx(length * arc, rel=1e-5)


@pytest.mark.parametrize("sizes", [[1] * LONGEST, [5, 0, 7], [11, 1]])
@pytest.mark.parametrize("limit", [1, 3])
def test_reading_in_parts_gives_the_result_of_the_whole(sizes, limit):
    model, (encoded, frames) = random_model(3), random_encoded(3)
    session, begin = GreedySearch(model, limit).begin(len(frames)), 0
    for size in sizes:
        session.read(encoded[:, begin : begin + size], (frames - begin).clamp(0, size))
        begin += size
    for (hypothesis,), expected in zip(session.best(), decode(model, limit, encoded, frames), strict=True):
        assert_same(hypothesis, expected)
