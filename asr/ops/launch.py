"""Where kernels are launched, and what a machine may lack for it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

import torch
from torch import Tensor

from asr.errors import InputError


@contextlib.contextmanager
def launching(tensor: Tensor) -> Iterator[None]:
    """Kernels go to the device of this tensor, whatever the current one is.

    Raises InputError where Triton cannot build what starts a kernel, which it does once for every signature.
    """
    try:
        with torch.cuda.device_of(tensor):  # type: ignore[no-untyped-call]
            yield
    except (RuntimeError, subprocess.CalledProcessError) as error:
        builds = isinstance(error, subprocess.CalledProcessError) or "C compiler" in str(error)
        if not builds:
            raise
        raise InputError(
            "Triton needs a C compiler and Python's headers where a kernel is first launched: install gcc and "
            f"python3-dev, or name a compiler in CC; or use loss.backend=reference loss.joint=chunked ({error})"
        ) from error
