"""A training that is asked to stop: by which signal, what is said of it, and what is not waited for."""

import os
import signal
import threading
import time
from contextlib import closing
from types import SimpleNamespace

import pytest

from asr.config import DataOptions
from asr.data import reading
from asr.data.dataset import SpeechDataset
from asr.data.loader import Loader
from asr.data.manifest import open_cuts
from asr.data.sampler import OnePass
from asr.data.tokenizer import load_tokenizer
from asr.models.subsampling import frame_timing
from asr.train import stuck
from asr.train.loop import Trainer
from asr.train.signals import stopping_on_signals


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def trainer():
    """As far as signals go."""
    said = []
    one = SimpleNamespace(
        asked_to_stop=0, doing="step 7", said=said, ranks=SimpleNamespace(size=1), run=SimpleNamespace(close=list)
    )
    one.stop = lambda number: Trainer.stop(one, number)
    one.logger = SimpleNamespace(info=lambda form, *values: said.append(form % values))
    one.rescue = lambda: said.append("rescued")
    return one


@pytest.fixture
def handling():
    """A function that sets what a signal does, which the program that started these tests may have changed."""
    before = {}

    def handle(number, handler):
        before.setdefault(number, signal.signal(number, handler))

    yield handle
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2"])
def test_a_signal_is_told_at_once_with_what_it_waits_for(trainer, name, handling):
    number = getattr(signal, name)
    handling(number, signal.SIG_DFL)
    before = signal.getsignal(number)
    with stopping_on_signals(trainer):
        os.kill(os.getpid(), number)
        wait_until(lambda: trainer.said)
        os.kill(os.getpid(), signal.SIGTERM)
        wait_until(lambda: trainer.asked_to_stop)
    assert trainer.said == [f"{name}: stopping after step 7"]
    assert trainer.asked_to_stop == min(number, signal.SIGTERM)
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_a_signal_that_was_ignored_stays_so(trainer, name, handling):
    """As below `nohup`, or where a script has started a training with `&`."""
    number = getattr(signal, name)
    handling(number, signal.SIG_IGN)
    with stopping_on_signals(trainer):
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGTERM)
        wait_until(lambda: trainer.said)
        assert signal.getsignal(number) == signal.SIG_IGN
    assert trainer.said == ["SIGTERM: stopping after step 7"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_passes_a_signal_on_to_who_trains(tiny_corpus, number, handling):
    import multiprocessing

    heard = []
    handling(signal.SIGINT, signal.default_int_handler)
    handling(signal.SIGTERM, lambda *_: heard.append("SIGTERM"))
    dataset = SpeechDataset(80, frame_timing(4), load_tokenizer(tiny_corpus.tokenizer))
    draws = OnePass(open_cuts([str(tiny_corpus.train)]), DataOptions(max_seconds=3.0, buckets=2))
    with closing(iter(Loader(dataset, draws, 1))) as batches:
        next(batches)
        [worker] = multiprocessing.active_children()
        os.kill(worker.pid, number)
        wait_until(lambda: heard)
        assert len(list(batches)) > 1
    assert heard == ["SIGTERM"]


# Files that never answer


@pytest.mark.parametrize(
    ("asked", "seconds", "ends"),
    [
        (0, 700.0, 2),
        (0, 599.0, None),
        (signal.SIGTERM, 6.0, 143),
        (signal.SIGHUP, 4.0, None),
    ],
)
def test_a_file_that_does_not_answer_is_given_up(trainer, asked, seconds, ends, monkeypatch, capsys):
    statuses, ended = [], threading.Event()
    trainer.asked_to_stop = asked
    monkeypatch.setattr(stuck.os, "_exit", lambda status: (statuses.append(status), ended.set()))
    monkeypatch.setattr(reading, "current", reading.Read("u7", time.monotonic() - seconds))
    looks = iter([False, True])
    waits = SimpleNamespace(wait=lambda _: ended.is_set() or next(looks))
    stuck.watch_over(trainer, 600.0, waits)
    assert statuses == [ends] * bool(ends)
    assert trainer.said == ["rescued"] * bool(ends)
    assert capsys.readouterr().err.startswith("asr train: error: u7 has not been read for " if ends else "")


def test_what_is_given_up_does_not_come_after_all(monkeypatch):
    """A batch that arrives while the checkpoint is written would change the weights that are written."""
    came = []

    def read():
        with reading.reading("u7"):
            pass
        came.append("u7")

    with reading.held:
        reader = threading.Thread(target=read)
        reader.start()
        wait_until(lambda: reading.current is not None)
        assert came == []
    reader.join()
    assert (came, reading.current) == (["u7"], None)


def test_a_dataset_tells_what_it_reads(tiny_corpus, monkeypatch):
    dataset = SpeechDataset(80, frame_timing(4), load_tokenizer(tiny_corpus.tokenizer))
    [cut] = open_cuts([str(tiny_corpus.train)]).subset(first=1)
    told, features_of = [], dataset.features_of
    monkeypatch.setattr(
        dataset, "features_of", lambda *values: told.append(reading.current.cut_id) or features_of(*values)
    )
    assert len(dataset.load(cut, None)) > 0
    assert (told, reading.current) == ([cut.id], None)
