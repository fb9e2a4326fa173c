"""scripts/bench_loss.py: losses of other libraries are called as these define them."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bench_loss.py"


@pytest.fixture
def bench(monkeypatch):
    spec = importlib.util.spec_from_file_location("bench_loss", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_loss", module)  # where dataclasses look up their types
    spec.loader.exec_module(module)
    return module


def test_optimized_transducer_is_asked_for_the_sum_of_what_torchaudio_finds(bench, monkeypatch):
    shapes = [(5, 2), (4, 3)]

    def transducer_loss(
        logits, targets, logit_lengths, target_lengths, blank, from_log_softmax,
        one_sym_per_frame=False, reduction="mean",
    ):  # fmt: skip
        """The signature of optimized_transducer 1.4; the loss is torchaudio's, of the rows of each utterance."""
        assert (blank, from_log_softmax, one_sym_per_frame, reduction) == (0, False, False, "sum")
        assert {values.dtype for values in (targets, logit_lengths, target_lengths)} == {torch.int32}
        losses, begin = [], 0
        for row, frames, labels in zip(targets, logit_lengths.tolist(), target_lengths.tolist()):
            end = begin + frames * (labels + 1)
            grid = logits[begin:end].view(1, frames, labels + 1, -1)
            lengths = (torch.tensor([size], dtype=torch.int32) for size in (frames, labels))
            losses.append(sys.modules["torchaudio"].functional.rnnt_loss(grid, row[None, :labels], *lengths, blank=0))
            begin = end
        assert begin == len(logits)
        return torch.stack(losses).sum()

    monkeypatch.setitem(sys.modules, "optimized_transducer", SimpleNamespace(transducer_loss=transducer_loss))
    sums = {}
    for name in ("torchaudio", "optimized_transducer", "optimized"):
        torch.manual_seed(0)
        implementation, options = bench.IMPLEMENTATIONS[name]
        case = bench.Case(name, implementation, options, "random", 7, "float32", "cpu", 8, shapes, 0, 1)
        sums[name] = bench.Problem(case, shapes).step()["loss"]
    assert sums["optimized_transducer"] == pytest.approx(sums["torchaudio"], rel=1e-5)
    assert sums["optimized"] == pytest.approx(sums["torchaudio"], rel=1e-5)
