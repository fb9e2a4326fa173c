"""Parts of a model that stay as they are, that learn slower, or that LoRA learns for; and their exact resume."""

import pytest
import torch
from saved_runs import beginning, char_tokenizer, random_task, save_run, save_task, small_config

from asr.config import LoraOptions, OptimOptions, TrainOptions
from asr.data.batch import Batch, Position
from asr.errors import InputError
from asr.models.dropout import Dropout
from asr.models.lora import merged
from asr.runs import state
from asr.runs.directory import RunDirectory, silent_logger
from asr.runs.trained import load_trained
from asr.train.loop import Trainer
from asr.train.optim import make_optimizer, set_learning_rate
from asr.train.parts import choose_trained, fitting, names_of
from asr.train.scaled_adam import ScaledAdam
from asr.train.task import make_task

TOKENIZER = char_tokenizer("ABC")
CPU = torch.device("cpu")
OPTIM = OptimOptions(lr=1e-2, warmup_steps=2, head_warmup_steps=0, weight_decay=0.1)
ENCODER_OFF = TrainOptions(freeze=["encoder"])


def fresh_task(dropout=0.0):
    torch.manual_seed(0)
    return make_task(small_config(dropout=dropout), TOKENIZER.vocab_size)


def make_batch(number):
    generator = torch.Generator().manual_seed(number)
    labels = torch.randint(1, TOKENIZER.vocab_size, (3, 4), generator=generator)
    features = torch.randn(3, 50, 8, generator=generator)
    whole = torch.ones(3, dtype=torch.long)
    return Batch(
        ["a"] * 3, ["a"] * 3, features, 50 * whole, labels, 4 * whole, seconds=1.0, position=Position(0, number)
    )


def batches(start):
    number = start.batch
    while True:
        number += 1
        yield make_batch(number)


@pytest.fixture
def trainer_of(tmp_path):
    """A function that makes a trainer, which goes on with the run of its name where there is one."""

    def make(name, config, task):
        silent_logger()
        run = RunDirectory(tmp_path / name)
        run.write_metrics = lambda *_: None
        choose_trained(task, config.train)
        trainer = Trainer(task, batches, lambda step: {}, run, config.train, config.optim, CPU)
        found = state.newest_sound(run.checkpoints, [])
        if found:
            trainer.restore(found)
        return trainer

    return make


def options(**changes):
    return TrainOptions(**{"steps": 6, "log_every": 3, "validate_every": 100, "save_every": 100, **changes})


# Names


def test_a_pattern_is_of_what_it_names_and_of_all_within():
    names = names_of(fresh_task())
    encoder = [name for name in names if name == "encoder" or name.startswith("encoder.")]
    assert sorted(fitting(["encoder"], names, "x")) == sorted(encoder)
    assert sorted(fitting(["encoder.*"], names, "x")) == sorted(name for name in encoder if name != "encoder")
    first = [name for name in encoder if name.startswith("encoder.layers.0")]
    assert sorted(fitting(["encoder.layers.[!1]"], names, "x")) == sorted(first)
    assert "objective.ctc.output.bias" in fitting(["objective.ctc"], names, "x")
    last = fitting(["encoder", "encoder.layers.1"], names, "x")
    assert (last["encoder.layers.0.norm.weight"], last["encoder.layers.1.norm"]) == ("encoder", "encoder.layers.1")


@pytest.mark.parametrize(
    ("pattern", "nearest"),
    [("encoder.layer.0", "did you mean encoder.layers.0"), ("zzz", "there are encoder, encoder_projection, predictor")],
)
def test_a_pattern_that_fits_nothing_is_refused_with_the_nearest_name(pattern, nearest):
    with pytest.raises(InputError, match=f"train.freeze: {pattern} is no part of the model; {nearest}"):
        choose_trained(fresh_task(), TrainOptions(freeze=[pattern]))
    task = fresh_task()
    with pytest.raises(InputError, match=f"optim.lr_factors: {pattern} is no part of the model; {nearest}"):
        make_optimizer(task, task.model.encoder, OptimOptions(lr_factors={pattern: 0.5}))


# Frozen


def test_frozen_modules_have_no_gradient_no_state_no_decay_and_no_dropout(trainer_of):
    task = fresh_task(dropout=0.5)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    trainer = trainer_of("run", small_config(train=options(freeze=["encoder"], ema=0.9), optim=OPTIM), task)
    assert trainer.fit()
    after = task.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(name.startswith("model.encoder.") for name in moved)
    assert {"model.joiner.output.weight", "model.encoder_projection.weight", "objective.ctc.output.weight"} <= moved
    trained = {id(p) for p in task.parameters() if p.requires_grad}
    assert {id(p) for group in trainer.optimizer.param_groups for p in group["params"]} == trained
    assert len(trainer.optimizer.state) == len(trained)
    task.train()
    of_encoder = [module for module in task.model.encoder.modules() if isinstance(module, Dropout)]
    assert of_encoder
    assert not any(module.training for module in of_encoder)
    assert task.model.predictor.dropout.training
    assert task.model.encoder.training  # which draws sizes of chunks
    batch = make_batch(1)
    once, again = (task.model.encode(batch.features, batch.feature_frames)[0] for _ in range(2))
    assert torch.equal(once, again)


@pytest.mark.parametrize("pattern", ["*", "[emopj]*"])
def test_a_model_without_anything_to_train_is_refused(pattern):
    with pytest.raises(InputError, match="leaves nothing to be trained"):
        choose_trained(fresh_task(), TrainOptions(freeze=[pattern]))


# Rates


@pytest.mark.parametrize("name", ["adamw", "scaled_adam"])
def test_factors_are_of_the_rates_and_the_last_that_fits_counts(name):
    factors = {"encoder": 0.1, "encoder.layers.1": 0.5, "joiner": 2.0}
    optim = OptimOptions(
        name=name, lr=1.0, schedule="constant", warmup_steps=0, head_warmup_steps=0, lr_factors=factors
    )
    task = fresh_task()
    optimizer = make_optimizer(task, task.model.encoder, optim)
    assert isinstance(optimizer, ScaledAdam) == (name == "scaled_adam")
    assert set_learning_rate(optimizer, 5, 100, optim) == 1.0
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    found = {n.removeprefix("model."): rates[id(p)] for n, p in task.named_parameters()}
    assert len(rates) == len(found)
    assert {rate for n, rate in found.items() if n.startswith("encoder.layers.1.")} == {0.5}
    assert {rate for n, rate in found.items() if n.startswith(("encoder.layers.0.", "encoder.subsampling"))} == {0.1}
    assert {rate for n, rate in found.items() if n.startswith("joiner")} == {2.0}
    assert {rate for n, rate in found.items() if n.startswith(("predictor", "objective", "encoder_proj"))} == {1.0}


# LoRA


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("base") / "run", TOKENIZER)


def test_lora_needs_a_trained_model_and_something_left_of_it(base):
    lora = LoraOptions(rank=2)
    with pytest.raises(InputError, match="train.lora.rank=2: adapts a trained model; name it, train.init=RUN"):
        choose_trained(fresh_task(), TrainOptions(lora=lora))
    with pytest.raises(InputError, match="freezes what train.lora.rank adds, too; LoRA freezes the encoder by itself"):
        choose_trained(fresh_task(), beginning(base, lora=lora, freeze=["encoder"]))
    task = fresh_task()
    choose_trained(task, beginning(base, lora=lora, freeze=["predictor*", "joiner"]))
    assert {n.rpartition(".")[2] for n, p in task.model.named_parameters() if p.requires_grad} == {
        *("up", "down"),
        *("weight", "bias"),  # of the encoder's projection
    }


@pytest.mark.parametrize("checkpoint", ["last", "ema", "average"])
def test_a_run_with_lora_is_decoded_with_as_a_plain_model(base, tmp_path, checkpoint):
    config = small_config(train=beginning(base, lora=LoraOptions(rank=2), ema=0.9))
    path = tmp_path / "run"
    tasks = [random_task(TOKENIZER, config, seed) for seed in (3, 4)]
    for step, task in enumerate(tasks, 1):
        save_task(path, TOKENIZER, config, task, step)
    trained = load_trained(str(path), checkpoint, CPU)
    assert not any("parametrizations" in name for name in trained.model.state_dict())
    assert len(trained.checkpoint.split(" + ")) == (2 if checkpoint == "average" else 1)
    both = [merged(task.model.state_dict(), "") for task in tasks]
    for name, value in trained.model.state_dict().items():
        expected = (both[0][name] + both[1][name]) / 2 if checkpoint == "average" else both[1][name]
        torch.testing.assert_close(value, expected)


def test_weights_that_were_merged_are_not_merged_again(base, tmp_path):
    config = small_config(train=beginning(base, lora=LoraOptions(rank=2)))
    save_task(tmp_path / "run", TOKENIZER, config, fresh_task())
    with pytest.raises(InputError, match="step-00000001: trained with train.lora, but has none .* merged before"):
        load_trained(str(tmp_path / "run"), "last", CPU)


# To the bit


@pytest.mark.parametrize(
    "changes",
    [
        {"freeze": ["encoder.layers.0", "encoder.subsampling"]},
        {"lora": LoraOptions(rank=2)},
        {"lora": LoraOptions(rank=2), "freeze": ["predictor"], "ema": 0.9, "accumulate": 2},
    ],
    ids=["freeze", "lora", "all"],
)
@pytest.mark.parametrize("name", ["adamw", "scaled_adam"])
def test_a_run_that_was_interrupted_goes_on_to_the_same_bits(trainer_of, base, changes, name):
    optim = OptimOptions(name=name, lr=1e-2, warmup_steps=2, head_warmup_steps=1, lr_factors={"encoder.layers.1": 0.3})
    config = small_config(train=options(init=str(base), **changes), optim=optim)
    whole = trainer_of("whole", config, fresh_task(dropout=0.2))
    assert whole.fit()
    first = trainer_of("parts", config, fresh_task(dropout=0.2))
    step = first.train_step
    first.train_step = lambda group: (step(group), first.stop() if first.step == 3 else None)
    assert not first.fit()
    second = trainer_of("parts", config, fresh_task(dropout=0.2))
    assert second.step == 3
    assert second.fit()
    one, other = whole.task.state_dict(), second.task.state_dict()
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in one)
    if whole.average:
        saved, again = whole.average.state_dict()["weights"], second.average.state_dict()["weights"]
        assert all(torch.equal(saved[name], again[name]) for name in saved)
