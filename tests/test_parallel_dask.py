"""Preparation by the workers of a Dask cluster: two processes here, which could as well be on other machines."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from lhotse import CutSet
from lhotse.supervision import AlignmentItem

import asr.parallel
from asr.align.make import Aligned, align_all, words_journal
from asr.cli import features, shar
from asr.config import FeaturesConfig, SharConfig
from asr.data.features import load_features, make_fbank
from asr.data.manifest import open_cuts
from asr.errors import InputError
from asr.parallel import start_workers


@pytest.fixture(scope="module")
def cluster():
    """A function that starts a cluster of so many worker processes, which can import this module."""
    distributed = pytest.importorskip("distributed")
    import dask

    running = []
    paths = [str(REPOSITORY), str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    with pytest.MonkeyPatch.context() as patch, dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))

        def start(workers):
            options = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}
            running.append(distributed.LocalCluster(n_workers=workers, **options))
            return running[-1].scheduler_address

        yield start
        for one in running:
            one.close()


@pytest.fixture(scope="module")
def address(cluster):
    return cluster(2)


def square_and_process(number):
    return number**2, os.getpid()


def fail(number):
    raise ValueError(f"{number} is wrong")


def die(number):
    os.kill(os.getpid(), signal.SIGKILL)


def test_results_come_in_order_from_other_processes(address):
    with start_workers(1, address) as workers:
        results = list(workers.map(square_and_process, [*range(50), 3, 3]))
    assert workers.count == 2
    assert [square for square, _ in results] == [number**2 for number in [*range(50), 3, 3]]
    assert os.getpid() not in {process for _, process in results}
    assert len({process for _, process in results}) == 2


def test_an_error_of_a_task_is_raised_here(address):
    with start_workers(1, address) as workers, pytest.raises(ValueError, match="7 is wrong"):
        list(workers.map(fail, [7]))


def test_features_are_those_of_local_processes(address, tiny_corpus, tmp_path):
    stored = {}
    for name, scheduler in (("here", ""), ("dask", address)):
        output = tmp_path / name / "cuts.jsonl.gz"
        features.main(
            FeaturesConfig(str(tiny_corpus.dev), str(output), str(tmp_path / name), jobs=1, scheduler=scheduler)
        )
        stored[name] = list(CutSet.from_file(output))
    fbank = make_fbank(80)
    for one, other in zip(stored["here"], stored["dask"], strict=True):
        assert one.id == other.id
        assert torch.equal(load_features(one, fbank), load_features(other, fbank))


def test_shar_holds_the_utterances_in_order(address, tiny_corpus, tmp_path):
    shar.main(SharConfig(str(tiny_corpus.train), str(tmp_path / "out"), shard_size=5, scheduler=address))
    packed, loose = open_cuts([str(tmp_path / "out")]), open_cuts([str(tiny_corpus.train)])
    assert [cut.id for cut in packed] == [cut.id for cut in loose]


class Timer:
    """An aligner that finds one word a cut, and notes that it has been made."""

    def __init__(self, log):
        with open(log, "a") as file:
            file.write(f"{os.getpid()}\n")

    def __call__(self, cuts):
        return [Aligned(cut.id, [AlignmentItem("A", 0.0, 1.0)]) for cut in cuts]


class MakeTimer:
    def __init__(self, log):
        self.log = log

    def __call__(self):
        return Timer(self.log)


def test_each_worker_makes_its_aligner_once(address, tiny_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("asr.align.make.CHUNK", 2)
    cuts, journal = list(CutSet.from_file(tiny_corpus.train)), words_journal(tmp_path / "journal", {})
    align_all(MakeTimer(tmp_path / "log"), cuts, len(cuts), journal, 1, address)
    assert list(journal.done) == [cut.id for cut in cuts]
    made = (tmp_path / "log").read_text().split()
    assert len(made) == len(set(made)) <= 2


def test_a_worker_that_dies_is_an_error_of_one_line(cluster):
    with start_workers(1, cluster(1)) as workers, pytest.raises(InputError, match="a worker process died") as raised:
        list(workers.map(die, [1]))
    assert "\n" not in str(raised.value)


def test_a_cluster_without_workers_is_refused(cluster):
    address = cluster(0)
    with (
        pytest.raises(InputError, match=f"scheduler={address}: it has no workers; start some"),
        start_workers(1, address),
    ):
        pass


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "somewhere"])
def test_an_address_without_a_scheduler_is_refused(cluster, address, monkeypatch):
    monkeypatch.setattr(asr.parallel, "CONNECT_SECONDS", 1)
    with pytest.raises(InputError, match=f"scheduler={address}: no Dask scheduler there"), start_workers(1, address):
        pass


def test_missing_dask_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install '.\[dask\]'"), start_workers(1, "tcp://host:8786"):
        pass
