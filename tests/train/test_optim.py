"""The learning rate at the corners of its schedules, and what is decayed."""

import math
from dataclasses import replace

import pytest
from torch import nn

from asr.cli.compose import compose
from asr.config import OptimOptions
from asr.train.optim import learning_rate, make_optimizer, set_learning_rate


def rates(schedule, *steps, warmup=10, total=110, head_warmup=0, is_encoder=True):
    options = OptimOptions(lr=2.0, warmup_steps=warmup, head_warmup_steps=head_warmup, schedule=schedule, final_lr=0.1)
    return [learning_rate(step, total, options, is_encoder) for step in steps]


@pytest.mark.parametrize("schedule", ["cosine", "inverse_sqrt", "constant"])
def test_warm_up_is_linear_and_ends_at_the_peak(schedule):
    assert rates(schedule, 0, 4, 9) == pytest.approx([0.2, 1.0, 2.0], rel=1e-12)


def test_cosine_falls_from_the_peak_to_its_final_share():
    assert rates("cosine", 10, 60, 110, 500) == pytest.approx([2.0, 0.2 + 1.8 / 2, 0.2, 0.2], rel=1e-12)
    quarter = 0.2 + 1.8 * (1 + math.sqrt(0.5)) / 2
    assert rates("cosine", 35) == pytest.approx([quarter], rel=1e-12)


def test_inverse_square_root_falls_with_the_step():
    assert rates("inverse_sqrt", 10, 40, 90) == pytest.approx([2.0, 1.0, 2 / 3], rel=1e-12)


def test_a_constant_rate_stays():
    assert rates("constant", 10, 60, 109) == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(("schedule", "last"), [("cosine", 0.2), ("inverse_sqrt", 2 / math.sqrt(111)), ("constant", 2)])
def test_without_warm_up_the_first_step_has_the_peak(schedule, last):
    assert rates(schedule, 0, 110, warmup=0) == pytest.approx([2.0, last], rel=1e-12)


def test_a_warm_up_longer_than_the_training_does_not_fail():
    assert rates("cosine", 0, 4, 5, warmup=5, total=3) == pytest.approx([0.4, 2.0, 2.0], rel=1e-12)


def test_heads_warm_up_first_and_the_encoder_after_them():
    encoder = rates("constant", 0, 3, 4, 6, 9, 10, head_warmup=4)
    assert encoder == pytest.approx([0, 0, 2 / 6, 1.0, 2.0, 2.0], rel=1e-12)
    heads = rates("constant", 0, 1, 3, 4, 9, head_warmup=4, is_encoder=False)
    assert heads == pytest.approx([0.5, 1.0, 2.0, 2.0, 2.0], rel=1e-12)


class EncoderAndHead(nn.Module):
    """Parameters of every kind, some of them an encoder's."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv1d(2, 3, 3), nn.LayerNorm(3))
        self.head = nn.Linear(3, 4)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def test_matrices_are_decayed_and_vectors_are_not():
    module = EncoderAndHead()
    optimizer = make_optimizer(module, module.encoder, OptimOptions(weight_decay=0.3, betas=[0.8, 0.9]))
    found = {
        (group["is_encoder"], group["weight_decay"]): {id(p) for p in group["params"]}
        for group in optimizer.param_groups
    }
    convolution, norm = module.encoder
    assert found == {
        (True, 0.3): {id(convolution.weight)},
        (True, 0.0): {id(convolution.bias), id(norm.weight), id(norm.bias)},
        (False, 0.3): {id(module.head.weight)},
        (False, 0.0): {id(module.head.bias)},
    }
    assert all(group["betas"] == (0.8, 0.9) for group in optimizer.param_groups)


def test_the_rates_are_set_in_every_group():
    module = EncoderAndHead()
    options = OptimOptions(lr=1.0, warmup_steps=4, head_warmup_steps=2)
    optimizer = make_optimizer(module, module.encoder, options)
    assert set_learning_rate(optimizer, 2, 100, options) == 0.5
    assert {group["is_encoder"]: group["lr"] for group in optimizer.param_groups} == {True: 0.5, False: 1.0}


def eden(step, epoch, is_encoder=True, **options):
    options = OptimOptions(schedule="eden", lr=2.0, eden_steps=30.0, eden_epochs=4.0, warmup_steps=0, **options)
    return learning_rate(step, 100, replace(options, head_warmup_steps=0), is_encoder, epoch)


def test_eden_is_its_formula():
    for step, epoch in ((0, 0), (40, 0), (0, 3), (40, 3), (3000, 400)):
        formula = ((step**2 + 30**2) / 30**2) ** -0.25 * ((epoch**2 + 4**2) / 4**2) ** -0.25
        assert eden(step, epoch) == pytest.approx(2.0 * formula, rel=1e-12)
    assert eden(0, 0) == 2.0
    assert eden(40, 3) == pytest.approx(2.0 * (3 / 5) ** 0.5 * (4 / 5) ** 0.5, rel=1e-12)


def test_a_warm_up_may_start_above_nothing_but_not_the_encoders_before_its_turn():
    options = OptimOptions(lr=2.0, warmup_steps=10, head_warmup_steps=4, warmup_start=0.5, schedule="constant")
    encoder = [learning_rate(step, 100, options) for step in (0, 3, 4, 6, 9, 50)]
    assert encoder == pytest.approx([0, 0, 2 * (0.5 + 0.5 / 6), 1.5, 2, 2], rel=1e-12)
    heads = [learning_rate(step, 100, options, is_encoder=False) for step in (0, 1, 3, 4)]
    assert heads == pytest.approx([1.25, 1.5, 2, 2], rel=1e-12)


def test_the_configuration_of_scaled_adam_is_one_option():
    config = compose("train", ["run=x", "optim=scaled_adam"]).optim
    assert (config.name, config.schedule, config.lr, config.warmup_start) == ("scaled_adam", "eden", 0.045, 0.5)
    module = EncoderAndHead()
    optimizer = make_optimizer(module, module.encoder, config)
    assert type(optimizer).__name__ == "ScaledAdam"
    assert [group["is_encoder"] for group in optimizer.param_groups] == [False, False, True, True]
    assert compose("train", ["run=x"]).optim.name == "adamw"
