"""Two real processes train what one does with twice the batch, and stay together whatever befalls one of them."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import count, product
from pathlib import Path

import pytest
import torch
from lhotse import CutSet
from small_model import small_options
from torch.distributed import TCPStore
from torch.distributed.tensor import DTensor

from asr.cli.main import main
from asr.config import LoraOptions, OptimOptions, PrunedLossOptions, TrainConfig, TrainOptions
from asr.data.batch import Batch, Position, Skipped
from asr.runs import state
from asr.runs.directory import RunDirectory, silent_logger
from asr.train.distributed import Ranks, joined
from asr.train.loop import Trainer, check_batches_per_step
from asr.train.parts import choose_trained
from asr.train.shard import gathered
from asr.train.task import make_task
from asr.train.window import UNREPEATABLE

CPU = torch.device("cpu")
VOCABULARY, UTTERANCES = 7, 8
OPTIM = OptimOptions(lr=1e-3, warmup_steps=5, head_warmup_steps=2, clip_norm=1.0)


def enter(rank, function, size, port, results, arguments):
    where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in where.items()}, TORCHELASTIC_USE_AGENT_STORE="True")
    torch.set_num_threads(1)
    with joined("cpu") as ranks:
        (results / str(rank)).write_bytes(pickle.dumps(function(ranks, *arguments)))
    os._exit(0)  # torch has aborted such a process as it exited, once in some hundred: its result is written


def in_processes(size, function, *arguments):
    """What `function(ranks, *arguments)` returned in each of `size` new processes; where one fails, its error.

    They meet as below torchrun, in a store of this process's, whose port the system has chosen: nobody can take it.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with tempfile.TemporaryDirectory() as name:
        results = Path(name)
        torch.multiprocessing.spawn(enter, (function, size, store.port, results, arguments), size)
        return [pickle.loads((results / str(rank)).read_bytes()) for rank in range(size)]


def test_one_of_several_processes_that_fails_ends_the_others():
    with pytest.raises(torch.multiprocessing.ProcessRaisedException, match="only the second"):
        in_processes(2, fails_in_the_second)


def fails_in_the_second(ranks):
    if ranks.rank == 1:
        raise ValueError("only the second")
    time.sleep(3600)


def make_batch(number):
    """Batch `number` of the stream: eight utterances of different lengths."""
    generator = torch.Generator().manual_seed(number)
    frames = torch.randint(30, 50, (UTTERANCES,), generator=generator)
    lengths = torch.randint(1, 5, (UTTERANCES,), generator=generator)
    labels = torch.randint(1, VOCABULARY, (UTTERANCES, 4), generator=generator)
    features = torch.randn(UTTERANCES, 50, 8, generator=generator)
    ids = [f"u{number}-{i}" for i in range(UTTERANCES)]
    return Batch(ids, ids, features, frames, labels, lengths, seconds=8.0, position=Position(0, number))


def part(batch, rows):
    """Some utterances of a batch."""
    tensors = {name: getattr(batch, name)[rows] for name in ("features", "feature_frames", "labels", "label_lengths")}
    return replace(batch, ids=batch.ids[rows], texts=batch.texts[rows], seconds=4.0, **tensors)


def share_of(ranks, number):
    """This process's part of the batch of step `number`: all of it, or a half."""
    if ranks.size == 1:
        return make_batch(number)
    return part(make_batch(number), slice(0, 3) if ranks.rank == 0 else slice(3, 8))  # of unequal size


def trainer_of(ranks, path, batches, **options):
    torch.manual_seed(0)
    loss = PrunedLossOptions(prune_range=3, warmup_batches=10)
    task = make_task(TrainConfig(run="", model=small_options(normalize="none"), loss=loss), VOCABULARY)
    silent_logger()
    run = RunDirectory(path)
    run.write_metrics = lambda *_: None
    settings = replace(TrainOptions(steps=20, log_every=5, validate_every=100, save_every=100), **options)
    choose_trained(task, settings)
    return Trainer(task, lambda start: batches, lambda step: {}, run, settings, OPTIM, CPU, ranks)


def gradients_and_weights(ranks, path, shard=False):
    trainer = trainer_of(ranks, path, (share_of(ranks, number) for number in count(1)), shard=shard, ema=0.9)
    first, step = [], trainer.optimizer.step

    def note_gradients():
        if trainer.step == 0:
            first.extend(gathered(p.grad).clone() for p in trainer.task.parameters())
        step()

    trainer.optimizer.step = note_gradients
    assert trainer.fit()
    divided = sum(isinstance(p, DTensor) for p in trainer.task.parameters())
    weights = [gathered(p.detach()).numpy() for p in trainer.task.parameters()]
    return [g.numpy() for g in first], weights, dict(trainer.window), divided


def relative_error(found, expected):
    found, expected = (torch.cat([torch.from_numpy(one).flatten() for one in many]) for many in (found, expected))
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("shard", [False, True])
def test_two_processes_do_what_one_does_with_the_whole_batch(tmp_path, shard):
    gradients, weights, _, _ = gradients_and_weights(Ranks(), tmp_path / "one")
    both = in_processes(2, gradients_and_weights, tmp_path / "two", shard)
    for found_gradients, found_weights, _, divided in both:
        assert divided == (len(weights) if shard else 0)
        assert relative_error(found_gradients, gradients) <= 1e-5
        assert relative_error(found_weights, weights) <= 1e-5
    assert all((one == other).all() for one, other in zip(both[0][1], both[1][1]))
    assert [path.name for path in state.checkpoints(tmp_path / "two" / "checkpoints")] == ["step-00000020"]
    saved = [state.load(*state.checkpoints(tmp_path / run / "checkpoints")).parts for run in ("one", "two")]
    for part in ("model", "objective", "ema"):
        one, two = (
            list(values["weights"].values() if part == "ema" else values.values())
            for values in (parts[part] for parts in saved)
        )
        assert relative_error([value.numpy() for value in two], [value.numpy() for value in one]) <= 1e-5


PARTS = {
    "freeze": {"freeze": ["encoder.layers.0", "predictor"]},
    "lora": {"lora": LoraOptions(rank=2), "init": "a run", "freeze": ["predictor"]},
}


def weights_with_parts_frozen(ranks, path, shards):
    """All weights before training and after, by name, with each of `PARTS` and with the weights divided or not."""
    found = {}
    for case, shard in product(PARTS, shards):
        batches = (share_of(ranks, number) for number in count(1))
        trainer = trainer_of(ranks, path / f"{case}-{shard}", batches, steps=5, shard=shard, **PARTS[case])
        before = {name: gathered(value.detach()).clone() for name, value in trainer.task.state_dict().items()}
        assert trainer.fit()
        after = {name: gathered(value.detach()) for name, value in trainer.task.state_dict().items()}
        found[case, shard] = {name: (before[name].numpy(), after[name].numpy()) for name in before}
    return found


def test_two_processes_train_the_same_parts_of_a_model_as_one(tmp_path):
    alone = weights_with_parts_frozen(Ranks(), tmp_path / "one", [False])
    for both in in_processes(2, weights_with_parts_frozen, tmp_path / "two", [False, True]):
        for (case, _), weights in both.items():
            expected = alone[case, False]
            assert list(weights) == list(expected)
            moved = [name for name, (before, after) in weights.items() if (before != after).any()]
            assert moved == [name for name, (before, after) in expected.items() if (before != after).any()]
            assert len(moved) > 10
            assert not any(name.startswith(("model.encoder.layers.0.norm", "model.predictor.")) for name in moved)
            last = [[after for _, after in one.values()] for one in (weights, expected)]
            assert relative_error(*last) <= 1e-5


def go_on(ranks, path, shard):
    """Ten more steps from the checkpoint of a run."""
    trainer = trainer_of(ranks, path, (share_of(ranks, number) for number in count(21)), shard=shard, ema=0.9, steps=30)
    trainer.restore(state.load(state.checkpoints(path / "checkpoints")[0]))
    assert trainer.fit()
    return [gathered(p.detach()).numpy() for p in trainer.task.parameters()]


def begin_and_go_on(ranks, path, shard):
    """A run that was begun with or without sharding, gone on with as before, and otherwise."""
    gradients_and_weights(ranks, path, shard)
    if ranks.leads:
        shutil.copytree(path, path / "other")
    ranks.share(None)
    return go_on(ranks, path, shard), go_on(ranks, path / "other", not shard)


@pytest.mark.parametrize("shard", [False, True])
def test_a_run_may_go_on_with_and_without_sharding(tmp_path, shard):
    for alike, otherwise in in_processes(2, begin_and_go_on, tmp_path, shard):
        assert relative_error(otherwise, alike) <= 1e-5


def misfortunes(ranks, path, shard=False):
    """Steps in which the second process alone has nothing to read (2), reads NaN (3), or is asked to stop (5)."""

    def batches():
        for number in count(1):
            batch = share_of(ranks, number)
            if ranks.rank == 1 and number in (2, 6):
                batch = replace(part(batch, slice(0, 0)), skipped=[Skipped("gone", "unreadable")])
            if ranks.rank == 1 and number == 3:
                batch.features.fill_(float("nan"))
            yield batch

    warnings = []
    trainer = trainer_of(ranks, path, batches(), shard=shard)
    trainer.logger.warning = lambda message, *values: warnings.append(message % values)
    train_step = trainer.train_step

    def noting(group):
        train_step(group)
        if trainer.step == 5 and ranks.rank == 1:
            trainer.stop()

    trainer.train_step = noting
    done = trainer.fit()
    values = *trainer.task.parameters(), *trainer.task.buffers()  # of which one counts the batches of the loss
    return done, trainer.step, trainer.position, warnings, [gathered(value.detach()).numpy() for value in values]


@pytest.mark.parametrize("shard", [False, True])
def test_what_befalls_one_process_concerns_all(tmp_path, shard):
    one, other = in_processes(2, misfortunes, tmp_path, shard)
    for done, step, position, warnings, _ in (one, other):
        assert (done, step, position) == (False, 5, Position(0, 5))
        assert warnings[0] == "skipped gone: unreadable"
        assert warnings[1].startswith("step 3: u3-3: utterance 0 of the batch: its loss is not finite")
        assert len(warnings) == 2
    assert all((a == b).all() for a, b in zip(one[4], other[4]))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["stop-00000005"]


def test_steps_of_another_size_are_refused():
    check_batches_per_step(2, 2)
    with pytest.raises(
        Exception, match="begun with 2 batches a step, not 3: processes times train.accumulate must be 2"
    ):
        check_batches_per_step(2, 3)


def command(corpus, run, processes, *options):
    words = [
        f"run={run}",
        "model=debug",
        "data=debug",
        "data.max_seconds=3",
        "data.spec_augment.time_masks=1",
        f"data.train_cuts=[{corpus.train}]",
        f"data.valid_cuts=[{corpus.dev}]",
        f"data.tokenizer={corpus.tokenizer}",
        "train.steps=24",
        "train.log_every=1",
        "train.validate_every=8",
        "train.save_every=8",
        "train.device=cpu",
        *options,
    ]
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *(several if processes > 1 else []), "-m", "asr.cli.main", "train", *words]


def lines(run):
    """metrics.jsonl without what is read off a clock."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.endswith(UNREPEATABLE)} for row in rows]


@pytest.fixture(scope="module")
def two(tiny_corpus, tmp_path_factory):
    """A run by two processes."""
    run = tmp_path_factory.mktemp("exp") / "two"
    subprocess.run(command(tiny_corpus, run, 2), check=True, capture_output=True)
    return run


def test_two_processes_train_like_one_with_twice_the_batches(two, tiny_corpus, tmp_path):
    run = tmp_path / "one"
    subprocess.run(command(tiny_corpus, run, 1, "train.accumulate=2"), check=True, capture_output=True)
    found, expected = lines(two), lines(run)
    assert len(found) == len(expected) == 24 + 3
    for line, other in zip(found, expected):
        assert line == pytest.approx(other, rel=1e-3)


def test_two_processes_that_share_the_weights_train_like_two_that_do_not(two, tiny_corpus, tmp_path):
    run = tmp_path / "shard"
    subprocess.run(
        command(tiny_corpus, run, 2, "train.shard=true", "model.checkpoint_layers=true"),
        check=True,
        capture_output=True,
    )
    found, expected = lines(run), lines(two)
    assert len(found) == len(expected) == 24 + 3
    for line, other in zip(found, expected):
        assert line == pytest.approx(other, rel=1e-3)


def test_a_process_that_has_nothing_to_validate_hangs_no_other(tiny_corpus, tmp_path):
    one = tmp_path / "one.jsonl.gz"
    CutSet.from_file(tiny_corpus.dev).subset(first=1).to_file(one)
    options = f"data.valid_cuts=[{one}]", "train.shard=true", "train.steps=6", "train.validate_every=2"
    words = command(tiny_corpus, tmp_path / "run", 2, *options)
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    steps = [line["step"] for line in lines(tmp_path / "run") if "train/loss" in line]
    assert steps == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("other", ["optim=scaled_adam", "train.compile=true"])
def test_what_does_not_go_with_sharding_is_refused(tiny_corpus, tmp_path, capsys, other):
    assert main(command(tiny_corpus, tmp_path / "run", 1, "train.shard=true", other)[3:]) == 2
    assert capsys.readouterr().err == (
        "asr train: error: train.shard=true goes neither with optim.name=scaled_adam nor with train.compile=true\n"
    )


def test_two_processes_stop_and_go_on_exactly(two, tiny_corpus, tmp_path, capsys):
    run = tmp_path / "stopped"
    process = subprocess.Popen(command(tiny_corpus, run, 2), stderr=subprocess.PIPE, text=True)
    while not (run / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert "run the same command again to go on" in err
    (stopped,) = state.resumable(run / "checkpoints")
    assert stopped.name.startswith("stop-")
    assert main(command(tiny_corpus, run, 1)[3:]) == 2
    err = capsys.readouterr().err
    assert "the run was begun with 2 batches a step, not 1" in err
    assert len(err.strip().splitlines()) == 1
    subprocess.run(command(tiny_corpus, run, 2), check=True, capture_output=True)
    assert lines(run) == lines(two)


def test_a_run_may_go_on_with_another_number_of_processes(two, tiny_corpus, tmp_path):
    run = tmp_path / "run"
    subprocess.run(command(tiny_corpus, run, 2, "train.steps=8"), check=True, capture_output=True)
    subprocess.run(command(tiny_corpus, run, 1, "train.accumulate=2"), check=True, capture_output=True)
    epochs = [[line["train/epoch"] for line in lines(one) if "train/epoch" in line] for one in (run, two)]
    assert epochs[0] == epochs[1]
    assert len(lines(run)) == len(lines(two))


def test_two_hosts_train_like_two_processes(tiny_corpus, tmp_path):
    script = Path(__file__).resolve().parents[2] / "scripts" / "check_two_hosts.sh"
    options = command(tiny_corpus, "", 1, "train.steps=4")[5:]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    words = ["bash", str(script), str(tmp_path / "exp"), *options]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("two hosts: all 5 lines of metrics")
