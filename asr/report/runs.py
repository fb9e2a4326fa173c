"""What was trained: the facts of a run, read from what it left behind without loading its model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.config import TrainConfig
from asr.data.tokenizer import load_tokenizer
from asr.errors import InputError
from asr.frames import FRAME_SECONDS
from asr.runs import state
from asr.runs.directory import RunDirectory
from asr.runs.pack import utterances_of
from asr.runs.result import Result, read_metrics, read_result

STAMP = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d):\d\d,\d{3} [A-Z]+ ")  # of a line of train.log
# A line of it. What is between two names is short, so that a long line costs no more than to be read.
BEGUN = re.compile(
    r": ([\d,]+(?: of [\d,]+)?) parameters.{0,99}, loss .{0,99} \((.{0,999})\), step \d+ of \d+ on (.+)$"
)


@dataclass(frozen=True)
class Run:
    """A run on the page.

    name: as short as tells it from the others. facts: what was trained, in words, by what each is called. metrics: the
    lines of its metrics.jsonl.
    """

    name: str
    path: Path
    result: Result
    facts: dict[str, str]
    metrics: list[dict[str, Any]]


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """The runs of directories. Raises InputError where one is none, or named twice."""
    for path in paths:
        require_run(path)
        if [one.resolve() for one in paths].count(path.resolve()) > 1:
            raise InputError(f"{path}: is named twice; name each run once")
    return [read_run(name, path) for name, path in zip(short_names(paths), paths)]


def require_run(path: Path) -> None:
    """Raise InputError for what is no run, and say what it is."""
    if not path.is_dir():
        raise InputError(f"{path}: no such directory; name run directories of `asr train`")
    if (path / "config.yaml").is_file() and not (path / "package.json").exists():
        return
    if (path / "wer.txt").is_file():
        raise InputError(
            f"{path}: a decoding, not a run; name its run, which shows what was decoded into its directory"
        )
    if (path / "package.json").exists():
        raise InputError(f"{path}: a package, which keeps neither curves nor hypotheses; name the run it was made of")
    raise InputError(f"{path}: not a run directory of `asr train`: it has no config.yaml")


def short_names(paths: Sequence[Path]) -> list[str]:
    """The names of directories, with as many of those above them as tell all of them apart."""
    parts = [path.resolve().parts for path in paths]
    for count in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(one[-count:]) for one in parts]
        if len({*names}) == len(names):
            break
    return names if paths else []


def read_run(name: str, path: Path) -> Run:
    """A run, from its directory."""
    run, result = RunDirectory(path), read_result(path)
    return Run(name, path, result, dict(facts_of(run, result)), [*read_metrics(run.metrics)])


def facts_of(run: RunDirectory, result: Result) -> Iterator[tuple[str, str]]:
    """What was trained: on what, which model, with which loss, by which program, on what machine."""
    config, info, log = result.config, info_of(run), read_log(run)
    began = next((found for found in map(BEGUN.search, log) if found), None)
    count = utterances_of(run)
    yield "Trained on", names(config.data.train_cuts) + (f": {count:,} utterances" if count is not None else "")
    yield "Validated on", names(config.data.valid_cuts)
    yield "Model", in_words(config)
    if began:
        yield "Parameters", began[1]
    yield from units_of(run)
    yield "Loss", f"{config.loss.name}, arcs {config.loss.arcs.name}, topology {config.loss.topology}"
    yield "Optimiser", f"{config.optim.name}, learning rate {config.optim.lr:g}"
    yield "Steps", f"{result.step:,} of {result.steps:,}"
    if info.get("init"):
        yield "Begun from", Path(config.train.init).name
    if result.changed:
        yield "Changed on the way", result.changed
    for name, number in result.left_out.items():
        yield f"Left out: {name}", number
    yield "Program", f"asr {info['asr']}" if info.get("asr") else "unknown"
    if info.get("machine") or began:
        yield "Machine", str(info.get("machine") or (began and began[3]))
    if began:
        yield "Computed by", began[2]
    times = [found[1] for found in map(STAMP.match, log) if found]
    if times:
        yield "When", f"{times[0]} to {times[-1].removeprefix(times[0][:11])}"


def names(paths: Sequence[str]) -> str:
    """Manifests without their directories."""
    return ", ".join(Path(path).name for path in paths) or "nothing"


def in_words(config: TrainConfig) -> str:
    """What the model is."""
    model = config.model
    how = "causal Conformer" if model.causal else "Conformer"
    every = f"a frame every {1000 * model.subsampling * FRAME_SECONDS:.0f} ms"
    return (
        f"{how}, {model.layers} layers of width {model.encoder_dim}, {every}; predictor of {model.context_size} labels"
    )


def units_of(run: RunDirectory) -> Iterator[tuple[str, str]]:
    """How many pieces a run's tokenizer has, where it is still there."""
    try:
        yield "Units", f"{load_tokenizer(run.tokenizer).vocab_size} pieces, blank included"
    except InputError:
        return


def info_of(run: RunDirectory) -> dict[str, Any]:
    """What the last checkpoint tells beside its weights; nothing where there is none that is whole."""
    for path in reversed(state.resumable(run.checkpoints)):
        try:
            return state.load(path, []).info
        except InputError:
            continue
    return {}


def read_log(run: RunDirectory) -> list[str]:
    """The lines of train.log."""
    return run.log.read_text(encoding="utf-8", errors="replace").splitlines() if run.log.is_file() else []
