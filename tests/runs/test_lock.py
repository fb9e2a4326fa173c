"""A run's directory has one owner, who is named to others, and of whose death they learn."""

import contextlib
import json
import os
import re
import signal
import time
from dataclasses import asdict, replace

import pytest
from owners import other_process

from asr.errors import InputError
from asr.runs import lock
from asr.runs.lock import LOCK, owned, this_process


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(lock, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(lock, "WRITING_SECONDS", 0.05)


def left(directory, **changes):
    """The lock of an owner that died without a word."""
    directory.mkdir()
    (directory / LOCK).write_text(json.dumps(asdict(replace(this_process(), **changes))) + "\n")


def test_a_second_is_refused_and_told_the_first_until_that_is_killed(tmp_path, capsys):
    run = tmp_path / "run"
    with other_process(run) as first:
        refusal = (
            rf"^{run} is being trained by process {first.pid} on {this_process().host} since \d{{4}}-.*stop it first"
        )
        for _ in range(2):  # the refusal does not take the lock from it
            with pytest.raises(InputError, match=refusal), owned(run):
                pass
        os.kill(first.pid, signal.SIGKILL)
        first.wait()  # what it has forked lives
        with owned(run):
            assert json.loads((run / LOCK).read_text())["pid"] == os.getpid()
    assert capsys.readouterr().err == ""


def test_a_lock_of_a_dead_process_counts_for_nothing_whoever_has_its_number_now(tmp_path, capsys):
    left(tmp_path / "run", pid=os.getppid())
    with owned(tmp_path / "run"):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("elsewhere", [{"host": "other"}, {"machine": "other"}])
def test_an_owner_elsewhere_that_gives_no_sign_of_life_is_dead(tmp_path, impatient, capsys, elsewhere):
    run = tmp_path / "run"
    left(run, pid=77, **elsewhere)
    with owned(run):
        pass
    host = elsewhere.get("host", this_process().host)
    assert f"{run} was being trained by process 77 on {host} since" in capsys.readouterr().err


@pytest.mark.parametrize("elsewhere", [{"host": "other"}, {"machine": "other"}])
def test_an_owner_elsewhere_that_gives_signs_of_life_keeps_the_run(tmp_path, monkeypatch, elsewhere):
    run = tmp_path / "run"
    left(run, pid=77, **elsewhere)
    before = (run / LOCK).read_bytes()
    monkeypatch.setattr(lock.time, "sleep", lambda seconds: os.utime(run / LOCK))
    with pytest.raises(InputError, match="is being trained by process 77 on .*: stop it first"), owned(run):
        pass
    assert (run / LOCK).read_bytes() == before


def test_an_owner_elsewhere_that_ends_is_not_waited_for_any_longer(tmp_path, monkeypatch):
    run = tmp_path / "run"
    left(run, host="other")
    monkeypatch.setattr(lock.time, "sleep", lambda seconds: (run / LOCK).unlink(missing_ok=True))
    with owned(run):
        assert json.loads((run / LOCK).read_text())["pid"] == os.getpid()


def test_where_the_system_has_no_locks_signs_of_life_decide(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "fcntl", None)
    run = tmp_path / "run"
    with other_process(run, "without") as first:
        with pytest.raises(InputError, match=f"process {first.pid} on"), owned(run):
            pass
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        monkeypatch.setattr(lock, "SILENCE_SECONDS", 0.3)
        with owned(run):
            pass


@pytest.mark.parametrize("number", [38, 95])  # ENOSYS, EOPNOTSUPP
def test_a_file_system_without_locks_is_no_error(tmp_path, impatient, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.fcntl, "lockf", refuse)
    left(tmp_path / "run")
    started = time.monotonic()
    with owned(tmp_path / "run"):
        pass
    assert time.monotonic() - started >= lock.SILENCE_SECONDS


def test_the_owner_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    with owned(tmp_path / "run"):
        os.utime(tmp_path / "run" / LOCK, (0, 0))
        deadline = time.monotonic() + 30
        while (tmp_path / "run" / LOCK).stat().st_mtime == 0:
            assert time.monotonic() < deadline


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b"\xff", b"null\n", b'{"pid": 1', b"x" * 10_000])
def test_a_lock_that_names_nobody_is_free(tmp_path, impatient, text):
    (tmp_path / LOCK).write_bytes(text)
    with owned(tmp_path):
        assert lock.parse((tmp_path / LOCK).read_bytes()).pid == os.getpid()


def test_what_a_terminal_would_obey_is_no_name(tmp_path):
    words = {"pid": 1, "host": "\x1b[2J", "machine": "", "since": ""}
    assert lock.parse(json.dumps(words).encode()) is None
    assert lock.parse(json.dumps({**words, "host": "node-1"}).encode()).host == "node-1"


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_nothing_is_left_of_a_run_that_did_not_begin(tmp_path, error):
    with contextlib.suppress(KeyboardInterrupt), owned(tmp_path / "exp" / "run"):
        if error:
            raise error
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_its_owner_removes_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    opened, is_file = [], lock.is_file

    def removed_once(path, file):
        if not opened:
            path.unlink()
        opened.append(file)
        return is_file(path, file)

    monkeypatch.setattr(lock, "is_file", removed_once)
    with owned(tmp_path):
        assert re.search(rf'"pid": {os.getpid()}\b', (tmp_path / LOCK).read_text())
    assert len(opened) == 2
