"""Functions that numba compiles, and where it keeps the code."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any

import numba

Kernel = Callable[..., Any]


def compiled(parallel: bool = False, fastmath: Collection[str] = ()) -> Callable[[Kernel], Kernel]:
    """Compile a function when it is first called, and keep the code for the next process where it can be kept.

    In a package that may not be written, for a user without a home, numba would refuse to.
    fastmath: LLVM's flags, such as `reassoc`, for sums in any order.
    """

    options = {"nogil": True, "parallel": parallel, "fastmath": set(fastmath), "error_model": "numpy"}
    njit = functools.partial(numba.njit, **options)

    def decorate(function: Kernel) -> Kernel:
        try:
            kernel: Kernel = njit(cache=True)(function)
        except RuntimeError:
            kernel = njit()(function)
        return kernel

    return decorate


def is_kept(kernel: Kernel) -> bool:
    """Whether compiled code is kept for the next process."""
    stats = getattr(kernel, "stats", None)  # a plain function has none: NUMBA_DISABLE_JIT
    return stats is not None and stats.cache_path is not None
