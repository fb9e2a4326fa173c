"""Interrupted work is gone on with however its input is spelt."""

import pytest

from asr.cli import align, shar
from asr.cli.compose import compose


@pytest.mark.parametrize("command", [align, shar])
def test_ways_of_writing_a_path_make_no_difference(command, tiny_corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny_corpus.directory)
    name = command.__name__.rpartition(".")[2]
    more = ["aligner=pocketsphinx"] if name == "align" else []
    link = tmp_path / "link.jsonl.gz"
    link.symlink_to(tiny_corpus.dev)
    model = [None] * (name == "align")  # none, of pocketsphinx
    found = [
        command.settings(compose(name, [f"cuts={cuts}", f"output={tmp_path / 'out'}", *more]), *model)
        for cuts in (tiny_corpus.dev, "cuts_dev.jsonl.gz", "./cuts_dev.jsonl.gz", link)
    ]
    assert found[1:] == found[:1] * 3
    other = command.settings(compose(name, [f"cuts={tiny_corpus.train}", f"output={tmp_path / 'out'}", *more]), *model)
    assert other != found[0]
