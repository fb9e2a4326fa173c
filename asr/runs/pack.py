"""Packing: from a run to the files of a package, and these to a directory or a zip file, whole or not at all.

The same run gives the same bytes: nothing of the time, the place or the machine is in them.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from safetensors.torch import save as serialize_tensors

from asr.config import PackageConfig, TrainConfig
from asr.config.schema import to_yaml
from asr.data.pauses import ANY
from asr.data.tokenizer import pieces_digest
from asr.errors import InputError
from asr.files import replace_directory, replacing, require_directory, require_writable, sync, writing
from asr.options import replace_paths
from asr.runs import state
from asr.runs.card import Export, Facts, Score, card
from asr.runs.directory import RunDirectory
from asr.runs.package import (
    CARD,
    CONFIG,
    DESCRIPTION,
    FORM,
    MODEL,
    OBJECTIVE,
    SUMS,
    TOKENIZER,
    is_package,
    open_package,
)
from asr.runs.trained import Trained, objective_weights
from asr.score.record import read_record

EXPORTED = "*.onnx", "*.pt2", "README.md", "bpe.vocab", "export.json", "tokenizer/*", "tokens.txt"
EXPORT = "export.json"  # what tells that a directory is an export, and of which weights
EPOCH = (1980, 1, 1, 0, 0, 0)  # the time of every file in a zip file, the first that there can be


class Writer(Protocol):
    """Takes the files of a package, one after the other."""

    def __call__(self, name: str, content: bytes) -> None:
        """Write a file."""


def facts_of(config: PackageConfig, trained: Trained) -> tuple[Facts, list[str]]:
    """What a run has to give, and what of its directory is not packed and why: exports of other weights, damaged rates.

    Raises InputError where a named export is none of these weights.
    """
    run = Path(config.run)
    for path in map(Path, config.exports):
        if description_of(path).get("digest") != trained.digest:
            raise InputError(f"exports: {path} is no export of {trained.checkpoint}: export it again, or leave it out")
    found = [*map(Path, config.exports)] or sorted(path.parent for path in run.glob(f"*/{EXPORT}"))
    told = {path: description_of(path) for path in found}
    exports = [
        Export(path.resolve().name, path, str(one.get("format")), bool(one.get("streaming")))
        for path, one in told.items()
        if one.get("digest") == trained.digest
    ]
    names = [export.name for export in exports]
    for name in (name for name in names if names.count(name) > 1):
        raise InputError(f"exports: two are called {name}: rename one")
    left_out = [f"{path}: an export of other weights" for path in found if path not in [one.path for one in exports]]
    scores: list[Score] = []
    for path in sorted(run.glob("*/wer.txt")):
        try:
            scores.append(Score(path.parent.name, read_rates(path), other_weights(path.parent, trained)))
        except InputError as error:
            left_out.append(str(error))
    info = state.load(trained.last, []).info
    facts = Facts(scores, exports, utterances_of(RunDirectory(run)), info.get("asr"), info.get("init"))
    return facts, left_out


def utterances_of(run: RunDirectory) -> int | None:
    """How many a run was trained on; None where it keeps no record of it."""
    try:
        return int(json.loads(run.data.read_text(encoding="utf-8"))["data.train_cuts"]["utterances"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def description_of(path: Path) -> dict[str, Any]:
    """What an export says that it is of; nothing where a directory is none."""
    try:
        told = json.loads((path / EXPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def read_rates(path: Path) -> list[str]:
    """The lines of a `wer.txt`."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); score again with `asr score`") from None


def other_weights(path: Path, trained: Trained) -> str:
    """Which a directory was decoded with, where it tells that they are not those that are packed; else ""."""
    record = read_record(path)
    return record.checkpoint if record and record.weights != trained.digest else ""


def files_of(config: PackageConfig, trained: Trained, facts: Facts) -> Iterator[tuple[str, bytes]]:
    """The files of a package by name, but for the sums, one at a time."""
    description = json.dumps(describe(config, trained, facts), indent=1, ensure_ascii=False)
    yield CARD, card(name_of(config), config, trained, facts).encode()
    yield DESCRIPTION, f"{description}\n".encode()
    yield CONFIG, to_yaml(portable(trained.config)).encode()
    yield MODEL, serialize_tensors(contiguous(trained.model.state_dict()))
    yield OBJECTIVE, serialize_tensors(contiguous(objective_weights(trained)))
    for name, content in trained.tokenizer.files().items():
        yield f"{TOKENIZER}/{name}", content
    for score in facts.scores:
        yield f"scores/{score.name}/wer.txt", "".join(f"{line}\n" for line in score.lines).encode()
    for export in facts.exports:
        for file in files_of_export(export.path):
            yield f"exports/{export.name}/{file.relative_to(export.path).as_posix()}", file.read_bytes()


def files_of_export(directory: Path) -> list[Path]:
    """The files that `asr export` writes; what else lies there, audio that was tried say, is nobody's business."""
    return [
        path
        for pattern in EXPORTED
        for path in sorted(directory.glob(pattern))
        if path.is_file() and not path.is_symlink()
    ]


def contiguous(weights: dict[str, Any]) -> dict[str, Any]:
    """The weights as safetensors takes them."""
    return {name: value.contiguous().cpu() for name, value in weights.items()}


def describe(config: PackageConfig, trained: Trained, facts: Facts) -> dict[str, Any]:
    """What `package.json` says. seconds: shortest and longest of most training utterances."""
    lengths = None if trained.lengths == ANY else [trained.lengths.shortest, trained.lengths.longest]
    return {
        "form": FORM,
        "name": name_of(config),
        "checkpoint": trained.checkpoint,
        "digest": trained.digest,
        "tokenizer": pieces_digest(trained.tokenizer),
        "seconds": lengths,
        "trained_with": facts.trained_with,
        "init": facts.init,
        "licence": config.licence,
    }


def name_of(config: PackageConfig) -> str:
    """What a package is called."""
    return config.name or Path(config.run).resolve().name


def portable(config: TrainConfig) -> TrainConfig:
    """The config without directories, which are of the machine that it was trained on."""
    config = copy.deepcopy(config)
    config.run = Path(config.run).resolve().name
    replace_paths(config, lambda path, _: Path(path).name)
    return config


# Writing


def pack(config: PackageConfig, trained: Trained) -> list[str]:
    """Write the package of a run; returns the names of its files, and what was left out, in words.

    Raises InputError where it cannot be, before anything is there.
    """
    if is_package(Path(config.run)):
        raise InputError(f"run={config.run}: is a package already")
    (facts, left_out), output = facts_of(config, trained), Path(config.output)
    check_output(output)
    lines, sums = [], []
    with zip_file(output) if output.suffix == ".zip" else new_directory(output) as write:
        for name, content in files_of(config, trained, facts):
            sums.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
            write(name, content)
            lines.append(f"{name}  {len(content) / 1e6:.1f} MB")
        write(SUMS, "".join(sums).encode())
    return lines + [f"left out {one}" for one in left_out]


def check_output(output: Path) -> None:
    """Raise InputError where the package would take the place of something else, or cannot be written."""
    if output.is_file():
        try:
            open_package(output)
        except InputError:
            raise InputError(f"output={output}: is there, and no package; name a new file") from None
    if output.is_dir() and any(output.iterdir()) and not is_package(output):
        raise InputError(f"output={output}: is there, and no package; name a new directory")
    if output.suffix == ".zip":
        require_writable(output)
    else:
        require_directory(output.absolute().parent)


@contextmanager
def new_directory(output: Path) -> Iterator[Writer]:
    """Yields what writes files into a directory, which takes the place of `output` if the block ends well."""
    temporary = output.absolute().with_name(f".{output.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)

    def write(name: str, content: bytes) -> None:
        path = temporary / name
        with writing(path, len(content)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            sync(path)

    try:
        yield write
        replace_directory(temporary, output.absolute())
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def zip_file(output: Path) -> Iterator[Writer]:
    """Yields what writes files into a zip file, which takes the place of `output` if the block ends well."""
    with replacing(output) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:  # weights hardly get smaller

            def write(name: str, content: bytes) -> None:
                info = zipfile.ZipInfo(name, EPOCH)
                info.create_system, info.external_attr = 3, 0o644 << 16  # of Unix, and readable
                archive.writestr(info, content)

            yield write
        sync(temporary)
