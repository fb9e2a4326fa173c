"""A package: a trained model as one directory or zip file, which loads on a machine that never saw its run.

PACKAGE/
    README.md           the model card
    package.json        what it is a package of
    config.yaml         of the training, paths without their directories
    model.safetensors   the weights, averaged, with nothing of training in them
    objective.safetensors   those of the CTC head and of whatever else the objective has
    tokenizer/          as in a run
    scores/NAME/        error rates of what was decoded into the run
    exports/NAME/       exports of these weights
    SHA256SUMS          `sha256sum -c SHA256SUMS` checks it, too

A zip file is read where it lies: nothing is extracted, and only names that are known are read.
"""

from __future__ import annotations

import functools
import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from asr.data.limits import LATEST_SECONDS
from asr.errors import InputError
from asr.files import read_regular
from asr.runs.state import as_tensors

DESCRIPTION = "package.json"
CONFIG = "config.yaml"
MODEL, OBJECTIVE = "model.safetensors", "objective.safetensors"
TOKENIZER = "tokenizer"
CARD = "README.md"
SUMS = "SHA256SUMS"
FORM = 1  # of packages; larger ones are of later versions

MOST_TEXT = 2**26  # bytes of a file that is no tensors
MOST_TENSORS = 2**35
MOST_INFLATED, MOST_INFLATED_TENSORS = (
    100,
    4,
)  # times its size in a zip file that a file may have: weights get little smaller

Read = Callable[[str, int], bytes]  # the content of a file by name, which is to have no more than so many bytes


@dataclass(frozen=True)
class Package:
    """What is needed of a package: its files, each read with the right sum."""

    path: Path
    raw: Read
    sums: dict[str, str] = field(default_factory=dict)

    def read(self, name: str, most: int = MOST_TEXT) -> bytes:
        """A file of it. Raises InputError, naming the file, where it is missing, damaged or larger than `most`."""
        data = self.raw(name, most)
        if hashlib.sha256(data).hexdigest() != self.sums.get(name):
            raise InputError(f"{self.path}: {name} is damaged, its SHA-256 is not the one in {SUMS}: get it again")
        return data

    @functools.cached_property
    def description(self) -> dict[str, Any]:
        """What `package.json` says. Raises InputError where a later version has made it."""
        try:
            told: dict[str, Any] = json.loads(self.read(DESCRIPTION))
            if int(told.get("form", FORM)) > FORM:
                raise InputError(f"{self.path}: made by a later version of asr (form {told['form']}): install that")
            read = {"checkpoint": str(told["checkpoint"]), "digest": str(told["digest"])}
            return {**told, **read, "seconds": lengths_of(told["seconds"])}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise InputError(f"{self.path}: {DESCRIPTION} describes no package: get it again") from None

    def text(self, name: str) -> str:
        """A file of it that is text. Raises InputError likewise, and where it is none."""
        try:
            return self.read(name).decode()
        except UnicodeDecodeError:
            raise InputError(f"{self.path}: {name} is not UTF-8 text: get it again") from None

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of a file of it. Raises InputError likewise."""
        return as_tensors(self.read(name, MOST_TENSORS), f"{self.path}: {name}")


def lengths_of(seconds: Any) -> list[float] | None:
    """The shortest and the longest length, seconds. Raises ValueError or TypeError where they are no numbers."""
    shortest, longest = map(float, seconds) if seconds is not None else (0.0, 1.0)
    if not 0 <= shortest <= longest <= LATEST_SECONDS:
        raise ValueError
    return None if seconds is None else [shortest, longest]


def is_package(path: Path) -> bool:
    """Whether a path names a package; any file is taken for one."""
    return path.is_file() or (path / DESCRIPTION).is_file()


def open_package(path: Path) -> Package:
    """The package at a path. Raises InputError where there is none, or it is damaged."""
    raw = zip_reader(path) if path.is_file() else functools.partial(read_file, path)
    try:
        lines = raw(SUMS, MOST_TEXT).decode().splitlines()
        return Package(path, raw, {name: digest for digest, name in (line.split("  ", 1) for line in lines)})
    except ValueError:
        raise InputError(f"{path}: {SUMS} is damaged: get it again") from None


def read_file(directory: Path, name: str, most: int) -> bytes:
    """A file of a directory."""
    try:
        return read_regular(directory / name, most)
    except OSError as error:
        raise InputError(f"{directory}: {name} cannot be read ({error.strerror}): get it again") from error


def zip_reader(path: Path) -> Read:
    """What reads the files of a zip file. Raises InputError where it is none, or holds no package."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise InputError(f"{path}: neither a run directory nor a package of `asr package` ({error})") from error
    found = [name for name in names if name.rpartition("/")[2] == DESCRIPTION and name.count("/") <= 1]
    if len(found) != 1:
        raise InputError(f"{path}: no package of `asr package`: it holds no {DESCRIPTION}")
    return functools.partial(read_member, path, found[0].removesuffix(DESCRIPTION))


def read_member(path: Path, folder: str, name: str, most: int) -> bytes:
    """A file of a zip file; `folder`: that all lies in, if in one."""
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(folder + name)
            check_size(info.file_size, min(most, most_inflated(name) * info.compress_size), f"{path}: {name}")
            return archive.read(info)  # no more than it says
    except KeyError:
        raise InputError(f"{path}: {name} is missing: get it again") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise InputError(f"{path}: {name} is damaged ({error}): get it again") from error


def most_inflated(name: str) -> int:
    """How many times its size in a zip file a file may have."""
    return MOST_INFLATED_TENSORS if name.endswith(".safetensors") else MOST_INFLATED


def check_size(size: int, most: int, where: str) -> None:
    """Raise InputError where a file has more than `most` bytes."""
    if size > most:
        raise InputError(f"{where} has {size} bytes, more than {most}: it is none of a package")
