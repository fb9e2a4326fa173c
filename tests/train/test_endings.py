"""However a training ends, the last whole step is in a checkpoint, from which it goes on exactly."""

from dataclasses import replace

import pytest
import torch
from test_loop import OPTIM, OPTIONS, LinearTask, assert_same_weights, make_batch, stream, train_lines

from asr.data.batch import Position
from asr.errors import InputError, Stopped
from asr.runs import state
from asr.runs.directory import RunDirectory
from asr.train import loop
from asr.train.faults import explained
from asr.train.loop import Trainer

CPU = torch.device("cpu")
METRICS = {"wer": 50.0, "loss": 1.0}


class InjectedError(Exception):
    """A fault of the program."""


@pytest.fixture
def begin(tmp_path):
    """A function that makes the trainer of a run, which goes on where the run is."""
    runs = []

    def make(name, **options):
        run = RunDirectory(tmp_path / name)

        def validate(step):
            run.write_metrics(step, METRICS, "validation")
            return METRICS

        settings = replace(OPTIONS, ema=0.9, **{"validate_every": 4, "save_every": 3, "log_every": 1, **options})
        trainer = Trainer(LinearTask(), stream, validate, run, settings, OPTIM, CPU)
        found = state.newest_sound(run.checkpoints, [])
        if found:
            trainer.restore(found)
        run.open_logs(trainer.step, trainer.again)
        runs.append(run)
        return trainer

    yield make
    for run in runs:
        run.close()


def failing_in(call, function, error=None):
    """`function`, whose call number `call` raises."""
    calls = []

    def wrapped(*arguments, **options):
        calls.append(arguments)
        if len(calls) == call:
            raise error or InjectedError
        return function(*arguments, **options)

    return wrapped


def lines(trainer):
    """Lines of validations, and those of `train_lines`."""
    path = trainer.run.metrics
    return train_lines(trainer), [line for line in path.read_text().splitlines() if "validation/" in line]


# Where a training is in the midst of something, and the step that it is in then: the call that fails is that of step 6.
PLACES = {
    "waiting for data": lambda t: (t, "take"),
    "a step": lambda t: (t, "train_step"),
    "the rate": lambda t: (loop, "set_learning_rate"),
    "the gradient of before": lambda t: (t.optimizer, "zero_grad"),
    "buffers": lambda t: (loop, "align_buffers"),
    "backward": lambda t: (t, "backward"),
    "the random numbers of a step": lambda t: (loop, "seed_torch"),
    "forward": lambda t: (t, "forward"),
    "the loss": lambda t: (t.task, "loss"),
    "clipping": lambda t: (torch.nn.utils, "clip_grad_norm_"),
    "the clock": lambda t: (t, "account"),
    "logging": lambda t: (t, "log"),
    "writing metrics": lambda t: (t.run, "write_metrics"),
    "saving, perhaps": lambda t: (t, "save_and_validate"),
}
# The same of what is not done in every step.
RARE = {
    "saving": (lambda t: (state, "save"), 3),  # of steps 1, 3 and 4
    "serialising": (lambda t: (state, "serialize"), 3),
    "deleting": (lambda t: (state, "prune"), 3),
    "validating": (lambda t: (t, "validate"), 1),  # of step 4
    "completing a checkpoint": (lambda t: (state, "complete"), 1),
    "linking": (lambda t: (state, "link_or_copy"), 2),
    "closing the data": (lambda t: (t, "validate_and_complete"), 1),
}


@pytest.mark.parametrize("place", [*PLACES, *RARE])
def test_an_exception_anywhere_loses_no_step_and_the_run_goes_on_exactly(begin, monkeypatch, place):
    whole = begin("whole")
    assert whole.fit()
    broken = begin("broken")
    at, call = RARE[place] if place in RARE else (PLACES[place], 6)
    owner, name = at(broken)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing_in(call, getattr(owner, name)))
        with pytest.raises(InjectedError):
            broken.fit()
    saved = state.newest_sound(broken.run.checkpoints, [])
    assert saved.step == broken.step >= (3 if place in RARE else 5)
    resumed = begin("broken")
    assert resumed.fit()
    assert_same_weights(whole, resumed)
    assert lines(resumed) == lines(whole)
    assert len(lines(whole)[1]) == 3
    found = [(path.name, state.metrics_of(path)) for path in state.resumable(resumed.run.checkpoints)]
    assert found == [(path.name, state.metrics_of(path)) for path in state.resumable(whole.run.checkpoints)]
    assert ("step-00000004", METRICS) in found


@pytest.mark.parametrize("place", ["optimizer", "average"])
def test_weights_that_are_half_updated_are_in_no_checkpoint(begin, monkeypatch, place):
    trainer = begin("run")
    name = {"optimizer": "step", "average": "update"}[place]
    owner = getattr(trainer, place)
    monkeypatch.setattr(owner, name, failing_in(6, getattr(owner, name)))
    with pytest.raises(InjectedError):
        trainer.fit()
    assert state.newest_sound(trainer.run.checkpoints, []).step == 4


def test_the_first_step_is_in_a_checkpoint(begin, monkeypatch):
    trainer = begin("run", save_every=100, validate_every=100)
    monkeypatch.setattr(trainer.optimizer, "step", failing_in(2, trainer.optimizer.step))
    with pytest.raises(InjectedError):
        trainer.fit()
    assert [path.name for path in state.resumable(trainer.run.checkpoints)] == ["stop-00000001"]


def test_nothing_is_saved_before_the_first_step(begin, monkeypatch):
    trainer = begin("run")
    monkeypatch.setattr(trainer, "forward", failing_in(1, trainer.forward))
    with pytest.raises(InjectedError):
        trainer.fit()
    assert not state.resumable(trainer.run.checkpoints)


def test_a_stop_while_data_is_waited_for_keeps_the_last_step(begin, monkeypatch):
    trainer = begin("run", save_every=100, validate_every=100)
    monkeypatch.setattr(trainer, "take", failing_in(6, trainer.take, Stopped()))
    assert not trainer.fit()
    assert state.newest_sound(trainer.run.checkpoints, []).step == 5


@pytest.mark.parametrize("step", [4, 12])
def test_a_validation_that_is_stopped_is_done_when_the_run_goes_on(begin, monkeypatch, step):
    whole, stopped = begin("whole"), begin("stopped")
    whole.fit()
    monkeypatch.setattr(stopped, "validate", failing_in(step // 4, stopped.validate, Stopped()))
    assert not stopped.fit()
    assert state.resumable(stopped.run.checkpoints)[-1].name == f"stop-{step:08d}"
    resumed = begin("stopped")
    assert resumed.step == step
    assert resumed.fit()
    assert lines(resumed) == lines(whole)


def test_a_validation_whose_line_is_written_and_whose_checkpoint_is_not_leaves_one_line(begin, monkeypatch):
    trainer = begin("run")
    monkeypatch.setattr(state, "complete", failing_in(1, state.complete))
    with pytest.raises(InjectedError):
        trainer.fit()
    assert len(lines(trainer)[1]) == 1
    monkeypatch.undo()
    resumed = begin("run")
    resumed.fit()
    assert len(lines(resumed)[1]) == 3


def test_a_disk_that_is_full_is_said_and_leaves_what_there_was(begin, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    trainer = begin("run")
    monkeypatch.setattr(trainer, "validate", lambda step: monkeypatch.setattr(state, "write_files", full) or METRICS)
    with pytest.raises(InputError, match=r"step-00000004: cannot be written \(No space left on device\)"):
        trainer.fit()
    assert [path.name for path in sorted(trainer.run.checkpoints.iterdir())] == ["step-00000003", "stop-00000004"]
    monkeypatch.undo()
    assert begin("run").fit()


# What it was, in a line

BATCH = make_batch(Position(0, 1))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("could not create a primitive"),  # of oneDNN
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_out_of_memory_names_the_step_the_batch_and_the_remedy(error):
    found = explained(error, 7, [BATCH])
    assert isinstance(found, InputError)
    assert str(found).startswith(
        "out of memory in step 7, of a batch of 3 utterances, 2 feature frames, 1 labels (u0 is"
    )
    assert "data.max_seconds" in str(found)
    assert "out of memory in step 1:" in str(explained(error, 1, []))


def test_real_exhaustion_is_out_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert isinstance(explained(caught.value, 1, []), InputError)


def test_a_process_that_is_gone_is_said():
    error = RuntimeError(
        "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:1\n"
    )
    assert "another training process has ended" in str(explained(error, 1, [BATCH]))


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), KeyError("gloo")])
def test_faults_of_the_program_stay_what_they_are(error):
    assert explained(error, 1, [BATCH]) is error
