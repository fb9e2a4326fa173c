"""n-gram models: probabilities that sum to one, NLTK's own scores, and the scorer against the definition."""

import math
import random

import pytest
import torch
from nltk.lm import NgramCounter, Vocabulary, WittenBellInterpolated
from nltk.util import everygrams
from scoring import total

from asr.decode import ngram
from asr.decode.ngram import NGramAutomaton, NGrams, ngram_scorer, perplexity, train_ngrams
from asr.errors import InputError

PIECES = ["<blk>", "<unk>", "▁", "A", "B", "C"]
CPU = torch.device("cpu")


def random_sentences(seed: int, count: int = 30) -> list[list[str]]:
    """Sentences in which A often follows B, and C never occurs."""
    rng = random.Random(seed)
    return [["▁", *rng.choices(["A", "B", "▁"], [1, 2, 1], k=rng.randint(1, 9))] for _ in range(count)]


def trained(order: int, seed: int = 0) -> NGrams:
    return train_ngrams(random_sentences(seed), PIECES[1:], order)


def nltk_model(order: int, seed: int = 0) -> WittenBellInterpolated:
    """NLTK by its own rules: all n-grams of the sentences but the unigram <s>, and each token once more."""
    tokens = [*PIECES[1:], "</s>"]
    grams = [
        [gram for gram in everygrams(["<s>", *sentence, "</s>"], max_len=order) if gram != ("<s>",)]
        for sentence in random_sentences(seed)
    ]
    counts = NgramCounter([*grams, [(token,) for token in tokens]])
    return WittenBellInterpolated(order, vocabulary=Vocabulary(["<s>", *tokens], unk_label="<unk>"), counter=counts)


def random_history(rng: random.Random, order: int) -> tuple[str, ...]:
    """Any tokens, seen or not, up to twice as many as the model tells apart; at times from a sentence's start."""
    begin = rng.choice([("<s>",), ()])
    return (*begin, *rng.choices([*PIECES[2:], "<unk>"], k=rng.randint(0, 2 * order)))


@pytest.mark.parametrize("order", [1, 2, 3, 6])
def test_probabilities_sum_to_one_after_every_history(order):
    ngrams = trained(order)
    assert set(ngrams.tokens) == {*PIECES[1:], "</s>"}
    for history in ngrams.arcs:
        assert math.fsum(math.exp(ngrams.log_prob(token, history)) for token in ngrams.tokens) == pytest.approx(1, 1e-9)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_scores_are_nltks_after_any_history(order):
    ngrams, model, rng = trained(order), nltk_model(order), random.Random(order)
    for _ in range(500):
        history = random_history(rng, order)
        token = rng.choice(ngrams.tokens)
        expected = math.log(model.score(token, history[max(0, len(history) - order + 1) :]))
        assert ngrams.log_prob(token, ngrams.history(history)) == pytest.approx(expected, abs=1e-9)


def test_unigrams_are_counts_plus_one():
    sentences = [["A", "A", "B"], ["A"]]
    ngrams = train_ngrams(sentences, PIECES[1:], 1)
    counts = {"A": 3, "B": 1, "</s>": 2}
    for token in ngrams.tokens:
        assert math.exp(ngrams.log_prob(token, ())) == pytest.approx((counts.get(token, 0) + 1) / (6 + 6))


def test_order_is_no_longer_than_the_sentences():
    assert train_ngrams([["A"], ["A", "B"]], PIECES[1:], 9).order == 4


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_scorer_adds_the_log_probability_of_a_sentence(order):
    ngrams, rng = trained(order), random.Random(order)
    scorer, model = ngram_scorer(ngrams, PIECES, 0.7, CPU), nltk_model(order)
    for _ in range(60):
        labels = rng.choices(range(1, 6), k=rng.randint(0, 12))
        padded = ["<s>", *(PIECES[label] for label in labels), "</s>"]
        expected = sum(
            math.log(model.score(padded[end], tuple(padded[max(0, end - order + 1) : end])))
            for end in range(1, len(padded))
        )
        assert total(scorer, labels) == pytest.approx(0.7 * expected, rel=1e-5)


def test_rows_are_the_log_probabilities_of_all_labels():
    ngrams = trained(3)
    automaton = NGramAutomaton(ngrams, PIECES)
    histories = [history for history in ngrams.arcs if len(history) < 3]
    scores, final = automaton.weights(histories)
    for row, end, history in zip(scores, final, histories):
        expected = [ngrams.log_prob(piece, history) for piece in PIECES[1:]]
        assert row[1:].tolist() == pytest.approx(expected)
        assert float(end) == pytest.approx(ngrams.log_prob("</s>", history))


def test_states_are_no_longer_than_the_model_can_tell_apart():
    ngrams = trained(3)
    assert ngrams.start == ("<s>",)
    assert ngrams.history(("B", "B", "A")) == ("B", "A")
    assert ngrams.history(("A", "C")) == ()
    assert ngrams.history(("A", "C", "A")) == ("A",)


def test_perplexity_is_of_tokens_and_ends():
    ngrams = trained(2)
    nats = [ngrams.log_prob("A", ("<s>",)), ngrams.log_prob("C", ("A",)), ngrams.log_prob("</s>", ())]
    assert perplexity(ngrams, [["A", "C"]]) == pytest.approx(math.exp(-sum(nats) / 3))
    assert perplexity(trained(4), random_sentences(0)) < perplexity(trained(1), random_sentences(0))


def without(token: str) -> NGrams:
    ngrams = trained(2)
    del ngrams.arcs[()][token]
    return ngrams


def test_other_token_sets_are_refused():
    with pytest.raises(InputError, match="token 'C' is not a piece of the tokenizer.*asr lm tokenizer="):
        ngram_scorer(trained(2), PIECES[:-1], 1.0, CPU)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_what_is_not_listed_is_unknown_in_histories_too(order):
    """The labels of "D" are those of `<unk>` to a model of a text that has both."""
    ngrams, rng = train_ngrams([["A", "<unk>", "B"], ["<unk>", "C", "A"]], PIECES[1:], order), random.Random(order)
    scorer = ngram_scorer(ngrams, [*PIECES, "D"], 0.7, CPU)
    for _ in range(20):
        labels = rng.choices([1, 3, 4, 5], k=6)
        assert total(scorer, [6 if label == 1 else label for label in labels]) == total(scorer, labels)


def test_a_model_that_lists_the_blank_is_of_the_same_tokens():
    """A vocabulary of all that tokens.txt has."""
    scorer = ngram_scorer(train_ngrams(random_sentences(0), PIECES, 2), PIECES, 1.0, CPU)
    assert scorer.scores(scorer.start(1))[0, 0] == 0


def test_unknown_may_lack_and_is_then_as_good_as_impossible():
    scorer = ngram_scorer(without("<unk>"), PIECES, 1.0, CPU)
    scores = scorer.scores(scorer.start(1))[0]
    assert scores[1] < -200
    assert scores.isfinite().all()
    assert scores[2:].min() > -20


@pytest.mark.parametrize(
    ("sentences", "pieces", "expected"),
    [([], PIECES, "at least one sentence"), ([["A"]], [*PIECES, "</s>"], "<s> and </s> mark a sentence.s ends")],
)
def test_training_refusals(sentences, pieces, expected):
    with pytest.raises(InputError, match=expected):
        train_ngrams(sentences, pieces[1:], 2)


def test_more_ngrams_than_nltk_counts(monkeypatch):
    monkeypatch.setattr("nltk.lm.counter.MAX_NGRAMS", 10)
    with pytest.raises(InputError, match="too many n-grams for NLTK.*lower order"):
        trained(3)


def test_missing_nltk_is_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nltk.lm", None)
    with pytest.raises(InputError, match=r"pip install '.\[lm\]'"):
        trained(2)


def test_nothing_of_nltk_is_needed_to_search():
    assert "nltk" not in vars(ngram)
