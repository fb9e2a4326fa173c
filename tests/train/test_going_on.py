"""A run goes on by its own config; what changes its result is refused, or asked for and kept."""

import gzip
import hashlib
import json
import shutil
from unittest import mock

import pytest
import torch
from lhotse import CutSet

from asr.cli.compose import compose
from asr.cli.main import main
from asr.config import OptimOptions
from asr.config.schema import from_yaml, to_yaml
from asr.data import manifest
from asr.data.corpus import write_cuts
from asr.data.manifest import open_cuts
from asr.data.rows import read_row
from asr.errors import InputError
from asr.runs import state
from asr.runs.directory import RunDirectory
from asr.runs.trained import load_config, load_trained
from asr.train import training
from asr.train.optim import make_optimizer
from asr.train.resume import Change, Resumption, check_same_run
from asr.train.training import unfinished
from asr.train.window import UNREPEATABLE

STEPS = 4


@pytest.fixture(scope="module")
def first(tiny_corpus, tmp_path_factory):
    """A run of a few steps, which tests copy."""
    run = tmp_path_factory.mktemp("exp") / "first"
    assert main(["train", f"run={run}", *all_options(tiny_corpus)]) == 0
    return run


@pytest.fixture
def run(first, tmp_path):
    """A copy of it."""
    shutil.copytree(first, tmp_path / "run")
    return tmp_path / "run"


def all_options(corpus):
    return [
        "model=debug",
        "model.encoder_dim=32",
        "data=debug",
        "data.max_seconds=5",
        "optim=debug",
        "train=debug",
        f"train.steps={STEPS}",
        "train.validate_every=4",
        "train.save_every=2",
        "train.device=cpu",
        "loss=pruned",
        f"data.train_cuts=[{corpus.train}]",
        f"data.valid_cuts=[{corpus.dev}]",
        f"data.tokenizer={corpus.tokenizer}",
    ]


def check(run, *words, **flags):
    return check_same_run(RunDirectory(run), compose("train", [f"run={run}", *words], **flags))


def contents(directory):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.rglob("*") if path.is_file()}


def lines(run):
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in row.items() if not name.endswith(UNREPEATABLE)} for row in rows]


# By its own config


def test_rows_that_the_last_start_has_looked_at_are_not_looked_at_again(run, tiny_corpus, tmp_path, monkeypatch):
    assert check(run).rows_known
    looked = []
    monkeypatch.setattr(manifest, "check_rows", lambda paths, root="": looked.append((*paths, root)))
    train, rows = [str(tiny_corpus.train)], []
    monkeypatch.setattr(manifest, "read_row", lambda line: rows.append(line) or read_row(line))
    assert len(list(open_cuts(train, rows_known=True))) == 24
    assert (looked, len(rows)) == ([], 1)  # whether they are cuts at all
    open_cuts(train, root="/", rows_known=True)
    open_cuts(train)
    assert looked == [(*train, "/"), (*train, "")]
    monkeypatch.setattr(training, "TrainingData", mock.Mock(side_effect=InputError("so far")))
    assert main(["train", f"run={run}", "train.steps=6"]) == 2
    assert training.TrainingData.call_args.args[3] is True
    (tmp_path / "cuts.jsonl").write_bytes(gzip.decompress(tiny_corpus.train.read_bytes()))
    other = check(run, f"data.train_cuts=[{tmp_path / 'cuts.jsonl'}]")
    assert (other.changes, other.rows_known) == ([], False)


def test_a_run_goes_on_by_its_own_config_and_a_copy_by_itself(first, run, tiny_corpus, tmp_path):
    untouched = contents(first)
    assert f"run: {first}" in (run / "config.yaml").read_text()
    assert main(["train", f"run={run}", "train.steps=6"]) == 0
    assert contents(first) == untouched
    assert lines(run)[-1]["step"] == 6
    saved = load_config(RunDirectory(run))
    assert (saved.run, saved.model.encoder_dim, saved.loss.name, saved.train.steps) == (str(run), 32, "pruned", 6)
    other = tmp_path / "other"
    shutil.copytree(first, other)
    assert main(["train", f"run={other}", *all_options(tiny_corpus), "train.steps=6"]) == 0
    assert lines(other) == lines(run)


def test_the_config_of_a_copied_run_names_the_copy(first, run):
    words = ["--config-dir", str(run), "--config-name", "config", "train.steps=5"]
    untouched = contents(first)
    assert main(["train", *words]) == 0
    assert contents(first) == untouched
    assert lines(run)[-1]["step"] == 5


def test_words_change_what_they_name_and_groups_all_of_their_section(run):
    saved = compose("train", [f"run={run}"])
    assert (saved.loss.name, saved.model.encoder_dim, saved.data.max_seconds) == ("pruned", 32, 5)
    changed = compose("train", [f"run={run}", "loss.prune_range=3", "data=default", "optim.lr=0.5"])
    assert (changed.loss.name, changed.loss.prune_range, changed.model.encoder_dim) == ("pruned", 3, 32)
    assert (changed.data.max_seconds, changed.data.train_cuts, changed.optim.lr) == (100, [], 0.5)
    other = compose("train", [f"run={run}", "loss=full"])
    assert (other.loss.name, other.loss.topology) == ("full", "regular")
    with pytest.raises(InputError, match="did you mean optim.lr"):
        compose("train", [f"run={run}", "optim.lrr=1"])


def test_text_of_a_saved_config_stays_as_it_is(run):
    hard = {"1e-5": "/data/1e-5", "null": "null", "${run}": "${run} \\${", "é": "é: [a], #"}
    for written in hard.values():
        text = (run / "config.yaml").read_text()
        config = from_yaml(text, "train")
        config.data.valid_cuts = [written]
        (run / "config.yaml").write_text(to_yaml(config))
        assert compose("train", [f"run={run}", "optim.lr=1e-05"]).data.valid_cuts == [written]


def test_a_directory_without_checkpoints_has_nothing_to_go_on_with(run):
    shutil.rmtree(run / "checkpoints")
    assert compose("train", [f"run={run}"]).model.encoder_dim != 32


def test_a_damaged_config_is_named(run):
    for text in ("model: [", "- a\n", ""):
        (run / "config.yaml").write_text(text)
        with pytest.raises(InputError, match=r"config.yaml: no config of a run.*; give another run="):
            compose("train", [f"run={run}"])


# What may change, and what may not


def test_ways_of_writing_paths_and_what_does_not_change_the_result_may_change(run, tiny_corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny_corpus.directory)
    link = tmp_path / "link"
    link.symlink_to(tiny_corpus.directory)
    copied = tmp_path / "copied.jsonl.gz"
    shutil.copy(tiny_corpus.train, copied)
    for path in ("cuts_train.jsonl.gz", "./cuts_train.jsonl.gz", link / "cuts_train.jsonl.gz", copied):
        words = [f"data.valid_cuts=[{copied}]", "decode=beam", "decode.beam=2", "data.workers=0", "train.compile=true"]
        assert check(run, f"data.train_cuts=[{path}]", "data.tokenizer=./tokenizer", *words).changes == []


def test_a_manifest_of_the_same_name_that_has_lost_utterances_is_not_gone_on_with(run, tiny_corpus, tmp_path):
    train = tmp_path / "cuts_train.jsonl.gz"
    shutil.copy(tiny_corpus.train, train)
    assert main(["train", f"run={run}", f"data.train_cuts=[{train}]", "train.steps=5"]) == 0
    assert json.loads((run / "data.json").read_text())["data.train_cuts"]["utterances"] == 24
    cuts = [*CutSet.from_file(train)]
    write_cuts(cuts[:6], train)
    with pytest.raises(InputError, match="begun with data.train_cuts=24 utterances, not 6: give .*; train.change=true"):
        check(run)
    write_cuts(cuts[::-1], train)
    with pytest.raises(InputError, match="24 utterances, not others of the same number, or in another order"):
        check(run)


def test_without_a_record_paths_are_compared(run, tiny_corpus, tmp_path, monkeypatch):
    (run / "data.json").unlink()
    monkeypatch.chdir(tiny_corpus.directory)
    assert check(run, "data.train_cuts=[./cuts_train.jsonl.gz]").changes == []
    with pytest.raises(InputError, match="begun with data.train_cuts="):
        check(run, f"data.train_cuts=[{tiny_corpus.dev}]")
    (run / "data.json").write_text("{")
    with pytest.raises(InputError, match="data.json: damaged; delete it"):
        check(run)


def test_a_full_config_is_compared_as_a_whole(run, tiny_corpus, tmp_path):
    conf = tmp_path / "conf"
    conf.mkdir()
    (conf / "mine.yaml").write_text("defaults: [train, {override model: debug}, _self_]\n")
    with pytest.raises(InputError, match=r"begun with model.encoder_dim=32, not 16 \(and \d+ more options differ\)"):
        check(run, f"data.train_cuts=[{tiny_corpus.train}]", config_dir=conf, config_name="mine")


def test_a_change_is_refused_with_its_remedy_and_made_when_asked_for(run, tmp_path, tiny_corpus, capsys):
    half = tmp_path / "cuts_half.jsonl.gz"
    write_cuts([*CutSet.from_file(tiny_corpus.train)][:12], half)
    words = ["train", f"run={run}", "train.steps=6", "optim.lr=0.25", "optim.schedule=constant"]
    words += ["optim.warmup_steps=0", "optim.head_warmup_steps=0", f"data.train_cuts=[{half}]"]
    before = contents(run)
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "begun with optim.lr=0.001, not 0.25 (and " in err
    assert err.endswith("; train.change=true goes on with the change from here\n")
    assert contents(run) == before
    assert main([*words, "train.change=true"]) == 0
    (line,) = map(json.loads, (run / "changes.jsonl").read_text().splitlines())
    assert line["step"] == STEPS
    assert line["changed"]["optim.lr"] == [0.001, 0.25]
    assert line["changed"]["data.train_cuts"] == ["24 utterances", "12"]
    later = [row for row in lines(run) if row["step"] > STEPS and "train/lr" in row]
    assert [row["train/lr"] for row in later] == [0.25, 0.25]
    assert later[0]["train/epoch"] == 1  # not in the middle of other data
    assert main(["train", f"run={run}", "train.steps=7"]) == 0  # which changes nothing
    assert len((run / "changes.jsonl").read_text().splitlines()) == 1
    capsys.readouterr()
    assert main(["compare", str(run)]) == 0
    assert "optim.lr=0.25" in (out := capsys.readouterr().out)
    assert "data.train_cuts=12 from step 4 on" in out


@pytest.mark.parametrize(
    "word", ["model.encoder_dim=64", "model.causal=true", "loss=full", "optim.name=scaled_adam", "train.ema=0.9"]
)
def test_what_the_weights_do_not_allow_is_refused_though_asked_for(run, word):
    with pytest.raises(InputError, match="begun with .*: give another run=, or delete the directory$"):
        check(run, word, "train.change=true")


@pytest.mark.parametrize(
    ("option", "before", "now", "possible"),
    [
        ("train.ema", 0.9, 0.99, True),
        ("train.ema", 0.9, 0.0, False),
        ("train.ctc_weight", 0.2, 0.3, True),
        ("train.ctc_weight", 0.0, 0.3, False),
        ("train.frame_weight", 0.2, 0.3, True),
        ("train.frame_weight", 0.0, 0.3, False),
        ("model.dropout", 0.1, 0.2, True),
        ("model.layers", 6, 7, False),
        ("optim.betas", [0.9, 0.98], [0.9, 0.99], True),
        ("optim.lr_factors.encoder", 0.1, 0.2, True),
        ("optim.lr_factors.encoder", None, 0.2, False),
        ("train.freeze", [], ["encoder"], False),
        ("train.lora.rank", 0, 8, False),
        ("train.init", "exp/a", "exp/b", False),
    ],
)
def test_changes_that_are_possible(option, before, now, possible):
    assert Change(option, before, now).possible == possible


def test_views_make_other_batches():
    def is_of_stream(before, now):
        return Resumption({}, [Change("loss.consistency", before, now)]).of_stream

    assert [is_of_stream(*values) for values in ((0.0, 0.2), (0.2, 0.0), (0.2, 0.3))] == [True, True, False]


def test_the_optimizer_goes_on_with_the_options_asked_for(run):
    from asr.train.loop import Trainer
    from asr.train.task import make_task

    config = load_config(RunDirectory(run))
    config.optim = OptimOptions(weight_decay=0.5, betas=[0.8, 0.9])
    tokenizer = load_trained(str(run), "last", torch.device("cpu")).tokenizer
    task = make_task(config, tokenizer.vocab_size)
    trainer = Trainer(task, None, None, RunDirectory(run), config.train, config.optim, torch.device("cpu"))
    trainer.restore(state.load(state.checkpoints(run / "checkpoints")[-1]))
    fresh = make_optimizer(task, task.model.encoder, config.optim)
    for key in ("weight_decay", "betas"):
        assert [group[key] for group in trainer.optimizer.param_groups] == [group[key] for group in fresh.param_groups]
    assert trainer.optimizer.state_dict()["state"][0]["step"] == STEPS


def test_fewer_steps_than_are_done_are_refused(run, capsys):
    before = contents(run)
    assert main(["train", f"run={run}", "train.steps=2"]) == 2
    assert capsys.readouterr().err == (
        f"asr train: error: {run} has done 4 steps, train.steps=2 are fewer: give more, or another run=\n"
    )
    assert contents(run) == before


def test_fewer_steps_than_were_asked_for_are_said(run):
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("  steps: 4\n", "  steps: 9\n"))
    (run / "config.sha256").unlink()
    assert main(["train", f"run={run}", "train.steps=5"]) == 0
    assert "WARNING train.steps=5 are fewer than the 9 so far: what is left" in (run / "train.log").read_text()


def test_a_warm_up_that_outlasts_the_training_is_said(first):
    said = (first / "train.log").read_text()
    assert "WARNING loss.warmup_batches=500 is not over in the 4 batches of this training: lower it" in said
    assert "optim.warmup_steps" not in said  # there is none


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["loss=full", "optim.warmup_steps=10"], ["optim.warmup_steps"]),
        (["loss=full", "optim.warmup_steps=9", "train.frame_weight=0.1"], ["train.frame_batches"]),
        (["loss=pruned", "optim.warmup_steps=9", "loss.warmup_batches=20"], ["loss.warmup_batches"]),
        (["loss=pruned", "optim.warmup_steps=9", "loss.warmup_batches=19"], []),
        (["loss=pruned", "optim.warmup_steps=0", "loss.warmup_batches=0"], []),
        (
            ["loss=pruned", "optim.warmup_steps=0", "loss.warmup_batches=0", "loss.aligned_batches=20"],
            ["loss.aligned_batches"],
        ),
    ],
)
def test_what_a_training_does_not_bring_to_an_end(words, names):
    config = compose("train", ["run=x", "train.steps=10", "train.accumulate=2", *words])
    assert [line.partition("=")[0] for line in unfinished(config)] == names


# Checkpoints that cannot be gone on from


def test_weights_alone_are_decoded_with_and_not_gone_on_from(run, capsys):
    newest = state.checkpoints(run / "checkpoints")[-1]
    whole = load_trained(str(run), "average", torch.device("cpu")).model.state_dict()
    for path in state.checkpoints(run / "checkpoints"):
        (path / "optimizer.safetensors").unlink()
    weights = load_trained(str(run), "average", torch.device("cpu")).model.state_dict()
    assert all(torch.equal(weights[name], whole[name]) for name in whole)
    before = contents(run)
    assert main(["train", f"run={run}", "train.steps=6"]) == 2
    err = capsys.readouterr().err
    assert f"{newest.parent / 'step-00000002'} has no optimizer.safetensors" in err
    assert "training cannot go on from it; put the file back, or give another run=" in err
    assert contents(run) == before


def test_weights_alone_of_a_later_step_are_not_deleted(first, run, capsys):
    old, newest = state.checkpoints(run / "checkpoints")
    (newest / "optimizer.safetensors").unlink()
    before = contents(run)
    assert main(["train", f"run={run}", "train.steps=6"]) == 2
    assert f"{newest} has no optimizer.safetensors" in (err := capsys.readouterr().err)
    assert f"or delete {newest.name} to go on from step {state.step_of(old)}" in err
    assert contents(run) == before


def test_a_run_of_which_every_checkpoint_is_damaged_is_not_begun_anew(run, capsys):
    for path in state.checkpoints(run / "checkpoints"):
        (path / "model.safetensors").write_bytes(b"x")
    before = contents(run)
    assert main(["train", f"run={run}", "train.steps=6"]) == 2
    assert "training can go on from none of its checkpoints" in (err := capsys.readouterr().err)
    assert "model.safetensors is damaged" in err
    assert contents(run) == before
