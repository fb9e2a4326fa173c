"""Code that numba keeps."""

import importlib
import sys

ADDED = """
from asr.ops.compiled import compiled

@compiled()
def added(x):
    return x + 1
"""
DOUBLED = """
from added import added
from asr.ops.compiled import compiled

@compiled()
def doubled(x):
    return 2 * added(x)
"""


def test_kept_code_is_not_used_once_a_function_from_another_file_has_changed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "doubled.py").write_text(DOUBLED)
    found = []
    for text in (ADDED, ADDED.replace("+ 1", "+ 1000")):
        (tmp_path / "added.py").write_text(text)
        importlib.invalidate_caches()
        doubled = importlib.import_module("doubled").doubled
        found.append(doubled(3))
        for name in ("added", "doubled"):
            del sys.modules[name]
    assert found == [8, 2006]


PAIR = """
from typing import NamedTuple
from asr.ops.compiled import compiled

class Pair(NamedTuple):
    one: float
    other: float

@compiled()
def both(pair):
    return pair.one + pair.other
"""


def test_kept_code_of_types_that_there_are_no_longer_is_compiled_anew(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("Pair", "Two"):
        (tmp_path / "both.py").write_text(PAIR.replace("Pair", name))
        importlib.invalidate_caches()
        module = importlib.import_module("both")
        assert module.both(getattr(module, name)(1.0, 2.0)) == 3.0
        del sys.modules["both"]
    assert len(list(tmp_path.glob("__pycache__/both.both-*.nbi"))) == 1
