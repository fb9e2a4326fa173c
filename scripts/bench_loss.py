#!/usr/bin/env python3
"""Time and peak memory of joiner and transducer loss, forward and backward, on the shapes of LibriSpeech.

    python scripts/bench_loss.py                          10 utterances, V=500: a few minutes on 2 cores
    python scripts/bench_loss.py --utterances 30 --vocab 500 5000 --dtype float32 bfloat16 --device cuda
    python scripts/bench_loss.py --utterances 30 --dtype bfloat16 --device cuda --repeats 20 --output docs/bench/gpu \\
        --only torchaudio "optimized streamed" "optimized streamed, tolerance"
    python scripts/bench_loss.py --only optimized torchaudio --lattice peaked
    python scripts/bench_loss.py --arcs tdt --only full "optimized streamed" --output docs/bench/tdt
    python scripts/bench_loss.py --consistency 0.2 --only "optimized streamed" pruned --output docs/bench/views
    python scripts/bench_loss.py --budget-mb 2000 --only full ar --output docs/bench/batch

Every case runs in a process of its own. Two lattices: of random weights, and one in which each label is nearly
certain at its frame, as in a trained model (skipping depends on it). bfloat16 is autocast's, weights are float32. On a
GPU our losses take the fused kernels; --joint chunked shows them without. Writes OUTPUT.json, OUTPUT.md and OUTPUT.png.
With --consistency the second half of the batch are other views of the first; 0 is the same batch, not compared.
With a budget it finds the largest batch instead whose inputs, joiner and loss fit into it, and writes OUTPUT.md.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import importlib.util
import itertools
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where it is not installed

# Frames (after 4× subsampling) and labels (BPE 500) per frame of LibriSpeech train-clean-100 with 3-fold speed
# perturbation, at quantiles 0, 0.05, 0.25, 0.5, 0.75, 0.95 and 1: what stands in for the real table.
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
FRAMES = (31, 105, 284, 343, 382, 432, 680)
LABELS_PER_FRAME = (0.034, 0.152, 0.188, 0.213, 0.241, 0.283, 0.45)
BATCH_FRAMES = 10_000  # of a length-sorted batch
MOST_UTTERANCES = 4096  # that a largest batch is looked for among


@dataclass(frozen=True)
class Case:
    """One measurement. name: of the implementation; options: of `asr.losses.make`."""

    name: str
    implementation: str
    options: dict[str, Any]
    lattice: str
    vocab: int
    dtype: str
    device: str
    joiner_dim: int
    shapes: list[tuple[int, int]]
    repeats: int
    threads: int


IMPLEMENTATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "torchaudio": ("torchaudio", {}),
    "optimized_transducer": ("optimized_transducer", {}),
    "fast_rnnt pruned": ("fast_rnnt", {"prune_range": 5}),
    "full": ("asr", {"name": "full"}),
    "optimized": ("asr", {"name": "optimized", "chunk_nodes": 0}),
    "optimized streamed": ("asr", {"name": "optimized"}),
    "optimized streamed, tolerance": ("asr", {"name": "optimized", "gradient_tolerance": 1e-3}),
    "ar": ("asr", {"name": "ar", "gradient_tolerance": 1e-3}),
    "pruned": ("asr", {"name": "pruned", "prune_range": 5, "warmup_batches": 0}),
    "pruned, mass": ("asr", {"name": "pruned", "prune_mass": 0.99, "gradient_tolerance": 1e-3, "warmup_batches": 0}),
}


def main() -> None:
    """Run all cases, then write the three reports."""
    options = parse_options()
    cases = list(make_cases(options))
    if options.budget_mb:
        write_largest_batches(cases, options)
        return
    results = []
    for number, case in enumerate(cases, start=1):
        print(
            f"[{number}/{len(cases)}] {case.name}, {case.lattice}, V={case.vocab}, {case.dtype}: ", end="", flush=True
        )
        result = run_apart(case)
        results.append(result)
        print(result.get("error") or f"{result['seconds']:.4g} s, {result['peak_mb']:.0f} MB", flush=True)
    write_reports(results, options)


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/bench/loss"), help="reports, without suffix")
    parser.add_argument("--shapes", type=Path, help="csv of frames,labels; default: ../shared/bench, or quantiles")
    parser.add_argument("--regime", choices=("unsorted", "sorted"), default="unsorted", help="how a batch is made")
    parser.add_argument("--utterances", type=int, default=10, help="utterances of an unsorted batch")
    parser.add_argument("--scale", type=int, default=1, help="frames and labels times so much")
    parser.add_argument("--vocab", type=int, nargs="+", default=[500])
    parser.add_argument("--joiner-dim", type=int, default=512)
    parser.add_argument("--dtype", nargs="+", choices=("float32", "bfloat16"), default=["float32"])
    parser.add_argument("--lattice", nargs="+", choices=("random", "peaked"), default=["random", "peaked"])
    parser.add_argument("--joint", choices=("auto", "chunked", "fused"), default="auto", help="see loss.joint")
    parser.add_argument("--arcs", choices=("standard", "hat", "multi_blank", "tdt"), default="standard", help="of ours")
    parser.add_argument("--consistency", type=float, help="see loss.consistency; of ours")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", nargs="+", choices=tuple(IMPLEMENTATIONS), default=list(IMPLEMENTATIONS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--budget-mb", type=int, help="memory that a batch may take")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def make_cases(options: argparse.Namespace) -> Any:
    """Every combination that was asked for and whose library is installed."""
    shapes = make_shapes(options)
    if options.consistency is not None:
        shapes = shapes[: len(shapes) // 2] * 2
    for vocab, dtype, lattice, name in itertools.product(options.vocab, options.dtype, options.lattice, options.only):
        implementation, more = IMPLEMENTATIONS[name]
        if implementation != "asr" and importlib.util.find_spec(implementation) is None:
            continue  # of others; ours is there, beside this script
        if implementation != "asr" and (options.arcs != "standard" or options.consistency is not None):
            continue
        if options.arcs != "standard":
            without_sigma = {"sigma": 0.0} if options.arcs == "tdt" else {}  # with it the forward needs all nodes
            name, more = f"{name}, {options.arcs}", {**more, "arcs": {"name": options.arcs, **without_sigma}}
        if options.consistency is not None:
            weight = options.consistency
            name, more = f"{name}, consistency {weight:g}", {**more, "consistency": weight}
        if options.joint != "auto" and implementation == "asr" and more["name"] != "full":
            name, more = f"{name}, {options.joint}", {**more, "joint": options.joint}
        yield Case(
            name, implementation, more, lattice, vocab, dtype, options.device, options.joiner_dim, shapes,
            options.repeats, options.threads,
        )  # fmt: skip


def make_shapes(options: argparse.Namespace) -> list[tuple[int, int]]:
    """Frames and labels of every utterance of the batch."""
    table = options.shapes or Path(__file__).resolve().parents[2] / "shared/bench/librispeech_clean100_shapes.csv"
    draw = random.Random(options.seed)
    if table.is_file():
        with table.open() as file:
            rows = [(int(row["frames"]), int(row["labels"])) for row in csv.DictReader(file)]
    else:
        rows = [draw_shape(draw) for _ in range(10_000)]
    if options.regime == "unsorted":
        chosen = draw.sample(rows, options.utterances)
    else:
        rows.sort()
        at = draw.randrange(len(rows) // 2)
        chosen = rows[at : at + BATCH_FRAMES // rows[at][0]]
    return [(options.scale * frames, options.scale * labels) for frames, labels in chosen]


def draw_shape(draw: random.Random) -> tuple[int, int]:
    """A random utterance with the quantiles above."""

    def at(values: tuple[float, ...], share: float) -> float:
        i = max(i for i, quantile in enumerate(QUANTILES[:-1]) if quantile <= share)
        part = (share - QUANTILES[i]) / (QUANTILES[i + 1] - QUANTILES[i])
        return values[i] + part * (values[i + 1] - values[i])

    frames = round(at(FRAMES, draw.random()))
    return frames, max(round(frames * at(LABELS_PER_FRAME, draw.random())), 1)


# The largest batch of a memory budget


def write_largest_batches(cases: list[Case], options: argparse.Namespace) -> None:
    """Print a table of the largest batch of every case, and write it to OUTPUT.md."""
    lines = [
        f"Utterances whose inputs, joiner and loss (forward and backward) fit into {options.budget_mb} MB: "
        f"LibriSpeech, unsorted, J={options.joiner_dim}, {machine(options.device)}, {time.strftime('%Y-%m-%d')}.",
        "",
        "| lattice | V | dtype | loss | utterances | peak MB | × the first |",
        "|---|---:|---|---|---:|---:|---:|",
    ]
    counts: dict[tuple[Any, ...], int] = {}
    for case in cases:
        setting = case.lattice, case.vocab, case.dtype
        count, peak_mb = largest_batch(case, options)
        counts.setdefault(setting, count)  # of the loss that was named first
        cells = *setting, case.name, count, f"{peak_mb:.0f}", f"{count / max(counts[setting], 1):.1f}"
        lines.append(f"| {' | '.join(map(str, cells))} |")
        print(lines[-1], flush=True)
    options.output.with_suffix(".md").write_text("\n".join(lines) + "\n")


def largest_batch(case: Case, options: argparse.Namespace) -> tuple[int, float]:
    """Utterances of the largest batch that fits, within 3 %, and the memory that it takes in MB."""
    everything = make_shapes(argparse.Namespace(**{**vars(options), "utterances": MOST_UTTERANCES}))

    def memory(count: int) -> float:
        result = run_apart(replace(case, shapes=everything[:count], repeats=0))
        return float("inf") if "error" in result else result["peak_mb"] + result["inputs_mb"]

    fits, taken, beyond = 0, 0.0, 0
    while not beyond or beyond - fits > max(0.03 * fits, 1):
        count = (fits + beyond) // 2 if beyond else max(2 * fits, 1)
        if count > MOST_UTTERANCES or (peak := memory(count)) > options.budget_mb:
            beyond = count
        else:
            fits, taken = count, peak
    return fits, taken


# One case, in a process of its own


def run_apart(case: Case) -> dict[str, Any]:
    """The result of a case, or its error."""
    words = [sys.executable, __file__, "--case", json.dumps(asdict(case))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(case.threads), "NUMBA_NUM_THREADS": str(case.threads)}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        return {**asdict(case), "error": (done.stderr.strip().splitlines() or ["killed"])[-1][:200]}
    return {**asdict(case), **json.loads(done.stdout.splitlines()[-1])}


def measure(case: Case) -> dict[str, Any]:
    """Median seconds, peak MB above the inputs, and node counts."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(case.threads)
    warm = Problem(case, [(12, 3)] * 2)  # compiles and loads everything, on a lattice too small to count
    warm.step()
    problem = Problem(case, case.shapes)
    memory = Memory(case.device)
    info = problem.step()
    peak_mb = memory.peak_mb()
    seconds = []
    for _ in range(case.repeats):
        synchronize(case.device)
        start = time.perf_counter()
        problem.step()
        synchronize(case.device)
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds) if seconds else None
    return {"seconds": median, "peak_mb": peak_mb, "inputs_mb": problem.inputs_mb(), **info}


def synchronize(device: str) -> None:
    """Wait for the GPU."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


class Memory:
    """Peak of what is allocated from now on: on a GPU by torch, else resident memory of this process (Linux)."""

    def __init__(self, device: str) -> None:
        import torch

        self.device = device
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
        self.before = self.read("VmRSS")

    def read(self, field: str) -> float:
        """MB of a field of /proc/self/status, or of torch's allocator."""
        import torch

        if self.device == "cuda":
            return torch.cuda.max_memory_allocated() / 2**20
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024

    def peak_mb(self) -> float:
        """MB above what there was at first."""
        return self.read("VmHWM") - self.before


class Problem:
    """A batch, a joiner and a loss.

    Encoder and predictor rows have the joiner's width already. A peaked lattice: frame a_u points to label u
    and, half as much, to blank; position u + 1 points away from label u; all other frames point to blank.
    """

    def __init__(self, case: Case, shapes: list[tuple[int, int]]) -> None:
        import torch

        from asr.arcs.make import arc_options
        from asr.models.joiner import Joiner

        self.case, self.device = case, torch.device(case.device)
        self.frames, self.label_lengths = (torch.tensor(sizes, device=self.device) for sizes in zip(*shapes))
        batch, most_labels = len(shapes), int(self.label_lengths.max())
        self.labels = torch.randint(1, case.vocab, (batch, most_labels), device=self.device)
        self.views = 2 if "consistency" in case.options else 1
        if self.views == 2:
            self.labels = self.labels[: batch // 2].repeat(2, 1)
        spread = (torch.arange(most_labels, device=self.device) + 0.5) * (self.frames / self.label_lengths)[:, None]
        self.alignment = spread.long().minimum(self.frames[:, None] - 1)
        extra_outputs = arc_options(case.options.get("arcs", "standard")).extra_outputs
        self.joiner = Joiner(case.joiner_dim, case.vocab + extra_outputs).to(self.device)
        encoder_out = torch.randn(batch, int(self.frames.max()), case.joiner_dim, device=self.device)
        predictor_out = torch.randn(batch, most_labels + 1, case.joiner_dim, device=self.device)
        if case.lattice == "peaked":
            self.point(encoder_out, predictor_out)
        dtype = getattr(torch, case.dtype)
        self.encoder_out = encoder_out.to(dtype).requires_grad_()
        self.predictor_out = predictor_out.to(dtype).requires_grad_()
        make = {"asr": make_ours, "torchaudio": make_torchaudio, "optimized_transducer": make_optimized_transducer}
        self.loss = make.get(case.implementation, make_k2)(self)

    def point(self, encoder_out: Any, predictor_out: Any, strength: float = 10.0, sharpness: float = 4.0) -> None:
        """Make the lattice peaked: logits of about `strength` · `sharpness` where a row points to."""
        import torch

        with torch.no_grad():
            weight = torch.nn.functional.normalize(self.joiner.output.weight)
            self.joiner.output.weight.copy_(sharpness * weight)
            pointed = strength * weight[self.labels]
            encoder_out.mul_(0.01).add_(0.5 * strength * weight[0])
            predictor_out.mul_(0.01)[:, 1:] -= pointed
            for b, lengths in enumerate(self.label_lengths.tolist()):
                encoder_out[b].index_add_(0, self.alignment[b, :lengths], pointed[b, :lengths])

    def step(self) -> dict[str, Any]:
        """Forward and backward once; the loss, and node counts where known."""
        import torch

        for tensor in (self.encoder_out, self.predictor_out, *self.joiner.parameters()):
            tensor.grad = None
        with torch.autocast(self.case.device, torch.bfloat16, enabled=self.case.dtype == "bfloat16"):
            per_utterance, info = self.loss()
        per_utterance.sum().backward()
        return {"loss": float(per_utterance.detach().sum()), "frames": int(self.frames.sum()), **info}

    def inputs_mb(self) -> float:
        """What encoder and predictor output take."""
        return sum(tensor.nbytes for tensor in (self.encoder_out, self.predictor_out)) / 2**20

    def grid(self) -> Any:
        """Logits of the whole padded grid (B,T,U+1,V)."""
        return self.joiner(self.encoder_out[:, :, None], self.predictor_out[:, None])


Loss = Callable[[], tuple[Any, dict[str, Any]]]


def make_ours(problem: Problem) -> Loss:
    """A loss of this project."""
    from asr.losses import make

    case = problem.case
    width = case.joiner_dim
    loss = make(**case.options, vocab_size=case.vocab, encoder_dim=width, predictor_dim=width).to(problem.device)

    def run() -> tuple[Any, dict[str, Any]]:
        out = loss(
            problem.joiner, problem.encoder_out, problem.frames, problem.predictor_out,
            problem.labels, problem.label_lengths, problem.alignment, problem.views,
        )  # fmt: skip
        return out.per_utterance, {"nodes": out.nodes, "kept": out.kept}

    return run


def make_torchaudio(problem: Problem) -> Loss:
    """torchaudio.functional.rnnt_loss on the padded grid."""
    import torchaudio

    lengths = problem.frames.int(), problem.label_lengths.int()

    def run() -> tuple[Any, dict[str, Any]]:
        logits = problem.grid().float()
        loss = torchaudio.functional.rnnt_loss(logits, problem.labels.int(), *lengths, blank=0, reduction="none")
        return loss, {"nodes": logits.shape[:3].numel()}

    return run


def make_optimized_transducer(problem: Problem) -> Loss:
    """csukuangfj/optimized_transducer on packed logits."""
    import optimized_transducer
    import torch

    from asr.nodes.base import all_nodes

    b, t, u = all_nodes(problem.frames, problem.label_lengths).coordinates()

    def run() -> tuple[Any, dict[str, Any]]:
        logits = problem.joiner(problem.encoder_out[b, t], problem.predictor_out[b, u])
        lengths = problem.frames.int(), problem.label_lengths.int()
        loss = optimized_transducer.transducer_loss(
            logits, problem.labels.int(), *lengths, blank=0, from_log_softmax=False, reduction="sum"
        )
        return torch.atleast_1d(loss), {"nodes": len(b)}

    return run


def make_k2(problem: Problem) -> Loss:
    """The pruned loss of k2 or fast_rnnt, whose functions bear the same names."""
    import torch

    library = importlib.import_module(problem.case.implementation)
    width, vocab = problem.case.joiner_dim, problem.case.vocab
    am_of, lm_of = (torch.nn.Linear(width, vocab).to(problem.device) for _ in range(2))
    zeros = torch.zeros_like(problem.frames)
    boundary = torch.stack((zeros, zeros, problem.label_lengths, problem.frames), dim=1)

    def run() -> tuple[Any, dict[str, Any]]:
        simple, gradients = library.rnnt_loss_smoothed(
            lm_of(problem.predictor_out).float(), am_of(problem.encoder_out).float(), problem.labels, 0,
            lm_only_scale=0.25, am_only_scale=0.0, boundary=boundary, reduction="none", return_grad=True,
        )  # fmt: skip
        ranges = library.get_rnnt_prune_ranges(*gradients, boundary, problem.case.options["prune_range"])
        rows = library.do_rnnt_pruning(problem.encoder_out, problem.predictor_out, ranges)
        logits = problem.joiner(*rows).float()
        pruned = library.rnnt_loss_pruned(logits, problem.labels, ranges, 0, boundary, reduction="none")
        return 0.5 * simple + pruned, {"nodes": ranges.numel()}

    return run


# Reports


def write_reports(results: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """OUTPUT.json, OUTPUT.md and OUTPUT.png."""
    options.output.parent.mkdir(parents=True, exist_ok=True)
    shapes = results[0]["shapes"] if results else []
    about = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(options.device),
        "threads": options.threads,
        "utterances": len(shapes),
        "most_frames": max((frames for frames, _ in shapes), default=0),
        "most_labels": max((labels for _, labels in shapes), default=0),
        "joiner_dim": options.joiner_dim,
    }
    options.output.with_suffix(".json").write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n")
    options.output.with_suffix(".md").write_text(markdown(about, results))
    draw([result for result in results if "error" not in result], options.output.with_suffix(".png"))
    print(f"written: {options.output}.json, .md, .png")


def machine(device: str) -> str:
    """The processor, in words."""
    import torch

    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return f"{model}, torch {torch.__version__}"


def markdown(about: dict[str, Any], results: list[dict[str, Any]]) -> str:
    """A table with ratios to torchaudio in the same setting."""
    lines = [
        f"{about['utterances']} utterances (T ≤ {about['most_frames']}, U ≤ {about['most_labels']}), "
        f"J={about['joiner_dim']}, {about['threads']} threads, {about['machine']}, {about['date']}. "
        "Joiner and loss, forward and backward; memory above the inputs. ×: torchaudio's figure over this one.",
        "",
        "| lattice | V | dtype | loss | seconds | × | peak MB | × | nodes a frame | gradient's |",
        "|---|---:|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for result in results:
        setting = {key: result[key] for key in ("lattice", "vocab", "dtype")}
        head = " | ".join(map(str, setting.values())) + f" | {result['name']}"
        if "error" in result:
            lines.append(f"| {head} | {result['error']} | | | | | |")
            continue
        base = next((r for r in results if r["name"] == "torchaudio" and setting.items() <= r.items()), {})
        faster, smaller = (f"{base[key] / result[key]:.1f}" if base.get(key) else "" for key in ("seconds", "peak_mb"))
        per_frame = [f"{result[key] / result['frames']:.1f}" if result.get(key) else "" for key in ("nodes", "kept")]
        figures = [f"{result['seconds']:.4g}", faster, f"{result['peak_mb']:.0f}", smaller, *per_frame]
        lines.append(f"| {head} | {' | '.join(figures)} |")
    return "\n".join(lines) + "\n"


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Bars of time and memory, a row of panels for every setting."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    settings = list(dict.fromkeys((r["lattice"], r["vocab"], r["dtype"]) for r in results))
    figure, axes = pyplot.subplots(len(settings), 2, figsize=(11, 0.6 + 2.6 * len(settings)), squeeze=False)
    for row, setting in zip(axes, settings):
        chosen = [r for r in results if (r["lattice"], r["vocab"], r["dtype"]) == setting][::-1]
        for axis, key, unit in zip(row, ("seconds", "peak_mb"), ("seconds", "peak MB")):
            values = [r[key] for r in chosen]
            colors = ["tab:gray" if r["implementation"] != "asr" else "tab:blue" for r in chosen]
            bars = axis.barh([r["name"] for r in chosen], values, color=colors)
            axis.bar_label(bars, [f"{value:.2f}" if value < 10 else f"{value:.0f}" for value in values], padding=3)
            axis.set_xlim(0, 1.15 * max(values))
            axis.set_title(f"{setting[0]}, V={setting[1]}, {setting[2]}: {unit}", fontsize=9)
            axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout(pad=1.5)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        print(json.dumps(measure(Case(**json.loads(sys.argv[2])))))
    else:
        main()
