"""Interrupted work is gone on with however its input is spelt."""

import os
import signal
import subprocess
import sys

import pytest

from asr.cli import align, shar
from asr.cli.compose import compose
from asr.journal import Journal

KILLED = """
import os, pathlib, sys
from asr.files import replacing
with replacing(pathlib.Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), 9)
"""


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


def test_what_a_killed_process_was_writing_goes_and_what_others_write_stays(tmp_path):
    path, settings = tmp_path / ".journal", {"search": "greedy"}

    def opened(settings):
        journal = Journal(path, settings, lambda row: {"text": row}, lambda row: row["text"])
        journal.open()
        return journal

    opened(settings).add({"a": "A"})
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a.txt")])
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.glob(".a.txt.*.tmp")
    process = left.name.split(".")[-2]
    path.write_text(path.read_text().replace(f'"process": {os.getpid()}', f'"process": {process}'))
    (tmp_path / ".b.txt.0.tmp").write_text("another's")
    (tmp_path / f"..journal.{process}0.tmp").write_text("of a process that was killed while it opened the journal")
    assert opened(settings).done == {"a": "A"}
    assert sorted(one.name for one in tmp_path.iterdir()) == [".b.txt.0.tmp", ".journal"]
    assert opened({"search": "beam"}).done == {}
