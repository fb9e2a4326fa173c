#!/usr/bin/env python3
"""What restricting and regularising the loss does to errors and to emission delay: one training for each choice.

    python scripts/study_alignment.py digits                    22 trainings of 4 minutes on a core
    python scripts/study_alignment.py an4 --only full ar-10-3   what is done is not done again

Trains recipes/RECIPE (its manifests, tokenizer and features must be there: stages 0 and 1 of its run.sh) with each
loss into exp/EXP/NAME, decodes the test set, and writes docs/alignment/RECIPE.{json,md,png} of all there are.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REPORTS = ROOT / "docs" / "alignment"
TEST_CUTS = {"digits": "data/cuts_test.jsonl.gz", "an4": "data/aligned/cuts_test.jsonl.gz"}

OPTIMIZED = ["loss=optimized", "loss.gradient_tolerance=1e-3"]
AR_10_3 = ["loss=ar", "loss.left_frames=10", "loss.right_frames=3"]
AR_25_3 = ["loss=ar", "loss.left_frames=25", "loss.right_frames=3"]
CAUSAL = ["model.causal=true", "model.chunk_frames=[1]", "model.normalize=global"]
STUDY: dict[str, list[str]] = {
    "full": ["loss=full"],
    "optimized": OPTIMIZED,
    "fastemit-0.005": [*OPTIMIZED, "loss.fastemit=0.005"],
    "fastemit-0.02": [*OPTIMIZED, "loss.fastemit=0.02"],
    "penalty-0.005": [*OPTIMIZED, "loss.delay_penalty=0.005"],
    "penalty-0.02": [*OPTIMIZED, "loss.delay_penalty=0.02"],
    "ar-15-20": ["loss=ar", "loss.left_frames=15", "loss.right_frames=20"],
    "ar-10-15": ["loss=ar", "loss.left_frames=10", "loss.right_frames=15"],
    "ar-25-3": AR_25_3,
    "ar-10-3": AR_10_3,
    "ar-5-10": ["loss=ar", "loss.left_frames=5", "loss.right_frames=10"],
    "pruned": ["loss=pruned"],
    "pruned-alignment": ["loss=pruned", "loss.bounds=alignment"],
    "causal-optimized": [*OPTIMIZED, *CAUSAL],
    "causal-ar-10-3": [*AR_10_3, *CAUSAL],
    "causal-ar-25-3": [*AR_25_3, *CAUSAL],
    "causal-ar-25-3-fastemit-0.02": [*AR_25_3, *CAUSAL, "loss.fastemit=0.02"],
    "causal-ar-25-3-fastemit-0.05": [*AR_25_3, *CAUSAL, "loss.fastemit=0.05"],
    "causal-ar-25-3-penalty-0.005": [*AR_25_3, *CAUSAL, "loss.delay_penalty=0.005"],
    "causal-ar-25-3-penalty-0.02": [*AR_25_3, *CAUSAL, "loss.delay_penalty=0.02"],
    "causal-regular-optimized": [*OPTIMIZED, *CAUSAL, "loss.topology=regular"],
    "causal-regular-ar-10-3": [*AR_10_3, *CAUSAL, "loss.topology=regular"],
}
DELAY = re.compile(r"mean (\S+), median (\S+), 90 % (\S+), last token (\S+) s \[ (\d+) tokens, (\d+) utterances")
EARLIEST_SECONDS = -0.6  # mean delay that the picture shows
COLUMNS = {
    "wer": ("WER", "{:.2f}"),
    "mean": ("mean", "{:+.3f}"),
    "median": ("median", "{:+.3f}"),
    "late": ("90 %", "{:+.3f}"),
    "last": ("last token", "{:+.3f}"),
    "nodes": ("nodes a batch", "{:.0f}"),
    "kept": ("with a gradient", "{:.0f}"),
    "minutes": ("minutes", "{:.1f}"),
    "peak_mb": ("peak MB", "{:.0f}"),
}


def main() -> None:
    """Run what is missing, then write the reports."""
    options = parse_options()
    recipe = ROOT / "recipes" / options.recipe
    for number, name in enumerate(options.only, start=1):
        print(f"[{number}/{len(options.only)}] {name}", flush=True)
        result = study(recipe, options, name)
        print(f"    {result}", flush=True)
        results = {**known_results(options.recipe), name: result}
        write_reports(options.recipe, {name: results[name] for name in STUDY if name in results})


def known_results(recipe: str) -> dict[str, dict[str, float]]:
    """What has been measured so far; read anew each time, for several of this script may run at once."""
    figures = REPORTS / f"{recipe}.json"
    return dict(json.loads(figures.read_text())) if figures.exists() else {}


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=tuple(TEST_CUTS))
    parser.add_argument("--only", nargs="+", choices=tuple(STUDY), default=list(STUDY))
    parser.add_argument("--exp", default="study", help="runs are exp/EXP/NAME")
    parser.add_argument("--override", nargs="*", default=[], help="key=value for every training; use another --exp")
    return parser.parse_args()


def study(recipe: Path, options: argparse.Namespace, name: str) -> dict[str, float]:
    """Train, decode, and collect the figures of one choice."""
    run = Path("exp") / options.exp / name
    figures = recipe / run / "study.json"
    if not figures.exists():
        words = ["--config-dir", "conf", "--config-name", recipe.name, f"run={run}", *STUDY[name], *options.override]
        cost = timed(recipe, "train", *words)
        output = run / "decode_test"
        timed(recipe, "decode", f"run={run}", f"cuts={TEST_CUTS[recipe.name]}", f"output={output}")
        result = {**scores(recipe / output), **node_counts(recipe / run / "metrics.jsonl"), **cost}
        figures.write_text(json.dumps(result) + "\n")
    return dict(json.loads(figures.read_text()))


def timed(recipe: Path, *words: str) -> dict[str, float]:
    """Run a command of `asr` in the recipe's folder; minutes, and the most memory that it had. Ends where it fails."""
    start = time.monotonic()
    log_path = recipe / "exp" / "study.log"
    log_path.parent.mkdir(exist_ok=True)
    with log_path.open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "asr.cli.main", *words], cwd=recipe, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"asr {' '.join(words)} failed; see {log_path}")
    return {"minutes": (time.monotonic() - start) / 60, "peak_mb": usage.ru_maxrss / 1024}


def scores(output: Path) -> dict[str, float]:
    """Error rate, and delays, from what decoding wrote."""
    wer = float((output / "wer.txt").read_text().split()[1])
    found = DELAY.search((output / "delay.txt").read_text())
    delays = [text.replace("unknown", "nan") for text in found.groups()[:4]] if found else ["nan"] * 4
    return {"wer": wer, **dict(zip(("mean", "median", "late", "last"), map(float, delays)))}


def node_counts(metrics: Path) -> dict[str, float]:
    """Nodes of a batch, and those whose gradient was evaluated, on average over the second half of training."""
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    late = [line for line in lines if line["step"] > lines[-1]["step"] / 2]
    keys = {"nodes": "train/nodes", "kept": "train/kept_nodes"}
    return {name: mean(line[key] for line in late if key in line) for name, key in keys.items()}


def write_reports(recipe: str, results: dict[str, dict[str, float]]) -> None:
    """Table, figures and picture."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    (REPORTS / f"{recipe}.json").write_text(json.dumps(results, indent=1) + "\n")
    (REPORTS / f"{recipe}.md").write_text(markdown(results))
    draw(recipe, results)


def markdown(results: dict[str, dict[str, float]]) -> str:
    """A row for every choice; delays in seconds."""
    lines = ["| loss | " + " | ".join(title for title, _ in COLUMNS.values()) + " |", "|---|" + "---:|" * len(COLUMNS)]
    for name, result in results.items():
        lines.append(f"| {name} | " + " | ".join(form.format(result[key]) for key, (_, form) in COLUMNS.items()) + " |")
    return "\n".join(lines) + "\n"


def draw(recipe: str, results: dict[str, dict[str, Any]]) -> None:
    """Error rate against mean delay; what is far too early is told in the title."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    axis = figure.subplots()
    early = [name for name, result in results.items() if result["mean"] < EARLIEST_SECONDS]
    shown = {name: result for name, result in results.items() if name not in early}
    families = sorted({name.split("-")[0] for name in shown})
    for name, result in shown.items():
        x, y = result["mean"], result["wer"]
        color = f"C{families.index(name.split('-')[0])}"
        axis.scatter(x, y, color=color)
        axis.annotate(name, (x, y), textcoords="offset points", xytext=(5, 4), fontsize=8, color=color)
    axis.margins(x=0.15)
    axis.set_xlabel("mean delay of tokens, seconds")
    axis.set_ylabel("WER, %")
    beyond = "".join(
        f"\n{name} is far left of it: {results[name]['mean']} s, {results[name]['wer']} %" for name in early
    )
    axis.set_title(f"{recipe}: errors and emission delay of each loss{beyond}")
    axis.grid(alpha=0.3)
    figure.savefig(REPORTS / f"{recipe}.png", dpi=110)


if __name__ == "__main__":
    main()
