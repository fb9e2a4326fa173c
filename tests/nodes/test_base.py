"""Node sets: what they index, and the sets that are refused."""

import pytest
import torch

from asr.nodes.base import all_nodes, make_nodes

FRAMES, LENGTHS = torch.tensor([3, 1]), torch.tensor([2, 1])


def test_coordinates_of_all_nodes_enumerate_the_valid_grid():
    nodes = all_nodes(FRAMES, LENGTHS)
    expected = [(b, t, u) for b in range(2) for t in range(FRAMES[b]) for u in range(LENGTHS[b] + 1)]
    assert list(zip(*(axis.tolist() for axis in nodes.coordinates()))) == expected
    assert len(nodes) == 3 * 3 + 1 * 2
    assert nodes.row_offsets.tolist() == [0, 3, 4]


def test_coordinates_of_intervals():
    nodes = make_nodes(FRAMES, LENGTHS, torch.tensor([0, 1, 1, 0]), torch.tensor([2, 1, 2, 2]))
    b, t, u = (axis.tolist() for axis in nodes.coordinates())
    assert list(zip(b, t, u)) == [(0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 2, 2), (1, 0, 0), (1, 0, 1)]


@pytest.mark.parametrize(
    ("first", "count", "problem"),
    [
        ([0, 1, 1, 0], [2, 0, 2, 2], "an empty row: utterance 0, frame 1"),
        ([0, 1, 1, 0], [2, 3, 2, 2], r"a position outside \[0, U\]: utterance 0, frame 1"),
        ([0, -1, 1, 0], [2, 3, 2, 2], r"a position outside \[0, U\]: utterance 0, frame 1"),
        ([1, 1, 1, 0], [1, 1, 2, 2], r"no start .*: utterance 0, frame 0"),
        ([0, 1, 1, 0], [2, 1, 2, 1], r"no end .*: utterance 1, frame 0"),
        ([0, 1, 2, 0], [2, 1, 1, 2], "rows without a common position: utterance 0, frame 1"),
    ],
)
def test_a_set_without_a_path_is_refused(first, count, problem):
    with pytest.raises(ValueError, match=problem):
        make_nodes(FRAMES, LENGTHS, torch.tensor(first), torch.tensor(count))
