"""Emission delays: which tokens count, and how late they are."""

import numpy as np
import pytest
from lhotse.supervision import AlignmentItem

from asr.models.subsampling import frame_timing
from asr.score.delay import emission_delays, first_word_latencies, read_delays
from asr.score.wer import Utterance

TIMING = frame_timing(4)

WORDS = {"a": [AlignmentItem("ONE", 0.2, 0.4), AlignmentItem("TWO", 1.0, 0.2)]}


def delays(hypothesis, tokens, times, words=WORDS):
    return emission_delays([Utterance("a", "ONE TWO", hypothesis, tuple(tokens), tuple(times))], words)


def test_a_token_is_late_against_its_even_share_of_the_word():
    found = delays("ONE TWO", ["\u2581O", "NE", "\u2581TWO"], [0.5, 0.7, 1.1])
    assert found.tokens == pytest.approx([0.5 - 0.4, 0.7 - 0.6, 1.1 - 1.2])
    assert found.last_tokens == pytest.approx([-0.1])
    assert found.utterances == 1


def test_wrong_deleted_and_inserted_words_do_not_count():
    assert delays("SUN TWO", ["\u2581SUN", "\u2581TWO"], [0.5, 1.3]).tokens == pytest.approx([0.1])
    assert delays("TWO", ["\u2581TWO"], [1.3]).tokens == pytest.approx([0.1])
    inserted = delays("OH ONE TWO", ["\u2581OH", "\u2581ONE", "\u2581TWO"], [0.1, 0.7, 1.3])
    assert inserted.tokens == pytest.approx([0.1, 0.1])
    wrong_end = delays("ONE TO", ["\u2581ONE", "\u2581TO"], [0.7, 1.3])
    assert (len(wrong_end.tokens), len(wrong_end.last_tokens)) == (1, 0)
    trailing = delays("ONE TWO OH", ["\u2581ONE", "\u2581TWO", "\u2581OH"], [0.7, 1.3, 1.5])
    assert len(trailing.last_tokens) == 0


def test_marks_of_words_that_stand_alone_shift_nothing():
    trailing = delays("ONE TWO", ["\u2581", "O", "NE", "\u2581TWO", "\u2581"], [0.3, 0.5, 0.7, 1.3, 1.4])
    ends = [0.2 + 0.4 * n / 3 for n in (1, 2, 3)]
    assert trailing.tokens == pytest.approx([0.3 - ends[0], 0.5 - ends[1], 0.7 - ends[2], 0.1])
    unmarked = delays("ONE TWO", ["O", "NE", "\u2581TWO"], [0.5, 0.7, 1.3])
    assert unmarked.tokens == pytest.approx([0.1, 0.1, 0.1])


def test_tokens_of_another_text_do_not_count():
    assert delays("ONE TWO", ["\u2581SUN", "\u2581TWO"], [0.5, 0.7]).utterances == 0


def test_characters_are_the_words_of_scripts_without_blanks():
    words = {"a": [AlignmentItem(character, 0.2 + 0.4 * n, 0.4) for n, character in enumerate("今天很好")]}
    found = delays("今天真好", ["\u2581", "今", "天", "真", "好"], [0.3, 0.7, 1.2, 1.6, 2.0], words)
    assert found.tokens == pytest.approx([0.3 - 0.4, 0.7 - 0.6, 1.2 - 1.0, 2.0 - 1.8])
    assert found.last_tokens == pytest.approx([0.2])
    together = delays("今天好", ["\u2581今天", "好"], [1.1, 2.0], words)
    assert together.tokens == pytest.approx([1.1 - 1.0, 2.0 - 1.8])


def test_the_first_character_is_known_once_its_chunk_has_been_heard():
    words = {"a": [AlignmentItem("今", 0.1, 0.2), AlignmentItem("天", 0.3, 0.2)]}
    heard = (4 * 7 + 3.5) * 0.01 + 0.0425
    for tokens, frames in [(("今", "天"), (5, 20)), (("今天",), (5,)), (("今天", "气"), (5, 20))]:
        text, times = "".join(tokens), tuple(map(TIMING.middle, frames))
        line = first_word_latencies([Utterance("a", "", text, tokens, times)], words, {"a": 9.0}, 4, TIMING)
        assert line.startswith(f"first character: known {heard - 0.3:.3f} s after its end"), tokens


def test_without_times_or_tokens_there_are_no_delays():
    assert emission_delays([Utterance("b", "ONE", "ONE", ("\u2581ONE",), (0.5,))], WORDS).utterances == 0
    assert len(delays("ONE TWO", [], []).tokens) == 0
    assert delays("", [], []).line() == "delay: none, of 1 utterances with times of words"
    assert delays("", [], []).metrics() == {}


def test_the_line_has_mean_median_90_percent_and_last_and_is_read_again(tmp_path):
    utterances, words = [], {}
    for n, late in enumerate(np.linspace(0, 1, 11)):
        words[str(n)] = [AlignmentItem("A", 0.0, 1.0)]
        utterances.append(Utterance(str(n), "A", "A", ("\u2581A",), (1.0 + late**2,)))
    found = emission_delays(utterances, words)
    assert found.line() == (
        "delay: mean 0.350, median 0.250, 90 % 0.810, last token 0.350 s [ 11 tokens, 11 utterances ]"
    )
    assert found.metrics() == pytest.approx({"delay": 0.35, "last_delay": 0.35})
    for text, known in (
        (found.line(), {"mean": 0.35, "median": 0.25, "late": 0.81, "last": 0.35}),
        (found.line().replace("token 0.350", "token unknown"), {"mean": 0.35, "median": 0.25, "late": 0.81}),
        ("delay: none, of 11 utterances with times of words", {}),
    ):
        (tmp_path / "delay.txt").write_text(f"{text}\nfirst word: none\n")
        assert read_delays(tmp_path / "delay.txt") == known
    assert read_delays(tmp_path / "nothing.txt") == {}


def test_the_first_word_is_known_once_its_chunk_has_been_heard():
    """Frame 5 is in the second chunk of 4, whose last frame, 7, ends with the sample at 4·7 + 9.25 hundredths."""
    words = {"a": [AlignmentItem("YES", 0.1, 0.2)], "b": [AlignmentItem("NO", 0.1, 0.2)], "c": []}
    said = [Utterance(name, "", "YES", ("\u2581YES",), (TIMING.middle(5),)) for name in words]
    line = first_word_latencies(said, words, dict.fromkeys(words, 9.0), 4, TIMING)
    heard = (4 * 7 + 3.5) * 0.01 + 0.0425
    assert line.startswith(f"first word: known {heard - 0.3:.3f} s after its end (median)")
    assert line.endswith("[ 1 utterances ]")  # of b another word was said, c has no times
    short = first_word_latencies(said, words, dict.fromkeys(words, 0.31), 4, TIMING)
    assert short.startswith("first word: known 0.010 s")
    assert first_word_latencies([], words, {}, 4, TIMING) == "first word: none that is correct and has a time"
    untimed = "first word: unknown, because the cuts have no times of their words; see `asr align` and `asr attach`"
    for nothing in ({}, {"a": [], "b": []}):
        assert first_word_latencies([], nothing, {}, 4, TIMING) == untimed
