"""ARPA files: round trips, what others write, and damage of every kind."""

import gzip
import random
from pathlib import Path

import pytest

from asr.decode.arpa import list_ngrams, read_arpa, write_arpa
from asr.decode.ngram import IMPOSSIBLE, NGrams, train_ngrams
from asr.errors import InputError

SENTENCES = [["▁", "A", "B"], ["▁", "B", "A", "B", "▁", "A"], ["▁", "A"], ["▁", "\\", "é"]]
TOKENS = ["<unk>", "▁", "A", "B", "\\", "é"]

OTHERS = """\
Made by another toolkit

\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-99 <s> -0.25
-0.5 </s>
-0.3\tA\t-0.5
-inf <unk>

\\2-grams:
-0.1 <s> A
-1e-1\tA </s>

\\end\\
"""


def model() -> NGrams:
    return train_ngrams(SENTENCES, TOKENS, 4)


def written(tmp_path: Path, name: str = "lm.arpa") -> Path:
    write_arpa(tmp_path / name, model())
    return tmp_path / name


def refusal(tmp_path: Path, content: str | bytes) -> str:
    path = tmp_path / "bad.arpa"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError) as caught:
        read_arpa(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("name", ["lm.arpa", "lm.arpa.gz"])
def test_round_trip(tmp_path, name):
    before, after = model(), read_arpa(written(tmp_path, name))
    assert after.order == before.order == 4
    assert [set(grams) for grams in list_ngrams(after)] == [set(grams) for grams in list_ngrams(before)]
    assert after.backoffs.keys() == before.backoffs.keys()
    for history in before.arcs:
        for token in before.tokens:
            assert after.log_prob(token, history) == pytest.approx(before.log_prob(token, history), abs=1e-6)


def test_what_is_written_is_the_same_every_time(tmp_path):
    assert written(tmp_path, "a.gz").read_bytes() == written(tmp_path, "b.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == written(tmp_path).read_bytes()


def test_counts_and_sections_are_those_of_the_format(tmp_path):
    lines = written(tmp_path).read_text().splitlines()
    assert lines[:2] == ["\\data\\", "ngram 1=8"]
    titles = [line for line in lines if line.startswith("\\")]
    assert titles == ["\\data\\", *(f"\\{n}-grams:" for n in range(1, 5)), "\\end\\"]
    assert any(line.startswith("-99.00000000\t<s>\t-") for line in lines)
    assert all(len(line.split("\t")) == 2 for line in lines[lines.index("\\4-grams:") + 1 : -2])


def test_failed_write_leaves_the_old_file(tmp_path):
    path = written(tmp_path)
    before, broken = path.read_bytes(), model()
    broken.backoffs["A",] = "no number"
    with pytest.raises(TypeError):
        write_arpa(path, broken)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["lm", "gzipped without a name that says so"])
def test_what_other_toolkits_write(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(OTHERS.encode()) if "gzipped" in name else OTHERS.replace("\n", "\r\n").encode())
    ngrams = read_arpa(path)
    assert ngrams.tokens == ["</s>", "A", "<unk>"]
    assert ngrams.log_prob("A", ("<s>",)) == pytest.approx(-0.1 * 2.302585)
    assert ngrams.log_prob("</s>", ("<s>",)) == pytest.approx(-0.75 * 2.302585)
    assert ngrams.log_prob("<unk>", ()) == IMPOSSIBLE
    assert ngrams.history(("A", "A")) == ("A",)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("\\data\\", "\\date\\", "line 17: the file ends before \\end\\"),
        ("ngram 1=4\nngram 2=2\n", "", "line 5: no `ngram 1=...`"),
        ("ngram 1=4", "ngram 1=5", "line 13: a 1-gram should be here (are there as many as said?), not '\\\\2-grams:'"),
        (
            "ngram 1=4",
            "ngram 1=3",
            "line 11: \\2-grams: should be here (are there as many n-grams as said?), not '-inf",
        ),
        ("ngram 2=2", "ngram 2=1", "line 15: \\end\\ should be here"),
        ("ngram 2=2", "ngram 2=3", "line 17: a 2-gram should be here"),
        ("ngram 2=2", "ngram 2=-2", "line 5: `ngram 2=COUNT` expected"),
        ("ngram 2=2", "ngram 2=²", "line 5: `ngram 2=COUNT` expected"),
        ("ngram 2=2", "ngram 3=2", "line 5: `ngram 2=COUNT` expected"),
        ("\\1-grams:", "\\2-grams:", "line 7: \\1-grams: should be here"),
        ("-0.5 </s>", "x </s>", "line 9: 'x' is not a number"),
        ("-0.5 </s>", "nan </s>", "line 9: nan is no logarithm"),
        ("-0.5 </s>", "0.5 </s>", "line 9: 0.5 is no logarithm"),
        ("-0.3\tA\t-0.5", "-0.3\tA\tinf", "line 10: inf is no logarithm"),
        ("-0.5 </s>", "-0.5 A", "line 10: 'A' is there twice"),
        ("-0.1 <s> A", "-0.1 A A -0.2", "line 14: a 2-gram should be here"),
        ("-0.1 <s> A", "-0.1 A", "line 14: a 2-gram should be here"),
        ("-0.1 <s> A", "-0.1 B A", "line 14: 'B A' is there, but 'B' is not"),
        ("-0.1 <s> A", "-0.1 A B", "line 14: 'A B' is there, but 'B' is not"),
        ("-0.5 </s>", "-0.5 E", "line 15: 'A </s>' is there, but '</s>' is not"),
        ("\\end\\\n", "\\end\\\n\nmore\n", "line 17: 'more' follows"),
        ("\\end\\\n", "", "line 15: the file ends before \\end\\"),
    ],
)
def test_one_fault(tmp_path, old, new, expected):
    assert OTHERS.count(old) == 1
    assert expected in refusal(tmp_path, OTHERS.replace(old, new))


def test_ends_of_sentences_are_needed(tmp_path):
    text = OTHERS.replace("-0.5 </s>", "-0.5 E").replace("A </s>", "A E")
    assert "has no 1-gram </s>" in refusal(tmp_path, text)


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path):
    content = written(tmp_path).read_bytes()
    for size in range(0, len(content) - len("\\end\\\n"), 7):
        last = len(content[:size].rstrip(b"\n").split(b"\n")) if size else 0
        assert f"line {last}: " in refusal(tmp_path, content[:size])
    zipped = gzip.compress(content)
    for size in range(3, len(zipped), 29):
        assert "Compressed file ended before" in refusal(tmp_path, zipped[:size])


def test_junk_is_refused(tmp_path):
    assert "line 1: not UTF-8 text" in refusal(tmp_path, b"\x80\x02junk")
    assert "the file ends" in refusal(tmp_path, b"")
    assert "the file ends" in refusal(tmp_path, bytes(1000))
    assert "cannot read it" in refusal(tmp_path, b"\x1f\x8bjunk")
    for seed in range(50):
        refusal(tmp_path, random.Random(seed).randbytes(2000))


def test_a_flipped_byte_is_refused_or_changes_a_value(tmp_path):
    """A reader that ends in anything but a model or an InputError would fail here."""
    content, path, rng = written(tmp_path).read_bytes(), tmp_path / "flipped.arpa", random.Random(0)
    messages = []
    for _ in range(400):
        flipped = bytearray(content)
        flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            read_arpa(path)
        except InputError as error:
            messages.append(str(error))
    assert len(messages) > 100
    assert all(message.startswith(f"{path}: ") for message in messages)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="no.arpa: cannot read it"):
        read_arpa(tmp_path / "no.arpa")
