"""Where to compute."""

from __future__ import annotations

import contextlib
import re
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from asr.errors import InputError

# How torch and oneDNN word it on a CPU.
NO_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|out of memory|could not create a (primitive|memory)", re.I
)
SYNCHRONIZES = "synchronizing CUDA operation"  # in torch's warning of a wait


def choose_device(name: str) -> torch.device:
    """The device called `name`; `auto` is the GPU where there is one. Raises InputError where there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device={name}: there is no such device; choose auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device={name}, but torch sees no GPU: use device=cpu or auto")
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Whether this is a GPU that computes in bfloat16."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


@contextlib.contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """In the block, choose on a GPU the ways of computing that give the same bits every time, where torch has one.

    It has none for the gradient of CTC, which has yet given the same bits in every run that was tried (docs/gpu.md).
    cuBLAS gives the same bits with a workspace of its own for each stream, as torch gives it; torch does not go by that
    but by a variable, CUBLAS_WORKSPACE_CONFIG, which it then reads anew for every product: these took three times as
    long, and a step twice.
    """
    if device.type != "cuda":
        yield
        return
    options: Any = torch.utils.deterministic  # type: ignore[attr-defined]
    mode, fills = torch.get_deterministic_debug_mode(), options.fill_uninitialized_memory
    with warnings.catch_warnings():
        for known in ("ctc_loss_backward_gpu does not have a deterministic", "Deterministic behavior was enabled"):
            warnings.filterwarnings("ignore", known)
        torch.use_deterministic_algorithms(True, warn_only=True)
        options.fill_uninitialized_memory = False  # which is for finding faults, and takes time
        try:
            yield
        finally:
            torch.set_deterministic_debug_mode(mode)
            options.fill_uninitialized_memory = fills


def wait_for(device: torch.device) -> None:
    """Wait for what this thread launched there: for its stream, since all of them may not be waited for while another
    thread captures a graph.
    """
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


@contextlib.contextmanager
def waits_are_counted() -> Iterator[list[str]]:
    """A line for every time that this thread waits for a GPU in the block, as torch finds them."""
    waits: list[str] = []
    mode, thread, show = torch.cuda.get_sync_debug_mode(), threading.get_ident(), warnings.showwarning

    def heard(message: Warning | str, *where: Any) -> None:
        if SYNCHRONIZES not in str(message):
            show(message, *where)
        elif threading.get_ident() == thread:  # torch warns of those of all threads
            waits.append(str(message))

    with warnings.catch_warnings():
        warnings.filterwarnings("always", f".*{SYNCHRONIZES}")
        warnings.showwarning = heard  # type: ignore[assignment]
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield waits
        finally:
            torch.cuda.set_sync_debug_mode(mode)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this says that there is too little memory, on a GPU or here, where torch has no exception of its own."""
    on_cpu = isinstance(error, RuntimeError) and NO_MEMORY.search(str(error)) is not None
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or on_cpu


@contextlib.contextmanager
def enough_memory(what: str, seconds: float) -> Iterator[None]:
    """Raise InputError where there is too little memory for `what`, which lasts so many seconds."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(f"{what}lasts {seconds:.1f} s, too long for the memory that there is") from error
