"""Audio files as they are named on a command line, and names for what is written about them."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count
from pathlib import Path

from asr.data.limits import AUDIO_ENDINGS
from asr.errors import InputError

STDIN = "-"


def list_files(names: Sequence[str]) -> list[str]:
    """The files that are named, each once: of a directory those that are audio by their names, "-" for standard input.

    Raises InputError where there are none.
    """
    if not names:
        raise InputError("no audio file given: asr transcribe a.wav b.flac run=exp/NAME")
    files: dict[str, None] = {}
    for name in names:
        inside = audio_in(Path(name)) if name != STDIN and Path(name).is_dir() else [name]
        if not inside:
            raise InputError(f"{name}: a directory without audio ({', '.join(AUDIO_ENDINGS)})")
        files |= dict.fromkeys(inside)
    return list(files)


def audio_in(directory: Path) -> list[str]:
    """The audio files in a directory and those below, in order of their names."""
    inside = (path for path in sorted(directory.rglob("*")) if path.suffix.lower() in AUDIO_ENDINGS)
    return [str(path) for path in inside if path.is_file()]


def names_of(files: Sequence[str]) -> dict[str, str]:
    """Names for what is written about files: their own without suffixes; if two are alike, with what tells them apart.

    Raises InputError where one is named twice.
    """
    paths = [Path("stdin" if file == STDIN else file).absolute() for file in files]
    home = os.path.commonpath([path.parent for path in paths])
    inside = [path.relative_to(home) for path in paths]
    for names in (
        [path.stem for path in paths],
        [str(path.with_suffix("")) for path in inside],
        [str(path) for path in inside],
    ):
        if len(set(names)) == len(names):
            return dict(zip(files, names))
    raise InputError("the same file is named twice, in different ways: name it once")


def without_white_space(names: Mapping[str, str]) -> dict[str, str]:
    """The names of files with "_" for white space, which ends an id in a CTM; numbered where one is there already."""
    kept = {file: name for file, name in names.items() if name.split() == [name]}
    taken = set(kept.values())
    for file in [file for file in names if file not in kept]:
        name = "_".join(names[file].split()) or "_"
        kept[file] = next(one for one in chain([name], (f"{name}-{n}" for n in count(2))) if one not in taken)
        taken.add(kept[file])
    return kept


@contextlib.contextmanager
def as_paths(files: Sequence[str]) -> Iterator[dict[str, str]]:
    """Where each file is; standard input is in a file for as long as the block runs."""
    paths = {file: file for file in files}
    with contextlib.ExitStack() as stack:
        if STDIN in paths:
            copy = stack.enter_context(tempfile.NamedTemporaryFile(prefix="asr-"))
            shutil.copyfileobj(sys.stdin.buffer, copy)
            copy.flush()
            paths[STDIN] = copy.name
        yield paths
