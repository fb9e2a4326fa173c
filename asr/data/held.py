"""What a manifest may name: files. Nothing that is run, fetched, or read from a terminal.

Lhotse runs the text of a source of `type: command`, and opens a name that begins with `pipe:` as a command and one with
`://` by the network. A manifest comes with data, and whoever reads data has not asked for that.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lhotse.cut import Cut, MixedCut, PaddingCut

from asr.data.limits import SHOWN_CHARACTERS
from asr.errors import InputError

SOURCES = ("file", "memory", "shar")  # types of Lhotse's audio sources that are data
FILES = ("numpy_files", "lilcom_files", "numpy_hdf5", "lilcom_hdf5", "chunked_lilcom_hdf5", "lilcom_chunky", "kaldiio")
STORAGES = (*FILES, "memory_lilcom", "memory_npy", "memory_raw", "shar")  # likewise, of its features
NO_FILE = re.compile(r"pipe:|[a-zA-Z][\w+.-]*://|-$")  # how what Lhotse takes for something else than a file begins


def source_fault(kind: object, source: object) -> str:
    """What is wrong with an audio source of this type; "" where it is data, or the name of a file."""
    if kind not in SOURCES:
        return (
            f"is of type {kind!r:.{SHOWN_CHARACTERS}}, not {' or '.join(SOURCES)}: nothing is run or fetched for data"
        )
    return name_fault(source) if kind == "file" else ""


def storage_fault(kind: object, path: object) -> str:
    """The same, of stored features or arrays."""
    if kind not in STORAGES:
        return f"is stored as {kind!r:.{SHOWN_CHARACTERS}}, which is not read: compute it again with `asr features`"
    return name_fault(path) if kind in FILES else ""


def name_fault(name: object) -> str:
    """What is wrong with the name of a file; "" where Lhotse, too, takes it for one."""
    if not isinstance(name, (str, os.PathLike)) or "\0" in str(name) or NO_FILE.match(str(name)):
        return f"is {str(name)[:SHOWN_CHARACTERS]!r}, which is no file: nothing is run or fetched for data"
    return ""


def held(value: Any) -> Iterator[tuple[str, object, object]]:
    """Each audio source and each storage in a value, however deep: what it is, its type, and what it names.

    Of JSON as of Lhotse's objects: a transform may have a recording for its room, and so may a field of one's own.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = vars(value)
    if isinstance(value, Mapping):
        if "storage_type" in value:
            kind, path, key = (value.get(f"storage_{name}") for name in ("type", "path", "key"))
            yield "storage", kind, path
            if kind in FILES and isinstance(path, str) and isinstance(key, str):
                yield "storage", kind, os.path.join(path, key)
        for one in as_list(value.get("sources")):
            source = as_mapping(one)
            if "type" in source and not getattr(one, "names_nothing", False):
                yield "source", source["type"], source.get("source")
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from held(one)


def as_list(value: Any) -> list[Any]:
    """A list as it is; of anything else none."""
    return value if isinstance(value, list) else []


def as_mapping(value: Any) -> Mapping[str, Any]:
    """The fields of an object of JSON's or of Lhotse's; none of anything else."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return vars(value)
    return value if isinstance(value, Mapping) else {}


def faults_in(value: Any) -> Iterator[str]:
    """What in a value is not data, nor the name of a file."""
    for what, kind, name in held(value):
        if fault := (source_fault if what == "source" else storage_fault)(kind, name):
            yield f"a {what} in it {fault}"


def files_in(value: Any) -> Iterator[str]:
    """The files and directories that a value names."""
    for what, kind, name in held(value):
        if kind in (("file",) if what == "source" else FILES):
            yield str(name)


def outside(names: Iterator[str], root: str) -> str:
    """The first of the names that leads out of a directory, by `..` or by a link; "" where none does."""
    home = Path(root).resolve()
    return next((name for name in names if not Path(name).resolve().is_relative_to(home)), "")


def require_files(cut: Cut) -> None:
    """Raise InputError where reading a cut would run or fetch something: one that no manifest of ours was read for."""
    is_mixed = isinstance(cut, MixedCut)
    parts = [one for one in ([t.cut for t in cut.tracks] if is_mixed else [cut]) if not isinstance(one, PaddingCut)]
    read = [[one.recording, one.features] for one in parts]
    for fault in faults_in([*read, cut.transforms if is_mixed else None]):
        raise InputError(fault)
