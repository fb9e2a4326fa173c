#!/usr/bin/env python3
"""The checks of scripts/gpu_check.sh, which says what it is for."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "decode")]

import torch  # noqa: E402

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined

from torch import Tensor, nn  # noqa: E402

from asr.device import waits_are_counted  # noqa: E402
from asr.losses import TransducerLoss, make  # noqa: E402
from asr.losses.base import NotFiniteError  # noqa: E402
from asr.models.joiner import Joiner  # noqa: E402

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
KERNELS = {"backend": "triton", "joint": "fused"}
LOSSES = {
    "optimized": {},
    "optimized, tolerance": {"gradient_tolerance": 1e-3},
    "ar": {"left_frames": 5, "right_frames": 5},
    "pruned": {},
}
TESTS = ["ops/test_lattice.py", "ops/test_joint_standard.py", "losses/test_arcs.py", "losses/test_family.py"]
RUNS = 50  # that must give the same bits
STEP_MODULES = ("lhotse", "hydra", "kaldialign")


@dataclass(frozen=True)
class Row:
    """What came of a check: how many of `tried` passed, or why it was skipped; and figures for the log."""

    passed: int = 0
    tried: int = 0
    skipped: str = ""
    figures: str = ""

    def __str__(self) -> str:
        counted = f"SKIPPED ({self.skipped})" if self.skipped else f"{self.passed}/{self.tried}"
        return counted + f"  {self.figures}" * bool(self.figures)


NO_GPU = Row(skipped="there is no GPU")


@dataclass
class Batch:
    """A batch for a loss: rows, labels, and what they are padded to."""

    joiner: Joiner
    encoded: Tensor
    predicted: Tensor
    frames: Tensor
    labels: Tensor
    lengths: Tensor
    alignment: Tensor

    def loss(self, loss: TransducerLoss, joiner: nn.Module | None = None) -> Tensor:
        """Losses of the utterances."""
        targets = self.frames, self.predicted, self.labels, self.lengths, self.alignment
        losses: Tensor = loss(joiner or self.joiner, self.encoded, *targets).per_utterance
        return losses

    @property
    def leaves(self) -> list[Tensor]:
        """What gets a gradient."""
        return [self.encoded, self.predicted, *self.joiner.parameters()]


def make_batch(utterances: int, frames: int, labels: int, width: int, vocab_size: int, dtype: torch.dtype) -> Batch:
    """A batch of noise; lengths and labels are on the CPU."""
    torch.manual_seed(0)
    shortest = torch.arange(utterances) % 3
    joiner = Joiner(width, vocab_size).to(DEVICE, torch.float64 if dtype == torch.float64 else torch.float32)
    rows = (torch.randn(utterances, count, width, device=DEVICE, dtype=dtype) for count in (frames, labels + 1))
    encoded, predicted = (values.requires_grad_() for values in rows)
    frames_B, lengths_B = frames - shortest, labels - shortest.clamp(max=labels)
    alignment = torch.arange(labels).expand(utterances, -1) * (frames // (labels + 1))
    targets = torch.randint(1, vocab_size, (utterances, labels))
    return Batch(joiner, encoded, predicted, frames_B, targets, lengths_B, alignment)


def make_loss(name: str, width: int, vocab_size: int) -> TransducerLoss:
    """A loss by kernels, on the device."""
    torch.manual_seed(1)
    sizes = {"vocab_size": vocab_size, "encoder_dim": width, "predictor_dim": width}
    return make(name.split(",")[0], **sizes, **KERNELS, **LOSSES[name]).to(DEVICE)


# The checks


def card() -> Row:
    """Name, clocks and versions."""
    import triton

    versions = f"torch {torch.__version__}, triton {triton.__version__}, Python {sys.version.split()[0]}"
    if not GPU:
        return Row(skipped=NO_GPU.skipped, figures=versions)
    query = "name,clocks.sm,clocks.max.sm,clocks.mem,memory.total,driver_version"
    words = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    told = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    return Row(1, 1, figures=f"{told}; {versions}")


def kernel_tests(output: Path) -> Row:
    """The tests of the kernels; on a machine without a GPU in Triton's interpreter."""
    chosen = "triton or fused or test_joint_standard"
    words = [sys.executable, "-m", "pytest", *(f"tests/{test}" for test in TESTS), "-k", chosen, "-o", "addopts="]
    words += ["--tb=short", "-p", "no:cacheprovider"]
    if importlib.util.find_spec("xdist"):
        words += ["-n", "8" if GPU else "2"]
    environment = {**os.environ, **({"ASR_REQUIRE_GPU": "1"} if GPU else {})}
    with (output / "kernel_tests.log").open("w") as log:
        subprocess.run(words, stdout=log, stderr=log, check=False, cwd=ROOT, env=environment)
    told = (output / "kernel_tests.log").read_text().splitlines()[-1:]
    counts = {what: int(number) for number, what in re.findall(r"(\d+) (passed|failed|error)", " ".join(told))}
    return Row(counts.get("passed", 0), max(sum(counts.values()), 1), figures="kernel_tests.log")


def large_offsets() -> Row:
    """Places of logits beyond 2^31: some nodes of a batch whose logits are as many, against the same nodes alone."""
    if not GPU:
        return NO_GPU
    from asr.arcs.rules import ArcRules
    from asr.nodes.base import all_nodes
    from asr.ops.joint.chunked import PackedSettings, choose_joint, index_nodes

    batch = make_batch(16, 3000, 100, 64, 500, torch.bfloat16)
    rows = batch.encoded.detach().flatten(0, 1), batch.predicted.detach().flatten(0, 1)
    nodes = all_nodes(batch.frames, batch.lengths)
    index = index_nodes(nodes, batch.encoded.shape[1], batch.labels.to(DEVICE))
    assert len(nodes) * 500 > 2**31
    some = torch.linspace(0, len(nodes) - 1, 1000, device=DEVICE).long()
    by_CN = torch.zeros(2, len(nodes), device=DEVICE)
    by_CN[:, some] = 0.5
    settings = PackedSettings(0, 0.0, ArcRules(), joint="fused")
    with torch.autocast("cuda", torch.bfloat16), torch.no_grad():
        joint = choose_joint(batch.joiner, settings, list(batch.joiner.parameters()), DEVICE)
        whole, part = joint.log_probs(index, *rows), joint.log_probs(index.take(some), *rows)
        grads = joint.gradients(index, *rows, by_CN), joint.gradients(index.take(some), *rows, by_CN[:, some])
    close = [torch.allclose(whole[:, some], part, atol=1e-2)]
    close += [torch.allclose(a.float(), b.float(), rtol=2e-2, atol=1e-2) for a, b in zip(*grads)]
    return Row(sum(close), len(close), figures=f"{len(nodes)} nodes × 500")


def same_bits() -> Row:
    """Losses and gradients of many runs, bit by bit."""
    passed, runs = 0, RUNS if GPU else 3
    size = (8, 200, 40, 256, 500) if GPU else (3, 8, 3, 16, 11)
    for name in LOSSES:
        loss = make_loss(name, *size[3:]).eval()  # in training `pruned` counts its batches
        batch = make_batch(*size, torch.bfloat16 if GPU else torch.float32)
        seen = set()
        for _ in range(runs):
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=GPU):
                losses = batch.loss(loss)
            found = [losses.detach(), *torch.autograd.grad(losses.sum(), batch.leaves)]
            seen.add(hashlib.sha256(b"".join(value.float().cpu().numpy().tobytes() for value in found)).hexdigest())
        passed += len(seen) == 1
    return Row(passed, len(LOSSES), figures=f"{runs} runs each")


def not_a_number() -> Row:
    """A frame that is NaN: its utterance is named."""
    passed = 0
    for name in LOSSES:
        batch = make_batch(4, 12, 3, 16, 11, torch.float32)
        with torch.no_grad():
            batch.encoded[2, 5, 3] = float("nan")
        try:
            batch.loss(make_loss(name, 16, 11))
        except NotFiniteError as error:
            passed += error.utterance == 2
    return Row(passed, len(LOSSES))


def waits() -> Row:
    """How often a loss waits for the GPU: twice at most, its gradient never."""
    if not GPU:
        return Row(skipped="there is no GPU; see tests/losses/test_waits.py")
    passed, counted = 0, []
    for name in LOSSES:
        loss, batch = make_loss(name, 256, 500), make_batch(8, 200, 40, 256, 500, torch.float32)
        torch.autograd.grad(batch.loss(loss).sum(), batch.leaves)  # compiles
        with waits_are_counted() as forward:
            total = batch.loss(loss).sum()
        with waits_are_counted() as backward:
            torch.autograd.grad(total, batch.leaves)
        passed += len(forward) <= 2 and not backward
        counted.append(f"{name} {len(forward)}+{len(backward)}")
    return Row(passed, len(LOSSES), figures="; ".join(counted))


def kernel_times(output: Path) -> Row:
    """Time of each kernel of a loss on 30 utterances of LibriSpeech's length, beside what its bytes would take."""
    if not GPU:
        return NO_GPU
    loss, batch = make_loss("optimized", 512, 500), make_batch(30, 350, 75, 512, 500, torch.bfloat16)

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16):
            total = batch.loss(loss).sum()
        torch.autograd.grad(total, batch.leaves)

    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiled:
        step()
        torch.cuda.synchronize()
    table = profiled.key_averages().table(sort_by="self_device_time_total", row_limit=25)
    (output / "kernel_times.txt").write_text(table)
    nodes = int((batch.frames * (batch.lengths + 1)).sum())
    moved_gb = 2 * nodes * (512 + 512) * 2 * 3 / 1e9  # hidden and logits in halves, each written once and read twice
    total_ms = sum(event.self_device_time_total for event in profiled.key_averages()) / 1e3
    return Row(1, 1, figures=f"{nodes} nodes: {total_ms:.1f} ms of kernels, {moved_gb:.1f} GB: kernel_times.txt")


def loss_tables(output: Path) -> Row:
    """scripts/bench_loss.py in both regimes of the published benchmark, beside torchaudio."""
    if not GPU:
        return NO_GPU
    cases = ["torchaudio", "optimized", "optimized streamed", "optimized streamed, tolerance", "ar", "pruned"]
    passed = 0
    for regime in ("unsorted", "sorted"):
        words = [sys.executable, "scripts/bench_loss.py", "--device", "cuda", "--regime", regime, "--utterances", "30"]
        words += ["--dtype", "float32", "bfloat16", "--repeats", "10", "--output", str(output / f"loss_{regime}")]
        if os.environ.get("ASR_SHAPES"):
            words += ["--shapes", os.environ["ASR_SHAPES"]]
        done = subprocess.run([*words, "--only", *cases], cwd=ROOT, check=False, capture_output=True, text=True)
        passed += done.returncode == 0
        (output / f"loss_{regime}.log").write_text(done.stdout + done.stderr)
    return Row(passed, 2, figures="loss_unsorted.md, loss_sorted.md")


def missing_modules() -> str:
    """What a training step needs beside torch and is not there, in words."""
    return ", ".join(name for name in STEP_MODULES if importlib.util.find_spec(name) is None)


def training_step(output: Path) -> Row:
    """scripts/bench_step.py, in both precisions."""
    if missing := missing_modules():
        return Row(skipped=f"not installed: {missing}")
    passed, lines = 0, []
    model = [] if GPU else ["model=tiny"]
    for precision in ("float32", "bfloat16") if GPU else ("float32",):
        words = [sys.executable, "scripts/bench_step.py", "--steps", "20" if GPU else "1", "--"]
        words += [f"train.precision={precision}", "optim=scaled_adam", *model]
        done = subprocess.run(words, cwd=ROOT, check=False, capture_output=True, text=True, env=with_root())
        passed += done.returncode == 0
        lines.append(f"{precision}: " + (done.stdout.splitlines() or [done.stderr.strip()[-200:]])[0])
    (output / "training_step.txt").write_text("\n".join(lines) + "\n")
    return Row(passed, len(lines), figures="; ".join(lines))


def searches() -> Row:
    """Hypotheses of random models by greedy search, as a CUDA graph and step by step, and by beam search, against those
    of the CPU; whether the graph could be made and for how little it waits; and how long they take.
    """
    if missing := missing_modules():
        return Row(skipped=f"not installed: {missing}")
    if not GPU:
        return NO_GPU
    from arcs_by_definition import KINDS

    passed = [same for kind in KINDS for seed in range(5) for same in same_hypotheses(kind, seed)]
    few_waits, figures = search_times(32, 250, 512, 500)
    return Row(sum(passed) + few_waits, len(passed) + 1, figures=figures)


def same_hypotheses(kind: str, seed: int) -> list[bool]:
    """Whether searches of models with some arcs find on the device what they find on the CPU, in batches of which some
    have fewer rows than the graph that they share.
    """
    from arcs_by_definition import arcs_of
    from random_models import TableAutomaton, TableScorer, random_encoded, random_model

    from asr.decode.beam import BeamSearch
    from asr.decode.greedy import GreedySearch
    from asr.decode.greedy_graph import Graphs
    from asr.decode.scorer import Tabulated

    found: list[list[object]] = []
    graphs = Graphs(after=0)
    for device in (torch.device("cpu"), DEVICE):
        arcs, extra = arcs_of(kind, 6)
        model, scores = random_model(seed, 6, extra).to(device), TableScorer(6, seed)
        scorers = [[], [Tabulated(TableAutomaton(scores), 1.0, device)]]
        greedy = [GreedySearch(model, 2, arcs, scorer, 0.5) for scorer in ([], *scorers)]
        greedy[0].graphs, greedy[1].graphs = graphs if device == DEVICE else None, None
        found.append([])
        for search in (*greedy, *(BeamSearch(model, 4, arcs, 2, scorer) for scorer in scorers)):
            for batch in (8, 5, 7):  # up to 8 rows: one graph
                session = search.begin(batch)
                for part in range(2):
                    encoded, frames = random_encoded(seed + part, batch, 12 - 4 * part)
                    session.read(encoded.to(device), frames.to(device))
                found[-1].append([(one.tokens, one.frames, round(one.score, 2)) for (one, *_) in session.best()])
    return [bool(graphs.captured) and not graphs.refused, *(there == here for there, here in zip(*found))]


def search_times(utterances: int, frames: int, width: int, vocab_size: int) -> tuple[bool, str]:
    """Whether greedy search waits for a batch as seldom as it should; milliseconds of searches."""
    from random_models import random_model

    from asr.decode.beam import BeamSearch
    from asr.decode.greedy import STEPS, GreedySearch
    from asr.decode.greedy_graph import Graphs
    from asr.decode.search import search_all

    model = random_model(0, vocab_size, joiner_dim=width, predictor_dim=width).float().to(DEVICE)
    with torch.no_grad():
        model.predictor_projection.weight.mul_(width**-0.5)
        model.joiner.output.weight.mul_(2 * width**-0.5)
        model.joiner.output.bias[0] += 3  # a label in some of the frames
    encoded = torch.randn(utterances, frames, width, device=DEVICE)
    frames_B = torch.full((utterances,), frames, device=DEVICE)
    graphed, plain = GreedySearch(model, 5), GreedySearch(model, 5)
    graphed.graphs, plain.graphs = Graphs(after=0), None
    taken = []
    for name, search in {"graph": graphed, "step by step": plain, "beam 4": BeamSearch(model, 4)}.items():
        search_all(search, encoded, frames_B)  # captures, chooses kernels
        started = time.perf_counter()
        found = search_all(search, encoded, frames_B)
        labels = sum(len(best.tokens) for best, *_ in found)
        taken.append(f"{name} {1e3 * (time.perf_counter() - started):.1f} ms ({labels} labels)")
    with waits_are_counted() as waits:
        found = search_all(graphed, encoded, frames_B)
    steps = frames + max(len(best.tokens) for (best,) in found)  # at most
    figures = f"{utterances} × {frames} frames: {', '.join(taken)}; greedy search waits {len(waits)} times"
    return len(waits) <= steps / STEPS + 2, figures


def with_root() -> dict[str, str]:
    """The environment, in which this repository's code is found."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def main() -> int:
    """Run all checks; what each gave is printed and written at once."""
    output = Path(sys.argv[1]).resolve()
    output.mkdir(parents=True, exist_ok=True)
    checks: dict[str, Callable[[], Row]] = {
        "card": card,
        "kernel tests": lambda: kernel_tests(output),
        "offsets beyond 2^31": large_offsets,
        "same bits": same_bits,
        "not a number": not_a_number,
        "waits": waits,
        "kernel times": lambda: kernel_times(output),
        "loss tables": lambda: loss_tables(output),
        "training step": lambda: training_step(output),
        "searches": searches,
    }
    rows = []
    with (output / "gpu_check.txt").open("w") as file:
        for name, check in checks.items():
            started = time.perf_counter()
            try:
                row = check()
            except Exception as error:  # the others are to be tried all the same
                row = Row(0, 1, figures=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
            rows.append(row)
            line = f"{name}: {row}  [{time.perf_counter() - started:.0f} s]"
            print(line, flush=True)
            print(line, file=file, flush=True)
    if any(row.passed < row.tried for row in rows):
        return 1
    return 3 if any(row.skipped for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
