"""A list of words: what is added along labels against the words that they come to."""

import random

import pytest
import torch
from scoring import total

from asr.data.tokenizer import train_tokenizer
from asr.decode.word_list import read_word_list, word_list_scorer
from asr.errors import InputError

CPU = torch.device("cpu")
PIECES = ["<blank>", "<unk>", "▁", "▁A", "▁AB", "A", "B", "BA", "▁CAB", "C"]


def lost(words, labels):
    """Words that are none of the list, and whether the last one can still become one of it."""
    text = "".join(PIECES[label] for label in labels)
    said = text.split("▁")
    *whole, last = said
    bad = sum(word not in words for word in whole if word)
    begins = any(word.startswith(last) for word in words)
    return bad + (not begins), bad + (bool(last) and last not in words)


def random_words(rng):
    return {"".join(rng.choices("ABC", k=rng.randint(1, 5))) for _ in range(rng.randint(1, 8))}


def test_every_label_and_the_end_cost_what_words_are_none_of_the_list():
    seen = set()
    for seed in range(400):
        rng = random.Random(seed)
        words, labels = random_words(rng), []
        scorer = word_list_scorer(words, PIECES, 1.5, CPU)
        state = scorer.start(1)
        for _ in range(10):
            sofar, ended = lost(words, labels)
            rows = scorer.scores(state)[0]
            expected = [-1.5 * (lost(words, [*labels, label])[0] - sofar) for label in range(1, len(PIECES))]
            assert rows[1:].tolist() == expected
            assert float(scorer.final(state)) == -1.5 * (ended - sofar)
            seen |= {*expected, ("end", ended - sofar)}
            labels.append(rng.randrange(1, len(PIECES)))
            state = scorer.advance(state, torch.tensor([labels[-1]]))
        assert total(scorer, labels) == -1.5 * lost(words, labels)[1]
    assert seen == {0.0, -1.5, -3.0, ("end", 0), ("end", 1)}


def test_no_label_within_a_lost_word_costs_more():
    scorer = word_list_scorer({"CAB"}, PIECES, 2.0, CPU)
    state, added = scorer.start(1), []
    for label in (3, 5, 5, 6, 8, 3):  # ▁A A A B ▁CAB ▁A
        added.append(float(scorer.scores(state)[0, label]))
        state = scorer.advance(state, torch.tensor([label]))
    assert added == [-2.0, 0.0, 0.0, 0.0, 0.0, -2.0]
    assert total(scorer, [8, 2, 2, 8]) == 0.0  # what is said between two marks is no word
    assert total(scorer, [8, 6]) == -2.0  # nor is a listed one that goes on
    assert total(scorer, [8, 9]) == -2.0


# Files


@pytest.fixture
def tokenizer():
    return train_tokenizer(["NEW YORK", "THE CAT SAT", "ANN'S HAT"], "char")


def test_words_that_cannot_be_spelled_are_left_out_and_counted(tmp_path, tokenizer, caplog):
    path = tmp_path / "words.txt"
    path.write_text("NEW\n\n  YORK\r\nNEW\nnew\nÉTÉ\n▁THE\nANN'S\n", encoding="utf-8")
    assert read_word_list(path, tokenizer) == {"NEW", "YORK", "ANN'S"}
    assert "3 of 6 words are left out, since the tokenizer cannot spell them" in caplog.text
    assert "('new', 'ÉTÉ', '▁THE'); give" in caplog.text
    caplog.clear()
    path.write_text("NEW\nYORK\n")
    read_word_list(path, tokenizer)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "no word that the tokenizer can spell; give words as in"),
        (b" \n\n", "no word that the tokenizer can spell; "),
        (b"the\ncat\n", "no word that the tokenizer can spell among 'cat', 'the'; give .*case included"),
        (b"x" * 99_999, "no word that the tokenizer can spell among 'x{40}…'; give"),
        (b"NEW " * 99, "line 1: '(NEW ){10}…' is more than a word"),
        (b"NEW\nCAT K AE T\n", "line 2: 'CAT K AE T' is more than a word; write one a line"),
        ("NEW\n你好\n".encode(), "line 2: '你好' is of a script without blanks"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_file_at_fault_is_named_in_one_line(tmp_path, tokenizer, content, fault):
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=fault) as error:
        read_word_list(path, tokenizer)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="cannot read it"):
        read_word_list(tmp_path / "none", tokenizer)
