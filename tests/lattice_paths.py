"""The oracle of every lattice test: all paths of a transducer lattice, one by one."""

import functools
import itertools
import math
from collections.abc import Iterator

import numpy as np

Arc = tuple[int, int, int]  # its place in a list of moves, and the node (t,u) that it leaves


def paths(frames: int, labels: int, topology: str = "regular") -> Iterator[list[tuple[str, int, int]]]:
    """Every path as its arcs (kind, t, u).

    regular: any order of T−1 blanks and U labels, then the last blank. modified: one arc a frame. constrained: a
    blank in every frame, before which it may emit one label.
    """
    if topology != "regular":
        for emitting in itertools.combinations(range(frames), labels):
            emitted = [sum(e < t for e in emitting) for t in range(frames)]
            path = []
            for t in range(frames):
                path += [("label", t, emitted[t])] if t in emitting else [("blank", t, emitted[t])]
                path += [("blank", t, emitted[t] + 1)] if t in emitting and topology == "constrained" else []
            yield path
        return
    for emitting in itertools.combinations(range(frames - 1 + labels), labels):
        t = u = 0
        path = []
        for step in range(frames + labels):
            kind = "label" if step in emitting else "blank"
            path.append((kind, t, u))
            t, u = (t, u + 1) if kind == "label" else (t + 1, u)
        yield path


def sum_paths(
    blank_TU: np.ndarray, label_TU: np.ndarray, topology: str = "regular"
) -> tuple[float, np.ndarray, np.ndarray]:
    """log P and the occupations of blank arcs (T,U+1) and label arcs (T,U), from their log-probabilities."""
    arcs = {"blank": blank_TU, "label": label_TU}
    all_paths = list(paths(*label_TU.shape, topology))
    scores = [math.fsum(float(arcs[kind][t, u]) for kind, t, u in path) for path in all_paths]
    best = max(scores)
    log_p = best + math.log(math.fsum(math.exp(score - best) for score in scores))
    occupations = {kind: np.zeros(values.shape) for kind, values in arcs.items()}
    for path, score in zip(all_paths, scores):
        for kind, t, u in path:
            occupations[kind][t, u] += math.exp(score - log_p)
    return log_p, occupations["blank"], occupations["label"]


@functools.cache
def moved_paths(frames: int, labels: int, moves: tuple[tuple[int, int], ...]) -> list[tuple[Arc, ...]]:
    """Every path from (0,0) to (frames,labels) along arcs (Δt,Δu), by recursion: all first arcs, then all the rest.

    Every arc but the last leads to a node, (t,u) with t < frames.
    """

    def rest(t: int, u: int) -> Iterator[tuple[Arc, ...]]:
        for arc, (dt, du) in enumerate(moves):
            if (t + dt, u + du) == (frames, labels):
                yield ((arc, t, u),)
            elif t + dt < frames and u + du <= labels:
                yield from (((arc, t, u), *path) for path in rest(t + dt, u + du))

    return list(rest(0, 0))


@functools.cache
def edge_paths(frames: int, labels: int, moves: tuple[tuple[int, int], ...]) -> list[tuple[int, tuple[Arc, ...], int]]:
    """Every path that may begin at any (t,0) and end at any (t,labels): frames before it, its arcs, frames after it."""

    def to_node(t: int, u: int, end: int) -> Iterator[tuple[Arc, ...]]:
        if (t, u) == (end, labels):
            yield ()
        for arc, (dt, du) in enumerate(moves):
            if t + dt <= end and u + du <= labels:
                yield from (((arc, t, u), *path) for path in to_node(t + dt, u + du, end))

    found = []
    for begin in range(frames):
        later = moved_paths(frames - begin, labels, moves)
        found += [(begin, tuple((arc, t + begin, u) for arc, t, u in path), 0) for path in later]
        for end in range(begin, frames):
            found += [(begin, path, frames - end) for path in to_node(begin, 0, end)]
    return found
