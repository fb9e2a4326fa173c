"""Pruned node sets: width, steps, coverage, and always a path."""

import itertools

import pytest
import torch
from lattice_paths import paths

from asr.nodes.base import make_nodes
from asr.nodes.pruned import aligned_nodes, fixed_width_nodes, massive_nodes

TOPOLOGIES = ["regular", "modified", "constrained"]
FRAMES, LENGTHS = torch.tensor([6, 4, 1, 5, 2, 6]), torch.tensor([5, 4, 1, 0, 2, 3])


def occupations(seed, peaked=1.0):
    """Random rows that sum to 1 over an utterance's positions; garbage beyond it."""
    generator = torch.Generator().manual_seed(seed)
    scores = peaked * torch.randn(len(FRAMES), 6, 6, generator=generator, dtype=torch.float64)
    position = torch.arange(6)
    valid = position[None, None] <= LENGTHS[:, None, None]
    return scores.masked_fill(~valid, -torch.inf).softmax(2).masked_fill(~valid, 9.0)


def by_row(nodes):
    """(b, t, first, last) of every row."""
    b, t = (axis.tolist() for axis in nodes.rows())
    return list(zip(b, t, nodes.first_R.tolist(), (nodes.first_R + nodes.count_R - 1).tolist()))


def check_sound(nodes, topology):
    """Raises where an invariant does not hold."""
    first, last = torch.zeros(len(FRAMES), 6, dtype=torch.long), torch.zeros(len(FRAMES), 6, dtype=torch.long)
    for b, t, low, high in by_row(nodes):
        first[b, t], last[b, t] = low, high
    make_nodes(FRAMES, LENGTHS, first, last, topology)


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("width", [2, 3, 5, 9])
def test_fixed_width(width, topology):
    for seed in range(50):
        nodes, widened = fixed_width_nodes(FRAMES, LENGTHS, occupations(seed, 4), width, topology)
        check_sound(nodes, topology)
        for b, t, first, last in by_row(nodes):
            if not widened[b]:
                assert last - first + 1 == min(width, int(LENGTHS[b]) + 1)
            if t == 0:
                assert first == 0
        steps = [(b, y[2] - x[2]) for x, y in itertools.pairwise(by_row(nodes)) if (b := x[0]) == y[0]]
        most = 1 if topology != "regular" else width - 1
        assert all(0 <= step <= most for b, step in steps if not widened[b])


def test_an_utterance_too_short_for_the_width_gets_a_wider_one():
    frames, labels = torch.tensor([2, 6]), torch.tensor([5, 5])
    nodes, widened = fixed_width_nodes(frames, labels, torch.rand(2, 6, 6), 2)
    assert widened.tolist() == [True, False]
    assert nodes.count_R.tolist()[:2] == [4, 4]


def test_without_limits_the_interval_is_the_one_with_most_occupation():
    """A lattice in which the best intervals already make small steps up."""
    best = [0, 0, 1, 2, 3, 3]
    occupation = torch.full((1, 6, 6), 0.01)
    for t, first in enumerate(best):
        occupation[0, t, first : first + 3] = 1
    nodes, _ = fixed_width_nodes(torch.tensor([6]), torch.tensor([5]), occupation, 3)
    assert nodes.first_R.tolist() == best


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_as_wide_as_the_lattice_is_the_lattice(topology):
    for nodes, widened in (
        fixed_width_nodes(FRAMES, LENGTHS, occupations(0), 6, topology),
        massive_nodes(FRAMES, LENGTHS, occupations(0), 1.0, topology),
    ):
        assert len(nodes) == int((FRAMES * (LENGTHS + 1)).sum())
        assert not widened.any()


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("mass", [0.3, 0.8, 0.99])
def test_every_frame_holds_the_share_asked_for(mass, topology):
    for seed in range(50):
        occupation = occupations(seed, 4)
        nodes, _ = massive_nodes(FRAMES, LENGTHS, occupation, mass, topology)
        check_sound(nodes, topology)
        for b, t, first, last in by_row(nodes):
            assert occupation[b, t, first : last + 1].sum() >= mass - 1e-9


def test_the_window_is_the_narrowest():
    occupation = torch.tensor([[[0.6, 0.3, 0.1, 0.0], [0.05, 0.45, 0.45, 0.05], [0.0, 0.1, 0.1, 0.8]]])
    nodes, _ = massive_nodes(torch.tensor([3]), torch.tensor([3]), occupation, 0.85)
    assert by_row(nodes) == [(0, 0, 0, 1), (0, 1, 1, 2), (0, 2, 2, 3)]


def test_a_lattice_that_knows_its_alignment_keeps_few_nodes():
    """Paths are what pruning must keep: those of one alignment lose nothing at width 2."""
    path = next(iter(paths(6, 5)))
    occupation = torch.zeros(1, 6, 6)
    for _, t, u in path:
        occupation[0, t, u] = 1
    nodes, _ = massive_nodes(torch.tensor([6]), torch.tensor([5]), occupation, 0.999)
    members = set(zip(*(axis.tolist() for axis in nodes.coordinates()[1:])))
    assert {(t, u) for _, t, u in path} <= members


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_nodes_around_an_alignment_hold_its_path_in_their_middle(topology):
    alignment = torch.tensor([[0, 1, 2, 3, 4], [0, 1, 2, 3, 3], [0] * 5, [9] * 5, [0, 1, 9, 9, 9], [1, 3, 5, 9, 9]])
    nodes, widened = aligned_nodes(FRAMES, LENGTHS, alignment, 3, topology)
    check_sound(nodes, topology)
    assert not widened.any()
    for b, t, first, last in by_row(nodes):
        length = int(LENGTHS[b])
        position = sum(frame <= t for frame in alignment[b, :length].tolist())
        assert first <= position <= last
        if t not in (0, int(FRAMES[b]) - 1) and 0 < position < length and length >= 2:
            assert (first, last) == (position - 1, position + 1)


def test_an_utterance_without_alignment_keeps_all_nodes():
    alignment = torch.tensor([[0, 1, 2, 3, 4], [0, -1, 2, 3, 3], [0] * 5, [9] * 5, [-1, 1, 9, 9, 9], [1, 3, 5, 9, 9]])
    nodes, widened = aligned_nodes(FRAMES, LENGTHS, alignment, 3)
    kept = torch.bincount(nodes.coordinates()[0], minlength=len(FRAMES))
    everything = FRAMES * (LENGTHS + 1)
    assert torch.equal(kept[[1, 4]], everything[[1, 4]])
    assert (kept < everything)[[0, 5]].all()
    assert not widened.any()
