"""End-to-end speech recognition with neural transducers, without memory bottlenecks."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from asr.cpus import prepare_threads

if TYPE_CHECKING:
    from asr.errors import InputError as InputError
    from asr.recognizer import Recognizer as Recognizer
    from asr.recognizer import Skipped as Skipped
    from asr.recognizer import Transcript as Transcript
    from asr.recognizer import load as load

__version__ = "0.1.0"

prepare_threads()

_FACE = {"InputError": "errors", **dict.fromkeys(("load", "Recognizer", "Skipped", "Transcript"), "recognizer")}


def __getattr__(name: str) -> Any:
    """What recognises, and packages and modules, imported when they are first asked for: `import asr` takes no time."""
    if name in _FACE:
        return getattr(importlib.import_module(f"{__name__}.{_FACE[name]}"), name)
    module = f"{__name__}.{name}"
    if name.startswith("_") or importlib.util.find_spec(module) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(module)


def __dir__() -> list[str]:
    """What there is to be imported from here, for completion at a prompt."""
    return sorted({*globals(), *_FACE})
