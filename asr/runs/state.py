"""Checkpoints: directories of safetensors and JSON with SHA-256 sums, complete or absent, never pickle.

checkpoints/step-00001200/
    model.safetensors …   tensors of each registered part
    state.json            everything else: numbers, settings, the shape of nested states
    SHA256SUMS            `sha256sum -c SHA256SUMS` checks it, too
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as serialize_tensors
from torch import Tensor

from asr.device import is_out_of_memory
from asr.errors import InputError
from asr.files import cannot_write, read_regular, require_space, sync
from asr.score.bootstrap import Interval
from asr.score.wer import RATES, Unit, ends_of

SUMS = "SHA256SUMS"
STATE = "state.json"
MOST_TEXT, MOST_TENSORS = 2**28, 2**38  # bytes of a file
NAME = re.compile(r"(step|stop)-(\d{8,})")  # of a regular and of an interim checkpoint, not of a copy beside it
ABSENT = FileNotFoundError, IsADirectoryError, NotADirectoryError  # not OSError: an unreadable disk is no damage
# What contents raise that are whole, and yet are not those of a checkpoint: somebody has edited them, and the sums.
# But what a GPU or another process fails with says nothing of them.
SURROUNDINGS = re.compile(r"CUDA|NCCL|gloo|[Cc]onnection|[Pp]eer")
FOREIGN = KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError, SafetensorError


@dataclass
class Checkpoint:
    """What a checkpoint holds.

    step: optimiser steps done. metrics: of the validation at this step, {} if there was none.
    parts: state_dict of each registered part. info: JSON values.
    """

    step: int
    metrics: dict[str, float]
    parts: dict[str, Any]
    info: dict[str, Any]


def split_tensors(value: Any, tensors: dict[str, Tensor], path: str = "") -> Any:
    """Replace the tensors in a nested state by {"tensor": name}, and collect them in `tensors`.

    Dicts become lists of pairs, since JSON would turn integer keys into strings.
    """
    if isinstance(value, Tensor):
        while path in tensors:  # "a.b" may also be "b" inside "a"
            path += "'"
        tensors[path] = value.detach().to("cpu", copy=True).contiguous()  # a copy: shared weights are saved twice
        return {"tensor": path}
    if isinstance(value, dict):
        return {"dict": [[k, split_tensors(v, tensors, f"{path}.{k}" if path else str(k))] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return [split_tensors(v, tensors, f"{path}.{i}") for i, v in enumerate(value)]
    return value


def join_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `split_tensors` (tuples come back as lists)."""
    if isinstance(value, list):
        return [join_tensors(v, tensors) for v in value]
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        return {k: join_tensors(v, tensors) for k, v in value["dict"]}
    return value


def save(directory: Path, checkpoint: Checkpoint, interim: bool = False) -> Path:
    """Write a checkpoint under a temporary name, flush it to the disk, and rename it. Returns its path.

    An interim one, of a run that was stopped between two regular ones or is about to validate, is called stop-… and
    serves to go on from: it is never averaged, so that stopping does not change what a run results in.
    """
    contents = serialize(checkpoint)
    final = directory / checkpoint_name(checkpoint.step, interim)
    with written_whole(final, sum(map(len, contents.values()))) as temporary:
        write_files(temporary, contents, sums_of(contents))
    for other in resumable(directory):
        if step_of(other) > checkpoint.step:  # unsound, or training would have gone on from there
            remove(other)
    return final


def complete(directory: Path, step: int, metrics: dict[str, float]) -> Path:
    """Make a regular checkpoint, with the metrics of its validation, of the interim one of a step. Returns its path.

    Its tensors are not written again, where the file system can give a file two names.
    """
    interim, final = directory / checkpoint_name(step, True), directory / checkpoint_name(step, False)
    sums = read_sums(interim)
    state = json.loads(read_verified(interim, [STATE])[STATE])
    state["metrics"], state["info"]["validation_due"] = metrics, False
    contents = {STATE: state_file(state)}
    with written_whole(final) as temporary:
        for name in sums.keys() - contents:
            link_or_copy(interim / name, temporary / name)
        write_files(temporary, contents, sums | sums_of(contents))
    remove(interim)
    return final


def checkpoint_name(step: int, interim: bool) -> str:
    """What the checkpoint of a step is called."""
    return f"{'stop' if interim else 'step'}-{step:08d}"


@contextlib.contextmanager
def written_whole(final: Path, size: int | None = None) -> Iterator[Path]:
    """A temporary directory that becomes `final` when the block has ended well.

    size: bytes that are to be written. Raises InputError where the file system does not take them.
    """
    temporary = final.with_name(f".{final.name}.tmp")
    try:
        clear(final.parent)
        require_space(final, size or 0)
        temporary.mkdir(parents=True)
        yield temporary
        sync(temporary)
        if final.exists():  # unsound, or it would not be written again
            remove(final)
        os.rename(temporary, final)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)  # on a full disk it would keep the room
        raise InputError(cannot_write(final, error.strerror or str(error), error.errno, size)) from error
    sync(final.parent)


def write_files(directory: Path, contents: dict[str, bytes], sums: dict[str, str]) -> None:
    """Write files, and the sums of all that are in the directory, to the disk."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    for name, data in {**contents, SUMS: lines.encode()}.items():
        with open(directory / name, "wb") as file:
            file.write(data)
        sync(directory / name)


def sums_of(contents: dict[str, bytes]) -> dict[str, str]:
    """The SHA-256 of each file."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name; a copy, where the file system has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        sync(target)


def serialize(checkpoint: Checkpoint) -> dict[str, bytes]:
    """The files of a checkpoint by name, without the sums."""
    files, skeletons = {}, {}
    for name, state in checkpoint.parts.items():
        tensors: dict[str, Tensor] = {}
        skeletons[name] = split_tensors(state, tensors)
        files[part_file(name)] = serialize_tensors(tensors)
    state = {"step": checkpoint.step, "metrics": checkpoint.metrics, "info": checkpoint.info, "parts": skeletons}
    files[STATE] = state_file(state)
    return files


def state_file(state: dict[str, Any]) -> bytes:
    """The content of `state.json`."""
    return (json.dumps(state, indent=1) + "\n").encode()


def as_tensors(data: bytes, where: object) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises InputError, naming `where` it is, for anything else, as a pickle."""
    try:
        return parse_tensors(data)
    except FOREIGN as error:
        raise InputError(f"{where} holds no tensors ({error}): remove the checkpoint") from error


def read_sums(path: Path) -> dict[str, str]:
    """The SHA-256 of each file of a checkpoint, as it was written. Raises InputError where there are none."""
    try:
        lines = read_regular(path / SUMS, MOST_TEXT).decode().removesuffix("\n").split("\n")
        return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (*ABSENT, ValueError) as error:
        raise InputError(f"{path}: incomplete checkpoint ({error})") from error


def read_verified(path: Path, names: Iterable[str] | None = None) -> dict[str, bytes]:
    """Files of a checkpoint (None: all), each with the right sum. Raises InputError naming the one that is not."""
    sums = read_sums(path)
    if any(Path(name).name != name for name in sums):
        raise InputError(f"{path / SUMS} names files that are not in the checkpoint; remove it")
    try:
        wanted = [*(sums if names is None else names)]
        if any(Path(name).name != name for name in wanted):
            raise InputError(f"{path / STATE} names files that are not in the checkpoint; remove it")
        files = {name: read_regular(path / name, MOST_TEXT if name == STATE else MOST_TENSORS) for name in wanted}
    except ABSENT as error:
        raise InputError(f"{path}: incomplete checkpoint ({error})") from error
    for name, data in files.items():
        if hashlib.sha256(data).hexdigest() != sums.get(name):
            raise InputError(f"{path / name} is damaged: its SHA-256 is not the one in {SUMS}; remove the checkpoint")
    if STATE not in sums:
        raise InputError(f"{path}: incomplete checkpoint (no {STATE})")
    return files


def load(path: Path, parts: Iterable[str] | None = None) -> Checkpoint:
    """Read a checkpoint, or only some of its parts, after checking their sums: files of others may be absent.

    Raises InputError where it is damaged, or not one of this program's.
    """
    with understood(path):
        state = json.loads(read_verified(path, [STATE])[STATE])
        if any(Path(name).name != name for name in state["parts"]):
            raise ValueError("parts that are elsewhere")
        wanted = list(state["parts"] if parts is None else parts)
        files = read_verified(path, [part_file(name) for name in wanted])
        loaded = {name: join_tensors(state["parts"][name], parse_tensors(files[part_file(name)])) for name in wanted}
        if not all(isinstance(part, dict) for part in loaded.values()):
            raise TypeError("a part that is none")
        checkpoint = Checkpoint(state["step"], as_metrics(state["metrics"]), loaded, {**state["info"]})
        if checkpoint.step != step_of(path):
            raise ValueError(f"of step {checkpoint.step}")
    return checkpoint


@contextlib.contextmanager
def understood(path: Path) -> Iterator[None]:
    """Raises InputError for contents of a checkpoint that are none."""
    try:
        yield
    except FOREIGN as error:
        if is_out_of_memory(error) or (isinstance(error, RuntimeError) and SURROUNDINGS.search(str(error))):
            raise
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{path}: its contents are not those of a checkpoint ({what}); remove it") from error


def require_finite(weights: Mapping[str, Tensor]) -> None:
    """Raise ValueError for weights with which nothing would be recognised; training makes none."""
    for name, value in weights.items():
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} is not finite")


def as_metrics(values: Any) -> dict[str, float]:
    """Metrics of a checkpoint. Raises ValueError where they are something else."""
    if not isinstance(values, dict) or not all(isinstance(one, (int, float)) for one in values.values()):
        raise ValueError("metrics that are no numbers")
    return values


def part_file(name: str) -> str:
    """The file of a part's tensors."""
    return f"{name}.safetensors"


def weights_only(path: Path) -> bool:
    """Whether somebody has deleted the state of the optimiser, and the weights are sound."""
    try:
        load(path, ["model"])
    except InputError:
        return False
    return not (path / part_file("optimizer")).exists()


def checkpoints(directory: Path) -> list[Path]:
    """Checkpoints of a run, oldest first; unfinished ones do not count, nor do copies of other names."""
    return sorted((path for path in directory.glob("step-*") if NAME.fullmatch(path.name)), key=step_of)


def resumable(directory: Path) -> list[Path]:
    """Regular and interim checkpoints, oldest first, of one step the regular one last."""
    interim = [path for path in directory.glob("stop-*") if NAME.fullmatch(path.name)]
    return sorted([*interim, *checkpoints(directory)], key=step_of)


def step_of(path: Path) -> int:
    """The step in a checkpoint's name."""
    return int(path.name.split("-")[1])


def newest_sound(directory: Path, damaged: list[str]) -> Checkpoint | None:
    """The newest checkpoint that is complete and undamaged; messages about others go to `damaged`."""
    for path in reversed(resumable(directory)):
        try:
            return load(path)
        except InputError as error:
            damaged.append(str(error))
    return None


def read_metrics(path: Path) -> dict[str, float]:
    """Validation metrics of a checkpoint; {} where there are none. Raises InputError where they cannot be read."""
    with understood(path):
        return as_metrics(json.loads(read_verified(path, [STATE])[STATE])["metrics"])


def metrics_of(path: Path) -> dict[str, float]:
    """Validation metrics of a checkpoint; {} where there are none or they cannot be read."""
    try:
        return read_metrics(path)
    except InputError:
        return {}


def require_metrics(directory: Path) -> None:
    """Raise InputError unless the metrics of all checkpoints can be read: of those left, none need be the best."""
    for path in checkpoints(directory):
        try:
            read_metrics(path)
        except InputError as error:
            raise InputError(f"which checkpoint is the best cannot be told: {error}, or name another") from error


def best(directory: Path) -> Path | None:
    """The checkpoint with the lowest error rate in validation, and among equals the lowest loss; see `comparable`."""
    validated = [(m, path) for path in checkpoints(directory) if (m := metrics_of(path))]
    chosen = comparable([metrics for metrics, _ in validated])
    scored = [(*rank(m), path) for m, path in validated if m in chosen]
    return min(scored)[-1] if scored else None


def unit_of(metrics: Mapping[str, float]) -> Unit | None:
    """What the errors of a validation were counted in; None where it has no error rate."""
    return next((unit for unit, rate in RATES.items() if rate in metrics), None)


def rate_of(metrics: Mapping[str, float]) -> float:
    """The error rate of a validation, percent; infinite where it has none."""
    unit = unit_of(metrics)
    return metrics[RATES[unit]] if unit else math.inf


def interval_of(metrics: Mapping[str, float]) -> Interval | None:
    """What holds the error rate of a validation; None where it does not tell."""
    unit = unit_of(metrics)
    ends = [metrics[name] for name in ends_of(unit) if name in metrics] if unit else []
    return Interval(*ends) if len(ends) == 2 else None


def rank(metrics: Mapping[str, float]) -> tuple[float, float]:
    """What orders comparable validations, the best first."""
    return rate_of(metrics), metrics.get("loss", math.inf)


def comparable(validations: Sequence[Mapping[str, float]]) -> list[Mapping[str, float]]:
    """Those, of the metrics of validations in order, that have error rates of the same utterances, in the same unit.

    They are in the unit of the last one, and of as many utterances, those that could not be read included (older ones
    do not tell): unit and set may have been changed in between. And as many as ever could be read: a rate of what was
    left of it is another.
    """

    def like_last(metrics: Mapping[str, float]) -> bool:
        same_size = "utterances" not in metrics or size_of(metrics) == size_of(rated[-1])
        return same_size and unit_of(metrics) == unit_of(rated[-1])

    rated = [metrics for metrics in validations if unit_of(metrics)]
    same = [metrics for metrics in rated if like_last(metrics)]
    fewest = min((metrics.get("skipped", 0) for metrics in same), default=0)
    return [metrics for metrics in same if metrics.get("skipped", 0) == fewest]


def size_of(metrics: Mapping[str, float]) -> float:
    """The number of utterances of a validation, those that could not be read included."""
    return metrics.get("utterances", 0) + metrics.get("skipped", 0)


def remove(path: Path) -> None:
    """Delete a checkpoint, or what has its name. Interrupted, it leaves no half of one under that name."""
    unfinished = path.with_name(f".{path.name}.old.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    os.rename(path, unfinished)
    shutil.rmtree(unfinished) if unfinished.is_dir() else unfinished.unlink()


def prune(directory: Path, keep_last: int) -> None:
    """Delete all checkpoints but the last `keep_last`, the best and the newest, and what interrupted saves left."""
    kept = {*checkpoints(directory)[-keep_last:], best(directory), *resumable(directory)[-1:]}
    for path in resumable(directory):
        if path not in kept:
            remove(path)
    clear(directory)


def clear(directory: Path) -> None:
    """Delete what interrupted saves and deletions have left: it may be what fills the disk."""
    for path in directory.glob(".st*.tmp"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def average(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of the floating-point tensors of several states; other tensors are the last one's."""
    mean = dict(states[-1])
    for name, last in mean.items():
        if last.is_floating_point():
            mean[name] = torch.stack([s[name].double() for s in states]).mean(0).to(last.dtype)
    return mean
