"""Work in several processes: in order, whole, and no further ahead than needed."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from asr.parallel import AHEAD, chunked, map_in_order, process_pool


def half(number):
    """Half of an even number."""
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


def test_results_are_in_order():
    with process_pool(2) as pool:
        assert list(map_in_order(pool, half, range(0, 200, 2))) == list(range(100))


def test_an_error_in_a_worker_is_raised_here():
    with process_pool(1) as pool, pytest.raises(ValueError, match="3 is odd"):
        list(map_in_order(pool, half, [2, 3, 4]))


def test_items_are_read_as_they_are_needed():
    read = []
    items = (read.append(number) or number for number in range(10**9))
    with ThreadPoolExecutor(1) as pool:
        results = map_in_order(pool, lambda number: number, items)
        assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
        assert len(read) <= AHEAD + 5


def test_chunks():
    assert list(chunked(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(chunked([], 2)) == []
