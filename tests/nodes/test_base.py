"""Node sets: what they index, the sets that are refused, and how a set without a path is widened."""

import random

import pytest
import torch
from lattice_paths import paths

from asr.nodes.base import all_nodes, complete_nodes, make_nodes

FRAMES, LENGTHS = torch.tensor([3, 1]), torch.tensor([2, 1])
TOPOLOGIES = ["regular", "modified", "constrained"]


def test_coordinates_of_all_nodes_enumerate_the_valid_grid():
    nodes = all_nodes(FRAMES, LENGTHS)
    expected = [(b, t, u) for b in range(2) for t in range(FRAMES[b]) for u in range(LENGTHS[b] + 1)]
    assert list(zip(*(axis.tolist() for axis in nodes.coordinates()))) == expected
    assert len(nodes) == 3 * 3 + 1 * 2
    assert nodes.row_offsets.tolist() == [0, 3, 4]


def test_coordinates_of_intervals():
    nodes = make_nodes(FRAMES, LENGTHS, torch.tensor([[0, 1, 1], [0, 9, 9]]), torch.tensor([[1, 1, 2], [1, 9, 0]]))
    b, t, u = (axis.tolist() for axis in nodes.coordinates())
    assert list(zip(b, t, u)) == [(0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 2, 2), (1, 0, 0), (1, 0, 1)]


@pytest.mark.parametrize(
    ("first", "last", "problem"),
    [
        ([0, 1, 1], [1, 0, 2], "an empty interval: utterance 0, frame 1"),
        ([0, 1, 1], [1, 3, 3], r"a position outside \[0, U\]: utterance 0, frame 1"),
        ([-1, 1, 1], [1, 1, 2], r"a position outside \[0, U\]: utterance 0, frame 0"),
        ([0, 1, 0], [1, 1, 2], "an interval that moves down: utterance 0, frame 2"),
        ([0, 1, 1], [2, 1, 2], "an interval that moves down: utterance 0, frame 1"),
        ([1, 1, 1], [1, 1, 2], "no complete path: utterance 0, frame 0"),
        ([0, 1, 1], [1, 1, 1], "no complete path: utterance 0, frame 2"),
        ([0, 1, 2], [1, 1, 2], "no complete path: utterance 0, frame 2"),
    ],
)
def test_a_set_that_breaks_an_invariant_is_refused(first, last, problem):
    with pytest.raises(ValueError, match=problem):
        make_nodes(FRAMES, LENGTHS, torch.tensor([first, [0, 0, 0]]), torch.tensor([last, [1, 1, 1]]))


def visited(path):
    """Nodes of a path, in order; the last arc leads out of the lattice."""
    return [(t, u) for _, t, u in path]


def has_path(frames, labels, first, last, topology):
    return any(all(first[t] <= u <= last[t] for t, u in visited(path)) for path in paths(frames, labels, topology))


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_set_is_widened_if_and_only_if_it_has_no_path(topology):
    draw, widened = random.Random(0), 0
    for _ in range(1500):
        frames = draw.randint(1, 5)
        labels = draw.randint(0, 4 if topology == "regular" else frames)
        first = sorted(draw.randint(0, labels) for _ in range(frames))
        last = [max(f, top) for f, top in zip(first, sorted(draw.randint(0, labels) for _ in range(frames)))]
        nodes, changed = complete_nodes(
            torch.tensor([frames]), torch.tensor([labels]), torch.tensor([first]), torch.tensor([last]), topology
        )
        found_first = nodes.first_R.tolist()
        found_last = (nodes.first_R + nodes.count_R - 1).tolist()
        assert bool(changed) != has_path(frames, labels, first, last, topology)
        assert has_path(frames, labels, found_first, found_last, topology)
        assert all(a <= b for a, b in zip(found_first, first))
        assert all(a >= b for a, b in zip(found_last, last))
        assert found_first == sorted(found_first)
        assert found_last == sorted(found_last)
        widened += bool(changed)
    assert 100 < widened < 1400
