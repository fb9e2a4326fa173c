"""Validation: error rate and emission delay of what a search finds."""

import pytest
import torch
from lhotse.supervision import AlignmentItem

from asr.data.batch import Batch
from asr.data.tokenizer import train_tokenizer
from asr.data.words import frame_seconds
from asr.decode.search import Hypothesis
from asr.losses.base import LossOutput
from asr.train.validate import validate


class Model(torch.nn.Module):
    """Encodes nothing."""

    def encode(self, features, frames, chunk):
        return features, frames


class Task(torch.nn.Module):
    """Loses 2 nats on every utterance."""

    def __init__(self):
        super().__init__()
        self.model = Model()

    def forward(self, batch):
        return LossOutput(torch.full((len(batch),), 2.0), {}, 0, 0)


class Found:
    """A search that finds what it is told to."""

    def __init__(self, hypotheses):
        self.hypotheses = hypotheses

    def begin(self, batch):
        assert batch == len(self.hypotheses)
        return self

    def read(self, encoder_out, frames):
        pass

    def best(self):
        return [[hypothesis] for hypothesis in self.hypotheses]


def test_delays_are_of_utterances_with_times():
    tokenizer = train_tokenizer(["NO YES NO", "YES NO"], "char")
    texts = ["NO YES", "YES NO"]
    labels = [tokenizer.encode(text) for text in texts]
    times = [AlignmentItem("NO", 0.0, 0.3), AlignmentItem("YES", 1.0, 0.4)]
    batch = Batch(
        ids=["a", "b"],
        texts=texts,
        features=torch.zeros(2, 5, 1),
        feature_frames=torch.tensor([5, 5]),
        labels=torch.tensor(labels),
        label_lengths=torch.tensor([7, 7]),
        seconds=1.0,
        words=[times, []],
    )
    frames = [2, 5, 8, 30, 32, 34, 36]
    wrong = tokenizer.encode("YES YES")
    found = [
        Hypothesis(labels[0], frames, 0.0, [1.0] * 7),
        Hypothesis(wrong, list(range(len(wrong))), 0.0, [1.0] * len(wrong)),
    ]
    metrics, utterances = validate(Task(), [batch], Found(found), tokenizer, torch.device("cpu"))
    ends = [0.1, 0.2, 0.3, 1.1, 1.2, 1.3, 1.4]
    late = [frame_seconds(frame) - end for frame, end in zip(frames, ends, strict=True)]
    assert metrics == pytest.approx({"loss": 4 / 14, "wer": 25.0, "delay": sum(late) / 7, "last_delay": late[-1]})
    assert [one.hypothesis for one in utterances] == ["NO YES", "YES YES"]
    assert utterances[0].tokens == ("\u2581", "N", "O", "\u2581", "Y", "E", "S")
    assert utterances[0].times == tuple(round(frame_seconds(frame), 3) for frame in frames)
