"""When a CUDA graph is made, who may use it, and in which order; streams are stand-ins that know what they wait for."""

import contextlib

import pytest
import torch
from waits import recorded

from asr.decode import greedy_graph
from asr.decode.greedy_graph import LOCK, Graphs, cuda_graph, in_turn


class Stream:
    """What was launched on it, and before that on others that it waited for."""

    def __init__(self):
        self.done = set()

    def wait_stream(self, other):
        self.done |= other.done


class Streams:
    """The stream of captures, and the current one."""

    def __init__(self):
        self.shared, self.current = Stream(), Stream()

    @contextlib.contextmanager
    def on(self, stream):
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before


@pytest.fixture
def streams(monkeypatch):
    streams = Streams()
    monkeypatch.setattr(greedy_graph, "capture_stream", lambda device: streams.shared)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: streams.current)
    monkeypatch.setattr(torch.cuda, "stream", streams.on)
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    return streams


def tripled(steps, values):
    return [steps * values]


def counted(sizes):
    def capture(function, given, pool):
        sizes.append(len(given[0]))
        return recorded(function, given)

    return capture


def test_a_size_is_captured_once_it_has_come_so_often():
    sizes, seen = [], []
    graphs = Graphs(counted(sizes), after=2)
    for rows in (3, 5, 4, 3, 6, 3):
        values = torch.arange(float(rows))
        assert torch.equal(graphs(tripled, 3, values)[0], 3 * values)
        seen.append(list(sizes))
    assert seen == [[], [], [], [4], [4], [4]]
    assert sorted(graphs.captured) == [(3, 4)]


def test_graphs_of_other_numbers_are_others():
    graphs = Graphs(recorded, after=0)
    assert [graphs(tripled, steps, torch.ones(2))[0].tolist() for steps in (2, 3)] == [[2, 2], [3, 3]]
    assert sorted(graphs.captured) == [(2, 2), (3, 2)]


def test_graphs_of_a_search_share_memory():
    pools = []

    class Pooled:
        def __init__(self, graph):
            self.graph, self.replay = graph, graph.replay

        def pool(self):
            return "of the first"

    def capture(function, given, pool):
        pools.append(pool)
        graph, results = recorded(function, given)
        return Pooled(graph), results

    graphs = Graphs(capture, after=0)
    for rows in (1, 2, 4):
        graphs(tripled, 3, torch.ones(rows))
    assert pools == [None, "of the first", "of the first"]


@pytest.mark.parametrize("refused", [False, True])
def test_threads_wait_for_each_other_with_a_graph_and_not_without(refused):
    held = []

    def capture(function, given, pool):
        held.append(LOCK.locked())
        if refused:
            raise RuntimeError("it waits")
        return recorded(function, given)

    def function(steps, values):
        held.append(LOCK.locked())
        return [values]

    graphs = Graphs(capture, after=1)
    for _ in range(3):
        graphs(function, 1, torch.ones(2))
    assert held == ([False, True, False, False] if refused else [False, True, True])


def test_too_little_memory_for_a_graph_is_raised_and_the_size_goes_without():
    def capture(function, given, pool):
        if len(given[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return recorded(function, given)

    graphs = Graphs(capture, after=0)
    with pytest.raises(torch.OutOfMemoryError):
        graphs(tripled, 3, torch.ones(4))
    assert graphs(tripled, 3, torch.ones(2))[0].tolist() == [3, 3]
    assert graphs(tripled, 3, torch.ones(4))[0].tolist() == [3, 3, 3, 3]
    assert sorted(graphs.captured) == [(3, 2)]


def test_what_a_thread_launches_comes_after_what_others_did_on_other_streams(streams):
    first, second = Stream(), Stream()
    for name, stream in {"first": first, "second": second}.items():
        with streams.on(stream), in_turn(torch.device("cuda", 0)):
            stream.done.add(name)
    assert second.done == {"first", "second"}


def test_what_cannot_be_captured_is_waited_for_before_its_tensors_are_used_again(streams, monkeypatch):
    @contextlib.contextmanager
    def waiting():
        yield ["synchronizing"]

    def function(values):
        streams.current.done.add("function")
        return [values]

    monkeypatch.setattr(greedy_graph, "waits_are_counted", waiting)
    mine = streams.current
    mine.done.add("values")
    with pytest.raises(RuntimeError, match="it waits for the GPU 1 times"):
        cuda_graph(function, [torch.ones(2)], None)
    assert streams.shared.done == {"values", "function"}
    assert mine.done == {"values", "function"}
    assert streams.current is mine
