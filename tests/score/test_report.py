"""The files of a scoring report: what they say, and that bad ones are refused by file and line."""

import json
import shutil
from dataclasses import asdict

import pytest

from asr.cli.main import main
from asr.errors import InputError
from asr.score.bootstrap import Interval
from asr.score.normalize import normalizer
from asr.score.record import NAME, Record, read_record
from asr.score.report import (
    Rate,
    in_other_case,
    not_scored,
    read_hypotheses,
    read_rate,
    unheard,
    write_alignments,
    write_error_counts,
    write_hypotheses,
    write_nbest,
    write_recogs,
    write_report,
)
from asr.score.wer import Utterance, score

UTTERANCES = [
    Utterance("utt-2", "the cat sat", "the sat"),
    Utterance("utt-1", "a dog", "a big fog"),
    Utterance("utt-3", "yes", "yes"),
]


def test_hypotheses_round_trip(tmp_path):
    timed = Utterance("utt-4", "yes", "yes no", ("\u2581YES", "\u2581NO"), (0.5, 1.25))
    utterances = [*UTTERANCES, timed, Utterance('"\\\u2028', "zoë\n日本", "")]
    path = tmp_path / "made" / "hypotheses.jsonl"
    write_hypotheses(path, utterances)
    assert read_hypotheses(path) == utterances
    assert "日本" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"id": "a", ', "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"id": "a", "reference": "x"}', "no string 'hypothesis'"),
        (b'{"id": 1, "reference": "x", "hypothesis": "x"}', "no string 'id'"),
        (b'{"id": "\xff"}', "not JSON"),
        (b'{"id": "a", "reference": "x", "hypothesis": "x", "tokens": ["x"]}', "'tokens' must be strings"),
        (b'{"id": "a", "reference": "x", "hypothesis": "x", "tokens": ["x"], "times": ["1"]}', "'tokens' must be"),
    ],
)
def test_bad_line_is_named(tmp_path, line, complaint):
    path = tmp_path / "hypotheses.jsonl"
    good = json.dumps({"id": "u", "reference": "x", "hypothesis": "x"}).encode()
    path.write_bytes(good + b"\n\n" + line + b"\n")
    with pytest.raises(InputError, match=f"hypotheses.jsonl:3: {complaint}") as caught:
        read_hypotheses(path)
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot read hypotheses '.*missing.jsonl'"):
        read_hypotheses(tmp_path / "missing.jsonl")


def test_alignments_are_in_columns_and_in_the_order_given(tmp_path):
    write_alignments(tmp_path / "alignments.txt", score(UTTERANCES))
    assert (tmp_path / "alignments.txt").read_text().split("\n") == [
        "utt-2: %WER 33.33 [ 1 / 3, 0 ins, 1 del, 0 sub ]",
        "REF: the cat sat",
        "HYP: the *** sat",
        "         D",
        "",
        "utt-1: %WER 100.00 [ 2 / 2, 1 ins, 0 del, 1 sub ]",
        "REF: a dog ***",
        "HYP: a big fog",
        "       S   I",
        "",
        "utt-3: %WER 0.00 [ 0 / 1, 0 ins, 0 del, 0 sub ]",
        "REF: yes",
        "HYP: yes",
        "",
        "",
    ]


def test_columns_allow_for_wide_and_combining_characters(tmp_path):
    text = [Utterance("u", "日本 e\u0301te\u0301 x", "abc ete y"), Utterance("v", "", "")]
    write_alignments(tmp_path / "alignments.txt", score(text, "word"))
    assert (tmp_path / "alignments.txt").read_text(encoding="utf-8").split("\n")[1:8] == [
        "REF: 日本 e\u0301te\u0301 x",
        "HYP: abc  ete y",
        "     S    S   S",
        "",
        "v: %WER 0.00 [ 0 / 0, 0 ins, 0 del, 0 sub ]",
        "REF:",
        "HYP:",
    ]


def test_error_counts_are_sorted_and_cut_at_top(tmp_path):
    utterances = [Utterance("1", "a b c a", "x b y"), Utterance("2", "a b", "x b z"), Utterance("3", "c", "")]
    write_error_counts(tmp_path / "errs.txt", score(utterances), top=2, name="dev")
    assert (tmp_path / "errs.txt").read_text().split("\n") == [
        "%WER 85.71 [ 6 / 7, 1 ins, 2 del, 3 sub ] dev",
        "%SER 100.00 [ 3 / 3 ]",
        "",
        "SUBSTITUTIONS (count, reference -> hypothesis): 2 of 2",
        "       2  a -> x",
        "       1  c -> y",
        "",
        "DELETIONS (count, reference): 2 of 2",
        "       1  a",
        "       1  c",
        "",
        "INSERTIONS (count, hypothesis): 1 of 1",
        "       1  z",
        "",
        "WORDS BY ERROR RATE (percent, wrong / in the reference): 2 of 2",
        "  100.00  3 / 3  a",
        "  100.00  2 / 2  c",
        "",
    ]
    write_error_counts(tmp_path / "errs.txt", score(utterances), top=1)
    assert "1 of 2\n       2  a -> x\n\n" in (tmp_path / "errs.txt").read_text()


def test_report_writes_its_files_and_nothing_else(tmp_path):
    result = write_report(tmp_path / "report", iter(UTTERANCES), "test", unit="char")
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"hypotheses.jsonl", "recogs.txt", "alignments.txt", "errs.txt", "wer.txt"}
    assert (tmp_path / "report" / "wer.txt").read_text() == result.line("test") + "\n"
    assert result.line("test").startswith("%CER ")
    assert read_hypotheses(tmp_path / "report" / "hypotheses.jsonl") == UTTERANCES


RECORD = Record("1.0", "exp/a", "step-7", "0f", "dev", True, "cpu", {"name": "beam", "lm": None})


def test_a_record_is_of_the_hypotheses_beside_it(tmp_path, capsys):
    write_report(tmp_path / "a", UTTERANCES, "test", record=RECORD)
    assert read_record(tmp_path / "a") == RECORD
    told = json.loads((tmp_path / "a" / NAME).read_text())
    (tmp_path / "a" / NAME).write_text(json.dumps({**told, "later": 1}))
    words = [f"hypotheses={tmp_path / 'a' / 'hypotheses.jsonl'}", f"output={tmp_path / 'b'}"]
    assert main(["score", *words]) == 0
    assert read_record(tmp_path / "b") == RECORD
    shutil.copy(tmp_path / "a" / "hypotheses.jsonl", tmp_path / "a" / "others.jsonl")
    assert main(["score", f"hypotheses={tmp_path / 'a' / 'others.jsonl'}", f"output={tmp_path / 'b'}"]) == 0
    assert read_record(tmp_path / "b") is None
    write_report(tmp_path / "b", UTTERANCES, "test")  # of another system
    assert read_record(tmp_path / "b") is None


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b"{}", b"\xff", b"7", b"[" * 100_000),
        *(
            json.dumps(asdict(RECORD) | wrong).encode()
            for wrong in ({"cuts": 5}, {"weights": []}, {"checkpoint": 7}, {"streaming": "no"}, {"decode": "beam"})
        ),
    ],
)
def test_a_damaged_record_is_named(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(InputError, match=rf"^{tmp_path / NAME}: is no record of a decoding"):
        read_record(tmp_path)


def test_a_record_that_is_none_stops_no_score_and_is_not_replaced(tmp_path, capsys):
    write_report(tmp_path / "a", UTTERANCES, "test")
    (tmp_path / "a" / NAME).write_text('{"beam": 4}')
    words = ["score", f"hypotheses={tmp_path / 'a' / 'hypotheses.jsonl'}"]
    assert main([*words, f"output={tmp_path / 'b'}"]) == 0
    assert "is no record of a decoding" in capsys.readouterr().err
    assert read_record(tmp_path / "b") is None
    assert main([*words, f"output={tmp_path / 'a'}"]) == 2
    assert (tmp_path / "a" / NAME).read_text() == '{"beam": 4}'


@pytest.mark.parametrize("line", ["%WER 1.2.3", "%WER .", "%CER 1. [ 1 / 2, 0 ins, 0 del, 1 sub ]"])
def test_a_rate_that_is_no_number_is_named(tmp_path, line):
    (tmp_path / "wer.txt").write_text(line)
    with pytest.raises(InputError, match="not a WER line"):
        read_rate(tmp_path / "wer.txt")


def test_what_was_not_heard_at_all_is_told_with_its_share_of_the_errors():
    utterances = [Utterance("u1", "a b c", ""), Utterance("u2", "a b", "a x"), Utterance("u3", "", ""), UTTERANCES[0]]
    errors = score(utterances).errors.total
    assert (
        unheard(score(utterances), utterances)
        == f"nothing was recognised in 1 of 4 utterances (3 of {errors} errors): u1"
    )
    assert unheard(score(utterances[1:]), utterances[1:]) == ""
    many = [Utterance(f"u{n}", "a", " ") for n in range(9)]
    assert unheard(score(many), many).endswith("9 of 9 utterances (9 of 9 errors): u0, u1, u2, u3, u4, …")


@pytest.mark.parametrize(
    ("reference", "hypothesis", "alone"),
    [
        ("the cat sat", "THE CAT SAT", 3),
        ("the cat sat", "THE CAT SOT", 2),
        ("a cat sat", "THE DOG SAT", 0),
        ("a b", "a b", 0),
    ],
)
def test_errors_of_case_alone_are_told(reference, hypothesis, alone):
    scored = score([Utterance("u", reference, hypothesis)])
    told = f"{alone} of {scored.errors.total} errors are of upper and lower case alone"
    assert in_other_case(scored).startswith(told if alone else "")
    assert bool(in_other_case(scored)) == bool(alone)


def test_errors_of_case_are_told_by_the_command(tmp_path, capsys):
    write_report(tmp_path, [Utterance("u", "the cat sat", "THE CAT SAT")], "test")
    assert main(["score", f"hypotheses={tmp_path / 'hypotheses.jsonl'}", f"output={tmp_path}"]) == 0
    assert "3 of 3 errors are of upper and lower case alone" in capsys.readouterr().err


def test_report_of_nothing_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="no utterances"):
        write_report(tmp_path / "report", [], "test")
    assert not (tmp_path / "report").exists()


def test_recogs_have_the_words_of_both(tmp_path):
    write_recogs(tmp_path / "recogs.txt", [Utterance("u1", "a b", "a"), Utterance("u2", "c", "")])
    expected = ["u1:\tref=['a', 'b']", "u1:\thyp=['a']", "u2:\tref=['c']", "u2:\thyp=[]"]
    assert (tmp_path / "recogs.txt").read_text().splitlines() == expected


def test_a_report_of_a_script_without_blanks_is_of_characters(tmp_path):
    write_report(tmp_path, [Utterance("u", "今天天气很好", "今天气真好")], "x")
    read = {path.stem: path.read_text(encoding="utf-8").splitlines() for path in tmp_path.glob("*.txt")}
    assert read["wer"] == ["%CER 33.33 [ 2 / 6, 0 ins, 1 del, 1 sub ] x"]
    assert "       1  很 -> 真" in read["errs"]
    assert "CHARS BY ERROR RATE (percent, wrong / in the reference): 2 of 2" in read["errs"]
    assert read["recogs"] == ["u:\tref=['今', '天', '天', '气', '很', '好']", "u:\thyp=['今', '天', '气', '真', '好']"]


def test_what_is_known_of_a_hypothesis_is_read_back(tmp_path):
    known = Utterance("u", "a b", "a b", ("\u2581a", "\u2581b"), (0.1, 0.5), (0.9, 1.0), -0.25)
    write_hypotheses(tmp_path / "known.jsonl", [known, Utterance("v", "a", "")])
    assert read_hypotheses(tmp_path / "known.jsonl") == [known, Utterance("v", "a", "")]
    write_nbest(tmp_path / "nbest.jsonl", [[known, Utterance("u", "a b", "a", score=-3.0)], [Utterance("v", "a", "")]])
    rows = [json.loads(line) for line in (tmp_path / "nbest.jsonl").read_text().splitlines()]
    assert [(row["rank"], row["hypothesis"]) for row in rows] == [(1, "a b"), (2, "a"), (1, "")]
    assert rows[1]["score"] == -3.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%WER 6.53 [ 37 / 567, 5 ins, 4 del, 28 sub ] 95 % 4.6-8.7 test\n", Rate("wer", 6.53, Interval(4.6, 8.7))),
        ("%CER 0.50 [ 1 / 200, 0 ins, 0 del, 1 sub ] 95 % 0.02-0.98\n", Rate("cer", 0.5, Interval(0.02, 0.98))),
        ("%WER 6.53 [ 37 / 567, 5 ins, 4 del, 28 sub ] test 95 % 4.6-8.7\n", Rate("wer", 6.53)),  # what it is called
        (f"%WER inf [ 1 / 0, 1 ins, 0 del, 0 sub ]\n{not_scored(2, 9)}\n", Rate("wer", float("inf"), None, "2 of 9")),
        ("%WER 12.00", Rate("wer", 12.0)),
        ("%SER 6.53 [ 37 / 567 ]", None),
        ("%WER six", None),
        ("%WER", None),
        (b"\xff", None),
        ("", None),
    ],
)
def test_the_line_of_a_rate_is_read_with_what_holds_it(text, expected, tmp_path):
    path = tmp_path / "wer.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if expected:
        assert read_rate(path) == expected
    else:
        with pytest.raises(InputError, match="wer.txt: .*; score again with `asr score`"):
            read_rate(path)


@pytest.mark.parametrize(
    "changes", [{"confidences": [0.5]}, {"confidences": ["x", "y"]}, {"score": "high"}, {"score": [1]}, {"times": 3}]
)
def test_details_that_do_not_fit_are_refused(tmp_path, changes):
    row = {"id": "u", "reference": "a b", "hypothesis": "a b", "tokens": ["a", "b"], "times": [0.1, 0.2], **changes}
    (tmp_path / "h.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match=r"h.jsonl:1: "):
        read_hypotheses(tmp_path / "h.jsonl")


def test_what_a_spelling_leaves_out_was_recognised():
    said = [Utterance("u0", "x", "?!"), Utterance("u1", "x", "")]
    assert unheard(score(map(normalizer("basic"), said)), said).endswith(": u1")


def test_nothing_is_said_of_the_case_where_nothing_was_said():
    assert in_other_case(score([Utterance("u0", "", "")])) == ""
