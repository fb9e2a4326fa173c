"""Context biasing: what is added along a string against counting the phrases in it."""

import random
from pathlib import Path

import pytest
import torch
from scoring import total

from asr.data.tokenizer import train_tokenizer
from asr.decode.context import ContextGraph, Phrase, context_scorer, read_phrases
from asr.decode.scorer import Tabulated
from asr.errors import InputError

CPU = torch.device("cpu")
TEXTS = ["NEW YORK", "THE CAT SAT", "ANN'S HAT"]


def scorer_of(phrases: list[Phrase], pieces: str = "▁▁▁▁▁") -> Tabulated[int]:
    """With a piece for each label, of which those that are not "▁" go on with a word."""
    return context_scorer(phrases, list(pieces), CPU)


def random_phrases(rng: random.Random, letters: int) -> list[Phrase]:
    """Phrases without duplicates, of all relations: nested, overlapping, with themselves, too."""
    strings = {tuple(rng.choices(range(1, letters + 1), k=rng.randint(1, 5))) for _ in range(rng.randint(1, 6))}
    return [Phrase(tokens, rng.choice([0.5, 1.0, 2.25]) * len(tokens)) for tokens in sorted(strings)]


def occurrences(phrases: list[Phrase], labels: list[int], inside: tuple[int, ...] = ()) -> float:
    """The bonuses of all phrases at all places where they are, and no label of `inside`, within a word, follows."""
    return sum(
        phrase.bonus
        for phrase in phrases
        for start in range(len(labels))
        for end in [start + len(phrase.tokens)]
        if tuple(labels[start:end]) == phrase.tokens and not {*labels[end : end + 1]} & {*inside}
    )


def unfinished(phrases: list[Phrase], labels: list[int]) -> float:
    """The largest boost of the tokens of a phrase that has begun and may go on."""
    return max(
        (
            phrase.bonus * length / len(phrase.tokens)
            for phrase in phrases
            for length in range(1, len(phrase.tokens))
            if tuple(labels[-length:]) == phrase.tokens[:length]
        ),
        default=0.0,
    )


def test_sum_is_the_bonuses_of_all_occurrences():
    found = 0
    for seed in range(4000):
        rng = random.Random(seed)
        letters = rng.randint(1, 3)
        phrases = random_phrases(rng, letters)
        labels = rng.choices(range(1, letters + 2), k=rng.randint(0, 14))  # the last letter is in no phrase
        expected = occurrences(phrases, labels)
        found += expected > 0
        assert total(scorer_of(phrases), labels) == pytest.approx(expected, abs=1e-4), (phrases, labels)
    assert 2000 < found < 4000


def test_every_arc_adds_what_is_earned_and_lent():
    for seed in range(300):
        rng = random.Random(seed)
        phrases = random_phrases(rng, 2)
        scorer, labels, state = scorer_of(phrases), [], torch.zeros(1, dtype=torch.long)
        for _ in range(12):
            before = occurrences(phrases, labels) + unfinished(phrases, labels)
            rows = scorer.scores(state)[0]
            for label in range(1, 5):
                after = occurrences(phrases, [*labels, label]) + unfinished(phrases, [*labels, label])
                assert float(rows[label]) == pytest.approx(after - before, abs=1e-4)
            labels.append(rng.randint(1, 3))
            state = scorer.advance(state, torch.tensor([labels[-1]]))
            assert float(scorer.final(state)) == pytest.approx(-unfinished(phrases, labels), abs=1e-4)


def test_each_token_of_a_phrase_adds_its_boost_and_a_break_takes_it_back():
    scorer, added = scorer_of([Phrase((1, 2, 3), 4.5)]), []
    state = scorer.start(1)
    for label in (1, 2, 4, 1, 2, 3, 4):
        added.append(float(scorer.scores(state)[0, label]))
        state = scorer.advance(state, torch.tensor([label]))
    assert added == [1.5, 1.5, -3.0, 1.5, 1.5, 1.5, 0.0]


def test_break_keeps_what_the_fail_target_is_worth():
    scorer = scorer_of([Phrase((1, 1, 2), 3.0)])
    state = scorer.advance(scorer.advance(scorer.start(1), torch.tensor([1])), torch.tensor([1]))
    assert scorer.scores(state)[0].tolist() == [0.0, 0.0, 1.0, -2.0, -2.0]


def test_phrase_given_twice_counts_once_with_the_larger_boost():
    scorer = scorer_of([Phrase((1, 2), 4.0), Phrase((1, 2), 2.0)])
    assert total(scorer, [1, 2]) == 4.0


def test_long_repetition_does_not_exhaust_the_stack():
    graph = ContextGraph([Phrase((1,) * 3000, 3000.0)], [True] * 3)
    state = 0
    for _ in range(2999):
        state = graph.follow(state, 1)
    scores, _ = graph.weights([state])
    # The label 1 earns 3000; the next occurrence, begun a token later, lends as much as this one has lent.
    assert scores[0].tolist() == [-2999.0, 3000.0, -2999.0]


# Files of phrases


@pytest.fixture
def tokenizer():
    return train_tokenizer(TEXTS, "char")


def phrases_of(tmp_path: Path, content: bytes, tokenizer) -> list[Phrase]:
    path = tmp_path / "phrases.txt"
    path.write_bytes(content)
    return read_phrases(path, tokenizer, 0.5)


def test_phrases_are_spelt_by_the_tokenizer(tmp_path, tokenizer):
    found = phrases_of(tmp_path, b"NEW YORK\t2.5\n\nCAT\n  THE  HAT \r\n", tokenizer)
    expected = [("NEW YORK", 5.0), ("CAT", 0.5), ("THE HAT", 1.0)]
    assert found == [Phrase(tuple(tokenizer.encode(text)), bonus) for text, bonus in expected]


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_a_boost_means_the_same_in_letters_and_in_words(tmp_path, kind):
    tokenizer = train_tokenizer(TEXTS, kind, None if kind == "char" else 34)
    assert (len(tokenizer.encode("NEW YORK")) < 5) == (kind == "bpe")
    scorer = context_scorer(phrases_of(tmp_path, b"NEW YORK\nCAT\n", tokenizer), tokenizer.pieces, CPU)
    assert total(scorer, tokenizer.encode("THE CAT")) == pytest.approx(0.5)
    assert total(scorer, tokenizer.encode("NEW YORK SAT")) == pytest.approx(1.0)


def test_a_phrase_within_a_longer_word_is_none(tmp_path, tokenizer):
    scorer = context_scorer(phrases_of(tmp_path, b"CAT\nTHE\n", tokenizer), tokenizer.pieces, CPU)
    for text, bonus in [("CAT", 0.5), ("CATS", 0), ("THE CAT", 1.0), ("THEN CAT SAT", 0.5), ("CATCAT", 0)]:
        assert total(scorer, tokenizer.encode(text)) == pytest.approx(bonus, abs=1e-6), text


def test_a_phrase_of_a_script_without_blanks_is_matched_anywhere(tmp_path):
    tokenizer = train_tokenizer(["今天天气真好", "NEW YORK"], "char")
    scorer = context_scorer(phrases_of(tmp_path, "天气\n".encode(), tokenizer), tokenizer.pieces, CPU)
    for text, bonus in [("今天天气真好", 1.0), ("天气", 1.0), ("天气真好天气", 2.0), ("天真气", 0)]:
        assert total(scorer, tokenizer.encode(text)) == pytest.approx(bonus, abs=1e-6), text


def test_thai_has_no_blanks_and_korean_has(tmp_path):
    thai, marked, korean = "\u0e17\u0e19\u0e01", "\u0e17\u0e19\u0e35\u0e01", "서울에서"
    for text, phrase, bonus in [
        (thai, thai[1:2], 0.5),
        (marked, marked[1:2], 0),  # a mark follows: it is another character
        (korean, korean[:2], 0),
        (f"서울 {korean}", korean[:2], 0.5),
    ]:
        tokenizer = train_tokenizer([text, phrase], "char")
        scorer = context_scorer(phrases_of(tmp_path, phrase.encode(), tokenizer), tokenizer.pieces, CPU)
        assert total(scorer, tokenizer.encode(text)) == pytest.approx(bonus, abs=1e-6), text


def test_sum_is_the_bonuses_of_occurrences_whose_last_word_is_whole():
    for seed in range(1000):
        rng = random.Random(seed)
        phrases, labels = random_phrases(rng, 2), rng.choices(range(1, 4), k=rng.randint(0, 12))
        expected = occurrences(phrases, labels, inside=(2, 3))
        assert total(scorer_of(phrases, "-▁xx-"), labels) == pytest.approx(expected, abs=1e-4), (phrases, labels)


def test_phrase_is_matched_at_the_beginning_of_a_word_only(tmp_path, tokenizer):
    phrases = phrases_of(tmp_path, b"AT\n", tokenizer)
    scorer = context_scorer(phrases, tokenizer.pieces, CPU)
    assert total(scorer, tokenizer.encode("CAT")) == 0
    assert total(scorer, tokenizer.encode("THE AT")) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "holds no phrase"),
        (b"\n \n", "holds no phrase"),
        (b"CAT\nDOG\n", "line 2: character 'D' of 'DOG' is not in the tokenizer's vocabulary"),
        (b"\n\t2\n", "line 2: empty transcript"),
        (b"CAT\tmany\n", "line 1: 'many' after the tab is no positive number"),
        (b"CAT\t-1\n", "line 1: '-1' after the tab"),
        (b"CAT\tnan\n", "line 1: 'nan' after the tab"),
        (b"CAT\t\n", "line 1: '' after the tab"),
        (b"CAT\t1\t2\n", "after the tab"),
        (b"CAT\n\xff\xfe\n", "line 2: not UTF-8"),
    ],
)
def test_refusals(tmp_path, tokenizer, content, expected):
    with pytest.raises(InputError, match=expected) as caught:
        phrases_of(tmp_path, content, tokenizer)
    assert "phrases.txt" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_missing_file(tmp_path, tokenizer):
    with pytest.raises(InputError, match="no.txt: cannot read it"):
        read_phrases(tmp_path / "no.txt", tokenizer, 1.0)
