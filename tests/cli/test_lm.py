"""`asr lm` on the tiny corpus and on text."""

import gzip
import re
from pathlib import Path

import pytest

from asr.cli.main import main
from asr.data.tokenizer import load_tokenizer, train_tokenizer
from asr.decode.arpa import read_arpa
from asr.decode.ngram import check_tokens, perplexity
from asr.decode.word_list import read_word_list


def lm(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(["lm", *words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_trains_on_cuts_and_tells_perplexities(tiny_corpus, tmp_path, capsys):
    output = tmp_path / "lm" / "3gram.arpa.gz"
    words = [f"tokenizer={tiny_corpus.tokenizer}", "order=3", f"output={output}", f"held_out=[{tiny_corpus.dev}]"]
    status, out, _ = lm(capsys, f"cuts=[{tiny_corpus.train}]", *words)
    assert status == 0
    first, training, held_out = out.splitlines()
    assert re.fullmatch(re.escape(str(output)) + r": \d+ 1-grams, \d+ 2-grams, \d+ 3-grams", first)
    assert re.fullmatch(r"perplexity per token: \d\.\d{3} on the text \(24 sentences, \d+ tokens\)", training)
    assert re.fullmatch(r"perplexity per token: \d\.\d{3} held out \(6 sentences, \d+ tokens\)", held_out)
    ngrams = read_arpa(output)
    assert ngrams.order == 3
    check_tokens(ngrams, load_tokenizer(tiny_corpus.tokenizer).pieces)


@pytest.mark.parametrize("compress", [False, True])
def test_trains_on_text(tiny_corpus, tmp_path, capsys, compress):
    text, output = tmp_path / "text", tmp_path / "lm.arpa"
    content = b"LOW HIGH\n\n  TOP \nLOW HIGH\n"
    text.write_bytes(gzip.compress(content) if compress else content)
    status, out, _ = lm(capsys, f"text={text}", f"tokenizer={tiny_corpus.tokenizer}", f"output={output}")
    assert status == 0
    tokenizer = load_tokenizer(tiny_corpus.tokenizer)
    sentences = [[tokenizer.pieces[token] for token in tokenizer.encode(line)] for line in ("LOW HIGH", "TOP")]
    expected = perplexity(read_arpa(output), [sentences[0], sentences[1], sentences[0]])
    assert f"{expected:.3f} on the text (3 sentences," in out


def test_words_are_counted_as_they_are_written(tiny_corpus, tmp_path, capsys):
    text, output = tmp_path / "text", tmp_path / "lm.arpa"
    text.write_text("LOW HIGH\nHIGH  TOP\n")
    given = [f"text={text}", f"tokenizer={tiny_corpus.tokenizer}", f"output={output}", "units=words"]
    status, out, _ = lm(capsys, *given, f"held_out=[{tiny_corpus.dev}]")
    assert status == 0
    first, training, held_out = out.splitlines()
    assert first.endswith("6 1-grams, 6 2-grams, 4 3-grams")  # LOW HIGH TOP <unk> <s> </s>
    assert re.search(r"perplexity per word: .*\(2 sentences, 4 words\)", training)
    assert re.search(r"held out \(6 sentences, \d+ words, \d+ of them unlisted\)", held_out)
    ngrams = read_arpa(output)
    assert {*ngrams.tokens} == {"LOW", "HIGH", "TOP", "<unk>", "</s>"}
    assert ngrams.log_prob("HIGH", ("<s>", "LOW")) > ngrams.log_prob("TOP", ("<s>", "LOW"))
    text.write_text("LOW\n你好\n")
    train_tokenizer(["LOW", "你好"], "char").save(tmp_path / "char")
    for more in ("units=words", f"word_list={tmp_path / 'words'}"):
        status, _, err = lm(capsys, given[0], f"tokenizer={tmp_path / 'char'}", given[2], more)
        assert status == 2
        assert f"{text}: line 2: is of a script without blanks between words: give units=pieces, and no word" in err


def test_the_words_are_listed_for_a_search(tiny_corpus, tmp_path, capsys):
    text, listed = tmp_path / "text", tmp_path / "words" / "list.txt"
    text.write_text("low high\nHIGH  TOP\n")
    given = [f"text={text}", f"tokenizer={tiny_corpus.tokenizer}", f"output={tmp_path / 'lm.arpa'}", "case=upper"]
    status, out, _ = lm(capsys, *given, f"word_list={listed}")
    assert status == 0
    assert f"{listed}: 3 words\n" in out
    assert listed.read_text() == "HIGH\nLOW\nTOP\n"
    assert read_word_list(listed, load_tokenizer(tiny_corpus.tokenizer)) == {"LOW", "HIGH", "TOP"}


def test_the_words_do_not_take_the_place_of_the_model(tiny_corpus, tmp_path, capsys):
    given = [f"cuts=[{tiny_corpus.train}]", f"tokenizer={tiny_corpus.tokenizer}", f"output={tmp_path / 'lm.arpa'}"]
    status, _, err = lm(capsys, *given, f"word_list={tmp_path / 'lm.arpa'}")
    assert status == 2
    assert "is the output; name another file" in err
    assert not (tmp_path / "lm.arpa").exists()


def test_text_is_added_to_cuts(tiny_corpus, tmp_path, capsys):
    (tmp_path / "text").write_text("TOP\n")
    words = [f"cuts=[{tiny_corpus.train}]", f"text={tmp_path / 'text'}", f"tokenizer={tiny_corpus.tokenizer}"]
    _, out, _ = lm(capsys, *words, f"output={tmp_path / 'lm.arpa'}")
    assert "(25 sentences" in out


def test_refusals(tiny_corpus, tmp_path, capsys):
    text = tmp_path / "text"
    text.write_text("LOW\nQUIUU\n")
    words = [f"tokenizer={tiny_corpus.tokenizer}", f"output={tmp_path / 'lm.arpa'}"]
    for given, expected in [
        ([], "nothing to train on: give cuts=[...], text=FILE or both"),
        (
            [f"text={text}"],
            f"not in the tokenizer's vocabulary: 'U' 3 times, first in {text}: line 2; 'Q' 1 times",
        ),
        ([f"text={tmp_path / 'no'}"], "no: cannot read it"),
        ([f"text={tmp_path}"], f"{tmp_path}: is a directory; name a file"),
        ([f"cuts=[{tmp_path / 'no'}]"], "no such manifest"),
        ([f"text={tiny_corpus.dev.with_name('dev-0.flac')}"], "not UTF-8 text"),
        ([f"text={text}", "order=0"], "order=0: must be 1 to 100"),
    ]:
        status, out, err = lm(capsys, *given, *words)
        assert (status, out) == (2, "")
        assert len(err.splitlines()) == 1
        assert expected in err
    assert not (tmp_path / "lm.arpa").exists()


def test_blank_text_is_refused(tiny_corpus, tmp_path, capsys):
    Path(tmp_path / "text").write_text("\n \n")
    words = [f"text={tmp_path / 'text'}", f"tokenizer={tiny_corpus.tokenizer}", f"output={tmp_path / 'lm.arpa'}"]
    assert "at least one sentence" in lm(capsys, *words)[2]


def test_text_is_spelled_as_the_tokenizer_has_it(tiny_corpus, tmp_path, capsys):
    (tmp_path / "text").write_text("Low, high!\n--\ntop\n")
    words = [f"text={tmp_path / 'text'}", f"tokenizer={tiny_corpus.tokenizer}", f"output={tmp_path / 'lm.arpa'}"]
    said = lm(capsys, *words)[2]
    assert all(f"{character!r} " in said for character in "ow,higt!-p")
    (tmp_path / "text").write_text("Low, high!\ntop\n")
    status, out, _ = lm(capsys, *words, "case=upper", "punctuation=remove")
    assert (status, "on the text (2 sentences," in out) == (0, True)
