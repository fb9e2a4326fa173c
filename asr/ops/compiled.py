"""Functions that numba compiles, and where it keeps the code."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any

import numba

Kernel = Callable[..., Any]


def compiled(
    parallel: bool = False, fastmath: Collection[str] = (), inline: bool = False
) -> Callable[[Kernel], Kernel]:
    """Compile a function when it is first called, and keep the code for the next process where it can be kept.

    In a package that may not be written, for a user without a home, numba would refuse to.
    fastmath: LLVM's flags, such as `reassoc`, for sums in any order. inline: put the code where the function is called,
    which saves handing over many arrays.
    """

    options = {
        "forceinline": inline,
        "nogil": True,
        "parallel": parallel,
        "fastmath": set(fastmath),
        "error_model": "numpy",
    }
    njit = functools.partial(numba.njit, **options)

    def decorate(function: Kernel) -> Kernel:
        try:
            kernel: Kernel = njit(cache=True)(function)
        except RuntimeError:
            kernel = njit()(function)
        _keep_up_to_date(kernel)
        return kernel

    return decorate


def _keep_up_to_date(kernel: Kernel) -> None:
    """Have code compiled anew, too, where a file has changed that it takes functions from, as numba looks at its own
    alone, and where kept code is of types that there are no longer, as numba would fail to read which it is.
    """
    kept = _kept_file(kernel)
    if kept is not None:
        values = kernel.py_func.__globals__.values()  # type: ignore[attr-defined]
        elsewhere = (value for value in values if getattr(value, "__module__", None) != kernel.__module__)
        files = [kept, *map(_kept_file, elsewhere)]
        stamps = dict.fromkeys(one._source_stamp for one in files if one is not None)
        kept._source_stamp = tuple(stamps) if len(stamps) > 1 else kept._source_stamp
        kept._load_index = functools.partial(_readable, kept._load_index)


def _readable(load: Callable[[], Any]) -> Any:
    """What is kept, by types; nothing where these cannot be found."""
    try:
        return load()
    except (AttributeError, ImportError):
        return {}


def _kept_file(value: Any) -> Any:
    """What numba keeps the code of a function in; None where it keeps none, or this is no such function."""
    return getattr(getattr(value, "_cache", None), "_cache_file", None)


def is_kept(kernel: Kernel) -> bool:
    """Whether compiled code is kept for the next process."""
    stats = getattr(kernel, "stats", None)  # a plain function has none: NUMBA_DISABLE_JIT
    return stats is not None and stats.cache_path is not None
