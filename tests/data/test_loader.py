"""Workers that load batches: what ends them, and what their reader hears of it."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from contextlib import closing
from itertools import islice

import pytest
import torch
from left import left

from asr.config import DataOptions
from asr.data.dataset import SpeechDataset
from asr.data.loader import Loader
from asr.data.manifest import open_cuts
from asr.data.sampler import OnePass
from asr.data.tokenizer import load_tokenizer
from asr.errors import InputError, Stopped
from asr.models.subsampling import frame_timing


@pytest.fixture
def dataset(tiny_corpus):
    return SpeechDataset(80, frame_timing(4), load_tokenizer(tiny_corpus.tokenizer))


@pytest.fixture
def draws(tiny_corpus):
    return OnePass(open_cuts([str(tiny_corpus.train)]), DataOptions(max_seconds=3.0, buckets=2))


def never(seconds, draw):
    """In place of a test that hangs."""
    pytest.fail(f"no batch after {seconds:.0f} s")


def workers():
    return [child for child in multiprocessing.active_children() if child.daemon]


def test_who_heard_of_children_that_end_hears_of_them_again(dataset, draws):
    heard = []
    before = signal.signal(signal.SIGCHLD, lambda *_: heard.append("mine"))
    try:
        with closing(iter(Loader(dataset, draws, 1, never))) as batches:
            next(batches)
        heard.clear()
        signal.raise_signal(signal.SIGCHLD)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert heard == ["mine"]


class Hangs(SpeechDataset):
    """As when a file system does not answer; but the first batch is there."""

    def __getitem__(self, draw):
        if any(cut.id == "train-00" for cut in draw.cuts):
            return super().__getitem__(draw)
        time.sleep(3600)
        return None


@pytest.fixture
def hanging(tiny_corpus):
    return Hangs(80, frame_timing(4), load_tokenizer(tiny_corpus.tokenizer))


@pytest.fixture
def one_by_one(tiny_corpus):
    cuts = open_cuts([str(tiny_corpus.train)]).subset(first=4)
    return OnePass(cuts, DataOptions(max_utterances=1, buckets=5))


def test_workers_give_what_one_process_does_and_end_with_the_last_batch(dataset, draws):
    alone, beside = list(Loader(dataset, draws)), list(Loader(dataset, draws, 2, never))
    assert len(alone) > 3
    assert [batch.ids for batch in alone] == [batch.ids for batch in beside]
    assert all(torch.equal(one.features, other.features) for one, other in zip(alone, beside))
    assert not workers()


def test_a_path_of_temporary_files_that_no_socket_can_have_does_not_matter(dataset, draws, tmp_path, monkeypatch):
    long = tmp_path / ("t" * 110)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    multiprocessing.current_process()._config.pop("tempdir", None)
    assert len(list(Loader(dataset, draws, 1, never))) == len(list(Loader(dataset, draws)))


def test_workers_end_where_their_reader_stops(dataset, draws):
    with closing(iter(Loader(dataset, draws, 2, never))) as batches:
        next(batches)
        assert len(workers()) == 2
    assert not workers()


def test_a_worker_that_hangs_ends_where_its_reader_stops(hanging, one_by_one):
    with closing(iter(Loader(hanging, one_by_one, 1, never))) as batches:
        next(batches)
    assert not workers()


@pytest.mark.parametrize("reason", [Stopped(), InputError("enough")])
def test_waiting_for_a_worker_can_be_given_up(hanging, one_by_one, reason):
    asked = []

    def waiting(seconds, draw):
        asked.append((seconds, [cut.id for cut in draw.cuts]))
        if len(asked) == 2:
            raise reason

    with closing(iter(Loader(hanging, one_by_one, 1, waiting))) as batches:
        next(batches)
        with pytest.raises(type(reason)):
            next(batches)
    assert asked == [(1.0, ["train-01"]), (2.0, ["train-01"])]
    assert not workers()


def test_a_worker_that_is_killed_is_said_with_what_it_was_to_load(hanging, one_by_one):
    with closing(iter(Loader(hanging, one_by_one, 1, never))) as batches:
        next(batches)
        os.kill(workers()[0].pid, signal.SIGKILL)
        with pytest.raises(InputError, match="a data worker was killed by SIGKILL, while a batch of train-01 was wait"):
            next(batches)
    assert not workers()


def test_the_death_of_a_worker_interrupts_nothing_but_reading(dataset, draws):
    """torch would raise in whatever this process does just then, an optimiser's step for example."""
    with closing(iter(Loader(dataset, draws, 2, never))) as batches:
        next(batches)
        for worker in workers():
            worker.kill()
            worker.join()
        time.sleep(0.01)
        with pytest.raises(InputError, match="killed by SIGKILL"):
            list(batches)


def test_what_a_dead_worker_had_begun_to_hand_over_is_not_waited_for(dataset, draws):
    with closing(iter(Loader(dataset, draws, 1, never))) as batches:
        next(batches)
        [worker] = workers()
        time.sleep(0.5)  # it loads ahead, and hands over more than a pipe holds
        os.kill(worker.pid, signal.SIGSTOP)
        threading.Timer(0.5, worker.kill).start()
        with pytest.raises(InputError, match="killed by SIGKILL"):
            list(batches)


class Fails(OnePass):
    """A manifest that is damaged after some draws."""

    def __init__(self, draws, after):
        super().__init__(draws.cuts, draws.options)
        self.after = after

    def __iter__(self):
        yield from islice(super().__iter__(), self.after)
        raise InputError(f"damaged after {self.after} draws")


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_sampler_that_fails_does_so_after_its_batches_whatever_the_number_of_workers(dataset, draws, after, capfd):
    for count in 0, 2:
        batches = iter(Loader(dataset, Fails(draws, after), count, never))
        ids = [batch.ids for batch in islice(batches, after)]
        assert ids == [batch.ids for batch in islice(Loader(dataset, draws), after)]
        with pytest.raises(InputError, match=f"damaged after {after} draws"):
            next(batches)
        assert not workers()
    gc.collect()  # would close the queues of a loader half made, and then use them
    time.sleep(0.2)
    assert "Traceback" not in capfd.readouterr().err


def run_reader(tiny_corpus, end, begin="next(batches)"):
    """What a process left that read a batch of two workers, which have more to hand over than a pipe holds, and did not
    close them: its exit status, what it said, and which of its workers live. begin: how it has them start."""
    script = f"""
        import multiprocessing, os, signal, sys, threading, time
        from asr.data import loader
        from asr.config import DataOptions
        from asr.data.dataset import SpeechDataset
        from asr.data.loader import Loader
        from asr.data.manifest import open_cuts
        from asr.data.sampler import OnePass
        from asr.models.subsampling import frame_timing
        dataset = SpeechDataset(80, frame_timing(4))
        draws = OnePass(open_cuts([{str(tiny_corpus.train)!r}]), DataOptions(max_seconds=3.0))
        batches = iter(Loader(dataset, draws, 2))
        {begin}
        time.sleep(0.5)
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        {end}
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120, check=False
    )
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 2, done.stderr
    return done.returncode, done.stderr, left(pids)


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("raise ValueError('uncaught')", 1),
        ("sys.exit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ],
)
def test_python_exits_though_nobody_closed_the_batches_and_takes_the_workers_along(tiny_corpus, end, status):
    found, said, others = run_reader(tiny_corpus, end)
    assert (found, others) == (status, [])
    assert ("ValueError: uncaught" in said) == ("raise" in end)


def test_workers_that_were_still_starting_when_their_reader_was_killed_end(tiny_corpus):
    slowly = "start = loader._start_worker; loader._start_worker = lambda *whose: (time.sleep(1.0), start(*whose))"
    begin = f"{slowly}; threading.Thread(target=next, args=[batches], daemon=True).start()"
    status, _, others = run_reader(tiny_corpus, "os.kill(os.getpid(), signal.SIGKILL)", begin)
    assert (status, others) == (-signal.SIGKILL, [])
