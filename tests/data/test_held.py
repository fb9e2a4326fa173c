"""What a manifest may name: beside scripts/torture/hostile.py, what is allowed, and what of the data root."""

import json

import pytest

from asr.data.held import files_in, name_fault, outside
from asr.data.manifest import open_cuts
from asr.data.rows import read_row
from asr.errors import InputError


@pytest.mark.parametrize("name", ["a.wav", "/data/a b.wav", "a:b.wav", "./pipe:x", "x-", "C:\\a.wav", "a//b.wav"])
def test_names_of_files_are_names_of_files(name):
    assert name_fault(name) == ""


@pytest.mark.parametrize("name", ["pipe:ls", "http://x/a.wav", "s3://x/a.wav", "-", "a\0b", "ark://x", None, 7])
def test_what_lhotse_takes_for_something_else_is_none(name):
    assert "which is no file: nothing is run or fetched" in name_fault(name)


def test_a_root_is_left_by_dots_and_by_links_alone(tmp_path):
    root = tmp_path / "root"
    (root / "below").mkdir(parents=True)
    (root / "link").symlink_to(tmp_path)
    (root / "within").symlink_to(root / "below")
    inside = [str(root / "a.wav"), str(root / "below" / ".." / "a.wav"), str(root / "within" / "a.wav")]
    assert outside(iter(inside), str(root)) == ""
    out = [root / ".." / "a.wav", root / "link" / "a.wav", "/etc/passwd", tmp_path / "root2" / "x"]
    for name in map(str, out):
        assert outside(iter([*inside, name]), str(root)) == name


def test_all_that_a_row_names_is_held_against_the_root(tiny_corpus):
    cuts = open_cuts([str(tiny_corpus.dev)], str(tiny_corpus.directory))
    assert len(list(cuts)) == 6
    with pytest.raises(InputError, match=r"line 1 \(dev-0\): names .*dev-0.flac, outside of data.root=/usr"):
        open_cuts([str(tiny_corpus.dev)], "/usr")
    stored = {"storage_type": "numpy_files", "storage_path": "feats", "storage_key": "/etc/x.npy"}
    assert list(files_in({"a": [{"features": stored}]})) == ["feats", "/etc/x.npy"]


def test_fields_of_ones_own_may_hold_anything_else():
    row = {"id": "x", "type": "MonoCut", "start": 0, "duration": 1, "channel": 0}
    owned = {"source": "pipe: dreams", "type": "command"}
    for custom in (None, {}, owned, {"sources": ["a"]}, {"sources": [{"source": "a"}]}):
        assert read_row(json.dumps(row | {"custom": custom})).faults == []
