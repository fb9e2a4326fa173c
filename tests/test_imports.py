"""Which parts of the package know which: read from the import statements of all files.

A statement counts wherever it stands: in a function, for what is imported at use makes a circle as well, and under `if
TYPE_CHECKING:`, for whoever knows a type knows its room. What `importlib` is given as text does not: so `asr.cli.main`
finds its commands, and `asr` its own packages.
"""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "asr").rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The full names of the modules of `asr` that a file imports, or imports something from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("asr.")}


def room(name: str) -> str:
    """The folder that a module is in, `asr.decode` of `asr.decode.beam`; a module that is in none is its own."""
    return ".".join(name.split(".")[:2])


def room_of(path: Path) -> str:
    return room(".".join(path.relative_to(ROOT).with_suffix("").parts))


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """By room, the others that it imports from; `asr` itself, whose attributes all of them are, is none."""
    known: dict[str, set[str]] = {}
    for path in FILES:
        if path != ROOT / "asr" / "__init__.py":
            others = {room(name) for name in imported(path)} - {room_of(path), "asr.__version__"}
            known.setdefault(room_of(path), set()).update(others)
    return known


def test_there_is_no_circle(known):
    assert {"asr.cli", "asr.decode", "asr.recognizer"} <= known.keys()
    assert "asr.decode" in known["asr.recognizer"]
    try:
        TopologicalSorter(known).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_nothing_knows_the_commands(known):
    assert [name for name, others in known.items() if "asr.cli" in others] == []


def test_commands_only_read_words_and_print():
    lengths = {path.stem: len(path.read_text().splitlines()) for path in (ROOT / "asr" / "cli").glob("*.py")}
    assert {name: length for name, length in lengths.items() if length > 120 and name not in ("main", "compose")} == {}


def begun_with(path: Path) -> Iterator[str]:
    """The full names of what a file imports as soon as it is imported."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


@pytest.mark.parametrize("command", ["report", "plot", "align", "transcribe"])
def test_who_does_not_train_does_not_wait_for_what_divides_weights(command):
    """torch.distributed.tensor takes as long to import as half of the rest of torch."""
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in FILES}
    waiting, seen = [f"asr.cli.{command}"], set()
    while waiting:
        seen.add(name := waiting.pop())
        waiting += {*begun_with(files[name])} - seen if name in files else []
    assert {"torch", "asr.errors"} <= seen
    assert not [name for name in seen if name.startswith("torch.distributed")]
