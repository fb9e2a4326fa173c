"""How often a loss waits for a GPU: twice at most in the forward, and never in the backward."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes
from waits import Away, Waits, moved, values_of

from asr.losses import make
from asr.models.joiner import Joiner
from asr.ops.joint import gpu as joint_kernels
from asr.ops.lattice import gpu as lattice_kernels

CASES = {
    "optimized": {"name": "optimized"},
    "optimized, tolerance": {"name": "optimized", "gradient_tolerance": 1e-3},
    "optimized, edges": {"name": "optimized", "edges": 0.5},
    "ar": {"name": "ar", "topology": "modified"},
    "pruned": {"name": "pruned", "am_scale": 0.1},
    "pruned, mass": {"name": "pruned", "prune_mass": 0.9, "topology": "constrained", "delay_penalty": 0.1},
    "pruned, alignment at first": {"name": "pruned", "aligned_batches": 9},
    "pruned, alignment": {"name": "pruned", "bounds": "alignment"},
    "tdt": {"name": "optimized", "arcs": "tdt", "joint": "chunked"},
    "views": {"name": "optimized", "consistency": 0.2, "joint": "chunked"},
}
KERNELS = {
    lattice_kernels: ("_forward", "_backward"),
    joint_kernels: ("_hidden", "_arcs", "_merged_gradient", "_add_row_sums"),
}


class Launched:
    """A kernel that takes tensors `Away`."""

    def __init__(self, kernel):
        self.kernel = kernel

    def __getitem__(self, grid):
        def launch(*args, **options):
            with _disable_current_modes():
                self.kernel[grid](*map(values_of, args), **options)

        return launch


@pytest.fixture
def kernels(monkeypatch):
    """In the interpreter, on the values of tensors that claim to be elsewhere."""
    if torch.cuda.is_available():
        pytest.skip("the kernels are compiled for the GPU, and take no tensors that claim to be on one")
    for module, names in KERNELS.items():
        for name in names:
            monkeypatch.setattr(module, name, Launched(getattr(module, name)))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which does not know that device
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda _: torch.bfloat16)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # the interpreter of Triton: inf − inf, masked out
@pytest.mark.parametrize("case", CASES)
def test_a_loss_waits_for_the_device_twice_and_its_gradient_never(case, kernels):
    torch.manual_seed(0)
    options = dict(CASES[case])
    name, arcs = options.pop("name"), options.get("arcs", "standard")
    loss = make(name, vocab_size=7, encoder_dim=8, predictor_dim=8, backend="triton", **{"joint": "fused", **options})
    joiner = Joiner(8, 7 + 5 * (arcs == "tdt"))
    encoded, predicted = torch.randn(4, 9, 8), torch.randn(4, 4, 8)
    labels = torch.randint(1, 7, (2, 3)).repeat(2, 1)
    frames, lengths = torch.tensor([9, 7, 9, 7]), torch.tensor([3, 2, 3, 2])
    alignment = torch.tensor([[1, 4, 6], [2, 5, -1]]).repeat(2, 1)
    views = 2 if "consistency" in options else 1
    targets = frames, labels, lengths, alignment

    def run(encoded, predicted, loss, joiner, frames, labels, lengths, alignment):
        return loss(joiner, encoded, frames, predicted, labels, lengths, alignment, views)

    expected = run(encoded, predicted, copy.deepcopy(loss), joiner, *targets).per_utterance
    leaves = [nn.Parameter(Away(rows)) for rows in (encoded, predicted)]
    modules = moved(loss), moved(joiner)
    with Waits() as forward:
        out = run(*leaves, *modules, *targets)
    assert forward.count <= 2, forward.where
    torch.testing.assert_close(out.per_utterance.values, expected)
    with Waits() as backward:
        out.per_utterance.sum().backward()
    assert leaves[0].grad.values.abs().sum() > 0
    assert backward.count == 0, backward.where
    with Waits() as all_away:
        run(*leaves, *modules, *map(Away, targets))
    assert all_away.count == forward.count + 1, all_away.where
