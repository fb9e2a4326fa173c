"""Tokenizers: round trips, the directory form, reproducible training and refusals."""

import json
import pickle
import random
import subprocess
import sys

import pytest

from asr.cli.tokenizer import main
from asr.config import TokenizerConfig
from asr.data.tokenizer import SentencePieceTokenizer, Tokenizer, load_tokenizer, train_tokenizer
from asr.errors import InputError

ALPHABET = "ABCDEFGHIJ'Éß日"


def random_texts(seed, count=200):
    rng = random.Random(seed)
    words = ["".join(rng.choices(ALPHABET, k=rng.randint(1, 6))) for _ in range(40)]
    return [" ".join(rng.choices(words, k=rng.randint(1, 8))) for _ in range(count)]


def train(kind):
    return train_tokenizer(random_texts(0), kind, {"bpe": 60, "unigram": 50, "char": None}[kind])


@pytest.fixture(scope="module", params=["bpe", "unigram", "char"])
def tokenizer(request):
    return train(request.param)


def test_decode_inverts_encode_on_any_text_over_the_alphabet(tokenizer: Tokenizer):
    rng = random.Random(1)
    for _ in range(300):
        text = " ".join("".join(rng.choices(ALPHABET + " ", k=rng.randint(1, 30))).split()) or "A"
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert all(1 < id_ < tokenizer.vocab_size for id_ in ids)


def test_blank_and_unknown_come_first(tokenizer):
    assert tokenizer.blank_id == 0
    assert tokenizer.pieces[:2] == ["<blk>", "<unk>"]
    assert len(set(tokenizer.pieces)) == len(tokenizer.pieces) == tokenizer.vocab_size


def test_char_has_one_piece_for_each_character():
    tokenizer = train("char")
    assert sorted(tokenizer.pieces[2:]) == sorted(ALPHABET + "\u2581")
    assert [tokenizer.pieces[id_] for id_ in tokenizer.encode("AB É")] == ["\u2581", *"AB", "\u2581", "É"]


def test_bpe_has_the_size_asked_for_and_makes_shorter_sequences():
    bpe, text = train("bpe"), random_texts(0)[0]
    assert bpe.vocab_size == 60
    assert len(bpe.encode(text)) < len(train("char").encode(text))


def test_white_space_is_collapsed(tokenizer):
    assert tokenizer.encode("  A \t\n\u00a0 B ") == tokenizer.encode("A B")


def test_decode_of_special_and_impossible_ids(tokenizer):
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode([0, *tokenizer.encode("A"), 0]) == "A"
    with pytest.raises(IndexError):
        tokenizer.decode([tokenizer.vocab_size])


def test_no_normalisation_of_compatible_characters():
    tokenizer = train_tokenizer(["ﬁ fi e\u0301 é Ａ A"], "char")
    for text in ["ﬁ", "fi", "e\u0301", "é", "Ａ A"]:
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_unknown_character_is_named(tokenizer):
    with pytest.raises(InputError, match="character 'é' of 'CAFé' is not in the tokenizer's vocabulary: "):
        tokenizer.encode("A CAFé X")


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_blank_text_is_refused(tokenizer, text):
    with pytest.raises(InputError, match="empty transcript"):
        tokenizer.encode(text)


@pytest.mark.parametrize("symbol", ["\u2581", "\u2585", "\0", "\ud800", "<blk>", "<unk>"])
def test_reserved_symbols_are_refused(tokenizer, symbol):
    with pytest.raises(InputError, match="in .* is reserved") as caught:
        tokenizer.encode(f"A B{symbol}C")
    assert str(caught.value).isascii()
    with pytest.raises(InputError, match="in .* is reserved"):
        train_tokenizer(["A B", f"A{symbol}"], "char")


def test_text_in_another_case_is_pointed_out():
    upper, lower = train_tokenizer(["ABC É"], "char"), train_tokenizer(["abc é"], "char")
    for tokenizer, case, texts in ((upper, "upper", ["abc", "Abc", "é b"]), (lower, "lower", ["ABC", "A b", "É"])):
        for text in texts:
            with pytest.raises(InputError, match=f"^the tokenizer was trained on {case} case, .*: convert the transc"):
                tokenizer.encode(text)
    with pytest.raises(InputError, match="character 'a' of 'abc'"):
        upper.encode("abc x")


def test_the_mark_of_what_nobody_understood_has_a_remedy_of_its_own(tokenizer):
    with pytest.raises(InputError, match="'<unk>' in 'A<unk>' is reserved: it marks what nobody understood; leave out"):
        tokenizer.encode("A<unk> B")
    with pytest.raises(InputError, match="'<blk>' in 'A<blk>' is reserved: remove it from the transcript"):
        tokenizer.encode("A<blk> B")


def test_too_large_vocabulary_names_the_largest_which_works():
    texts = ["the cat sat on the mat", "the dog ran far"]
    with pytest.raises(InputError, match="vocab_size 1000 is too large.*the largest possible is 53; give 16 to 53"):
        train_tokenizer(texts, "bpe", 1000)
    assert train_tokenizer(texts, "bpe", 53).vocab_size == 53


def test_too_small_vocabulary_names_the_smallest_which_works():
    texts = ["the cat sat on the mat", "the dog ran far"]
    with pytest.raises(InputError, match="vocab_size 15 is too small.*the smallest is 16; give 16 to 53 for these"):
        train_tokenizer(texts, "bpe", 15)
    assert train_tokenizer(texts, "bpe", 16).vocab_size == 16


def test_other_impossible_requests_are_refused():
    with pytest.raises(InputError, match="no text to train"):
        train_tokenizer(["", " "], "char")
    with pytest.raises(InputError, match="unknown kind of tokenizer 'word': use one of bpe, unigram, char"):
        train_tokenizer(["A"], "word", 10)
    with pytest.raises(InputError, match="leave vocab_size out"):
        train_tokenizer(["A"], "char", 10)


def test_the_sizes_that_the_texts_allow_are_said_at_once():
    with pytest.raises(InputError, match=r"needs a vocabulary size: set vocab_size, 16 to 53 for these texts$"):
        train_tokenizer(["the cat sat on the mat", "the dog ran far"], "bpe")
    letters = random.Random(0)
    many = [" ".join("".join(letters.choices("abcdefg", k=8)) for _ in range(8)) for _ in range(200)]
    with pytest.raises(InputError, match=r"set vocab_size, at least 10 for these texts, for example 500$"):
        train_tokenizer(many, "bpe")


def test_long_texts_are_not_left_out():
    tokenizer = train_tokenizer(["A B", "C " * 10_000 + "D"], "char")
    assert tokenizer.decode(tokenizer.encode("D")) == "D"


def test_directory_round_trip(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "made" / "tokenizer")
    loaded = load_tokenizer(tmp_path / "made" / "tokenizer")
    assert (loaded.kind, loaded.pieces) == (tokenizer.kind, tokenizer.pieces)
    assert loaded.encode("ABC DE") == tokenizer.encode("ABC DE")
    names = {path.name for path in (tmp_path / "made" / "tokenizer").iterdir()}
    assert names == {"tokenizer.model", "tokens.txt", "tokenizer.json"}


def test_tokens_file_has_a_symbol_and_its_id_per_line(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    lines = (tmp_path / "tokens.txt").read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["<blk> 0", "<unk> 1"]
    assert [line.split(" ") for line in lines] == [[p, str(i)] for i, p in enumerate(tokenizer.pieces)]


def test_description_file(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    description = json.loads((tmp_path / "tokenizer.json").read_text())
    assert set(description) == {"kind", "vocab_size", "sha256"}
    assert (description["kind"], description["vocab_size"]) == (tokenizer.kind, tokenizer.vocab_size)


@pytest.mark.parametrize("name", ["tokenizer.model", "tokens.txt"])
def test_one_changed_byte_is_refused(tokenizer, tmp_path, name):
    tokenizer.save(tmp_path)
    data = bytearray((tmp_path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=f"{name}' does not agree with tokenizer.json"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.model", "tokens.txt", "tokenizer.json"])
def test_missing_file_is_named(tokenizer, tmp_path, name):
    tokenizer.save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=f"cannot read '.*{name}'"):
        load_tokenizer(tmp_path)


def test_a_description_of_another_kind_is_named(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    description = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**description, "kind": -1}))
    with pytest.raises(InputError, match=r"tokenizer.json': unknown kind of tokenizer '-1': use one of bpe, unigram"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", "3"])
def test_bad_description_is_named(tokenizer, tmp_path, content):
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match="tokenizer.json' does not describe a tokenizer"):
        load_tokenizer(tmp_path)


def test_bytes_that_are_no_model_are_refused():
    with pytest.raises(InputError, match="not a SentencePiece model"):
        SentencePieceTokenizer(b"nonsense", "bpe")


def test_tokenizer_survives_pickling(tokenizer):
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.encode("ABC") == tokenizer.encode("ABC")


def test_training_is_reproducible_byte_for_byte(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "first")
    train(tokenizer.kind).save(tmp_path / "second")
    for name in ["tokenizer.model", "tokens.txt", "tokenizer.json"]:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_training_is_reproducible_in_another_process(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "first")
    (tmp_path / "texts.json").write_text(json.dumps(random_texts(0)))
    program = (
        "import json, sys; from asr.data.tokenizer import train_tokenizer; "
        "texts = json.load(open(sys.argv[1])); size = int(sys.argv[3]) if sys.argv[3] else None; "
        "train_tokenizer(texts, sys.argv[2], size).save(sys.argv[4])"
    )
    size = "" if tokenizer.kind == "char" else str(tokenizer.vocab_size)
    arguments = [str(tmp_path / "texts.json"), tokenizer.kind, size, str(tmp_path / "second")]
    finished = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, check=True)
    assert finished.stderr == b""
    first, second = (tmp_path / run / "tokenizer.model" for run in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_a_tokenizer_that_models_may_know_is_not_replaced_by_another(tiny_corpus, tmp_path):
    options = {"cuts": [str(tiny_corpus.train)], "output": str(tmp_path / "tokens")}
    for _ in range(2):
        main(TokenizerConfig(**options, kind="char"))
    before = load_tokenizer(tmp_path / "tokens").pieces
    with pytest.raises(InputError, match=f"holds another tokenizer, of {len(before)} tokens; name another directory"):
        main(TokenizerConfig(**options, kind="bpe", vocab_size=len(before) + 1))
    assert load_tokenizer(tmp_path / "tokens").pieces == before
    (tmp_path / "tokens" / "tokenizer.model").write_bytes(b"half")
    main(TokenizerConfig(**options, kind="bpe", vocab_size=len(before) + 1))
