"""The moving average of weights: a mean at first, an exponential average in the end."""

import pytest
import torch
from torch import nn

from asr.train.average import MovingAverage


class Counted(nn.Module):
    """A weight and a count."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    def set(self, value):
        self.weight.data.fill_(value)
        self.batches += 1


def test_it_is_the_mean_at_first_and_forgets_in_the_end():
    model = Counted()
    average = MovingAverage(model, decay=0.75)
    expected, seen = 0.0, []
    for step, value in enumerate([3.0, -1.0, 4.0, 8.0, 5.0, 9.0], 1):
        model.set(value)
        average.update()
        seen.append(value)
        expected = sum(seen) / step if step <= 4 else 0.75 * expected + 0.25 * value
        assert average.weights["weight"].tolist() == pytest.approx([expected] * 2, rel=1e-6)
        assert int(average.weights["batches"]) == step
    assert model.weight.tolist() == [9.0, 9.0]


def test_it_does_not_move_with_the_model_between_updates():
    model = Counted()
    average = MovingAverage(model, decay=0.9)
    model.set(1.0)
    assert average.weights["weight"].tolist() == [0.0, 0.0]
