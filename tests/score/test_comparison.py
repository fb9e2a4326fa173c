"""Which decodings are compared, by which utterances, and what is said of it."""

from pathlib import Path

import pytest

from asr.cli.main import main
from asr.score.bootstrap import paired_difference
from asr.score.comparison import compare
from asr.score.report import write_report
from asr.score.wer import Utterance, score


def decoded(wrong, names=range(20), said="a b c"):
    """Utterances of which the first `wrong` have an error each."""
    return [Utterance(f"u{name}", said, f"{said} x" if n < wrong else said) for n, name in enumerate(names)]


def test_only_what_both_have_is_compared():
    first = score([*decoded(4), Utterance("x", "a", ""), Utterance("z", "a b", "")])
    second = score([*reversed(decoded(1)), Utterance("y", "a", ""), Utterance("w", "a", ""), Utterance("z", "a c", "")])
    found = compare(first, second)
    assert (found.utterances, found.only_first, found.only_second, found.changed) == (20, 1, 2, 1)
    assert found.difference == paired_difference([3] * 20, [1] * 4 + [0] * 16, [1] + [0] * 19)
    assert (
        found.note("p", "q")
        == "compared by the 20 utterances of both: 1 only in p, 2 only in q, 1 with another transcript"
    )
    same = compare(first, first)
    assert (same.difference.points, same.note("p", "q")) == (0, "")
    nothing = compare(first, score([Utterance("v", "a", "b")]))
    assert (nothing.difference, nothing.utterances, nothing.only_second) == (None, 0, 1)


@pytest.fixture
def directories(tmp_path, monkeypatch):
    """Four decodings of one set, one of which lacks an utterance, and another set."""
    monkeypatch.chdir(tmp_path)
    write_report("beam", decoded(2), "x")
    write_report("greedy", decoded(3), "x")
    write_report("bad", decoded(19, range(19)), "x")
    write_report("chars", decoded(1), "x", "char")
    write_report("other", decoded(1, range(100, 120)), "x")
    return ["bad", "beam", "greedy"]


def cells(lines):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("|-")]


def test_decodings_are_compared_with_the_best_of_their_set(directories, capsys):
    assert main(["compare", *directories, "chars", "other"]) == 0
    out, err = capsys.readouterr()
    rates, differences = ([*cells(part.splitlines())] for part in out.split("\n\n"))
    assert [row[0] for row in rates[1:]] == ["other", "beam", "greedy", "bad", "chars"]
    assert rates[2][1] == f"3.33 ({score(decoded(2)).interval})"
    assert differences[0] == ["decoding", "against", "difference", "95 %", "better with", "differ", "utterances"]
    close, far = differences[1:]
    one = paired_difference([3] * 20, [1] * 3 + [0] * 17, [1] * 2 + [0] * 18)
    assert close[:3] == ["greedy", "beam", "+1.67"]
    assert close[3] == f"+0.0 to {one.interval.high:+.1f}"
    assert close[4:] == [f"{100 * one.better:.0f} %", "no", "20"]
    assert [*far[:2], *far[4:]] == ["bad", "beam", "< 1 %", "yes", "19"]
    assert err.splitlines() == [
        "bad, beam: compared by the 19 utterances of both: 1 only in beam",
        "not compared: chars, other: no other has an utterance of theirs, scored in the same unit and spelling",
    ]


def test_texts_in_another_spelling_are_another_set(directories, capsys):
    main(["score", "hypotheses=beam/hypotheses.jsonl", "output=plain", "normalize=basic"])
    capsys.readouterr()
    assert main(["compare", "greedy", "plain"]) == 0
    out, err = capsys.readouterr()
    assert [row[2] for row in cells(out.splitlines())] == ["normalised", "basic", ""]
    assert err.startswith("not compared: greedy, plain: ")


def test_a_decoding_that_cannot_be_read_ends_no_table(directories, capsys):
    Path("beam/hypotheses.jsonl").write_text("no JSON\n")
    assert main(["compare", *directories]) == 0
    out, err = capsys.readouterr()
    assert [row[0] for row in cells(out.split("\n\n")[1].splitlines())[1:]] == ["bad"]
    assert err.splitlines()[-1].startswith("not compared: beam/hypotheses.jsonl:1: not JSON")
