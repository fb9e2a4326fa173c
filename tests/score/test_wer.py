"""Error counts against an independent oracle, and the exact form of the lines."""

import math
import random
import unicodedata

import pytest

from asr.errors import InputError
from asr.score.bootstrap import rate_interval
from asr.score.wer import GAP, Errors, Utterance, count_errors, score


def levenshtein(reference, hypothesis):
    """Textbook edit distance, one row at a time."""
    row = list(range(len(hypothesis) + 1))
    for i, expected in enumerate(reference, 1):
        previous, row = row, [i]
        for j, actual in enumerate(hypothesis, 1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (expected != actual)))
    return row[-1]


def random_text(rng, alphabet="abcd", longest=12):
    return " ".join(rng.choice(alphabet) * rng.randint(1, 2) for _ in range(rng.randint(0, longest)))


def one(reference, hypothesis, unit="word"):
    return score([Utterance("u", reference, hypothesis)], unit)


@pytest.mark.parametrize("unit", ["word", "char"])
def test_total_is_the_levenshtein_distance_and_the_alignment_spells_both_sides(unit):
    rng = random.Random(0)
    for _ in range(500):
        reference, hypothesis = random_text(rng), random_text(rng)
        units = str.split if unit == "word" else lambda text: list(text.replace(" ", ""))
        [(_, errors, alignment)] = one(reference, hypothesis, unit).per_utterance
        assert errors.total == levenshtein(units(reference), units(hypothesis))
        assert [ref for ref, _ in alignment if ref != GAP] == units(reference)
        assert [hyp for _, hyp in alignment if hyp != GAP] == units(hypothesis)
        assert (GAP, GAP) not in alignment
        assert errors.words == len(units(reference))
        assert errors.insertions - errors.deletions == len(units(hypothesis)) - len(units(reference))


def test_each_kind_of_error_is_told_apart():
    assert one("a b c", "a b c").errors == Errors(words=3)
    assert one("a b c", "a x c").errors == Errors(words=3, substitutions=1)
    assert one("a b c", "a c").errors == Errors(words=3, deletions=1)
    assert one("a b c", "a b x c").errors == Errors(words=3, insertions=1)


def test_any_word_may_occur_in_text_gap_signs_included():
    assert one("* <eps> -", "* <eps> -").errors.total == 0
    assert count_errors([("*", "*"), (GAP, "*"), ("*", GAP)]) == Errors(2, 1, 1, 0)


def test_line_has_kaldis_form():
    assert Errors(374, 1, 2, 9).line("test-clean") == "%WER 3.21 [ 12 / 374, 1 ins, 2 del, 9 sub ] test-clean"
    assert one("a b", "a", "char").line("dev") == "%CER 50.00 [ 1 / 2, 0 ins, 1 del, 0 sub ] dev"
    assert one("a b", "a").line("") == "%WER 50.00 [ 1 / 2, 0 ins, 1 del, 0 sub ]"


def test_rates_have_their_intervals_between_the_counts_and_the_name():
    result = score(Utterance(str(n), "a b", "a" if n < 3 else "a b") for n in range(20))
    counts = [1] * 3 + [0] * 17
    assert result.interval == rate_interval(counts, [2] * 20)
    assert result.line("dev") == f"%WER 7.50 [ 3 / 40, 0 ins, 3 del, 0 sub ] 95 % {result.interval} dev"
    assert result.line("") == f"%WER 7.50 [ 3 / 40, 0 ins, 3 del, 0 sub ] 95 % {result.interval}"
    assert result.utterance_line() == f"%SER 15.00 [ 3 / 20 ] 95 % {rate_interval(counts, [1] * 20)}"


@pytest.mark.parametrize(
    ("references", "unit"),
    [
        (["a b", "c"], "word"),
        (["今天", "天气"], "char"),
        (["今天", "天气 OK", "hello", "", " "], "char"),
        (["今天", "hello"], "word"),
        (["\u0e17\u0e35\u0e48"], "char"),
        (["한국어 띄어쓰기"], "word"),
        ([""], "word"),
    ],
)
def test_the_references_tell_what_is_counted(references, unit):
    utterances = [Utterance(str(n), text, "今") for n, text in enumerate(references)]
    assert score(utterances).unit == unit
    assert score(utterances, "word").unit == "word"


def test_empty_reference_or_hypothesis():
    assert one("", "").errors.rate == 0.0
    assert one("", "a b").errors == Errors(words=0, insertions=2)
    assert math.isinf(one("", "a b").errors.rate)
    assert one("", "a").line("x") == "%WER inf [ 1 / 0, 1 ins, 0 del, 0 sub ] x"
    assert one("a b", " ").errors == Errors(words=2, deletions=2)
    assert one("a b", "").errors.rate == 100.0


def test_counts_add_up_over_utterances():
    utterances = [Utterance("1", "a b", "a"), Utterance("2", "c", "c"), Utterance("3", "", "d")]
    result = score(iter(utterances))
    assert result.errors == Errors(words=3, insertions=1, deletions=1)
    assert result.errors.rate == pytest.approx(200 / 3)
    assert [scored.utterance for scored in result.per_utterance] == utterances
    assert result.utterance_error_rate == pytest.approx(200 / 3)
    assert result.utterance_line() == "%SER 66.67 [ 2 / 3 ]"


def test_white_space_between_words_does_not_count():
    assert one(" a\tb ", "a  b").errors.total == 0
    assert one("a b", "ab", "char").errors.total == 0


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="no utterances to score"):
        score([])
    with pytest.raises(InputError, match="'u' appears more than once"):
        score([Utterance("u", "a", "a"), Utterance("u", "b", "b")])
    with pytest.raises(InputError, match="unknown scoring unit 'phone'.*word, char"):
        one("a", "a", "phone")


@pytest.mark.parametrize("unit", ["word", "char"])
def test_letters_with_accents_are_the_same_in_every_form(unit):
    text = "caf\u00e9 na\u00efve \u1ec7 \ud55c\uae00 cafe"
    decomposed = unicodedata.normalize("NFD", text)
    assert text != decomposed
    for reference, hypothesis in ((text, decomposed), (decomposed, text)):
        result = score([Utterance("u", reference, hypothesis)], unit)
        assert result.errors.total == 0
        assert all(left == right for left, right in result.per_utterance[0].alignment)
    wrong = score([Utterance("u", decomposed, "cafe na\u00efve \u1ec7 \ud55c\uae00 cafe")], unit).errors
    assert (wrong.total, wrong.substitutions) == (1, 1)
    assert score([Utterance("u", text, "")], unit).errors == score([Utterance("u", decomposed, "")], unit).errors
