"""Lattices over node sets: every backend against all paths one by one, with everything that changes an arc."""

import importlib.util
import math
import os
import random
import subprocess
import sys
import types
from itertools import pairwise

import numpy as np
import pytest
import torch
from devices import KERNEL_DEVICE
from lattice_paths import edge_paths, moved_paths, paths

from asr.arcs.multi_blank import multi_blank_arcs
from asr.arcs.rules import ArcRules
from asr.arcs.standard import standard_arcs
from asr.arcs.tdt import tdt_arcs
from asr.errors import InputError
from asr.nodes.base import all_nodes, make_nodes
from asr.ops.lattice import cpu
from asr.ops.lattice.paths import best_alignment, best_path, lattice_loss, occupations

BACKENDS = ["reference", "numba", "triton"]
TOPOLOGIES = ["regular", "modified", "constrained"]


def random_nodes(draw, frames, labels, topology):
    """Random intervals that have a complete path and never move down: bounds of a random path, widened."""
    path = [(t, u) for _, t, u in draw.choice(list(paths(frames, labels, topology)))]
    path += [(t, u) for (t, _), (_, u) in pairwise(path)] if topology == "regular" else []
    first, last = [], []
    for t in range(frames):
        positions = [u for frame, u in path if frame == t]
        first.append(max(min(positions) - draw.randint(0, 2), 0))
        last.append(min(max(positions) + draw.randint(0, 2), labels))
    return np.minimum.accumulate(first[::-1])[::-1].tolist(), np.maximum.accumulate(last).tolist()


def sum_inside(blank, label, first, last, topology):
    """log P and occupations over the paths of which every node is in the set."""
    inside = {(t, u) for t in range(len(first)) for u in range(first[t], last[t] + 1)}
    arcs = {"blank": blank, "label": label}
    chosen = [p for p in paths(*label.shape, topology) if all((t, u) in inside for _, t, u in p)]
    scores = [math.fsum(float(arcs[kind][t, u]) for kind, t, u in path) for path in chosen]
    log_p = max(scores) + math.log(math.fsum(math.exp(s - max(scores)) for s in scores))
    occupations = {kind: np.zeros(values.shape) for kind, values in arcs.items()}
    for path, score in zip(chosen, scores):
        for kind, t, u in path:
            occupations[kind][t, u] += math.exp(score - log_p)
    return log_p, occupations


def padded(rows):
    width = max(map(len, rows))
    return torch.tensor([row + [0] * (width - len(row)) for row in rows])


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # Triton's interpreter: inf − inf, masked out
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("changed", [False, True], ids=["plain", "fastemit and delay penalty"])
def test_occupations_are_sums_over_the_paths_inside_the_set(seed, topology, backend, changed):
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    sizes = [(frames := draw.randint(1, 5), draw.randint(0, min(frames, 4))) for _ in range(3)]
    sets = [random_nodes(draw, *size, topology) for size in sizes]
    device = torch.device(KERNEL_DEVICE if backend == "triton" else "cpu")
    frames_B, labels_B = torch.tensor(sizes, device=device).T
    first_BT, last_BT = (padded(bounds).to(device) for bounds in zip(*sets))
    nodes = make_nodes(frames_B, labels_B, first_BT, last_BT, topology)
    arcs = [(rng.normal(-1, 2, (frames, labels + 1)), rng.normal(-1, 2, (frames, labels))) for frames, labels in sizes]
    b, t, u = (axis.tolist() for axis in nodes.coordinates())
    blank = [arcs[i][0][j, k] for i, j, k in zip(b, t, u)]
    label = [arcs[i][1][j, k] if k < sizes[i][1] else math.nan for i, j, k in zip(b, t, u)]
    blank, label = (torch.tensor(values, device=device) for values in (blank, label))
    fastemit, delay = (0.3, 0.2) if changed else (0.0, 0.0)
    rules = ArcRules(standard_arcs(topology), fastemit, delay, backend=backend)
    total, (by_blank, by_label) = occupations(nodes, torch.stack((blank, label)), rules)
    for i, (frames, labels) in enumerate(sizes):
        late = delay * ((frames - 1) / 2 - np.arange(frames))[:, None]
        log_p, expected = sum_inside(arcs[i][0], arcs[i][1] + late, *sets[i], topology)
        assert float(total[i]) == pytest.approx(log_p, abs=1e-10)
        for n in (n for n in range(len(nodes)) if b[n] == i):
            emitted = expected["label"][t[n], u[n]] if u[n] < labels else 0.0
            assert float(by_label[n]) == pytest.approx((1 + fastemit) * emitted, abs=1e-10)
            assert float(by_blank[n]) == pytest.approx(expected["blank"][t[n], u[n]], abs=1e-10)


SKIPPING = {
    "multi_blank regular": multi_blank_arcs("regular", 4, [2, 4]),
    "multi_blank modified": multi_blank_arcs("modified", 4, [4, 3]),
    "tdt 0-4": tdt_arcs("regular", 4, [0, 1, 2, 3, 4]),
    "tdt 0-4 modified": tdt_arcs("modified", 4, [0, 1, 2, 3, 4]),
    "tdt 1, 3": tdt_arcs("regular", 4, [1, 3]),
}


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # Triton's interpreter: inf − inf, masked out
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("arcs", SKIPPING)
@pytest.mark.parametrize("seed", range(4))
def test_occupations_of_arcs_that_skip_frames(seed, arcs, backend):
    arcs, draw = SKIPPING[arcs], random.Random(seed)
    sizes = [(frames := draw.randint(1, 6), draw.randint(0, min(frames, 4))) for _ in range(3)]
    sets = [random_nodes(draw, *size, arcs.topology) for size in sizes]
    device = torch.device(KERNEL_DEVICE if backend == "triton" else "cpu")
    frames_B, labels_B = torch.tensor(sizes, device=device).T
    first_BT, last_BT = (padded(bounds).to(device) for bounds in zip(*sets))
    nodes = make_nodes(frames_B, labels_B, first_BT, last_BT, arcs.topology)
    where = list(zip(*(axis.tolist() for axis in nodes.coordinates())))
    weights = torch.randn(len(arcs.arcs), len(nodes), generator=torch.Generator().manual_seed(seed)).double() - 1
    expected_p, expected = torch.zeros(3).double(), torch.zeros_like(weights)
    for b, (frames, labels) in enumerate(sizes):
        place = {(t, u): n for n, (i, t, u) in enumerate(where) if i == b}
        every = moved_paths(frames, labels, arcs.moves)
        inside = [path for path in every if all((t, u) in place for _, t, u in path)]
        scores = [math.fsum(float(weights[arc, place[t, u]]) for arc, t, u in path) for path in inside]
        expected_p[b] = torch.tensor(scores, dtype=torch.float64).logsumexp(0)
        for path, score in zip(inside, scores):
            for arc, t, u in path:
                expected[arc, place[t, u]] += math.exp(score - float(expected_p[b]))
    at_end = torch.tensor([u == sizes[b][1] for b, _, u in where])
    weights[arcs.emits_A[:, None] & at_end] = math.nan  # there is no such arc, so nothing may read it
    total, by_arc = occupations(nodes, weights.to(device), ArcRules(arcs, backend=backend))
    torch.testing.assert_close(total.cpu(), expected_p, rtol=0, atol=1e-10)
    torch.testing.assert_close(by_arc.cpu(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_durations_of_blank_1_and_labels_0_are_the_regular_topology(backend):
    torch.manual_seed(0)
    device = torch.device(KERNEL_DEVICE if backend == "triton" else "cpu")
    nodes = all_nodes(torch.tensor([5, 3]), torch.tensor([3, 4]))
    regular = torch.randn(2, len(nodes), dtype=torch.float64, device=device)
    arcs = tdt_arcs("regular", 4, [0, 1])
    assert arcs.moves == ((1, 0), (0, 1), (1, 1))
    forced = torch.cat((regular, torch.full_like(regular[:1], -math.inf if backend != "reference" else -1e30)))
    total, by_arc = occupations(nodes, forced, ArcRules(arcs, backend=backend))
    expected_p, expected = occupations(nodes, regular, ArcRules(backend="reference"))
    torch.testing.assert_close(total, expected_p, rtol=0, atol=1e-10)
    torch.testing.assert_close(by_arc[:2], expected, rtol=0, atol=1e-10)
    assert not by_arc[2].any()


def test_the_best_path_may_skip_frames():
    """A label each at frames 1 and 4, with durations 3 and 2, and a blank that skips frame 0."""
    nodes, arcs = all_nodes(torch.tensor([6]), torch.tensor([2])), tdt_arcs("regular", 4, [0, 1, 2, 3])
    weights = torch.full((len(arcs.arcs), len(nodes)), -5.0)
    for move, t, u in (((1, 0), 0, 0), ((3, 1), 1, 0), ((2, 1), 4, 1)):
        weights[arcs.moves.index(move), 3 * t + u] = 0.0
    assert best_alignment(nodes, weights, arcs).tolist() == [[1, 4]]


def test_the_best_path_may_leave_out_frames():
    """Both labels are likeliest at frames 4 and 5 of 8; blank is unlikely before and after, but for early labels."""
    nodes = all_nodes(torch.tensor([8]), torch.tensor([2]))
    weights = torch.full((2, len(nodes)), -5.0)
    for arc, t, u in ((1, 4, 0), (0, 4, 1), (1, 5, 1)):
        weights[arc, 3 * t + u] = 0.0
    weights[1, :2] = -1.0
    weights[0, 2:18:3] = -0.1
    assert best_alignment(nodes, weights, standard_arcs()).tolist() == [[0, 0]]
    assert best_alignment(nodes, weights, standard_arcs(), edges=0.2).tolist() == [[4, 5]]
    whole, inner = (best_path(nodes, weights, standard_arcs(), edges) for edges in (math.inf, 0.2))
    assert whole[0][:2] == (0, 0)
    assert inner == [(4, 0, 0, 1), (4, 1, 1, 0), (5, 1, 0, 1), (5, 2, 1, 0)]


@pytest.mark.parametrize("edges", [math.inf, 0.3])
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize(
    "make",
    [standard_arcs, lambda t: multi_blank_arcs(t, 5, [3, 2]), lambda t: tdt_arcs(t, 5, [2, 0, 1])],
    ids=["standard", "multi_blank", "tdt"],
)
def test_the_arcs_of_the_best_path_are_those_of_the_likeliest_of_all_paths(make, topology, edges):
    if topology == "constrained" and make("regular").name == "tdt":
        pytest.skip("tdt has no constrained topology")
    arcs, frames, labels = make(topology), 5, 2
    nodes = all_nodes(torch.tensor([frames]), torch.tensor([labels]))
    forced = topology == "constrained"
    for seed in range(5):
        weights = torch.randn(len(arcs.arcs), len(nodes), generator=torch.Generator().manual_seed(seed)).double()
        table = weights.view(-1, frames, labels + 1)
        if edges < math.inf:
            every = edge_paths(frames, labels, arcs.moves)
        else:
            every = [(0, path, 0) for path in moved_paths(frames, labels, arcs.moves)]

        def score(candidate, table=table):
            before, path, after = candidate
            passed = [table[k, t, u] + (table[0, t, u + 1] if forced and k == 1 else 0.0) for k, t, u in path]
            return sum(map(float, passed)) - ((before + after) * edges if before + after else 0.0)

        _, expected, _ = max(every, key=score)
        assert best_path(nodes, weights, arcs, edges) == [(t, u, *arcs.moves[k]) for k, t, u in expected]


def test_of_a_silence_everything_may_be_left_out():
    nodes = all_nodes(torch.tensor([4]), torch.tensor([0]))
    assert best_path(nodes, torch.full((2, 4), -1.0), standard_arcs(), edges=0.0) == []


def test_k2_has_no_arcs_that_skip_frames(k2):
    nodes, arcs = all_nodes(torch.tensor([2]), torch.tensor([1])), tdt_arcs("regular", 4, [0, 1, 2])
    with pytest.raises(InputError, match="loss.backend=k2: k2 has no arcs that skip frames.*use backend=auto"):
        occupations(nodes, torch.zeros(len(arcs.arcs), 4), ArcRules(arcs, backend="k2"))
    with pytest.raises(InputError, match="loss.backend=k2: k2 knows no loss.edges=0.5; use backend=auto"):
        occupations(nodes, torch.zeros(2, 4), ArcRules(edges=0.5, backend="k2"))


def test_the_gradient_of_weights_holds_no_occupation_that_any_sum_loses():
    nodes = all_nodes(torch.tensor([60]), torch.tensor([40]))
    weights = torch.randn(2, len(nodes), generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss, _ = lattice_loss(nodes, weights, ArcRules(standard_arcs("modified")))
    loss.sum().backward()
    exact = occupations(nodes, weights.detach(), ArcRules(standard_arcs("modified")))[1]
    gone = -weights.grad == 0
    assert exact[gone].max() < 1e-11  # none that float32 could tell beside 1
    assert ((exact > 0) & (exact < 1e-12)).any()  # as there are
    assert (-weights.grad[~gone]).min() > 1e-12
    frame_sums = torch.zeros(60).index_add(0, nodes.coordinates()[1], -weights.grad.sum(0))
    torch.testing.assert_close(frame_sums, torch.ones(60), rtol=0, atol=1e-6)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_lattice_loss_has_the_finite_difference_as_its_gradient(topology):
    torch.manual_seed(0)
    nodes = all_nodes(torch.tensor([4, 3]), torch.tensor([2, 3]))
    weights = torch.randn(2, len(nodes), dtype=torch.double).requires_grad_()
    rules = ArcRules(standard_arcs(topology), delay_penalty=0.1)
    assert torch.autograd.gradcheck(lambda weights: lattice_loss(nodes, weights, rules)[0], weights)


def test_every_frame_of_a_path_is_occupied_once():
    nodes = all_nodes(torch.tensor([4, 3]), torch.tensor([2, 0]))
    _, occupation = lattice_loss(nodes, torch.randn(2, len(nodes)), ArcRules(standard_arcs("modified")))
    per_row = [float(part.sum()) for part in occupation.split(nodes.count_R.tolist())]
    assert per_row == pytest.approx([1.0] * 7, abs=1e-6)


def test_float32_arcs_of_a_long_utterance_are_summed_without_loss():
    torch.manual_seed(0)
    nodes = all_nodes(torch.tensor([900]), torch.tensor([150]))
    weights = -3 * torch.rand(2, len(nodes))
    exact = occupations(nodes, weights.double(), ArcRules(backend="reference"))
    found = occupations(nodes, weights, ArcRules(backend="numba"))
    for value, wanted in zip(found, exact):
        torch.testing.assert_close(value, wanted, rtol=1e-9, atol=1e-12)


def test_torch_keeps_its_number_of_threads():
    """Numba and torch share OpenMP's settings, and another number of threads rounds differently."""
    script = (
        "import torch\n"
        "from asr.nodes.base import all_nodes\n"
        "from asr.ops.lattice.cpu import forward_backward\n"
        "forward_backward(all_nodes(torch.tensor([2]), torch.tensor([1])), torch.zeros(2, 4), ((1, 0), (0, 1)))\n"
        "assert torch.get_num_threads() == 1, torch.get_num_threads()\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    assert subprocess.run([sys.executable, "-c", script], check=False, env=environment).returncode == 0


def test_a_backend_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("asr.ops.lattice.paths.find_spec", lambda name: None)
    nodes = all_nodes(torch.tensor([2]), torch.tensor([1]))
    for name in ("triton", "k2"):
        with pytest.raises(InputError, match=f"loss.backend={name}: {name} is not installed .*; or use backend=auto"):
            occupations(nodes, torch.zeros(2, 4), ArcRules(backend=name))


def test_triton_without_a_gpu_is_refused(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    nodes = all_nodes(torch.tensor([2]), torch.tensor([1]))
    with pytest.raises(InputError, match="loss.backend=triton: needs a GPU, but the logits are on cpu"):
        occupations(nodes, torch.zeros(2, 4), ArcRules(backend="triton"))


@torch.inference_mode(False)
@torch.enable_grad()
def by_documentation(px, py, boundary, return_grad):
    """k2's recursion as its documentation has it: p[s,t] = logadd(p[s-1,t'] + px[s-1,t'], p[s,t-1] + py[s,t-1]),
    t' = t, or t − 1 where px has no column T; and its derivatives, in every mode."""
    assert return_grad
    assert px.is_contiguous()
    assert py.is_contiguous()
    px, py = px.clone().requires_grad_(), py.clone().requires_grad_()
    frames = py.shape[2]
    back = 0 if px.shape[2] == frames + 1 else 1
    scores = []
    for b, (first_label, first_frame, labels, last) in enumerate(boundary.tolist()):
        assert first_label == first_frame == 0
        p = {(0, 0): torch.zeros((), dtype=px.dtype)}
        for t in range(last + 1):
            for s in range(labels + 1):
                ways = [p[s - 1, t - back] + px[b, s - 1, t - back]] if s and t >= back else []
                ways += [p[s, t - 1] + py[b, s, t - 1]] if t else []
                ways = [way for way in ways if way > -torch.inf]
                if (s, t) != (0, 0):
                    p[s, t] = torch.stack(ways).logsumexp(0) if ways else torch.tensor(-torch.inf).double()
        scores.append(p[labels, last])
    total = torch.stack(scores)
    return total.detach(), torch.autograd.grad(total.sum(), (px, py), materialize_grads=True)


@pytest.fixture
def k2(monkeypatch):
    """k2, or a stand-in for its one function that is used; ASR_REQUIRE_K2=1 asks for the real one."""
    if importlib.util.find_spec("k2") is None:
        assert os.environ.get("ASR_REQUIRE_K2") != "1", "ASR_REQUIRE_K2=1, but k2 is not installed"
        stand_in = types.SimpleNamespace(mutual_information_recursion=by_documentation)
        monkeypatch.setitem(sys.modules, "k2", stand_in)
        monkeypatch.setattr("asr.ops.lattice.paths.find_spec", lambda name: "found")


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_k2_gives_the_same(k2, topology):
    draw = random.Random(0)
    sizes = [(5, 3), (4, 4), (2, 0)]
    sets = [random_nodes(draw, *size, topology) for size in sizes]
    frames_B, labels_B = torch.tensor(sizes).T
    nodes = make_nodes(frames_B, labels_B, padded([s[0] for s in sets]), padded([s[1] for s in sets]), topology)
    torch.manual_seed(0)
    arcs = -3 * torch.rand(2, len(nodes))
    rules = [ArcRules(standard_arcs(topology), 0.1, 0.2, backend=backend) for backend in ("k2", "numba")]
    for found, wanted in zip(*(occupations(nodes, arcs, rule) for rule in rules)):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("backend", ["reference", "numba", "k2"])
def test_a_validation_has_the_same_sums_in_inference_mode(k2, backend):
    rules, found = ArcRules(backend=backend), []
    for inference in (False, True):
        with torch.inference_mode(inference):
            nodes = all_nodes(torch.tensor([4, 2]), torch.tensor([2, 1]))
            arcs = -torch.arange(2.0 * len(nodes)).view(2, -1) / 10
            found.append([values.clone() for values in occupations(nodes, arcs.double(), rules)])
    for outside, inside in zip(*found, strict=True):
        assert torch.equal(outside, inside)


def test_a_k2_that_was_built_for_another_torch_is_refused(monkeypatch):
    monkeypatch.setattr("asr.ops.lattice.paths.find_spec", lambda name: "found")
    monkeypatch.setitem(sys.modules, "k2", None)
    nodes = all_nodes(torch.tensor([2]), torch.tensor([1]))
    with pytest.raises(InputError, match="loss.backend=k2: k2 cannot be imported .*; or use backend=auto"):
        occupations(nodes, torch.zeros(2, 4), ArcRules(backend="k2"))


def test_without_a_directory_for_compiled_code_the_kernels_compile_all_the_same(monkeypatch, caplog):
    def not_writable(self):
        raise PermissionError("read-only")

    monkeypatch.setattr("numba.core.caching._CacheLocator.ensure_cache_path", not_writable)
    spec = importlib.util.spec_from_file_location("cpu_without_cache", cpu.__file__)
    uncached = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, uncached)
    spec.loader.exec_module(uncached)
    assert uncached._logadd(math.log(0.25), math.log(0.5)) == pytest.approx(math.log(0.75), abs=1e-12)
    for module, warnings in ((cpu, 0), (uncached, 1)):
        caplog.clear()
        module.warn_without_cache.cache_clear()
        module.warn_without_cache()
        module.warn_without_cache()
        assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
            "numba finds no directory to keep compiled code in"
        ] * warnings


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("arc", [0, 1], ids=["blank", "label"])
def test_a_node_that_is_no_number_makes_the_loss_of_its_utterance_none(arc, topology, backend):
    """Or its gradient would be none, and nobody would know whose."""
    device = torch.device(KERNEL_DEVICE if backend == "triton" else "cpu")
    nodes = all_nodes(torch.tensor([4, 4]), torch.tensor([2, 2]))
    weights = torch.full((2, len(nodes)), -1.0, device=device)
    weights[arc, int(nodes.node_offsets[5]) + 1] = math.nan  # (1,1) of the second utterance
    total, by_AN = occupations(nodes, weights, ArcRules(standard_arcs(topology), backend=backend))
    assert total.isfinite().tolist() == [True, False]
    assert by_AN[:, :12].isfinite().all()
