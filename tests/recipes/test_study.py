"""Studies: which of their trainings run, what becomes of those that fail, and the table of all."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

from asr.config import FullLossOptions, PrunedLossOptions, TrainConfig, TrainOptions
from asr.config.schema import list_options, to_yaml
from asr.score.report import write_report
from asr.score.wer import Utterance

STUDY = """
source "$(dirname "$0")/../../local/run.sh"
source "$root/local/study.sh"
parse_options "$@"
cd "$recipe"
trained=more/cuts.gz,cuts.gz validated=cuts.gz evaluated=cuts.gz
common=(--config-name mine)
begin
for seed in 0 1; do
    learn one-$seed loss=full train.seed=$seed
done
learn other "data.train_cuts=[$trained,more.gz]"
tell
"""
# Fails in trainings of which `failing` is told, with that status; decodings leave what the table is made of.
ASR = """#!/bin/sh
echo "$*" >>calls
for word in "$@"; do
    case $word in
    run=*/$FAILING) exit $STATUS ;;
    output=*) mkdir -p "${word#output=}" && echo rate >"${word#output=}/wer.txt" ;;
    esac
done
"""


@pytest.fixture
def study(tmp_path):
    """A function that runs a study whose `asr` does nothing but note its calls, and fail where it is told to."""
    (tmp_path / "local").mkdir()
    for name in ("run.sh", "study.sh", "supervise.py"):
        shutil.copy(REPOSITORY / "local" / name, tmp_path / "local")
    (tmp_path / "local" / "study.py").write_text("import sys\nprint('table of', *sys.argv[1:])\n")
    mine = tmp_path / "recipes" / "mine"
    (mine / "more").mkdir(parents=True)
    (mine / "study.sh").write_text("set -euo pipefail\n" + STUDY)
    for name in ("cuts.gz", "more/cuts.gz"):
        (mine / name).touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "asr").write_text(ASR)
    (tmp_path / "bin" / "asr").chmod(0o755)
    path = os.pathsep.join([str(tmp_path / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])

    def run(*words, failing="nothing", status=1):
        told = {**os.environ, "PATH": path, "FAILING": failing, "STATUS": str(status), "ASR_SUPERVISED": "yes"}
        (mine / "calls").write_text("")
        done = subprocess.run(["bash", mine / "study.sh", *words], capture_output=True, text=True, env=told)
        done.calls = (mine / "calls").read_text().splitlines()
        return done

    return run


def test_trainings_in_their_order_and_what_is_done_is_not_done_again(study):
    done = study("--", "optim.lr=1")
    data = "data.train_cuts=[more/cuts.gz,cuts.gz] data.valid_cuts=[cuts.gz]"
    assert done.calls[:2] == [
        f"train --config-name mine {data} loss=full train.seed=0 optim.lr=1 run=exp/study/one-0",
        "decode run=exp/study/one-0 checkpoint=average cuts=cuts.gz output=exp/study/one-0/decode name=study",
    ]
    assert [call.split()[0] for call in done.calls] == 3 * ["train", "decode"]
    runs = "exp/study/one-0 exp/study/one-1 exp/study/other"
    assert done.stdout.splitlines()[-1] == f"table of {runs} --table exp/study/table.md"
    again = study("--only", "o*r one-0")  # the table is of all that is done
    assert (again.calls, again.returncode) == ([], 0)
    assert again.stdout == f"table of {runs} --table exp/study/table.md\n"


def test_the_plan_runs_nothing(study):
    done = study("--list", "--only", "o*er one-1", "--", "a=1")
    assert done.stdout.splitlines() == [
        "one-1: loss=full train.seed=1 a=1",
        "other: data.train_cuts=[more/cuts.gz,cuts.gz,more.gz] a=1",
    ]
    assert done.calls == []


def test_one_that_fails_is_named_and_the_others_are_done(study):
    done = study(failing="one-1")
    assert [call.split()[-1] for call in done.calls if call.startswith("train")] == [
        f"run=exp/study/{name}" for name in ("one-0", "one-1", "other")
    ]
    assert "table of exp/study/one-0 exp/study/one-1 exp/study/other" in done.stdout
    assert (done.returncode, "these failed: one-1; their reasons are above" in done.stderr) == (2, True)


def test_a_signal_ends_all(study):
    done = study(failing="one-0", status=143)
    assert (done.returncode, len(done.calls)) == (143, 1)
    killed = study(failing="one-0", status=137)  # that one alone, for want of memory
    assert (killed.returncode, len(killed.calls)) == (2, 5)


def test_what_failed_is_named_where_there_is_no_table(study, tmp_path):
    (tmp_path / "local" / "study.py").write_text("raise SystemExit('nothing is done yet')\n")
    done = study("--only", "other", failing="other")
    assert (done.returncode, "these failed: other" in done.stderr) == (2, True)
    assert study("--only", "other").returncode == 1


def test_only_some_are_chosen_and_told_of(study):
    done = study("--only", "other")
    assert done.stdout.splitlines()[-1] == "table of exp/study/other --table exp/study/table.md"
    assert (study("--stage", "1").returncode, study("--name", "x").returncode) == (2, 2)
    told = study("--help").stdout
    assert "--only NAMES" in told
    assert "--stage" not in told


def test_no_such_training_is_one_line(study):
    done = study("--only", "two")
    assert (done.returncode, done.stderr) == (2, "study.sh: error: --only two: there is no such training; see --list\n")


STUDIES = [
    "librispeech/losses",
    "librispeech/delay",
    "librispeech/ladder",
    "librispeech/regularise",
    "digits/alignment",
    "an4/alignment",
]


@pytest.mark.parametrize("script", STUDIES)
def test_every_training_of_the_studies_has_options_that_there_are(script):
    told = {**os.environ, "ASR_SUPERVISED": "yes"}
    path = REPOSITORY / "recipes" / f"{script}.sh"
    plan = subprocess.run(["bash", path, "--list"], capture_output=True, text=True, env=told)
    trainings = dict(line.split(":", 1) for line in plan.stdout.splitlines())
    assert len(trainings) == len(plan.stdout.splitlines()) >= 6  # each has a name of its own
    given = {word.partition("=")[0] for words in trainings.values() for word in words.split()}
    assert given - {*list_options(TrainConfig)} <= {"loss", "optim", "model"}


# The table


@pytest.fixture(scope="module")
def table():
    spec = importlib.util.spec_from_file_location("study", REPOSITORY / "local" / "study.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["study"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["study"]


@pytest.fixture
def make_run(tmp_path):
    """A function that makes a decoded run of 12 utterances of 10 words, with so many errors in each."""

    def make(name, errors, loss=None, seed=0, delay=""):
        run = tmp_path / name
        said = ["A", "B", "C", "D", "E", "F", "G", "H", "I", "J"]
        found = [[*said[: len(said) - count], *["X"] * count] for count in errors]
        write_report(
            run / "decode",
            [Utterance(f"u{n}", " ".join(said), " ".join(heard)) for n, heard in enumerate(found)],
            "test",
        )
        config = TrainConfig(run=str(run), loss=loss or FullLossOptions(), train=TrainOptions(seed=seed))
        (run / "config.yaml").write_text(to_yaml(config))
        steps = [{"step": step, "train/step_seconds": step, "train/nodes": 10 * step} for step in (1, 2, 3, 4)]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in steps))
        if delay:
            (run / "decode" / "delay.txt").write_text(f"delay: {delay} [ 9 tokens, 2 utterances ]\n")
        return run

    return make


def cells_of(table, runs, against=""):
    choices = table.grouped([*table.read_trainings(runs)])
    head, *body = table.rows(choices, table.reference_of(choices, against))
    return {row[0]: dict(zip(head, row)) for row in body}


def test_seeds_are_one_row_and_rows_are_held_against_the_first(table, make_run):
    delay = "mean 0.1, median 0.2, 90 % 0.3, last token unknown s"
    runs = [
        make_run("base-0", 12 * [2], seed=0),
        make_run("base-1", 12 * [4], seed=1),
        make_run("better", [1] * 11 + [3], PrunedLossOptions(), delay=delay),
    ]
    found = cells_of(table, runs)
    assert [*found] == ["base", "better"]
    base, better = found["base"], found["better"]
    assert (base["WER, %"], base["of each"], base["spread"], base["seeds"]) == ("30.00", "20.00, 40.00", "14.14", "2")
    assert better["WER, %"] == "11.67"
    assert better["against base"] == "-18.33"  # and not of one of its seeds
    low, high = map(float, better["95 % of that"].split(" to "))
    assert low < -18.33 < high < 0
    assert (better["s a step"], better["nodes a batch"]) == ("3.50", "35.00")  # of the second half
    assert (base["mean delay, s"], better["mean delay, s"], better["90 %"]) == ("", "+0.100", "+0.300")
    assert "last token" not in better


def test_a_run_without_a_rate_is_named_and_another_may_be_the_reference(table, make_run, tmp_path, capsys):
    runs = [make_run("one", 12 * [2]), make_run("two", 12 * [3], PrunedLossOptions()), tmp_path / "gone"]
    found = cells_of(table, runs, against="two")
    assert f"no error rate yet: {tmp_path / 'gone'}" in capsys.readouterr().err
    assert (found["one"]["against two"], found["two"]["against two"]) == ("-10.00", "")
    assert "against" not in " ".join(cells_of(table, runs, against="three")["one"])


def test_a_choice_is_found_by_its_name_also_while_one_seed_is_there(table, make_run):
    found = cells_of(table, [make_run("base-0", 12 * [2]), make_run("other", 12 * [3], PrunedLossOptions())], "base")
    assert (found["base-0"]["against base-0"], found["other"]["against base-0"]) == ("", "+10.00")


def test_the_picture_has_what_has_delays(table, make_run, tmp_path):
    late = make_run("late", 12 * [2], delay="mean 0.1, median 0.2, 90 % 0.3, last token 0.2 s")
    choices = table.grouped([*table.read_trainings([late, make_run("unknown", 12 * [1], PrunedLossOptions())])])
    table.draw(choices, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
