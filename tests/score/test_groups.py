"""Rates of parts of a set: which part an utterance is in, in what order they are, and what the table says."""

from types import SimpleNamespace

import pytest
from lhotse import SupervisionSegment

from asr.errors import InputError
from asr.score.bootstrap import rate_interval
from asr.score.groups import lines_by, parts, quarters, values_of
from asr.score.wer import Utterance, score


def cut(name, duration=1.0, *supervisions):
    """A cut with supervisions that have these fields."""
    rows = [SupervisionSegment(f"{name}-{n}", "rec", 0, duration, **one) for n, one in enumerate(supervisions)]
    return SimpleNamespace(id=name, duration=duration, supervisions=rows)


CUTS = [
    cut("a", 2.5, {"speaker": "s1", "gender": "f", "custom": {"snr": 12.5, "take": 1, "words": [1]}}),
    cut("b", 1.25, {"speaker": "s2", "custom": {"snr": 3.0}}, {"speaker": "s1", "custom": {"snr": 3.0}}),
    cut("c", 4.0),
]


def test_every_field_of_the_supervisions_can_be_asked_for():
    found = values_of(CUTS, "speaker, gender,duration,snr,take")
    assert found == {
        "speaker": {"a": "s1", "b": "s2 + s1"},
        "gender": {"a": "f"},
        "duration": {"a": 2.5, "b": 1.25, "c": 4.0},
        "snr": {"a": 12.5, "b": 3.0},
        "take": {"a": 1},
    }
    assert values_of(iter([]), "") == {}


@pytest.mark.parametrize("name", ["speker", "words", "text"])
def test_a_field_that_nothing_has_is_refused_with_those_there_are(name):
    with pytest.raises(InputError, match=f"by={name}: no supervision has this; there are duration, .*speaker.*snr"):
        values_of(CUTS, f"gender,{name}")


def test_the_worst_part_is_first_and_what_has_no_value_last():
    scored = score([Utterance("a", "x y", "x"), Utterance("b", "x", "y"), Utterance("c", "x", "x y z")])
    found = parts(scored, {"a": "good", "b": "bad"})
    assert [(name, one.errors.total, one.errors.words) for name, one in found.items()] == [
        ("bad", 1, 1),
        ("good", 1, 2),
        ("unknown", 2, 1),
    ]
    assert sum((one.errors for one in found.values()), start=type(scored.errors)()) == scored.errors


def test_measures_are_in_quarters_the_shortest_first():
    seconds = {f"u{n}": 0.25 * n for n in (8, 1, 4, 2, 6, 3, 7, 5)}
    found = quarters(seconds)
    assert list(dict.fromkeys(found.values())) == ["0.25-0.5", "0.75-1", "1.25-1.5", "1.75-2"]
    assert (found["u1"], found["u8"]) == ("0.25-0.5", "1.75-2")
    assert quarters({"a": 2.0, "b": 2.0, "c": 2.0}) == dict.fromkeys("abc", "2-2")
    scored = score([Utterance(name, "a", "b" if name == "u8" else "a") for name in seconds])
    assert [one.errors.total for one in parts(scored, seconds).values()] == [0, 0, 0, 1]


def test_the_table_has_intervals_of_utterances_and_of_whole_parts():
    """12 speakers, of which one is never understood: there are others like him, so the rate is known less well."""
    utterances = [Utterance(f"{s}-{n}", "a b", "" if s == 0 else "a b") for s in range(12) for n in range(10)]
    speakers = {one.id: f"s{one.id.partition('-')[0]}" for one in utterances}
    head, _, whole, drawn, first, *others = lines_by("speaker", score(utterances), speakers)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, whole, drawn, first)]
    assert cells[0] == ["speaker", "utterances", "words", "errors", "WER", "95 %"]
    assert cells[1] == ["all", "120", "240", "20", "8.33", str(rate_interval([2] * 10 + [0] * 110, [2] * 120))]
    by_speaker = str(rate_interval([20] + [0] * 11, [20] * 12))
    assert cells[2] == ["all, each speaker drawn as a whole", "120", "240", "20", "8.33", by_speaker]
    assert cells[3] == ["s0", "10", "20", "20", "100.00", ""]  # all the same: nothing to be told
    assert len(others) == 11
    assert float(by_speaker.split("-")[1]) > float(cells[1][5].split("-")[1])
    assert "drawn" not in "".join(
        lines_by("seconds", score(utterances), {one.id: 1.5 * n for n, one in enumerate(utterances)})
    )


def test_quarters_are_of_the_utterances_that_are_scored():
    seconds = {f"u{n}": float(n) for n in range(100)}
    scored = score(Utterance(f"u{n}", "x", "x") for n in range(8))
    assert [(name, len(one.per_utterance)) for name, one in parts(scored, seconds).items()] == [
        ("0-1", 2),
        ("2-3", 2),
        ("4-5", 2),
        ("6-7", 2),
    ]


def test_quarters_of_close_values_are_told_apart():
    found = quarters({f"u{n}": 100 + n / 1000 for n in range(1, 9)})
    assert list(dict.fromkeys(found.values())) == [
        "100.001-100.002",
        "100.003-100.004",
        "100.005-100.006",
        "100.007-100.008",
    ]


def test_no_speaker_is_made_of_those_whose_speaker_is_not_known():
    scored = score(Utterance(f"u{n}", "x", "x" if n % 3 else "y") for n in range(40))
    speakers = {f"u{n}": f"s{n % 12}" for n in range(40)}
    drawn = "| all, each speaker drawn as a whole"
    assert any(line.startswith(drawn) for line in lines_by("speaker", scored, speakers))
    del speakers["u0"]
    assert not any(line.startswith(drawn) for line in lines_by("speaker", scored, speakers))
