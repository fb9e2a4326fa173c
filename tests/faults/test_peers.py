"""Processes that train together: one that hangs is named, and ended; one that died is named by the others."""

import os
import subprocess
import sys
import threading

import pytest

from asr.train import peers
from asr.train.peers import Beat, Watch, end_all, gone


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
