"""Checkpoints: directories of safetensors and JSON with SHA-256 sums, complete or absent, never pickle.

checkpoints/step-00001200/
    model.safetensors …   tensors of each registered part
    state.json            everything else: numbers, settings, the shape of nested states
    SHA256SUMS            `sha256sum -c SHA256SUMS` checks it, too
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as serialize_tensors
from torch import Tensor

from asr.errors import InputError
from asr.files import sync

SUMS = "SHA256SUMS"
STATE = "state.json"


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

    An interim one, of a run that was stopped between two regular ones, is called stop-… and serves to go on
    from: it is never averaged, so that stopping does not change what a run results in.
    """
    final = directory / f"{'stop' if interim else 'step'}-{checkpoint.step:08d}"
    temporary = directory / f".{final.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    contents = serialize(checkpoint)
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in contents.items())
    for name, data in {**contents, SUMS: sums.encode()}.items():
        with open(temporary / name, "wb") as file:
            file.write(data)
        sync(temporary / name)
    sync(temporary)
    if final.exists():  # unsound, or it would not be written again
        shutil.rmtree(final)
    os.rename(temporary, final)
    sync(directory)
    for other in resumable(directory):
        if step_of(other) > checkpoint.step:  # unsound, or training would have gone on from there
            shutil.rmtree(other)
    return final


def serialize(checkpoint: Checkpoint) -> dict[str, bytes]:
    """The files of a checkpoint by name, without the sums."""
    files, skeletons = {}, {}
    for name, state in checkpoint.parts.items():
        tensors: dict[str, Tensor] = {}
        skeletons[name] = split_tensors(state, tensors)
        files[f"{name}.safetensors"] = serialize_tensors(tensors)
    state = {"step": checkpoint.step, "metrics": checkpoint.metrics, "info": checkpoint.info, "parts": skeletons}
    files[STATE] = (json.dumps(state, indent=1) + "\n").encode()
    return files


def read_verified(path: Path, names: Iterable[str] | None = None) -> dict[str, bytes]:
    """Files of a checkpoint (None: all), each with the right sum. Raises InputError naming the one that is not."""
    try:
        lines = (path / SUMS).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
        files = {name: (path / name).read_bytes() for name in (sums if names is None else names)}
    except (FileNotFoundError, ValueError) as error:  # not OSError: an unreadable disk is no damage
        raise InputError(f"{path}: incomplete checkpoint ({error})") from error
    for name, data in files.items():
        if hashlib.sha256(data).hexdigest() != sums.get(name):
            raise InputError(f"{path / name} is damaged: its SHA-256 is not the one in {SUMS}; remove the checkpoint")
    if STATE not in files:
        raise InputError(f"{path}: incomplete checkpoint (no {STATE})")
    return files


def load(path: Path, parts: Iterable[str] | None = None) -> Checkpoint:
    """Read a checkpoint, or only some of its parts, after checking its sums."""
    files = read_verified(path)
    state = json.loads(files[STATE])
    wanted = state["parts"] if parts is None else parts
    loaded = {name: join_tensors(state["parts"][name], parse_tensors(files[f"{name}.safetensors"])) for name in wanted}
    return Checkpoint(state["step"], state["metrics"], loaded, state["info"])


def checkpoints(directory: Path) -> list[Path]:
    """Checkpoints of a run, oldest first; unfinished ones do not count."""
    return sorted(directory.glob("step-*"))


def resumable(directory: Path) -> list[Path]:
    """Regular and interim checkpoints, oldest first."""
    return sorted([*checkpoints(directory), *directory.glob("stop-*")], key=step_of)


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


def metrics_of(path: Path) -> dict[str, float]:
    """Validation metrics of a checkpoint; {} where there are none or they cannot be read."""
    try:
        metrics: dict[str, float] = json.loads(read_verified(path, [STATE])[STATE])["metrics"]
    except InputError:
        return {}
    return metrics


def best(directory: Path) -> Path | None:
    """The checkpoint with the lowest validation WER, and among equals the lowest validation loss."""
    scored = [(m["wer"], m["loss"], path) for path in checkpoints(directory) if (m := metrics_of(path))]
    return min(scored)[-1] if scored else None


def prune(directory: Path, keep_last: int) -> None:
    """Delete all checkpoints but the last `keep_last`, the best and the newest, and what interrupted saves left."""
    kept = {*checkpoints(directory)[-keep_last:], best(directory), *resumable(directory)[-1:]}
    for path in resumable(directory):
        if path not in kept:
            shutil.rmtree(path)
    for path in directory.glob(".st*.tmp"):
        shutil.rmtree(path)


def average(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of the floating-point tensors of several states; other tensors are the last one's."""
    mean = dict(states[-1])
    for name, last in mean.items():
        if last.is_floating_point():
            mean[name] = torch.stack([s[name].double() for s in states]).mean(0).to(last.dtype)
    return mean
