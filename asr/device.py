"""Where to compute."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from asr.errors import InputError


def choose_device(name: str) -> torch.device:
    """The device called `name`; `auto` is the GPU where there is one. Raises InputError where there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device=cuda, but torch sees no GPU: use device=cpu or auto")
    return torch.device(name)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch reports with this that there is too little memory, on a GPU or here: that is a RuntimeError."""
    on_cpu = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return isinstance(error, torch.OutOfMemoryError) or on_cpu


@contextlib.contextmanager
def enough_memory(what: str, seconds: float) -> Iterator[None]:
    """Raise InputError where there is too little memory for `what`, which lasts so many seconds."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(f"{what}lasts {seconds:.1f} s, too long for the memory that there is") from error
