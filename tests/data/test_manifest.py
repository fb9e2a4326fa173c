"""Reading manifests, and naming the damaged ones."""

import gzip
import json
import pickle
import re

import pytest

from asr.data.corpus import write_cuts
from asr.data.manifest import open_cuts
from asr.errors import InputError


def test_several_manifests_are_read_one_after_the_other(tiny_corpus):
    both = open_cuts([str(tiny_corpus.train), str(tiny_corpus.dev)])
    assert [cut.id for cut in both] == [
        cut.id for path in (tiny_corpus.train, tiny_corpus.dev) for cut in open_cuts([str(path)])
    ]


def test_missing_manifests(tmp_path):
    with pytest.raises(InputError, match="no manifest given"):
        open_cuts([])
    with pytest.raises(InputError, match="no such manifest"):
        open_cuts([str(tmp_path / "cuts.jsonl.gz")])


@pytest.mark.parametrize("content", [b"ID3", b"\xff\xfb\x90\x64"])
def test_audio_where_a_manifest_is_wanted_is_to_be_transcribed(tmp_path, content):
    (tmp_path / "talk.mp3").write_bytes(content)
    with pytest.raises(InputError, match=r"talk.mp3: not a manifest .*`asr transcribe .*talk.mp3` reads audio"):
        open_cuts([str(tmp_path / "talk.mp3")])


@pytest.mark.parametrize("name", ["corpus", "corpus.tsv", "notes.json"])
def test_a_corpus_where_a_manifest_is_wanted_says_how_to_make_one(tmp_path, name):
    path = tmp_path / name
    path.mkdir() if "." not in name else path.write_text("path\tsentence\nx.mp3\tyes\n")
    with pytest.raises(InputError, match=re.escape(f"asr manifest input={path} output=cuts.jsonl.gz")) as raised:
        open_cuts([str(path)])
    assert "run.sh" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [
        b"not gzip",
        b"\x1f\x8b" + b"1" * 50,
        gzip.compress(b"not JSON\n", mtime=0),
        gzip.compress(b"\xff\xfe\x00\n", mtime=0),
        gzip.compress(b"[1, 2]\n", mtime=0),
        gzip.compress(json.dumps({"id": "u", "type": "MonoCut"}).encode(), mtime=0),
        gzip.compress(json.dumps({"id": "u", "type": "Unknown"}).encode(), mtime=0),
        gzip.compress(b"", mtime=0),
        b"",
    ],
)
def test_a_file_that_is_no_manifest_of_cuts_is_an_input_error_of_one_line(tmp_path, tiny_corpus, content):
    path = tmp_path / "cuts.jsonl.gz"
    path.write_bytes(content)
    for paths in ([str(path)], [str(tiny_corpus.dev), str(path)]):
        with pytest.raises(InputError, match="cuts.jsonl.gz") as raised:
            open_cuts(paths)
        assert "\n" not in str(raised.value)


def test_a_manifest_of_recordings_is_refused(tmp_path, tiny_corpus):
    write_cuts([cut.recording for cut in open_cuts([str(tiny_corpus.dev)])], tmp_path / "recordings.jsonl.gz")
    with pytest.raises(InputError, match="recordings.jsonl.gz"):
        open_cuts([str(tmp_path / "recordings.jsonl.gz")])


def damaged(tiny_corpus, tmp_path, change):
    """A copy of a manifest with changed lines."""
    lines = gzip.decompress(tiny_corpus.dev.read_bytes()).splitlines(keepends=True)
    path = tmp_path / "cuts.jsonl.gz"
    path.write_bytes(gzip.compress(b"".join(change(lines))))
    return path


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda lines: [*lines[:3], b"{not JSON\n", *lines[4:]], "line 4: not JSON "),
        (lambda lines: [*lines[:3], lines[3][:50]], "line 4: not JSON "),
        (lambda lines: [*lines[:3], b'{"id": "x", "type": "MonoCut"}\n'], r"line 4 \(x\): no start, no duration"),
    ],
    ids=["garbled line", "cut short", "half a cut"],
)
def test_damage_in_the_middle_is_named_with_its_place_before_any_work(tiny_corpus, tmp_path, change, place):
    path = damaged(tiny_corpus, tmp_path, change)
    with pytest.raises(InputError) as raised:
        open_cuts([str(tiny_corpus.train), str(path)])
    assert re.search(rf"cuts.jsonl.gz: {place}.*prepare the corpus again \(`asr manifest`, .*\)$", str(raised.value))
    assert "\n" not in str(raised.value)


def test_damage_after_a_manifest_was_opened_is_named_where_it_is_met(tiny_corpus, tmp_path):
    path = damaged(tiny_corpus, tmp_path, lambda lines: lines)
    cuts = open_cuts([str(path)])
    damaged(tiny_corpus, tmp_path, lambda lines: [*lines[:3], b'{"type": "MonoCut"}\n'])
    with pytest.raises(InputError, match=r"cuts.jsonl.gz: line 4: no cut"):
        list(cuts)


def test_a_gzip_file_that_is_cut_short_is_named(tiny_corpus, tmp_path):
    path = damaged(tiny_corpus, tmp_path, lambda lines: lines * 50)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="cuts.jsonl.gz: damaged after line [0-9]+"):
        open_cuts([str(path)])


def test_open_cuts_travel_to_other_processes(tiny_corpus):
    cuts = open_cuts([str(tiny_corpus.dev)])
    assert [cut.id for cut in pickle.loads(pickle.dumps(cuts))] == [cut.id for cut in cuts]


@pytest.mark.parametrize("start", [float("nan"), "x", None])
def test_a_time_of_a_word_that_is_no_number_is_named(tmp_path, tiny_corpus, start):
    rows = [cut.to_dict() for cut in open_cuts([str(tiny_corpus.dev)])]
    rows[2]["supervisions"][0]["alignment"] = {"word": [["ONE", start, 0.5]]}
    path = tmp_path / "cuts.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    fault = 'line 3 (dev-2): a time of "ONE" in supervisions[0].alignment.word is no number of seconds'
    with pytest.raises(InputError, match=re.escape(f"cuts.jsonl.gz: {fault}")) as raised:
        open_cuts([str(path)])
    assert "\n" not in str(raised.value)
