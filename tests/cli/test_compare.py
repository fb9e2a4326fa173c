"""A table of runs: what differs, best first, and whatever is missing left empty."""

import dataclasses
import json

import pytest

from asr.cli import multirun
from asr.cli.compose import compose
from asr.cli.main import main
from asr.config.schema import to_yaml
from asr.errors import InputError
from asr.runs.result import read_result
from asr.score.record import Record, write_record
from asr.score.report import not_scored, write_report
from asr.score.wer import Utterance, score


@pytest.fixture
def make_run(tmp_path):
    """A function that makes a run directory with options and results."""

    def make(name, *overrides, steps=(), decoded=None, measure="wer", note=""):
        config = compose("train", [f"run={name}", *overrides])
        run = tmp_path / name
        run.mkdir()
        (run / "config.yaml").write_text(to_yaml(config))
        lines = [{"step": step, f"validation/{measure}": rate} for step, rate in steps]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        for search, rate in (decoded or {}).items():
            (run / search).mkdir()
            line = f"%{measure.upper()} {rate:.2f} [ 1 / 100, 0 ins, 0 del, 1 sub ] x\n{note}"
            (run / search / "wer.txt").write_text(line)
        return str(run)

    return make


def cells(capsys):
    lines = capsys.readouterr().out.splitlines()
    assert len({len(line) for line in lines}) == 1
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]


@pytest.mark.parametrize("paths", [False, True])
def test_paths_in_which_runs_differ_are_named_and_shown_when_asked_for(make_run, capsys, paths):
    runs = [make_run(name, f"data.train_cuts=[{name}.jsonl.gz]", "optim.lr=1e-3", "data.workers=0") for name in "ab"]
    assert main(["compare", *runs, *["paths=true"] * paths]) == 0
    said = capsys.readouterr()
    assert ("a.jsonl.gz" in said.out) is paths
    assert said.err == ("" if paths else "the runs differ in data.train_cuts, too: paths=true shows these\n")


def test_the_best_run_comes_first_with_the_options_that_differ(make_run, capsys):
    runs = [
        make_run(
            "a", "optim.lr=1e-3", "train.steps=200", steps=[(100, 12.0), (200, 11.0)], decoded={"decode_dev": 10.5}
        ),
        make_run("b", "optim.lr=2e-3", "train.steps=200", steps=[(100, 9.0), (120, 9.5)]),
        make_run("c", "optim.lr=4e-3", "train.steps=200", "loss=pruned"),
    ]
    assert main(["compare", *runs]) == 0
    head, *rows = cells(capsys)
    assert "loss.am_scale" not in head  # of a loss that only one of them has
    pick = [
        head.index(name) for name in ("run", "loss.name", "optim.lr", "step", "best validation", "last", "decode_dev")
    ]
    assert [[row[at] for at in pick] for row in rows] == [
        ["b", "full", "0.002", "120/200", "9.00", "9.50", ""],
        ["a", "full", "0.001", "200/200", "11.00", "11.00", "10.50"],
        ["c", "pruned", "0.004", "0/200", "", "", ""],
    ]


def test_rates_of_words_and_of_characters_stand_apart(make_run, capsys):
    runs = [
        make_run("a", steps=[(1, 5.0)], decoded={"decode_dev": 4.0}, measure="cer"),
        make_run("b", steps=[(1, 3.0), (2, 3.5)], decoded={"decode_dev": 3.0}, measure="cer"),
        make_run("c", steps=[(1, 12.0)], decoded={"decode_dev": 11.0}),
        make_run("d"),
    ]
    assert main(["compare", *runs]) == 0
    out, err = capsys.readouterr()
    assert err == "rates of words (WER) and of characters (CER) do not compare: the runs are ranked apart\n"
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines())
    measures = [f"{name} {measure}" for name in ("best validation", "last", "decode_dev") for measure in ("WER", "CER")]
    assert head == ["run", "step", *measures]
    assert [[row[0], *row[2:]] for row in rows] == [
        ["c", "12.00", "", "12.00", "", "11.00", ""],
        ["b", "", "3.00", "", "3.50", "", "3.00"],
        ["a", "", "5.00", "", "5.00", "", "4.00"],
        ["d", "", "", "", "", "", ""],
    ]
    assert main(["compare", *runs[:2]]) == 0
    out, err = capsys.readouterr()
    assert (" best validation CER " in out, "WER" in out, err) == (True, False, "")


def test_a_rate_that_is_not_of_all_is_told_from_others(make_run, capsys):
    whole = make_run("a", steps=[(100, 9.0)], decoded={"decode_dev": 10.5})
    note = f"{not_scored(2, 130)}\n"
    part = make_run("b", steps=[(100, 9.5)], decoded={"decode_dev": 8.5, "decode_test": 7.5}, note=note)
    assert main(["compare", whole, part]) == 0
    head, *rows = cells(capsys)
    assert [row[head.index("decode_dev: not scored")] for row in rows] == ["", "2 of 130"]
    assert [row[head.index("decode_test: not scored")] for row in rows] == ["", "2 of 130"]
    main(["compare", whole])
    assert not any("not scored" in name for name in cells(capsys)[0])


def test_equal_options_have_no_column(make_run, capsys):
    main(["compare", make_run("a", "optim.lr=1e-3"), make_run("b", "optim.lr=2e-3")])
    assert cells(capsys)[0] == ["run", "optim.lr", "step", "best validation", "last"]


def test_a_line_of_metrics_that_was_cut_short_does_not_count(make_run, tmp_path):
    path = make_run("a", steps=[(100, 12.0)])
    with (tmp_path / "a" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 200, "vali')
    result = read_result(tmp_path / "a")
    assert (path, result.step, result.validation) == (str(tmp_path / "a"), 100, [12.0])
    (tmp_path / "a" / "metrics.jsonl").unlink()
    assert dataclasses.replace(read_result(tmp_path / "a"), validation=[12.0]).best == 12.0


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="no config.yaml there"):
        read_result(tmp_path)


def test_what_was_decoded_and_is_damaged_costs_itself_alone(make_run, tmp_path, capsys):
    run = make_run("a", decoded={"decode_dev": 1.0, "decode_test": 2.0})
    (tmp_path / "a" / "decode_dev" / "wer.txt").write_text("none\n")
    (tmp_path / "a" / "decode_test" / "decode.json").write_text("[1]")
    for words, shown in (([run], 2), ([f"{run}/decode_test"], 1), ([f"{run}/decode_test", f"{run}/decode_dev"], 2)):
        assert main(["compare", *words]) == 1
        out, err = capsys.readouterr()
        assert "2.00" in out
        assert err.count("not read: ") == shown
        assert f"not read: {run}/decode_test/decode.json: is no record of a decoding" in err
        assert ("decode_dev/wer.txt: not a WER line" in err) == (shown == 2)
        assert err.endswith(f"files of what was decoded that could not be read: {shown}; see above\n")
    assert main(["compare", f"{run}/decode_dev"]) == 2  # there is nothing to make a table of
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), "decode_dev/wer.txt: not a WER line" in err) == ("", 1, True)
    multirun.report([tmp_path / "a"])  # whose trainings have not failed
    assert "decode_dev/wer.txt: not a WER line" in capsys.readouterr().err


def test_a_column_of_several_searches_says_which(make_run, tmp_path, capsys):
    searches = {"a": {"name": "greedy"}, "b": {"name": "beam", "beam": 8}, "c": {"name": "beam", "beam": 4}}
    runs = [make_run(name, decoded={"dev": 10.5, "test": 9.5}) for name in searches]
    for run, (name, told) in zip(runs, searches.items()):
        for folder, search in (("dev", told), ("test", {"name": "greedy"})):
            write_record(tmp_path / name / folder, Record("1.0", run, name, name, name, False, "cpu", search))
    assert main(["compare", *runs]) == 0
    head, *rows = cells(capsys)
    assert [name for name in head if ": " in name] == ["dev: decode.beam", "dev: decode.name"]
    pick = [head.index(name) for name in ("run", "dev: decode.name", "dev: decode.beam")]
    assert [[row[at] for at in pick] for row in rows] == [["a", "greedy", ""], ["b", "beam", "8"], ["c", "beam", "4"]]


def test_no_runs_are_refused(capsys):
    assert main(["compare"]) == 2
    assert "no run given" in capsys.readouterr().err


def test_decodings_tell_what_they_were_made_with_where_it_differs(make_run, tmp_path, capsys):
    run = make_run("a", decoded={"greedy": 10.5, "beam": 9.5, "old": 12.0})
    for search, more in (("greedy", {}), ("beam", {"beam": 8})):
        told = {"name": search, "max_seconds": 200.0, **more}
        write_record(tmp_path / "a" / search, Record("1.0", run, "step-7", search, "dev", False, "cpu", told))
    assert main(["compare", *(f"{run}/{name}" for name in ("greedy", "beam", "old"))]) == 0
    assert cells(capsys) == [
        ["decoding", "decode.name", "error rate"],
        [f"{run}/beam", "beam", "9.50"],
        [f"{run}/greedy", "greedy", "10.50"],
        [f"{run}/old", "", "12.00"],
    ]


def test_decodings_have_a_table_of_their_own(make_run, tmp_path, capsys):
    run = make_run("a", decoded={"greedy": 10.5, "beam": 9.5})
    (tmp_path / "a" / "greedy" / "wer.txt").write_text(
        f"%WER 10.50 [ 1 / 100, 0 ins, 0 del, 1 sub ] x\n{not_scored(2, 130)}\n"
    )
    assert main(["compare", f"{run}/greedy", f"{run}/beam"]) == 0
    assert cells(capsys) == [
        ["decoding", "error rate", "not scored"],
        [f"{run}/beam", "9.50", ""],
        [f"{run}/greedy", "10.50", "2 of 130"],
    ]
    assert main(["compare", f"{run}/greedy", run]) == 2
    assert "compare runs, or compare decodings" in capsys.readouterr().err


def test_runs_are_compared_by_what_was_decoded_into_them(make_run, tmp_path, capsys):
    """Of two runs with two decodings each, one of them of another set; their rates stand with what holds them."""
    names = {"a": [("dev", 2, "u"), ("test", 1, "v")], "b": [("dev", 20, "u"), ("test", 1, "w")]}
    for run, decodings in names.items():
        make_run(run, steps=[(1, 12.0), (2, 9.0)])
        with (tmp_path / run / "metrics.jsonl").open("a") as file:
            file.write(
                json.dumps({"step": 3, "validation/wer": 9.5, "validation/wer_low": 8.25, "validation/wer_high": 11})
            )
        for name, wrong, set_ in decodings:
            found = [Utterance(f"{set_}{n}", "a b", "a" if n < wrong else "a b") for n in range(30)]
            write_report(tmp_path / run / name, found, name)
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    out, err = capsys.readouterr()
    rates, differences = (
        [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines()]
        for part in out.split("\n\n")
    )
    pick = [rates[0].index(name) for name in ("run", "best validation", "last", "dev")]
    held = [
        score(Utterance(str(n), "a b", "a" if n < wrong else "a b") for n in range(30)).interval for wrong in (2, 20)
    ]
    assert [[row[at] for at in pick] for row in rates[2:]] == [
        ["a", "9.00", "9.50 (8.2-11.0)", f"3.33 ({held[0]})"],
        ["b", "9.00", "9.50 (8.2-11.0)", f"33.33 ({held[1]})"],
    ]
    (row,) = differences[2:]
    assert [*row[:3], *row[4:]] == [f"{tmp_path}/b/dev", f"{tmp_path}/a/dev", "+30.00", "< 1 %", "yes", "30"]
    assert err.startswith(f"not compared: {tmp_path}/a/test, {tmp_path}/b/test: ")
