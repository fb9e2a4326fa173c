"""Processes that train together: one that hangs is named, and ended; one that died is named by the others."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from torch.distributed import TCPStore

from asr.errors import InputError
from asr.train import peers
from asr.train.distributed import Ranks
from asr.train.peers import Beat, Watch, end_all, gone, watching_peers


def beat(rank, number=1, **more):
    return Beat(rank, more.pop("pid", 100 + rank), more.pop("host", "here"), number, f"step 7, of u{rank}", **more)


def heard(*looks):
    """Who is silent after the last of looks: seconds, and the numbers of the beats of ranks 1 and 2."""
    watch = Watch(looked=looks[0][0])
    for now, *numbers in looks:
        silent = watch.hear([beat(rank, number) for rank, number in enumerate(numbers, 1)], now)
    return [one.rank for one in silent]


@pytest.mark.parametrize(
    ("looks", "silent"),
    [
        ([(0, 1, 1), (15, 2, 2), (30, 3, 3), (45, 4, 4)], []),
        ([(0, 1, 1), (15, 2, 1), (30, 3, 1), (39, 4, 1)], []),
        ([(0, 1, 1), (15, 2, 1), (30, 3, 1), (41, 4, 1)], [2]),
        ([(0, 1, 1), (15, 1, 1), (30, 1, 1), (41, 1, 1)], [1, 2]),
        ([(0, 1, 1), (900, 1, 1)], []),  # all have slept, as after Ctrl-Z
        ([(0, 1, 1), (900, 1, 1), (915, 2, 1), (930, 3, 1), (945, 4, 1)], [2]),
    ],
)
def test_who_is_silent_for_long(looks, silent):
    assert heard(*looks) == silent


def test_who_has_ended_is_not_silent():
    watch = Watch()
    for now in (0, 15, 30, 45):
        assert watch.hear([beat(1, ended=True)], now) == []


@pytest.mark.parametrize(
    ("mine", "silent", "tells"), [(0, [1], True), (2, [1], False), (1, [0], True), (2, [0, 1], True)]
)
def test_the_silent_are_named_once_and_killed(mine, silent, tells, monkeypatch, capsys):
    ended, killed, given_up = threading.Event(), [], []
    monkeypatch.setattr(os, "kill", lambda pid, number: (killed.append((pid, int(number))), ended.set()))
    end_all([beat(rank) for rank in silent], beat(mine), ended, given_up.append)
    assert killed == [(100 + rank, 9) for rank in silent]
    assert given_up == []
    said = capsys.readouterr().err
    first = silent[0]
    form = f"asr train: error: training process {first} (process {100 + first} on here) has not answered for 40 s"
    assert said.startswith(f"{form}: it was last at step 7, of u{first}" if tells else "")
    assert bool(said) == tells


def test_without_the_silent_one_on_this_machine_the_training_is_given_up(monkeypatch, capsys):
    given_up = []
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("another machine's process number"))
    monkeypatch.setattr(peers, "GRACE_SECONDS", 0.0)
    end_all([beat(1, host="there")], beat(0), threading.Event(), given_up.append)
    assert given_up == ["asr train: error: given up, since training process 1 (process 101 on there) does not answer"]


def test_those_that_died_are_named(monkeypatch):
    monkeypatch.setattr(peers, "REAPED_SECONDS", 0.0)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    watch = Watch()
    watch.hear([beat(0, pid=os.getpid()), beat(1, pid=process.pid), beat(2, pid=process.pid, host="there")], 0.0)
    assert [*gone(watch, "here")] == [
        f"training process 1 (process {process.pid} on here) is gone: it was last at step 7, of u1"
    ]


# Two processes


def member(rank, size=2):
    """A trainer, as far as others hear of it."""
    return SimpleNamespace(ranks=Ranks(rank, size), doing=f"step 7, of u{rank}")


def ends(number):
    """The other process: it says that it lives, and no more from then on."""
    with watching_peers(member(1)):
        store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
        store.wait([f"{peers.key()}1"])
        os.kill(os.getpid(), number)


@pytest.fixture
def watch(monkeypatch):
    """What is heard, in a job of two on this machine."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for name, value in (("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", store.port), ("LOCAL_WORLD_SIZE", 2)):
        monkeypatch.setenv(name, str(value))
    for name, seconds in (("BEAT_SECONDS", 0.02), ("REAPED_SECONDS", 0.0)):
        monkeypatch.setattr(peers, name, seconds)
    heard = Watch()
    monkeypatch.setattr(peers, "Watch", lambda: heard)
    yield heard
    del store


def train_until_the_end_of(other, watch):
    """As an operation fails that waits for another process."""
    other.start()
    deadline = time.monotonic() + 60
    while 1 not in watch.heard and time.monotonic() < deadline:
        time.sleep(0.001)
    other.join(60)
    raise InputError("another training process has ended")


@pytest.mark.parametrize(
    ("number", "silence", "said"),
    [(signal.SIGSTOP, 0.2, ["has not answered for 0 s", "is gone"]), (signal.SIGKILL, 40.0, ["is gone"])],
)
def test_of_two_processes_one_hears_that_the_other_hangs_or_dies(watch, number, silence, said, monkeypatch, capsys):
    monkeypatch.setattr(peers, "SILENCE_SECONDS", silence)
    other = multiprocessing.get_context("fork").Process(target=ends, args=(number,))
    with pytest.raises(InputError), watching_peers(member(0)):
        train_until_the_end_of(other, watch)
    name = f"training process 1 (process {other.pid} on {watch.heard[1][0].host})"
    lines = capsys.readouterr().err.splitlines()
    assert other.exitcode == -signal.SIGKILL
    assert [line.removeprefix("asr train: error: ") for line in lines] == [
        f"{name} {what}: it was last at step 7, of u1" for what in said
    ]


@pytest.mark.parametrize(("size", "here"), [(1, 1), (2, 1)])
def test_one_process_and_those_of_several_machines_watch_nobody(size, here, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))
    monkeypatch.setattr(peers, "TCPStore", lambda *_, **__: pytest.fail("a store is asked for"))
    with watching_peers(member(0, size)):
        pass
