"""Whether a run may go on with these options."""

from __future__ import annotations

import dataclasses

from asr.config import TrainConfig
from asr.config.schema import from_yaml
from asr.errors import InputError
from asr.runs import state
from asr.runs.directory import RunDirectory

MAY_CHANGE = {  # options that a run may be continued with at another value
    "model.checkpoint_layers",
    "data.workers",
    "train.steps",
    "train.shard",
    "train.accumulate",  # with another number of processes: see check_batches_per_step
    "train.device",
    "train.log_every",
    "train.validate_every",
    "train.save_every",
    "train.average_last",
}


def check_same_run(run: RunDirectory, config: TrainConfig) -> None:
    """Raise InputError where the run directory was begun with options that change the result."""
    if not state.resumable(run.checkpoints):
        return
    if not run.config.is_file():
        raise InputError(f"{run.path} has checkpoints but no config.yaml: give another run=, or delete the directory")
    before = flatten(dataclasses.asdict(from_yaml(run.config.read_text(encoding="utf-8"), "train")))
    now = flatten(dataclasses.asdict(config))
    changed = [key for key in now if before.get(key) != now[key] and key not in MAY_CHANGE | {"run"}]
    if changed:
        key = changed[0]
        raise InputError(
            f"{run.path} was begun with {key}={before.get(key)}, not {now[key]}"
            + (f" (and {len(changed) - 1} more options differ)" if len(changed) > 1 else "")
            + ": give another run=, or delete the directory"
        )


def flatten(nested: dict[str, object], prefix: str = "") -> dict[str, object]:
    """{"a": {"b": 1}} → {"a.b": 1}."""
    flat: dict[str, object] = {}
    for key, value in nested.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def check_same_step(steps: list[int], run: RunDirectory) -> None:
    """Raise InputError where processes did not find the same checkpoint."""
    if len(set(steps)) > 1:
        raise InputError(f"the processes found checkpoints of steps {steps}: {run.path} must be one directory for all")
