"""A disk that takes no more: which file, how many bytes, and what to do; what was there before stays."""

import contextlib
import logging
import os
import shutil
import threading
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from asr.cli.compose import compose
from asr.data.corpus import write_cuts, write_flac
from asr.data.manifest import open_cuts
from asr.errors import InputError
from asr.files import free_bytes, replacing, write_atomically
from asr.journal import Journal
from asr.parallel import local_workers
from asr.runs import state
from asr.runs.directory import RunDirectory, curves_written_in_silence, make_logger
from asr.runs.pack import new_directory, zip_file
from asr.runs.state import Checkpoint

resource = pytest.importorskip("resource")  # Windows has no limits on files
FULL = Path("/dev/full")
Usage = namedtuple("Usage", "total used free")


@contextlib.contextmanager
def files_of(size):
    """No file may become larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def noise(count):
    return np.random.default_rng(0).integers(-9999, 9999, count).astype(np.int16)


def save_zip(path):
    with zip_file(path) as write:
        write("weights", bytes(20_000))


def save_directory(path):
    with new_directory(path) as write:
        write("weights", bytes(20_000))


def checkpoint(step=1, size=20_000):
    return Checkpoint(step, {}, {"model": {"weight": torch.zeros(size)}}, {})


def long_cuts(path, corpus):
    cuts = list(open_cuts([str(corpus.train)]))
    for index, cut in enumerate(cuts):
        cut.custom = {"noise": np.random.default_rng(index).bytes(1000).hex()}
    write_cuts(cuts, path)


WRITERS = {
    "any file": lambda path, corpus: write_atomically(path, bytes(20_000)),
    "a manifest": long_cuts,
    "audio": lambda path, corpus: write_flac(path, noise(20_000), 16000),
    "a zip file": lambda path, corpus: save_zip(path),
    "a directory": lambda path, corpus: save_directory(path),
    "a checkpoint": lambda path, corpus: state.save(path.parent, checkpoint()),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_limit_on_files_is_told_and_nothing_is_left_of_the_new_one(writer, tiny_corpus, tmp_path):
    path = tmp_path / ("step-00000001" if writer == "a checkpoint" else "file")
    if writer not in ("a checkpoint", "a directory"):
        path.write_bytes(b"before")
    with files_of(4096), pytest.raises(InputError) as caught:
        WRITERS[writer](path, tiny_corpus)
    assert str(caught.value).startswith(f"{tmp_path}/")
    assert "cannot be written (File too large): " in str(caught.value)
    assert str(caught.value).endswith("raise the limit on the size of files (ulimit -f)")
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == (
        [("file", b"before")] if path.exists() else []
    )


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_full_disk_is_told_where_lines_are_added(tmp_path):
    journal = Journal(tmp_path / "journal", {}, lambda value: {"value": value}, lambda row: row["value"])
    journal.path.symlink_to(FULL)
    run = RunDirectory(tmp_path / "run")
    run.open_logs(0)
    run.metrics.symlink_to(FULL)
    for path, write in (
        (journal.path, lambda: journal.add({"a": 1})),
        (run.metrics, lambda: run.write_metrics(1, {"loss": 1.0}, "train")),
    ):
        with pytest.raises(InputError) as caught:
            write()
        message = str(caught.value)
        assert message.startswith(f"{path}: cannot be written (No space left on device): ")
        assert message.endswith(" bytes are free; make room, and run again")
    run.close()
    for handler in logging.getLogger("asr").handlers[:]:
        logging.getLogger("asr").removeHandler(handler)
        handler.close()


SHOWN = {
    "metrics": lambda run: run.write_metrics(1, {"loss": 1.0}, "train"),
    "examples": lambda run: run.write_examples(1, ["REF HIGH"]),
    "audio": lambda run: run.write_audio(1, "dev-1", torch.zeros(10), 16000),
    "a picture": lambda run: run.write_figure(1, "lattice", Figure(figsize=(0.1, 0.1))),
    "options": lambda run: run.write_options(compose("train", ["run=x", "loss=pruned"]), "wer"),
}


def show_much(show, run):
    """So much that TensorBoard's thread has met the limit."""
    for _ in range(10_000):
        show(run)


@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN)
def test_curves_that_cannot_be_written_are_told_without_a_traceback(show, tmp_path, monkeypatch):
    run, others = RunDirectory(tmp_path / "run"), []
    run.open_logs(0)
    run.metrics.symlink_to(os.devnull)
    monkeypatch.setattr(threading, "excepthook", others.append)
    with curves_written_in_silence():
        with files_of(200), pytest.raises(InputError, match=r"tensorboard: cannot be written \(File too large\)"):
            show_much(show, run)
        thread = threading.Thread(target=lambda: (tmp_path / "none").read_text())
        thread.start()
        thread.join()
    assert [type(one.exc_value) for one in others] == [FileNotFoundError]
    assert threading.excepthook == others.append
    run.close()


def test_processes_that_can_share_nothing_are_told():
    with files_of(0), pytest.raises(InputError, match=r"jobs=2: processes cannot share memory \(.*File too large"):
        local_workers(2).__enter__()


def test_room_is_asked_for_before_a_checkpoint_is_begun(tmp_path, monkeypatch):
    state.save(tmp_path, checkpoint(1, 10))
    (tmp_path / ".step-00000002.tmp").mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1_000_000, 990_000, 10_000))
    monkeypatch.setattr(state, "write_files", lambda *_: pytest.fail("has begun"))
    with pytest.raises(InputError, match=r"\(No space left on device\): 80,\d+ bytes are needed, 10,000 bytes are"):
        state.save(tmp_path, checkpoint(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_the_free_bytes_of_a_disk_are_its_own_also_where_it_begins(tmp_path, monkeypatch):
    sizes = {tmp_path: 10, tmp_path / "disk": 3}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(99, 0, sizes[path]))
    (tmp_path / "disk").mkdir()
    assert [free_bytes(tmp_path / name) for name in ("disk", "disk/new/file", "other")] == [3, 3, 10]


def test_what_cannot_be_read_is_not_said_to_be_unwritable(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "file"):
        (tmp_path / "other").read_bytes()


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system")])
def test_a_place_that_may_not_be_written_to_is_told(tmp_path, monkeypatch, error):
    def refuse(path, *_, **__):
        error.filename = str(path)
        raise error

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(InputError, match=f"file: cannot be written .{error.strerror}.: name another place"):
        write_atomically(tmp_path / "file", b"")


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_log_that_fails_is_told_once(tmp_path, capsys):
    (tmp_path / "log").symlink_to(FULL)
    logger = make_logger(tmp_path / "log")
    for _ in range(3):
        logger.info("step")
    said = capsys.readouterr().err
    assert said.count("log: cannot be written ([Errno 28] No space left on device)") == 1
    assert "Traceback" not in said
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        with contextlib.suppress(OSError):
            handler.close()
