"""Subtitles: when cues end, and the two formats."""

import re
from itertools import pairwise

from asr.decode.subtitles import LINE_CHARACTERS, LONGEST_SECONDS, cues, lines_of, subrip, timestamp, webvtt
from asr.decode.transcript import Word


def lasting(text, start, seconds):
    return Word(text, start, round(start + seconds, 8))


def spoken(count, seconds=0.3, gap=0.05, text="WORD"):
    return [lasting(text, round(n * (seconds + gap), 3), seconds) for n in range(count)]


def test_times_have_hours_and_carry_over():
    assert timestamp(0.0, ",") == "00:00:00,000"
    assert timestamp(3599.9996, ".") == "01:00:00.000"
    assert timestamp(86399.5, ",") == "23:59:59,500"


def test_a_pause_ends_a_cue():
    words = [lasting("A", 0.0, 0.5), lasting("B", 1.0, 0.5), lasting("C", 2.4, 0.5)]
    assert [[word.text for word in cue] for cue in cues(words)] == [["A", "B"], ["C"]]


def test_cues_are_neither_too_long_nor_too_wide_and_lose_nothing():
    for words in (spoken(100), spoken(60, text="EXTRAORDINARILY"), spoken(40, seconds=2.0)):
        found = list(cues(words))
        assert [word for cue in found for word in cue] == words
        for cue in found:
            assert cue[-1].end - cue[0].start <= LONGEST_SECONDS
            assert all(len(line) <= LINE_CHARACTERS for line in lines_of(cue).split("\n"))
            assert len(lines_of(cue).split("\n")) <= 2
        assert all(after[0].start >= before[-1].end for before, after in pairwise(found))


def test_long_cues_have_two_lines_of_about_the_same_length():
    first, second = lines_of(spoken(12)).split("\n")
    assert abs(len(first) - len(second)) <= 5


def test_subrip():
    words = [lasting("HELLO", 0.5, 0.4), lasting("THERE", 3.0, 0.5)]
    assert subrip(words) == ("1\n00:00:00,500 --> 00:00:00,900\nHELLO\n\n2\n00:00:03,000 --> 00:00:03,500\nTHERE\n")
    assert subrip([]) == ""


def test_webvtt_escapes_what_it_would_read_as_markup():
    text = webvtt([lasting("A<B>&C", 0.0, 1.0)])
    assert text == "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nA&lt;B&gt;&amp;C\n"
    assert webvtt([]).strip() == "WEBVTT"


def test_cues_never_overlap():
    words = [lasting("A", 0.0, 5.9), lasting("B", 5.8, 0.4)]
    shown = re.findall(r"(\S+) --> (\S+)", subrip(words))
    assert len(shown) == 2
    assert shown[0][1] <= shown[1][0]


def test_lines_of_uneven_words_are_no_longer_than_is_easily_read():
    lengths = [3, 20, 2, 18, 25, 1, 30, 12, 9, 40, 5, 41, 7, 22, 22, 22] * 6
    words = [lasting("X" * size, round(0.2 * n, 3), 0.2) for n, size in enumerate(lengths)]
    for cue in cues(words):
        assert max(map(len, lines_of(cue).split("\n"))) <= LINE_CHARACTERS
    assert sum(len(cue) for cue in cues(words)) == len(words)


def test_scripts_without_blanks_have_short_cues():
    words = [lasting("今天气很好"[n % 5], round(0.3 * n, 3), 0.3) for n in range(230)]  # 69 s
    found = list(cues(words))
    assert "".join(word.text for cue in found for word in cue) == "今天气很好" * 46
    assert all(cue[-1].end - cue[0].start <= LONGEST_SECONDS for cue in found)
    wide = [Word(word.text, word.start / 3, word.end / 3) for word in words]
    for cue in cues(wide):
        assert max(map(len, lines_of(cue).split("\n"))) <= LINE_CHARACTERS // 2
        assert " " not in lines_of(cue)
