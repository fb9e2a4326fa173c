"""Spellings in which differences do not count, and what is said of them."""

import sys
from importlib.metadata import version

import pytest

from asr.errors import InputError
from asr.score.normalize import normalizer
from asr.score.report import read_hypotheses, read_rate, read_score, write_report
from asr.score.wer import Utterance

SAID = [Utterance(f"u{n}", "Mr. Smith, don't pay twenty-one dollars!", "mr smith don't pay $21") for n in range(12)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don’t — «STOP», co-op!", "don't stop co-op"),
        ("ﬁve Ｆｕｌｌ  ①", "five full 1"),
        ("STRASSE Straße ΣΊΣΥΦΟΣ", "strasse strasse σίσυφοσ"),
        ("今天，天气。", "今天天气"),
        ("คุณ ที่", "คุณ ที่"),
        (" ", ""),
    ],
)
def test_basic_keeps_what_is_said(text, expected):
    assert normalizer("basic").spell(text).split() == expected.split()


def test_english_is_whispers():
    spell = normalizer("english").spell
    assert spell(SAID[0].reference) == "mister smith do not pay $21"
    assert spell("um, the colour of [laughter] 1,000 naïve organisers") == "the color of 1000 naive organizers"


@pytest.mark.parametrize(("name", "errors"), [("none", 6 * 4 + 12), ("basic", 6 * 2 + 12), ("english", 12)])
def test_a_report_tells_its_spelling_and_keeps_the_texts(name, errors, tmp_path):
    utterances = [*SAID[:6], *(Utterance(f"x{n}", "a b", "c") for n in range(6))]
    scored = write_report(tmp_path, utterances, "x", note="3 of 15 utterances were skipped", normalize=normalizer(name))
    assert scored.errors.total == errors
    assert read_hypotheses(tmp_path / "hypotheses.jsonl") == utterances
    library = f"english (whisper-normalizer {version('whisper-normalizer')})" if name == "english" else name
    lines = (tmp_path / "wer.txt").read_text().splitlines()
    assert lines[1:] == ["3 of 15 utterances were skipped", *[f"normalised: {library}"] * (name != "none")]
    assert lines[0] == scored.line("x")
    rate = read_rate(tmp_path / "wer.txt")
    assert (rate.not_scored, rate.normalized) == ("3 of 15", library * (name != "none"))
    again = read_score(tmp_path)
    assert (again.errors, again.unit, again.interval) == (scored.errors, "word", scored.interval)
    shown = (tmp_path / "recogs.txt").read_text()
    assert ("Mr." in shown) is (name == "none")


def test_without_the_library_one_line_tells_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "whisper_normalizer.english", None)
    with pytest.raises(
        InputError, match=r"normalize=english: whisper-normalizer is not installed: pip install '.\[score\]'"
    ):
        normalizer("english")
    with pytest.raises(InputError, match="normalize=german: unknown; use one of none, basic, english"):
        normalizer("german")
