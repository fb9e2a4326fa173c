"""Work in several processes: in order, whole, and no further ahead than needed."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import REPOSITORY
from left import left

from asr.errors import InputError
from asr.parallel import AHEAD, Workers, chunked, start_workers


def half(number):
    """Half of an even number."""
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


def test_results_are_in_order():
    with start_workers(2) as workers:
        assert list(workers.map(half, range(0, 200, 2))) == list(range(100))


def test_an_error_in_a_worker_is_raised_here():
    with start_workers(1) as workers, pytest.raises(ValueError, match="3 is odd"):
        list(workers.map(half, [2, 3, 4]))


def test_items_are_read_as_they_are_needed():
    read = []
    items = (read.append(number) or number for number in range(10**9))
    with ThreadPoolExecutor(1) as pool:
        results = Workers(pool, 3).map(lambda number: number, items)
        assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
        assert len(read) <= 3 * AHEAD + 5


def test_what_has_not_begun_is_given_up_where_the_caller_stops():
    done, gate = [], threading.Event()

    def work(number):
        gate.wait(10 if number else 0)
        done.append(number)

    with ThreadPoolExecutor(1) as pool:
        results = Workers(pool, 5).map(work, range(100))
        next(results)
        results.close()
        gate.set()
    assert done in ([0], [0, 1])


def die(number):
    """End the process as the system does for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_is_an_error_of_one_line():
    with (
        start_workers(1) as workers,
        pytest.raises(InputError, match=r"a worker process died .*memory for 1 at a time\?"),
    ):
        list(workers.map(die, [1]))


def test_chunks():
    assert list(chunked(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(chunked([], 2)) == []


KILLED = """
import multiprocessing, os, signal, time
from asr.parallel import start_workers
with start_workers(2) as workers:
    list(workers.map(time.sleep, [0.1] * 4))
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_with_the_process_that_has_work_for_them_however_it_ends():
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    killed = subprocess.run([sys.executable, "-c", KILLED], env=environment, stdout=subprocess.PIPE, timeout=120)
    pids = [int(word) for word in killed.stdout.split()]
    assert (killed.returncode, len(pids)) == (-signal.SIGKILL, 2)
    assert left(pids) == []
