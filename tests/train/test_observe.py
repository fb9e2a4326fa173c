"""Validations tell what decoding tells, and what they left out."""

import json
import re
from dataclasses import replace

import pytest
from lhotse import CutSet

from asr.cli.main import main
from asr.data.corpus import write_cuts
from asr.runs import state
from asr.runs.directory import RunDirectory
from asr.train import observe
from asr.train.observe import spread


def options(corpus, run, dev, *more):
    return [
        f"run={run}",
        "model=debug",
        "data=debug",
        "train=debug",
        "optim=debug",
        "loss.topology=modified",
        "train.ctc_weight=0",
        "train.device=cpu",
        f"data.train_cuts=[{corpus.train}]",
        f"data.valid_cuts=[{dev}]",
        f"data.tokenizer={corpus.tokenizer}",
        *more,
    ]


def said(cut, text):
    return replace(cut, supervisions=[replace(cut.supervisions[0], text=text)])


def unreadable(cut, directory):
    broken = directory / "broken.flac"
    broken.write_bytes(b"fLaC but nothing more")
    source = replace(cut.recording.sources[0], source=str(broken))
    return replace(cut, recording=replace(cut.recording, sources=[source]))


def lines(run, prefix):
    rows = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    return [row for row in rows if any(name.startswith(prefix) for name in row)]


def test_validation_is_decoding(tiny_corpus, tmp_path, capsys, monkeypatch):
    shown, drawn = [], []
    monkeypatch.setattr(RunDirectory, "write_examples", lambda run, step, lines: shown.append(lines))
    monkeypatch.setattr(observe, "show_lattice", lambda step, trainer, batch, tokenizer: drawn.append(batch.ids))
    long, strange, broken, *others = CutSet.from_file(tiny_corpus.dev)
    dev, run = tmp_path / "cuts_dev.jsonl.gz", tmp_path / "run"
    write_cuts([said(long, "LOW " * 20), said(strange, "ZOO LOW"), unreadable(broken, tmp_path), *others], dev)
    longest = sorted(cut.duration for cut in others)[-2]
    limit = f"data.max_duration={longest + 0.001}", "train.steps=10", "train.validate_every=5"
    assert main(["train", *options(tiny_corpus, run, dev, *limit)]) == 0
    log = (run / "train.log").read_text()
    metrics = lines(run, "validation/")
    assert [line["step"] for line in metrics] == [5, 10]
    for line in metrics:
        name = f"step-{line['step']:08d}"
        output = tmp_path / name
        words = [f"run={run}", f"cuts={dev}", f"output={output}", f"checkpoint={name}", "device=cpu"]
        assert main(["decode", *words]) == 1  # one of them is broken
        errors, total = re.search(r"\[ (\d+) / (\d+),", (output / "wer.txt").read_text()).groups()
        assert (line["validation/errors"], line["validation/words"]) == (int(errors), int(total))
        assert (line["validation/utterances"], line["validation/skipped"]) == (5, 1)
        assert line["validation/no_loss"] == 3  # too long a text, a strange one, and too long a recording
        counts = f"({errors} of {total} words, utterances not read: 1, without a loss: 3)"
        assert counts in log
    assert "".join((tmp_path / f"step-{step:08d}" / "hypotheses.jsonl").read_text() for step in (5, 10)).count("tokens")
    assert log.count(f"validation: skipped {broken.id}: unreadable audio") == 1
    assert f"of {long.id}: 80 labels need 80 frames" in log
    assert "larger units, loss.topology=regular or longer utterances would help" in log
    assert f"of {strange.id}: character 'Z' of 'ZOO' is not in the tokenizer's vocabulary" in log
    in_order = [long.id, strange.id, *(cut.id for cut in others)]
    assert [lines[::4] for lines in shown] == [in_order] * 2  # each with what was said, what was heard, and a blank
    assert drawn == [[sorted(others, key=lambda cut: cut.duration > longest + 0.001)[0].id]] * 2
    capsys.readouterr()
    assert main(["compare", str(run)]) == 0
    head, _, row = ([cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines())
    found = dict(zip(head, row, strict=True))
    assert (found["validation skipped"], found["no loss"]) == ("1 of 6", "3")


def test_what_decoding_cuts_into_pieces_is_decoded_so_in_validation_too(tiny_corpus, tmp_path):
    run, limit = tmp_path / "run", "decode.max_seconds=1"
    long = [cut.id for cut in CutSet.from_file(tiny_corpus.dev) if cut.duration > 1]
    assert 1 < len(long) < 6
    assert main(["train", *options(tiny_corpus, run, tiny_corpus.dev, "train.steps=2", limit)]) == 0
    output = tmp_path / "dev"
    words = [f"run={run}", f"cuts={tiny_corpus.dev}", f"output={output}", "checkpoint=last", "device=cpu", limit]
    assert main(["decode", *words]) == 0
    errors, total = re.search(r"\[ (\d+) / (\d+),", (output / "wer.txt").read_text()).groups()
    (line,) = lines(run, "validation/")
    assert (line["validation/errors"], line["validation/words"]) == (int(errors), int(total))
    assert (line["validation/utterances"], line["validation/no_loss"]) == (6, len(long))
    assert (run / "train.log").read_text().count("is decoded in pieces") > 0


def test_a_set_of_which_nothing_can_be_read_has_no_rate_and_no_best(tiny_corpus, tmp_path, capsys):
    dev, run = tmp_path / "cuts_dev.jsonl.gz", tmp_path / "run"
    write_cuts([unreadable(cut, tmp_path) for cut in CutSet.from_file(tiny_corpus.dev)], dev)
    assert main(["train", *options(tiny_corpus, run, dev, "train.steps=2")]) == 0
    assert "validation: NONE of 6 utterances could be read" in capsys.readouterr().err
    (line,) = lines(run, "validation/")
    assert line == {"step": 2, "validation/utterances": 0, "validation/skipped": 6, "validation/no_loss": 0}
    assert len(state.checkpoints(run / "checkpoints")) == 1
    assert state.best(run / "checkpoints") is None


def test_an_id_that_is_twice_in_the_validation_set_is_refused_before_training(tiny_corpus, tmp_path, capsys):
    dev, run = tmp_path / "cuts_dev.jsonl.gz", tmp_path / "run"
    cuts = [*CutSet.from_file(tiny_corpus.dev)]
    write_cuts([*cuts, cuts[2]], dev)
    assert main(["train", *options(tiny_corpus, run, dev)]) == 2
    assert f"line 3 ({cuts[2].id}); give each utterance its own" in capsys.readouterr().err
    assert not run.exists()


def test_refused_utterances_are_named_and_counted_when_they_are_met(tiny_corpus, tmp_path):
    train, run = tmp_path / "cuts_train.jsonl.gz", tmp_path / "run"
    cuts = [*CutSet.from_file(tiny_corpus.train)]
    write_cuts([said(cuts[0], "LOW " * 20), unreadable(cuts[1], tmp_path), *cuts[2:]], train)
    words = options(tiny_corpus, run, tiny_corpus.dev, f"data.train_cuts=[{train}]", "train.steps=3")
    assert main(["train", *words, "train.log_every=1", "data.max_seconds=100", "data.buckets=2"]) == 0
    log = (run / "train.log").read_text().splitlines()
    first_step = next(number for number, line in enumerate(log) if "step 1/3" in line)
    assert any(f"skipped {cuts[0].id}: 80 labels need 80 frames" in line for line in log[:first_step])
    assert sum(f"skipped {cuts[0].id}:" in line for line in log) == 1
    assert any("1 of 24 utterances of data.train_cuts are left out" in line for line in log[:first_step])
    assert log[-2].endswith("skipped 2 utterances")
    assert sum(line["train/skipped"] for line in lines(run, "train/") if line["train/epoch"] == 0) == 2


@pytest.mark.parametrize(
    ("count", "expected"), [(0, []), (3, [0, 1, 2]), (5, [0, 1, 2, 3, 4]), (101, [0, 25, 50, 75, 100])]
)
def test_examples_are_from_all_over_the_set(count, expected):
    assert spread(range(count), 5) == expected
