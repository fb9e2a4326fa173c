"""The alignment band against a definition by paths: which frames emit which labels."""

import itertools
import math
import random

import pytest
import torch
from lattice_paths import paths

from asr.arcs.rules import ArcRules
from asr.arcs.standard import standard_arcs
from asr.nodes.band import band_nodes
from asr.ops.lattice.paths import occupations

TOPOLOGIES = ["regular", "modified", "constrained"]


def inside(nodes):
    b, t, u = (axis.tolist() for axis in nodes.coordinates())
    return set(zip(b, t, u))


def chosen_paths(topology, frames, labels, keep):
    return {tuple(path) for path in paths(frames, labels, topology) if keep(path)}


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("seed", range(30))
def test_the_paths_inside_the_band_are_those_with_every_label_in_its_window(seed, topology):
    draw = random.Random(seed)
    sizes = [(frames := draw.randint(1, 6), draw.randint(0, min(4, frames))) for _ in range(8)]
    left, right = draw.randint(0, 2), draw.randint(0, 2)
    alignments = [sorted(draw.randint(0, frames - 1) for _ in range(labels)) for frames, labels in sizes]
    padded = torch.tensor([a + [-7] * (4 - len(a)) for a in alignments])
    frames_B, labels_B = torch.tensor(sizes).T
    nodes, widened = band_nodes(frames_B, labels_B, padded, left, right, topology)
    members = inside(nodes)
    for b, (frames, labels) in enumerate(sizes):

        def in_windows(path, alignment=alignments[b]):
            emitted = [t for kind, t, _ in path if kind == "label"]
            return all(a - left <= t <= a + right for t, a in zip(emitted, alignment))

        found = chosen_paths(topology, frames, labels, lambda p, b=b: all((b, t, u) in members for _, t, u in p))
        wanted = chosen_paths(topology, frames, labels, in_windows)
        assert bool(widened[b]) == (not wanted)
        assert found == wanted if wanted else found


def sum_of_paths_in_windows(blank_CTU, label_CTU, alignment_CU, left, right, topology):
    """log of the sum over paths with every label in its window, (C,), of C cases of one size; −inf where none is."""
    _, frames, positions = blank_CTU.shape
    scores = []
    for path in paths(frames, positions - 1, topology):
        score = sum((blank_CTU if kind == "blank" else label_CTU)[:, t, u] for kind, t, u in path)
        emitted = torch.tensor([t for kind, t, _ in path if kind == "label"], dtype=torch.long)
        allowed = ((emitted >= alignment_CU - left) & (emitted <= alignment_CU + right)).all(1)
        scores.append(score.masked_fill(~allowed, -math.inf))
    return torch.stack(scores).logsumexp(0)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_ten_thousand_lattices_sum_over_the_paths_in_their_windows(topology):
    generator = torch.Generator().manual_seed(0)
    compared = 0
    for frames, labels, left, right in itertools.product(range(1, 6), range(5), range(2), range(3)):
        if topology != "regular" and labels > frames:
            continue
        cases = 80
        frames_B, labels_B = torch.full((cases,), frames), torch.full((cases,), labels)
        alignment = torch.randint(0, frames, (cases, labels), generator=generator).sort(1).values
        arcs = torch.randn(2, cases, frames, labels + 1, generator=generator, dtype=torch.float64)
        nodes, widened = band_nodes(frames_B, labels_B, alignment, left, right, topology)
        found, _ = occupations(
            nodes, torch.stack([arc[nodes.coordinates()] for arc in arcs]), ArcRules(standard_arcs(topology))
        )
        expected = sum_of_paths_in_windows(*arcs, alignment, left, right, topology)
        assert torch.equal(widened, expected.isinf())
        torch.testing.assert_close(found[~widened], expected[~widened], rtol=0, atol=1e-10)
        compared += cases
    assert compared >= 8000 if topology != "regular" else compared >= 12000


def test_windows_as_wide_as_the_utterance_are_no_restriction():
    nodes, widened = band_nodes(torch.tensor([5]), torch.tensor([3]), torch.tensor([[0, 2, 4]]), 5, 5)
    assert len(nodes) == 5 * 4
    assert not widened.any()


def test_an_utterance_without_alignment_is_not_restricted():
    alignment = torch.tensor([[0, 2, 4], [0, -1, 3]])
    nodes, widened = band_nodes(torch.tensor([5, 5]), torch.tensor([3, 3]), alignment, 0, 0)
    assert (nodes.coordinates()[0] == 1).sum() == 5 * 4
    assert (nodes.coordinates()[0] == 0).sum() < 5 * 4
    assert not widened.any()


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_an_alignment_out_of_order_or_beyond_the_end_still_has_a_path(topology):
    alignment = torch.tensor([[4, 2, 0], [99, 99, 99], [3, 3, 3]])
    nodes, widened = band_nodes(torch.tensor([5] * 3), torch.tensor([3] * 3), alignment, 0, 0, topology)
    members = inside(nodes)
    for b in range(3):
        assert chosen_paths(topology, 5, 3, lambda p, b=b: all((b, t, u) in members for _, t, u in p))
    assert widened.tolist() == ([True, False, False] if topology == "regular" else [True] * 3)


def test_nodes_of_a_band_grow_with_frames_not_with_labels():
    frames, labels = 400, 80
    alignment = torch.arange(labels)[None] * frames // labels
    nodes, _ = band_nodes(torch.tensor([frames]), torch.tensor([labels]), alignment, 5, 10)
    assert len(nodes) < frames * (math.ceil(15 * labels / frames) + 3)
