"""n-grams of words: what is added along the pieces that spell them, against the definition and KenLM."""

import logging
import math
import random

import pytest
import torch
from scoring import total

from asr.data.tokenizer import train_tokenizer
from asr.decode.arpa import write_arpa
from asr.decode.ngram import END, UNKNOWN, NGrams, train_ngrams
from asr.decode.word_ngram import read_word_ngrams, word_ngram_scorer
from asr.errors import InputError

CPU = torch.device("cpu")
PIECES = ["<blank>", "<unk>", "▁", "▁A", "▁AB", "A", "B", "BA", "▁CAB", "C"]


def random_words(rng, count):
    return ["".join(rng.choices("ABC", [4, 3, 1], k=rng.randint(1, 3))) for _ in range(count)]


def trained(rng, order, *more):
    sentences = [random_words(rng, rng.randint(1, 6)) for _ in range(12)]
    return train_ngrams(sentences, [*sorted({word for words in sentences for word in words}), *more], order)


def by_definition(ngrams, labels, ended):
    """Nats of the words that are said, the last, unless `ended`, by the likeliest unigram that begins as it does."""
    unigrams = {word: nats for word, nats in ngrams.arcs[()].items() if word not in ("<s>", END, UNKNOWN)}
    ngrams = NGrams(
        ngrams.order, {**ngrams.arcs, (): {UNKNOWN: min(unigrams.values()), **ngrams.arcs[()]}}, ngrams.backoffs
    )
    *whole, last = "".join(PIECES[label] for label in labels).split("▁")
    history, nats = ngrams.start, 0.0
    for word in [word for word in whole + [last] * ended if word]:
        known = word if word in unigrams else UNKNOWN
        nats += ngrams.log_prob(known, history)
        history = ngrams.history((*history, known))
    if ended:
        return nats + ngrams.log_prob(END, history)
    ahead = [value for word, value in unigrams.items() if word.startswith(last)]
    return nats + (0.0 if not last else max(ahead) if ahead else ngrams.log_prob(UNKNOWN, history))


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("more", [[UNKNOWN], []], ids=["unk", "without"])
def test_every_label_and_the_end_add_what_the_words_become_likelier(order, more):
    lost = set()
    for seed in range(40):
        rng = random.Random(seed)
        ngrams, labels = trained(rng, order, *more), []
        scorer = word_ngram_scorer(ngrams, PIECES, 0.5, CPU)
        state = scorer.start(1)
        for _ in range(12):
            before = by_definition(ngrams, labels, ended=False)
            after = [by_definition(ngrams, [*labels, label], ended=False) for label in range(1, len(PIECES))]
            expected = torch.tensor([0.5 * (nats - before) for nats in after])
            torch.testing.assert_close(scorer.scores(state)[0, 1:], expected, atol=1e-5, rtol=0)
            end = 0.5 * (by_definition(ngrams, labels, ended=True) - before)
            assert float(scorer.final(state)) == pytest.approx(end, abs=1e-5)
            labels.append(rng.randrange(1, len(PIECES)))
            state = scorer.advance(state, torch.tensor([labels[-1]]))
            lost.add(scorer.automaton.follow(scorer.automaton.start, labels[-1]).text is None)
        assert total(scorer, labels) == pytest.approx(0.5 * by_definition(ngrams, labels, ended=True), abs=1e-4)
    assert lost == {True, False}


def test_sentences_have_kenlm_s_scores(tmp_path):
    kenlm = pytest.importorskip("kenlm", reason="ufal.kenlm, of the extra `dev`, is not installed")
    rng = random.Random(0)
    ngrams = trained(rng, 3, UNKNOWN)
    write_arpa(tmp_path / "lm.arpa", ngrams)
    config = kenlm.Config()
    config.show_progress = False
    theirs = kenlm.Model(str(tmp_path / "lm.arpa"), config)
    scorer = word_ngram_scorer(ngrams, PIECES, 1.0, CPU)
    spell = {"A": 5, "B": 6, "C": 9}
    for _ in range(50):
        words = random_words(rng, rng.randint(1, 6))
        labels = [label for word in words for label in (2, *(spell[letter] for letter in word))]
        expected = theirs.score(" ".join(words)) * math.log(10)
        assert total(scorer, labels) == pytest.approx(expected, abs=1e-4)


# Files


@pytest.fixture
def tokenizer():
    return train_tokenizer(["NEW YORK", "THE CAT SAT", "ANN'S HAT"], "char")


def test_words_that_cannot_be_spelled_are_counted(tmp_path, tokenizer, caplog):
    caplog.set_level(logging.WARNING)
    write_arpa(tmp_path / "lm.arpa", train_ngrams([["NEW", "YORK"], ["the", "CAT"]], ["NEW", "YORK", "the", "CAT"], 2))
    assert "the" in read_word_ngrams(tmp_path / "lm.arpa", tokenizer).tokens
    assert "1 of 4 words are left out, since the tokenizer cannot spell them ('the'); give" in caplog.text


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["the", "cat"], "no word that the tokenizer can spell among 'cat', 'the'; give .*case included"),
        (["▁THE", "S"], "is of pieces, not of words: give it as decode.lm"),
        (["NEW", "你好"], "'你好' is of a script without blanks"),
        ([], "no word that the tokenizer can spell; give"),
    ],
)
def test_a_model_at_fault_is_named_in_one_line(tmp_path, tokenizer, words, fault):
    unigrams = dict.fromkeys([*words, "<s>", END], -1.0)
    write_arpa(tmp_path / "lm.arpa", NGrams(1, {(): unigrams}))
    with pytest.raises(InputError, match=fault) as error:
        read_word_ngrams(tmp_path / "lm.arpa", tokenizer)
    assert str(tmp_path / "lm.arpa") in str(error.value)
    assert "\n" not in str(error.value)
