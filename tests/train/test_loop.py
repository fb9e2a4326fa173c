"""The loop: exact resume, accumulation, bad batches, and a validation that changes nothing."""

import io
import json
import logging
import re
import time
from dataclasses import replace
from itertools import count

import pytest
import torch
from torch import nn
from tqdm import tqdm

from asr import progress
from asr.config import (
    DataOptions,
    FullLossOptions,
    ModelOptions,
    OptimOptions,
    SpecAugmentOptions,
    TrainConfig,
    TrainOptions,
)
from asr.data import sampler
from asr.data.batch import Batch, Position, Skipped
from asr.data.dataset import Augmentation, SpeechDataset
from asr.data.loader import Loader
from asr.data.manifest import open_cuts
from asr.data.sampler import OnePass, TrainingStream
from asr.data.tokenizer import load_tokenizer
from asr.errors import InputError
from asr.losses.base import LossOutput, NotFiniteError
from asr.models.subsampling import frame_timing
from asr.runs import state
from asr.runs.directory import RunDirectory
from asr.train.loop import Trainer, position_in
from asr.train.observe import validation_decoder
from asr.train.task import make_task
from asr.train.validate import validate
from asr.train.window import UNREPEATABLE

CPU = torch.device("cpu")
OPTIM = OptimOptions(lr=0.05, warmup_steps=3, head_warmup_steps=0, clip_norm=1.0)
OPTIONS = TrainOptions(steps=12, log_every=3, validate_every=100, save_every=100, average_last=20)
BATCHES_PER_EPOCH = 5


class LinearTask(nn.Module):
    """Squared error of a small network with dropout."""

    def __init__(self, dropout=0.5):
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Sequential()
        self.model.encoder = nn.Sequential(nn.Linear(4, 8), nn.Dropout(dropout))
        self.model.head = nn.Linear(8, 1)
        self.objective = nn.Identity()

    def outputs(self, batch):
        out = self.model(batch.features)
        return out, batch.feature_frames, out

    def loss(self, batch, outputs):
        per_utterance = outputs[0].square().sum((1, 2))
        return LossOutput(per_utterance, {"square": per_utterance.detach()}, len(batch))


def make_batch(position, rows=3, frames=2, value=None):
    """Random features that depend on the position alone, or `value` everywhere."""
    generator = torch.Generator().manual_seed(100 * position.epoch + position.batch)
    features = torch.randn(rows, frames, 4, generator=generator)
    if value is not None:
        features.fill_(value)
    ones = torch.ones(rows, dtype=torch.long)
    ids = [f"u{row}" for row in range(rows)]
    return Batch(ids, ids, features, ones * frames, ones[:, None], ones, seconds=1.0, position=position)


def stream(start, make=make_batch):
    epoch, done = start.epoch, start.batch
    while True:
        for batch in range(done, BATCHES_PER_EPOCH):
            yield make(Position(epoch, batch + 1))
        epoch, done = epoch + 1, 0


@pytest.fixture
def trainer_in(tmp_path):
    """A function that makes a trainer with a run directory of its own, named."""
    runs = []

    def make(name, task=None, batches=stream, validate=lambda step: {}, optim=OPTIM, **options):
        run = RunDirectory(tmp_path / name)
        task = LinearTask() if task is None else task
        trainer = Trainer(task, batches, validate, run, replace(OPTIONS, **options), optim, CPU)
        found = state.newest_sound(run.checkpoints, [])
        if found:
            trainer.restore(found)
        run.open_logs(trainer.step)
        runs.append(run)
        return trainer

    yield make
    for run in runs:
        run.close()
    for handler in logging.getLogger("asr").handlers[:]:
        logging.getLogger("asr").removeHandler(handler)
        handler.close()


def train_lines(trainer):
    """What was logged in training and does not depend on the clock or on memory."""
    lines = [json.loads(line) for line in trainer.run.metrics.read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.endswith(UNREPEATABLE)} for line in lines if "train/loss" in line]


def assert_same_weights(one, other):
    one, other = one.task.state_dict(), other.task.state_dict()
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in one)


def interrupted(trainer_in, name, stops, **options):
    """Train in pieces: each one stops at a step of `stops`, and a new trainer goes on."""
    for stop in stops:
        trainer = trainer_in(name, **options)
        stop_after(trainer, stop)
        assert not trainer.fit()
        assert trainer.step == stop
    trainer = trainer_in(name, **options)
    assert trainer.step == stops[-1]
    assert trainer.fit()
    return trainer


def stop_after(trainer, step):
    """Ask the trainer to stop in its step number `step`."""
    train_step = trainer.train_step

    def stopping(group):
        train_step(group)
        if trainer.step == step:
            trainer.stop()

    trainer.train_step = stopping


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("stops", [[1], [4], [6], [11], [2, 3, 9]])
def test_a_resumed_training_is_the_same_bit_for_bit(trainer_in, stops, accumulate):
    whole = trainer_in("whole", accumulate=accumulate, ema=0.8)
    assert whole.fit()
    resumed = interrupted(trainer_in, "resumed", stops, accumulate=accumulate, ema=0.8)
    assert whole.average.steps == resumed.average.steps == 12
    assert all(torch.equal(value, resumed.average.weights[name]) for name, value in whole.average.weights.items())
    assert_same_weights(whole, resumed)
    assert train_lines(whole) == train_lines(resumed)
    assert [line["step"] for line in train_lines(whole)] == [3, 6, 9, 12]
    assert whole.position == resumed.position


def test_an_older_checkpoint_tells_no_state_of_the_sampler():
    assert position_in({"position": [1, 4]}) == Position(1, 4)
    assert position_in({"position": [1, 4]}).sampler is None


def test_another_seed_draws_another_dropout(trainer_in):
    one, other = trainer_in("one"), trainer_in("other", seed=1)
    one.fit()
    other.fit()
    assert not torch.equal(one.task.model.encoder[0].weight, other.task.model.encoder[0].weight)


@pytest.fixture
def speech(tiny_corpus, request):
    """Configuration, tokenizer, stream and validation of the tiny corpus, with speeds, masks and dropout.

    Its parameter is the weight of the consistency between two views; 0 by default, and one view.
    """
    consistency = getattr(request, "param", 0.0)
    data = DataOptions(max_seconds=5.0, buckets=2, speed_factors=[0.9, 1.1])
    model = ModelOptions(
        subsampling_channels=4,
        encoder_dim=8,
        layers=1,
        heads=2,
        feedforward_dim=8,
        kernel_size=3,
        predictor_dim=8,
        joiner_dim=8,
        dropout=0.2,
    )
    config = TrainConfig(run="", model=model, loss=FullLossOptions(consistency=consistency), data=data)
    tokenizer = load_tokenizer(tiny_corpus.tokenizer)
    train, dev = open_cuts([str(tiny_corpus.train)]), open_cuts([str(tiny_corpus.dev)])
    masks = Augmentation(SpecAugmentOptions(), 0)
    train_set = SpeechDataset(80, frame_timing(4), tokenizer, masks, views=config.views)
    dev_set = SpeechDataset(80, frame_timing(4), tokenizer)

    def task():
        torch.manual_seed(0)
        return make_task(config, tokenizer.vocab_size)

    def batches(start):
        return iter(Loader(train_set, TrainingStream(train, data, 0, start)))

    def run_validation(task):
        loader = Loader(dev_set, OnePass(dev, data))
        return validate(task, loader, validation_decoder(task, config, tokenizer, CPU), CPU).measure()

    return task, batches, run_validation


@pytest.mark.parametrize("speech", [0.0, 0.3], ids=["one view", "two views"], indirect=True)
def test_a_resumed_training_of_a_transducer_is_the_same_bit_for_bit(trainer_in, speech, monkeypatch):
    monkeypatch.setattr(sampler, "STATE_EVERY", 2)
    task, batches, _ = speech
    options = {"batches": batches, "steps": 8, "log_every": 2, "accumulate": 2}
    whole = trainer_in("whole", task=task(), **options)
    whole.fit()
    first = trainer_in("resumed", task=task(), **options)
    stop_after(first, 3)
    first.fit()
    info = state.newest_sound(first.run.checkpoints, []).info
    assert (info["position"], info["sampler"]["batch"]) == ([0, 6], 4)
    torch.manual_seed(99)
    resumed = trainer_in("resumed", task=task(), **options)
    resumed.fit()
    assert_same_weights(whole, resumed)
    assert train_lines(whole) == train_lines(resumed)
    views = {line.get("train/consistency", 0.0) > 0 for line in train_lines(whole)}
    assert views == {whole.task.objective.transducer.options.consistency > 0}


def test_validation_changes_nothing_in_training(trainer_in, speech):
    task, batches, run_validation = speech
    with_validation = trainer_in(
        "with",
        task=task(),
        batches=batches,
        steps=6,
        validate_every=2,
        validate=lambda step: run_validation(with_validation.task),
    )
    without = trainer_in("without", task=task(), batches=batches, steps=6)
    with_validation.fit()
    without.fit()
    assert_same_weights(with_validation, without)
    assert train_lines(with_validation) == train_lines(without)
    checkpoints = state.checkpoints(with_validation.run.checkpoints)
    names = ["errors", "loss", "no_loss", "skipped", "utterances", "wer", "words"]
    assert [sorted(state.metrics_of(path)) for path in checkpoints] == [names] * 3
    assert with_validation.task.training


def test_two_half_batches_have_the_gradient_of_the_whole(trainer_in):
    trainer = trainer_in("run", task=LinearTask(dropout=0.0), optim=replace(OPTIM, clip_norm=0))
    whole = make_batch(Position(0, 1), rows=6)
    whole.label_lengths[:2] = 4
    halves = [
        replace(whole, ids=whole.ids[part], features=whole.features[part], label_lengths=whole.label_lengths[part])
        for part in (slice(0, 2), slice(2, 6))
    ]
    gradients = []
    trainer.optimizer.step = lambda: gradients.append([p.grad.clone() for p in trainer.task.parameters()])
    trainer.train_step([whole])
    trainer.train_step(halves)
    for one, other in zip(*gradients):
        assert one.abs().max() > 1e-3
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    expected = trainer.task.loss(whole, trainer.task.outputs(whole)).per_utterance.sum().detach()
    assert trainer.window["loss"] == pytest.approx(2 * float(expected) / 12)


def test_an_utterance_without_a_finite_loss_is_named_and_its_step_left_out(trainer_in, monkeypatch):
    class Fails(LinearTask):
        def loss(self, batch, outputs):
            if batch.position.batch == 2:
                raise NotFiniteError(1)
            return super().loss(batch, outputs)

    trainer, warned = trainer_in("run", task=Fails()), []
    monkeypatch.setattr(trainer.logger, "warning", lambda message, *values: warned.append(message % values))
    trainer.train_step([make_batch(Position(0, 1))])
    window = dict(trainer.window)
    trainer.train_step([make_batch(Position(0, 2))])
    assert warned == [
        "step 2: u1: utterance 1 of the batch: its loss is not finite: NaN or inf among its logits; step not taken"
    ]
    assert (trainer.step, trainer.bad_steps, trainer.window) == (2, 1, window)
    trainer.train_step([make_batch(Position(0, 3))])
    assert (trainer.step, trainer.bad_steps) == (3, 0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_batch_without_a_finite_gradient_is_not_applied(trainer_in, value):
    trainer = trainer_in("run")
    trainer.train_step([make_batch(Position(0, 1))])
    before = {name: p.clone() for name, p in trainer.task.state_dict().items()}
    moments = state.split_tensors(trainer.optimizer.state_dict(), tensors := {})
    trainer.train_step([make_batch(Position(0, 2), value=value)])
    assert all(torch.equal(p, before[name]) for name, p in trainer.task.state_dict().items())
    state.split_tensors(trainer.optimizer.state_dict(), after := {})
    assert moments
    assert all(torch.equal(tensor, after[name]) for name, tensor in tensors.items())
    assert (trainer.step, trainer.bad_steps) == (2, 1)
    trainer.train_step([make_batch(Position(0, 3))])
    assert trainer.bad_steps == 0
    assert not torch.equal(trainer.task.model.encoder[0].weight, before["model.encoder.0.weight"])


def test_training_that_diverged_gives_up(trainer_in):
    def bad_from_the_third_on(start):
        numbers = count(1)
        return stream(start, lambda position: make_batch(position, value=None if next(numbers) < 3 else float("nan")))

    trainer = trainer_in("run", batches=bad_from_the_third_on, steps=100)
    with pytest.raises(InputError, match="training diverged"):
        trainer.fit()
    assert trainer.step == 2 + OPTIONS.max_bad_steps - 1


def test_bad_steps_are_counted_across_a_resume(trainer_in):
    options = {"batches": lambda start: stream(start, lambda p: make_batch(p, value=float("nan"))), "steps": 100}
    first = trainer_in("run", **options)
    stop_after(first, OPTIONS.max_bad_steps - 1)
    first.fit()
    with pytest.raises(InputError, match="training diverged"):
        trainer_in("run", **options).fit()


def unreadable(position):
    batch = make_batch(position, rows=0)
    batch.skipped.append(Skipped("broken", "unreadable audio"))
    return batch


def test_a_batch_of_which_nothing_could_be_read_is_left_out_and_named(trainer_in):
    def some(position):
        return unreadable(position) if position.batch == 2 else make_batch(position)

    trainer = trainer_in("run", batches=lambda start: stream(start, some), steps=4)
    assert trainer.fit()
    assert trainer.position == Position(0, 5)
    assert "skipped broken: unreadable audio" in trainer.run.log.read_text()


def test_a_corpus_of_which_nothing_can_be_read_does_not_train_forever(trainer_in):
    trainer = trainer_in("run", batches=lambda start: stream(start, unreadable))
    with pytest.raises(InputError, match="no utterance of a whole epoch could be read"):
        trainer.fit()


def test_checkpoints_are_where_they_are_due(trainer_in):
    trainer = trainer_in(
        "run", steps=10, save_every=4, validate_every=3, validate=lambda step: {"wer": 100.0 - step, "loss": 1.0}
    )
    trainer.fit()
    steps = [int(path.name[-8:]) for path in state.checkpoints(trainer.run.checkpoints)]
    assert steps == [3, 4, 6, 8, 9, 10]


def test_the_learning_rate_of_a_step_is_that_of_the_schedule(trainer_in):
    trainer = trainer_in("run", log_every=1)
    trainer.fit()
    rates = [line["train/lr"] for line in train_lines(trainer)]
    assert rates[:3] == pytest.approx([OPTIM.lr / 3, OPTIM.lr * 2 / 3, OPTIM.lr], rel=1e-12)
    assert rates[3:] == sorted(rates[3:], reverse=True)


def console_of(trainer):
    """What is logged, as lines, from now on."""
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    trainer.logger.addHandler(handler)
    return said


def test_the_console_has_the_rate_in_use_while_the_encoder_waits_for_the_heads(trainer_in):
    trainer = trainer_in("run", log_every=1, steps=7, optim=replace(OPTIM, head_warmup_steps=2, warmup_steps=4))
    said = console_of(trainer)
    trainer.fit()
    rates = [re.search(r"  lr (.*?)  ", line).group(1) for line in said if line.startswith("step")]
    assert rates[:4] == [
        "2.50e-02 (encoder 0.00e+00)",
        "5.00e-02 (encoder 0.00e+00)",
        "5.00e-02 (encoder 2.50e-02)",
        "5.00e-02",
    ]
    assert [line["train/lr"] for line in train_lines(trainer)][:4] == [0, 0, 0.025, 0.05]


@pytest.mark.parametrize("terminal", [False, True])
def test_lines_of_steps_are_logged_and_beside_a_bar_not_shown(trainer_in, monkeypatch, terminal):
    trainer, levels = trainer_in("run", log_every=1, steps=3), []
    handler = logging.Handler()
    handler.emit = lambda record: levels.append(record.levelname) if "step %d/%d" in record.msg else None
    trainer.logger.addHandler(handler)
    monkeypatch.setattr(trainer, "progress_bar", lambda: tqdm(file=io.StringIO(), disable=not terminal))
    trainer.fit()
    assert levels == ["DEBUG" if terminal else "INFO"] * 3


def test_the_rate_of_a_line_that_is_written_late_is_that_of_its_step(trainer_in, monkeypatch):
    settings = {"log_every": 2, "steps": 4, "optim": replace(OPTIM, head_warmup_steps=2, warmup_steps=4)}
    first = trainer_in("run", **settings)
    monkeypatch.setattr(first, "log", lambda bar: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        first.fit()
    second = trainer_in("run", **settings)
    said = console_of(second)
    second.fit()
    assert "  lr 5.00e-02 (encoder 0.00e+00)  " in said[0]
    assert said[0].startswith("step 2/4")


def test_what_takes_long_in_the_first_step_is_told_and_then_when_a_line_is_due(trainer_in, monkeypatch):
    monkeypatch.setattr(progress, "SLOW_SECONDS", 0.0)
    trainer = trainer_in("run", log_every=5, steps=5)
    said = console_of(trainer)
    for name in ("take", "train_step"):
        monkeypatch.setattr(trainer, name, once_heard(len(said) + (name == "train_step"), said, getattr(trainer, name)))
    trainer.fit()
    assert said[0].startswith("waiting for the first batch")
    assert said[1].startswith("in the first step")
    assert re.fullmatch(r"step 1 took \d+\.\d s; there is a line every 5 steps", said[2])
    assert said[3].startswith("step 5/5")
    assert len(said) == 4


def once_heard(before, said, function):
    """`function`, which begins once more than `before` lines have been said."""

    def wrapped(*arguments):
        deadline = time.monotonic() + 60
        while len(said) <= before:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return function(*arguments)

    return wrapped


def test_the_gradient_is_clipped(trainer_in):
    trainer = trainer_in("run", optim=replace(OPTIM, clip_norm=0.01))
    trainer.train_step([make_batch(Position(0, 1))])
    norm = torch.stack([p.grad.norm() for p in trainer.task.parameters()]).norm()
    assert float(norm) == pytest.approx(0.01, rel=1e-3)
    assert trainer.window["gradient_norm"] > 0.1
