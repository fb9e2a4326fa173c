"""A stand-in for what the search uses of k2: its lattices without their pruning, and its demands on tensors.

k2 keeps the version of the labels of every graph and lattice to notice that they were changed (`k2.Fsa`, since
1.23.4), so none can be made in inference mode; and it has no path where there are no frames.
"""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor

Context = tuple[int, ...]


class Fsa:
    """A graph, or one or several linear lattices: labels and scores of their arcs."""

    def __init__(self, labels: Tensor, scores: Tensor, rows: list[slice] | None = None, total: Tensor | None = None):
        self.labels, self.scores, self.rows, self.total = labels, scores, rows, total
        self.labels_version = labels._version

    def __getitem__(self, n: int) -> "Fsa":
        return Fsa(self.labels[self.rows[n]], self.scores[self.rows[n]])

    def get_tot_scores(self, use_double_scores: bool, log_semiring: bool) -> Tensor:
        assert use_double_scores
        assert not log_semiring
        return self.total


def trivial_graph(max_token: int, device: torch.device) -> Fsa:
    labels = torch.arange(1, max_token + 1, dtype=torch.int32, device=device)
    return Fsa(labels, torch.zeros_like(labels, dtype=torch.float32))


@dataclass(frozen=True)
class RnntDecodingConfig:
    vocab_size: int
    decoder_history_len: int
    beam: float
    max_states: int
    max_contexts: int


@dataclass(frozen=True)
class Best:
    """The best path to a state: its score, and what its arcs have."""

    score: float
    labels: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()

    def followed_by(self, label: int, score: float) -> "Best":
        return Best(self.score + score, (*self.labels, label), (*self.scores, score))


class RnntDecodingStream:
    """frames: the best path to each context, at first and after every frame."""

    def __init__(self, graph: Fsa):
        self.graph = graph
        self.frames: list[dict[Context, Best]] = []


class RnntDecodingStreams:
    def __init__(self, streams: list[RnntDecodingStream], config: RnntDecodingConfig):
        self.streams, self.config, self.attached = streams, config, True
        for stream in streams:
            stream.frames = stream.frames or [{(0,) * config.decoder_history_len: Best(0.0)}]

    def get_contexts(self) -> tuple[SimpleNamespace, Tensor]:
        states = [list(stream.frames[-1]) for stream in self.streams]
        rows = torch.tensor([n for n, contexts in enumerate(states) for _ in contexts], dtype=torch.int32)
        contexts = torch.tensor([context for contexts in states for context in contexts], dtype=torch.int32)
        return SimpleNamespace(row_ids=lambda axis: rows), contexts

    def advance(self, logprobs: Tensor) -> None:
        assert self.attached
        assert logprobs.dtype == torch.float32
        assert not logprobs.requires_grad
        rows = iter(logprobs.tolist())
        for stream in self.streams:
            following: dict[Context, Best] = {}
            for context, best in stream.frames[-1].items():
                for label, score in enumerate(next(rows)):
                    after = (*context[1:], label) if label else context
                    path = best.followed_by(label, score)
                    if after not in following or path.score > following[after].score:
                        following[after] = path
            stream.frames.append(following)

    def terminate_and_flush_to_streams(self) -> None:
        self.attached = False

    def format_output(self, num_frames: list[int]) -> Fsa:
        assert not self.attached
        nothing = Best(-math.inf)
        best = [
            max(stream.frames[count].values(), key=lambda path: path.score) if count else nothing
            for stream, count in zip(self.streams, num_frames, strict=True)
        ]
        lengths = [len(path.labels) + bool(path.labels) for path in best]  # with the arc to the end, of label −1
        rows = [slice(sum(lengths[:n]), sum(lengths[: n + 1])) for n in range(len(best))]
        labels = [label for path in best if path.labels for label in (*path.labels, -1)]
        scores = [score for path in best if path.labels for score in (*path.scores, 0.0)]
        total = torch.tensor([path.score for path in best], dtype=torch.float64)
        return Fsa(torch.tensor(labels, dtype=torch.int32), torch.tensor(scores), rows, total)


def shortest_path(lattice: Fsa, use_double_scores: bool) -> Fsa:
    assert use_double_scores
    return Fsa(lattice.labels.clone(), lattice.scores.clone(), lattice.rows, lattice.total)
