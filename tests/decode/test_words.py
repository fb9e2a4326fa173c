"""Words of a hypothesis with their times and confidences."""

from itertools import pairwise

import pytest

from asr.decode.words import recognised_words
from asr.score.wer import Utterance

PIECES = ("\u2581", "A", "B", "\u2581C")


def test_a_word_is_as_sure_as_its_least_sure_piece():
    words = recognised_words(Utterance("u", "", "AB C", PIECES, (0.2, 0.5, 0.6, 2.0), (0.9, 0.3, 0.8, 1.0)), 4.0)
    assert [(word.symbol, word.score) for word in words] == [("AB", 0.3), ("C", 1.0)]
    assert words[0].start == pytest.approx(0.4)  # from its first letter, not from the mark of its start
    assert words[1].end == pytest.approx(2.2)
    assert all(before.end <= after.start for before, after in pairwise(words))


@pytest.mark.parametrize(
    "utterance",
    [
        Utterance("no tokens", "", "AB C"),
        Utterance("other tokens", "", "AB D", PIECES, (0.2, 0.5, 0.6, 2.0), (1.0,) * 4),
        Utterance("nothing", "", ""),
    ],
    ids=lambda one: one.id,
)
def test_no_words_without_their_tokens(utterance):
    assert recognised_words(utterance, 1.0) == []


def test_pieces_before_the_first_mark_of_a_word_are_a_word():
    words = recognised_words(Utterance("u", "", "A C", ("A", "\u2581C"), (0.1, 1.0), (1.0, 1.0)), 2.0)
    assert [word.symbol for word in words] == ["A", "C"]


@pytest.mark.parametrize(
    "times", [(0.5, 0.5, 0.5, 0.5), (0.5, 0.5, 0.9, 0.9), (1.0, 1.0, 1.0, 1.0), (0.02, 0.02, 0.02, 0.06)]
)
def test_every_word_lasts_though_several_are_emitted_at_once(times):
    pieces = tuple(f"\u2581{letter}" for letter in "ABCD")
    words = recognised_words(Utterance("u", "", "A B C D", pieces, times, (1.0,) * 4), 1.0)
    assert min(word.duration for word in words) >= 0.0199
    assert all(before.end <= after.start + 1e-9 for before, after in pairwise(words))
    assert words[0].start >= 0
    assert words[-1].end <= 1.0


def test_characters_are_the_words_of_scripts_without_blanks():
    pieces = ("\u2581", "今", "天", "\u2581OK", "A", "天气")
    times = (0.1, 0.5, 0.9, 1.5, 1.6, 2.1)
    utterance = Utterance("u", "", "今天 OKA天气", pieces, times, (0.1, 0.9, 0.8, 0.7, 0.6, 0.5))
    words = recognised_words(utterance, 3.0)
    assert [word.symbol for word in words] == ["今", "天", "OKA", "天", "气"]
    assert [word.score for word in words] == [0.1, 0.8, 0.6, 0.5, 0.5]
    assert [word.start for word in words] == pytest.approx([0.4, 0.8, 1.4, 2.0, 2.15])
    assert words[-1].end == pytest.approx(2.3)  # two characters of one piece share its time
    assert all(before.end <= after.start for before, after in pairwise(words))
