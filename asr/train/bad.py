"""Batches of which no step could be taken: kept to be looked at, and computed again by `asr train replay=FILE`.

exp/NAME/bad-batches/step-00000012-batch-00000047.safetensors
    its tensors, and as metadata the ids, transcripts and what was wrong, as JSON; nothing is pickled
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize_tensors
from torch import Tensor

from asr.data.batch import Batch
from asr.errors import InputError
from asr.files import write_atomically
from asr.runs.directory import RunDirectory

KEPT = 20  # files of a run at most: a training that diverges has no end of them
TEXTS = "ids", "texts", "seconds", "views"  # of a batch, that are no tensors


@dataclass(frozen=True)
class Kept:
    """A batch that was kept, of a step. number: that its random draws follow from. fault: what was wrong."""

    batch: Batch
    step: int
    number: int
    fault: str


def keep(run: RunDirectory, kept: Kept) -> Path | None:
    """Write a batch beside those kept before; None where there are enough."""
    if len(list(run.bad_batches.glob("*.safetensors"))) >= KEPT:
        return None
    tensors = {
        name: value.to("cpu", copy=True).contiguous()
        for name, value in vars(kept.batch).items()
        if isinstance(value, Tensor)
    }
    told = {name: getattr(kept.batch, name) for name in TEXTS}
    told |= {"step": kept.step, "number": kept.number, "fault": kept.fault}
    path = run.bad_batches / f"step-{kept.step:08d}-batch-{kept.number:08d}.safetensors"
    write_atomically(path, serialize_tensors(tensors, {"batch": json.dumps(told)}))
    return path


def read(path: Path) -> Kept:
    """A batch that was kept. Raises InputError where the file is none."""
    try:
        with safe_open(path, "pt") as file:
            told: dict[str, Any] = json.loads(file.metadata()["batch"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        number, step, fault = int(told.pop("number")), int(told.pop("step")), str(told.pop("fault"))
        return Kept(Batch(**told, **tensors), step, number, fault)
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"replay={path}: no batch of a training ({error}); name one of bad-batches/") from error
