"""Which checkpoint of a run is decoded with."""

import pytest

from asr.config import TrainConfig, TrainOptions
from asr.config.schema import to_yaml
from asr.errors import InputError
from asr.runs import state
from asr.runs.directory import RunDirectory
from asr.runs.state import Checkpoint
from asr.runs.trained import (
    AVERAGES,
    checkpoint_digest,
    checkpoint_names,
    load_config,
    record_averages,
    resolve,
    validated_averages,
)


def rate(wer, utterances=10, skipped=0):
    return {} if wer is None else {"wer": wer, "loss": wer / 10, "utterances": utterances, "skipped": skipped}


@pytest.fixture
def make_run(tmp_path):
    """A function that makes a run whose checkpoints had these error rates in validation."""

    def make(*wers):
        run = RunDirectory(tmp_path / "run")
        run.path.mkdir()
        run.config.write_text(to_yaml(TrainConfig("elsewhere", train=TrainOptions(average_last=2, ema=0.9))))
        for step, wer in enumerate(wers, 1):
            save(run, step, wer)
        return run

    return make


def save(run, step, wer):
    state.save(run.checkpoints, Checkpoint(step, rate(wer), {"model": {}}, {"step": step}))


@pytest.mark.parametrize(
    ("averages", "chosen"),
    [
        ({"average": rate(30.0)}, "best"),
        ({"average": rate(15.0)}, "average"),
        ({"average": rate(15.0), "ema": rate(12.0)}, "ema"),
        ({"average": rate(15.0), "ema": rate(40.0)}, "average"),
        ({"average": rate(15.0, utterances=2, skipped=8)}, "best"),  # a rate of what could be read then
        ({"average": {"utterances": 0, "skipped": 10}}, "best"),
        ({}, "best"),
    ],
)
def test_auto_is_what_did_best_in_validation(make_run, averages, chosen):
    run = make_run(20.0, 25.0)
    record_averages(run, averages)
    assert resolve(run, "auto") == chosen
    assert checkpoint_names(str(run.path), "auto") == checkpoint_names(str(run.path), chosen)
    assert checkpoint_digest(str(run.path), "auto") == checkpoint_digest(str(run.path), chosen)
    assert resolve(run, "last") == "last"


def test_until_a_training_is_done_auto_is_best(make_run):
    run = make_run(20.0, 25.0)
    assert resolve(run, "auto") == "best"
    assert checkpoint_names(str(run.path), "auto") == ["step-00000001"]


def test_auto_without_a_validation_is_the_last(make_run):
    run = make_run(None, None)
    assert checkpoint_names(str(run.path), "auto") == ["step-00000002"]


def test_averages_of_other_checkpoints_do_not_count(make_run):
    run = make_run(20.0, 25.0)
    record_averages(run, {"average": rate(10.0)})
    assert resolve(run, "auto") == "average"
    save(run, 3, 22.0)
    assert validated_averages(run) == {}
    assert resolve(run, "auto") == "best"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"average": 1}', '{"average": {}}'])
def test_a_damaged_record_does_not_count(make_run, text):
    run = make_run(20.0, 25.0)
    (run.checkpoints / AVERAGES).write_text(text)
    assert resolve(run, "auto") == "best"


def test_a_name_that_is_none_lists_those_there_are(make_run):
    run = make_run(20.0)
    with pytest.raises(
        InputError, match="checkpoint=step-9: .*choose best, last, average, ema, auto or one of step-00000001"
    ):
        checkpoint_names(str(run.path), "step-9")


def test_a_config_is_of_the_directory_it_is_in(make_run):
    run = make_run(20.0)
    assert load_config(run).run == str(run.path)
