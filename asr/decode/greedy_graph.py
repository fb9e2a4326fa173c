"""Steps of greedy search as CUDA graphs: one launch in place of several hundred."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from asr.device import waits_are_counted

Function = Callable[..., Sequence[Tensor]]


class Graph(Protocol):
    """What was captured."""

    def replay(self) -> None:
        """Do it again, with the tensors that were read and written."""


def cuda_graph(function: Function, given: Sequence[Tensor]) -> tuple[Graph, Sequence[Tensor]]:
    """A function of tensors as a CUDA graph, and what it gives.

    No shape may depend on a value, and nothing may wait for the GPU. What the function reads beside its arguments,
    such as weights, has to stay where it is.

    Raises RuntimeError where the function waits: before it is captured, for when a capture fails torch draws no more
    random numbers in the process.
    """
    device = given[0].device
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.device(device), torch.cuda.stream(stream):
        function(*given)  # makes what is made once, such as the workspace of cuBLAS
        with waits_are_counted() as waits:
            function(*given)
        if waits:
            raise RuntimeError(f"it waits for the GPU {len(waits)} times")
        graph = torch.cuda.CUDAGraph()
        # Another thread may allocate meanwhile, which is forbidden otherwise.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            results = function(*given)
    return graph, results


class Graphs:
    """A function of tensors whose rows have nothing to do with each other, as graphs: one for each number of rows, up
    to the next power of two, so that they are few.

    Where a graph cannot be made of it, the function itself, and a line in the log says so once. capture: see
    `cuda_graph`.
    """

    def __init__(self, capture: Callable[[Function, Sequence[Tensor]], tuple[Graph, Sequence[Tensor]]] = cuda_graph):
        self.capture = capture
        self.captured: dict[tuple[int, ...], Captured] = {}
        self.refused = False
        self.lock = threading.Lock()  # threads share what a graph reads and writes

    def __call__(self, function: Function, *given: Tensor) -> list[Tensor]:
        """What the function gives: as many rows as the last argument has."""
        rooms = tuple(1 << (len(values) - 1).bit_length() for values in given)
        with self.lock:
            if rooms not in self.captured and not self.refused:
                self.add(function, rooms, given)
            if self.refused:
                return list(function(*given))
            return self.captured[rooms](given)

    def add(self, function: Function, rooms: tuple[int, ...], given: Sequence[Tensor]) -> None:
        """Make the graph of a size, or find that it cannot be made."""
        mine = [values.new_zeros(room, *values.shape[1:]) for room, values in zip(rooms, given)]
        fill(mine, given)
        try:
            self.captured[rooms] = Captured(mine, *self.capture(function, mine))
        except RuntimeError as error:
            self.refused = True
            reason = " ".join(str(error).split())[:200]
            logging.getLogger("asr").warning("greedy search without a CUDA graph, more slowly: %s", reason)


class Captured:
    """A graph, with the tensors that it reads (`given`) and writes."""

    def __init__(self, given: Sequence[Tensor], graph: Graph, results: Sequence[Tensor]) -> None:
        self.given, self.graph, self.results = given, graph, results

    def __call__(self, given: Sequence[Tensor]) -> list[Tensor]:
        """What comes of other values, of which there may be fewer rows."""
        fill(self.given, given)
        self.graph.replay()
        return [values[: len(given[-1])].clone() for values in self.results]


def fill(mine: Sequence[Tensor], given: Sequence[Tensor]) -> None:
    """Copy values to where a graph reads them. Rows beyond theirs are an earlier call's; what comes of these is not
    looked at.
    """
    for into, values in zip(mine, given):
        into[: len(values)].copy_(values)
