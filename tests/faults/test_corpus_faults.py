"""A corpus with one of each kind of fault, as in scripts/torture/corpus.py; and what `asr validate` writes."""

import gzip
import json

import pytest
from conftest import torture

from asr.cli.main import main
from asr.data.corpus import write_cuts
from asr.data.manifest import open_cuts

corpus = torture("corpus")


def test_every_kind_is_named_and_no_sound_utterance_is(tmp_path):
    options, named, _ = corpus.prepared(tmp_path, 30)
    wrong = corpus.validated(options, named, jobs=0)
    assert len(named) > 40
    assert {kind: what for kind, what in wrong.items() if what} == {}


@pytest.fixture
def manifest(tiny_corpus, tmp_path):
    """The lines of a manifest whose second utterance has text that is a number, and whose third none that is known."""
    lines = gzip.decompress(tiny_corpus.dev.read_bytes()).decode().splitlines()
    for number, text in ((1, 7), (2, "ZOO")):
        row = json.loads(lines[number])
        row["supervisions"][0]["text"] = text
        lines[number] = json.dumps(row)
    path = tmp_path / "cuts.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path, lines


def test_what_is_sound_is_written_as_it_was(manifest, tiny_corpus, tmp_path, capsys):
    path, lines = manifest
    words = [f"cuts=[{path}]", f"data.tokenizer={tiny_corpus.tokenizer}", "audio=false"]
    assert main(["validate", *words, f"fix={tmp_path / 'fixed.jsonl.gz'}"]) == 1
    said = capsys.readouterr()
    assert [line.split(": ")[:3] for line in said.out.splitlines()] == [
        [str(path), "line 2 (dev-1)", "supervisions[0].text is 7, not text; correct the row"],
        [str(path), "line 3 (dev-2)", "character 'Z' of 'ZOO' is not in the tokenizer's vocabulary"],
    ]
    assert f"6 utterances (6 of {path}), 2 at fault; their audio was not read" in said.err
    assert gzip.decompress((tmp_path / "fixed.jsonl.gz").read_bytes()).decode().splitlines() == [lines[0], *lines[3:]]
    assert main(["validate", f"cuts=[{tmp_path / 'fixed.jsonl.gz'}]", *words[1:]]) == 0
    assert "4 utterances" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fix", "message"),
    [("{path}", "would replace"), ("x.jsonl", "there are 2 manifests; name a directory")],
)
def test_no_manifest_is_replaced_or_joined(manifest, tiny_corpus, capsys, fix, message):
    path, _ = manifest
    cuts = [str(path)] if "path" in fix else [str(path), str(tiny_corpus.train)]
    before = path.read_bytes()
    assert main(["validate", f"cuts=[{','.join(cuts)}]", "audio=false", f"fix={fix.format(path=path)}"]) == 2
    assert message in capsys.readouterr().err
    assert path.read_bytes() == before


def test_audio_is_held_against_the_vocabulary_where_there_is_one(tiny_corpus, tmp_path, capsys):
    cuts = list(open_cuts([str(tiny_corpus.dev)]))
    write_cuts(cuts[:3], tmp_path / "one.jsonl.gz")
    write_cuts(cuts[2:], tmp_path / "two.jsonl.gz")
    assert main(["validate", f"cuts=[{tmp_path / 'one.jsonl.gz'},{tmp_path / 'two.jsonl.gz'}]", "jobs=0"]) == 1
    said = capsys.readouterr()
    assert "transcripts are not held against a vocabulary" in said.err
    (line,) = said.out.splitlines()
    assert line.startswith(
        f"{tmp_path / 'two.jsonl.gz'}: line 1 (dev-2): its audio is in {tmp_path / 'one.jsonl.gz'}, too"
    )
