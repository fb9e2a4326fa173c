"""End-to-end speech recognition with neural transducers, without memory bottlenecks."""

from __future__ import annotations

import importlib.util
from types import ModuleType

__version__ = "0.1.0"


def __getattr__(name: str) -> ModuleType:
    """A package or module of `asr`, imported when it is first asked for: `import asr` alone takes no time."""
    module = f"{__name__}.{name}"
    if name.startswith("_") or importlib.util.find_spec(module) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(module)
