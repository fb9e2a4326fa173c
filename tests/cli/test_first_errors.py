"""What a newcomer is told first: everything that is missing at once, and remedies that can be followed."""

import re
from pathlib import Path

import pytest

from asr.cli.main import main

REPOSITORY = Path(__file__).resolve().parents[2]
EXTRAS = re.findall(r"^(\w+) = \[", (REPOSITORY / "pyproject.toml").read_text().partition("optional-dep")[2], re.M)


def message(capsys, *words):
    assert main(list(words)) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("words", [["train"], ["train", "run={run}"], ["preflight"]])
def test_all_that_a_training_needs_is_named_at_once_with_how_to_get_it(words, tmp_path, capsys):
    err = message(capsys, *(word.format(run=tmp_path / "run") for word in words))
    assert ("run=... (directory" in err) == (words == ["train"])
    for needed in (
        "data.train_cuts=...",
        "data.valid_cuts=...",
        "data.tokenizer=...",
        "`asr manifest`",
        "`asr tokenizer`",
    ):
        assert needed in err
    assert not (tmp_path / "run").exists()


def test_only_what_is_missing_is_named(tmp_path, capsys):
    err = message(capsys, "train", f"run={tmp_path / 'run'}", "data.train_cuts=[a]", "data.tokenizer=b")
    assert "data.valid_cuts=..." in err
    assert "train_cuts" not in err
    assert "tokenizer" not in err


def test_a_tokenizer_s_texts_are_named_with_its_output(capsys):
    err = message(capsys, "tokenizer")
    assert "output=..." in err
    assert "cuts=..." in err


def test_documents_name_extras_that_pip_can_find():
    """The package is on no index: its name with an extra finds nothing."""
    texts = [
        path.read_text()
        for pattern in (
            "asr/**/*.py",
            "*.md",
            "docs/*.md",
            "recipes/**/*.md",
            "recipes/**/*.py",
            "scripts/*.*",
            "scripts/torture/*.py",
            "local/*.*",
        )
        for path in REPOSITORY.glob(pattern)
    ]
    assert not [text for text in texts if "asr-transducer[" in text]
    named = {name for text in texts for name in re.findall(r"'\.\[(\w+)\]'", text)}
    assert {"slurm", "dask", "align"} <= named <= set(EXTRAS)


def test_a_run_that_cannot_be_written_is_told_in_words(tiny_corpus, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    data = [f"data.train_cuts={tiny_corpus.train}", f"data.valid_cuts={tiny_corpus.dev}"]
    err = message(capsys, "train", f"run={tmp_path / 'file'}", *data, f"data.tokenizer={tiny_corpus.tokenizer}")
    assert f"{tmp_path / 'file'}: is a file, where a directory is to be; name another" in err
