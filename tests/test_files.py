"""Reading lines of text: plain, gzipped, and damaged."""

import gzip

import pytest

from asr.errors import InputError
from asr.files import read_lines


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_lines_are_numbered_and_without_ends(tmp_path, compress):
    path = tmp_path / "text"
    path.write_bytes(compress("\ufeffÉTÉ\r\n\n\ta b \nlast".encode()))
    assert list(read_lines(path)) == [(1, "ÉTÉ"), (2, ""), (3, "\ta b "), (4, "last")]


def test_empty_file_has_no_lines(tmp_path):
    (tmp_path / "text").touch()
    assert list(read_lines(tmp_path / "text")) == []


def test_first_line_that_is_no_text_is_named(tmp_path):
    (tmp_path / "text").write_bytes(b"a\nb\xff\nc\n")
    with pytest.raises(InputError, match="text: line 2: not UTF-8"):
        list(read_lines(tmp_path / "text"))


@pytest.mark.parametrize("damage", [lambda zipped: zipped[:-4], lambda zipped: zipped[:-8] + bytes(8)])
def test_damaged_gzip_is_refused(tmp_path, damage):
    (tmp_path / "text").write_bytes(damage(gzip.compress(b"a\nb\n")))
    with pytest.raises(InputError, match="text: (cannot read it|damaged after line)"):
        list(read_lines(tmp_path / "text"))


def test_what_is_no_file(tmp_path):
    for path, said in ((tmp_path, "is a directory; name a file"), (tmp_path / "no", "cannot read it")):
        with pytest.raises(InputError, match=said):
            list(read_lines(path))
