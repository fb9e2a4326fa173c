"""Steps of greedy search as CUDA graphs: one launch in place of several hundred."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from asr.device import is_out_of_memory, waits_are_counted

Function = Callable[..., Sequence[Tensor]]

AFTER = 8  # so many calls: to capture a size takes as long as some three, and a batch makes four or five
LOCK = threading.Lock()  # torch captures one graph at a time in a process


class Graph(Protocol):
    """What was captured."""

    def replay(self) -> None:
        """Do it again, with the tensors that were read and written."""

    def pool(self) -> Any:
        """The memory that it works in."""


Capture = Callable[[Function, Sequence[Tensor], Any], tuple[Graph, Sequence[Tensor]]]


@functools.cache
def capture_stream(device: torch.device) -> torch.cuda.Stream:
    """The stream on which graphs are captured: one, for cuBLAS keeps a workspace for each that there ever was."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def in_turn(device: torch.device) -> Iterator[None]:
    """In the block a thread has all graphs to itself: what it launches is done after what others did in theirs,
    whichever streams these are on.
    """
    with LOCK:
        if device.type != "cuda":
            yield
            return
        mine, shared = torch.cuda.current_stream(device), capture_stream(device)
        mine.wait_stream(shared)
        try:
            yield
        finally:
            shared.wait_stream(mine)


def cuda_graph(function: Function, given: Sequence[Tensor], pool: Any) -> tuple[Graph, Sequence[Tensor]]:
    """A function of tensors as a CUDA graph, and what it gives. To be called `in_turn`.

    No shape may depend on a value, and nothing may wait for the GPU. What the function reads beside its arguments,
    such as weights, has to stay where it is. pool: memory of other graphs, to be shared; None: of its own.

    Raises RuntimeError where the function waits: before it is captured, for when a capture fails torch draws no more
    random numbers in the process.
    """
    device = given[0].device
    mine, stream = torch.cuda.current_stream(device), capture_stream(device)
    stream.wait_stream(mine)
    try:
        with torch.cuda.device(device), torch.cuda.stream(stream):
            with waits_are_counted() as waits:
                function(*given)  # makes what is made once, too, such as the workspace of cuBLAS
            if waits:
                raise RuntimeError(f"it waits for the GPU {len(waits)} times")
            graph = torch.cuda.CUDAGraph()
            # Another thread may allocate meanwhile, which is forbidden otherwise.
            with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                results = function(*given)
    finally:
        mine.wait_stream(stream)  # or what it reads could be written to while it does
    return graph, results


class Graphs:
    """A function of a number and of tensors whose rows have nothing to do with each other, as graphs: one for each
    size, which is the number and how many rows each tensor has, zeros put behind them up to a power of two, so that
    sizes are few.

    Without a graph the function itself is called, with the same rows, so that products of matrices go the same way.
    Where a graph cannot be made, that is so from then on, and a line in the log says so once. Threads may share this,
    see `in_turn`.

    capture: see `cuda_graph`. after: so many calls of a size it is captured.

    Raises what is raised where there is too little memory; that size is not captured any more.
    """

    def __init__(self, capture: Capture = cuda_graph, after: int = AFTER) -> None:
        self.capture, self.after = capture, after
        self.captured: dict[tuple[int, ...], Captured] = {}
        self.calls: Counter[tuple[int, ...]] = Counter()
        self.refused = False

    def __call__(self, function: Function, number: int, *given: Tensor) -> list[Tensor]:
        """What the function gives: as many rows as the last argument has."""
        mine = [padded(values) for values in given]
        results = self.by_graph(functools.partial(function, number), (number, *map(len, mine)), mine)
        if results is None:
            results = function(number, *mine)
        return [values[: len(given[-1])] for values in results]

    def by_graph(self, function: Function, size: tuple[int, ...], given: Sequence[Tensor]) -> Sequence[Tensor] | None:
        """What a graph gives; None where there is none."""
        if self.refused:
            return None
        with in_turn(given[0].device):
            self.calls[size] += 1
            if self.calls[size] == self.after + 1 and not self.refused:
                self.add(function, size, given)
            graph = self.captured.get(size)
            return None if graph is None else graph(given)

    def add(self, function: Function, size: tuple[int, ...], given: Sequence[Tensor]) -> None:
        """Make the graph of a size, or find that it cannot be made."""
        pool = next((one.graph.pool() for one in self.captured.values()), None)
        try:
            self.captured[size] = Captured(given, *self.capture(function, given, pool))
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self.refused = True
            reason = " ".join(str(error).split())[:200]
            logging.getLogger("asr").warning("greedy search without a CUDA graph, more slowly: %s", reason)


class Captured:
    """A graph, with the tensors that it reads (`given`) and writes."""

    def __init__(self, given: Sequence[Tensor], graph: Graph, results: Sequence[Tensor]) -> None:
        self.given, self.graph, self.results = given, graph, results

    def __call__(self, given: Sequence[Tensor]) -> list[Tensor]:
        """What comes of other values, of the same size."""
        for into, values in zip(self.given, given):
            into.copy_(values)
        self.graph.replay()
        return [values.clone() for values in self.results]


def padded(values: Tensor) -> Tensor:
    """A copy with rows of zeros behind it, up to a power of two."""
    rows = 1 << (len(values) - 1).bit_length()
    return torch.cat((values, values.new_zeros(rows - len(values), *values.shape[1:])))
