"""Fetching a corpus and writing cuts."""

import argparse
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet
from lhotse.supervision import AlignmentItem

from asr.data.corpus import (
    add_corpus_options,
    describe_recording,
    download,
    extract,
    fetch,
    make_cut,
    run,
    write_cuts,
    write_flac,
)
from asr.errors import InputError
from asr.files import replacing

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``server.content``, ranges where asked; ``server.cut_at`` breaks the first answer off there."""

    def do_GET(self) -> None:
        self.server.ranges.append(self.headers.get("Range"))
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if start and start >= len(self.server.content):
            self.send_error(416)
            return
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cut_at])
        self.server.cut_at = None

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.content, server.cut_at, server.ranges = CONTENT, None, []
    server.url = f"http://127.0.0.1:{server.server_port}/corpus.tar.gz"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_download_verifies_and_leaves_only_the_file(server, tmp_path):
    path = download(server.url, tmp_path / "new" / "corpus.tar.gz", SHA256)
    assert path.read_bytes() == CONTENT
    assert names(tmp_path / "new") == ["corpus.tar.gz"]


def test_download_of_a_file_that_is_there_asks_for_nothing(server, tmp_path):
    (tmp_path / "c").write_bytes(CONTENT)
    download(server.url, tmp_path / "c", SHA256)
    assert server.ranges == []


def test_interrupted_download_resumes_where_it_ended(server, tmp_path):
    server.cut_at = 700_000
    with pytest.raises(InputError, match=r"ended after 700000 of 1280000 bytes.*run again"):
        download(server.url, tmp_path / "c", SHA256)
    assert names(tmp_path) == ["c.part"]
    assert download(server.url, tmp_path / "c", SHA256).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=700000-"]


def test_download_that_lacked_only_its_final_name(server, tmp_path):
    (tmp_path / "c.part").write_bytes(CONTENT)
    assert download(server.url, tmp_path / "c", SHA256).read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["c", "c.part"])
def test_wrong_sum_names_both_and_removes_the_file(server, tmp_path, name):
    server.content = b"another corpus"
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(InputError, match=f"c.*{SHA256}") as error:
        download(server.url, tmp_path / "c", SHA256)
    assert len(str(error.value).splitlines()) == 1
    assert names(tmp_path) == []


def test_unreachable_server_is_an_input_error(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match=r"download failed .*--corpus-dir"):
        download(server.url, tmp_path / "c", SHA256)


def archive_of(path: Path, **members: bytes) -> bytes:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path.read_bytes()


def test_fetch_unpacks_once(server, tmp_path):
    server.content = archive_of(tmp_path / "a.tar.gz", **{"top/file": b"x"})
    for _ in range(2):
        contents = fetch(server.url, tmp_path / "d", checksum=None)
    assert (contents / "top" / "file").read_bytes() == b"x"
    assert names(tmp_path / "d") == ["corpus", "corpus.tar.gz"]
    assert len(server.ranges) == 1


@pytest.mark.parametrize("name", ["../evil", "/tmp/../../evil/../../../x", "top/../../evil"])
def test_member_outside_is_refused(tmp_path, name):
    archive_of(tmp_path / "a.tar.gz", **{"good": b"x", name: b"x"})
    with pytest.raises(InputError, match="cannot unpack"):
        extract(tmp_path / "a.tar.gz", tmp_path / "d" / "contents")
    assert names(tmp_path) == ["a.tar.gz", "d"]
    assert names(tmp_path / "d") == []


def test_link_to_the_outside_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, "../../.."
        tar.addfile(info)
    with pytest.raises(InputError, match="cannot unpack"):
        extract(tmp_path / "a.tar", tmp_path / "contents")
    assert names(tmp_path) == ["a.tar"]


def test_truncated_archive_leaves_nothing(tmp_path):
    data = archive_of(tmp_path / "a.tar.gz", file=np.random.default_rng(0).bytes(50_000))
    (tmp_path / "a.tar.gz").write_bytes(data[:20_000])
    with pytest.raises(InputError, match="cannot unpack"):
        extract(tmp_path / "a.tar.gz", tmp_path / "contents")
    assert names(tmp_path) == ["a.tar.gz"]


@pytest.fixture
def recording(tmp_path):
    write_flac(tmp_path / "u1.flac", np.arange(8000, dtype=np.int16), 16000)
    return describe_recording("u1", tmp_path / "u1.flac")


def test_cuts_read_back_as_written(tmp_path, recording):
    words = {"word": [AlignmentItem("ONE", 0.1, 0.2)]}
    cut = make_cut(recording, "ONE É", "somebody", "en", words)
    write_cuts([cut], tmp_path / "cuts.jsonl.gz")
    read = list(CutSet.from_file(tmp_path / "cuts.jsonl.gz"))
    assert read == [cut]
    assert np.array_equal(read[0].load_audio()[0] * 2**15, np.arange(8000))


def test_equal_cuts_give_equal_bytes_under_any_name(tmp_path, recording):
    cuts = CutSet.from_cuts([make_cut(recording, "ONE", "s", "en")])
    for name in ("a", "b"):
        write_cuts(cuts, tmp_path / f"{name}.jsonl.gz")
    data = (tmp_path / "a.jsonl.gz").read_bytes()
    assert data == (tmp_path / "b.jsonl.gz").read_bytes()
    assert data[3:8] == bytes(5)  # no flags (so no name), no time


def test_empty_transcript_names_the_utterance(recording):
    with pytest.raises(InputError, match="u1: its transcript is empty"):
        make_cut(recording, " ", "s", "en")


def test_unreadable_recordings_are_named(tmp_path):
    (tmp_path / "noise.wav").write_bytes(b"not audio")
    write_flac(tmp_path / "empty.flac", np.zeros(0, dtype=np.int16), 16000)
    for name in ("noise.wav", "missing.wav", "empty.flac"):
        with pytest.raises(InputError, match=name):
            describe_recording("u", tmp_path / name)


def test_failed_write_leaves_the_old_file(tmp_path):
    (tmp_path / "f").write_text("old")

    def write_half() -> None:
        with replacing(tmp_path / "f") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert names(tmp_path) == ["f"]
    assert (tmp_path / "f").read_text() == "old"


def test_run_prints_one_line_and_exits_with_2(capsys):
    def main() -> None:
        raise InputError("corpus: missing; download it")

    with pytest.raises(SystemExit) as exit_:
        run(main)
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "error: corpus: missing; download it\n"


def test_the_home_directory_takes_the_place_of_its_mark(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    parser = argparse.ArgumentParser()
    add_corpus_options(parser)
    given = parser.parse_args(["--download-dir=~/corpora", "--output=~/data"])
    assert (given.download_dir, given.output) == (tmp_path / "corpora", tmp_path / "data")
    assert parser.parse_args(["--corpus-dir=~", "--output=x"]).corpus_dir == tmp_path
    with pytest.raises(InputError, match="^~nobody-of-that-name/x: no such home directory"):
        parser.parse_args(["--corpus-dir=.", "--output=~nobody-of-that-name/x"])
