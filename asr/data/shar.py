"""Lhotse Shar: cuts with their audio or features in tar files, which are read from front to back.

Millions of small files are slow on a shared file system, and a tar file can be streamed. A directory of Shar holds
shards: ``cuts.000000.jsonl.gz`` beside ``recording.000000.tar`` or ``features.000000.tar``, and so on.
"""

from __future__ import annotations

import contextlib
import gc
import json
import re
import shutil
import sys
import tarfile
import tempfile
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lhotse.cut import Cut
from lhotse.serialization import deserialize_item
from lhotse.shar import SharWriter
from lhotse.shar.utils import fill_shar_placeholder

from asr.data.batch import Skipped
from asr.data.features import load_samples, read_stored
from asr.data.lhotse_audio import as_sound
from asr.data.numbered import EVERY, Rows
from asr.errors import InputError
from asr.files import read_lines, read_regular, replace_directory, sync, write_atomically, writing

FIELDS = "recording", "features"  # of a cut, that a shard may have
NO_DATA = ".nodata"  # how the name of a member ends that stands for what a cut has not
_SHARD = re.compile(r"(cuts|recording|features)\.(\d{6})\.(jsonl\.gz|tar)")
_SETTINGS = "settings.json"
MOST_COUNT, MOST_SHARDS = 1000, 10**6  # bytes of the count, and what six digits can count
LONGEST_MAGIC = b"\xfd7zXZ\x00"
COMPRESSED = b"\x1f\x8b", b"BZh", LONGEST_MAGIC  # how files of gzip, bzip2 and xz begin
_COUNT = "cuts.shards.json"  # a name that Lhotse, which takes every file for a part of the shards, passes over


@dataclass(frozen=True)
class Shard:
    """A shard to be written into `directory`; `audio` is the format that audio is packed in."""

    number: int
    cuts: list[Cut]
    directory: Path
    audio: str

    @property
    def done(self) -> bool:
        """Whether it has been written: its manifest comes last."""
        return (self.directory / f"cuts.{self.number:06d}.jsonl.gz").exists()


def write_shard(shard: Shard) -> list[Skipped]:
    """Write a shard, whole or not at all; returns what could not be read and is not in it.

    Raises InputError where nothing can be read.
    """
    with writing(shard.directory), torn_tars_unheard():
        return write_whole(shard)


def write_whole(shard: Shard) -> list[Skipped]:
    """`write_shard`; raises OSError where the disk takes no more."""
    field = {"features": "numpy"} if shard.cuts[0].has_features else {"recording": shard.audio}
    suffix = f".{shard.number:06d}"
    skipped: list[Skipped] = []
    unfinished = tempfile.TemporaryDirectory(dir=shard.directory, prefix="unfinished-", ignore_cleanup_errors=True)
    with unfinished as temporary:
        with as_sound(), SharWriter(temporary, field, None, warn_unused_fields=False, shard_suffix=suffix) as writer:
            for cut in readable(shard.cuts, skipped):
                writer.write(cut)
        if len(skipped) == len(shard.cuts):
            raise InputError(f"{skipped[0].id}: {skipped[0].reason}, and so are all {len(skipped)} of its shard")
        for path in sorted(Path(temporary).iterdir(), key=lambda path: path.name.startswith("cuts")):
            sync(path)
            path.rename(shard.directory / path.name)
    return skipped


@contextlib.contextmanager
def torn_tars_unheard() -> Iterator[None]:
    """Have the tar files of a block that cannot write collected here, and in silence: each wants to end itself, in
    vain, and Python would print a traceback of it."""
    try:
        yield
    except OSError as error:
        before, sys.unraisablehook = sys.unraisablehook, lambda _: None
        met: BaseException | None = error
        while met is not None:  # what is in the way of closing a tar file was in the way of writing to it
            traceback.clear_frames(met.__traceback__)
            met = met.__context__
        gc.collect()
        sys.unraisablehook = before
        raise


def readable(cuts: Iterable[Cut], skipped: list[Skipped]) -> Iterator[Cut]:
    """The cuts whose audio or features can be read; the others are added to `skipped`."""
    for cut in cuts:
        try:
            check_readable(cut)
        except InputError as error:
            skipped.append(Skipped(cut.id, str(error)))
        else:
            yield cut


def check_readable(cut: Cut) -> None:
    """Raise InputError where the features of a cut, or else its audio, cannot be read."""
    if cut.has_features:
        read_stored(cut)
    else:
        load_samples(cut)


def begin(output: Path, settings: dict[str, object]) -> Path:
    """The directory in which the shards of `output` gather until all are there; empty, unless of the same settings.

    Raises InputError where `output` exists and is something else than a directory of Shar.
    """
    refuse_other(output)
    directory = output.with_name(f".{output.name}.unfinished")
    text = json.dumps(settings).encode()
    if not (directory / _SETTINGS).is_file() or (directory / _SETTINGS).read_bytes() != text:
        shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(directory / _SETTINGS, text)
    return directory


def finish(directory: Path, output: Path) -> None:
    """Put the gathered shards in the place of `output`, and beside them their number."""
    for path in directory.iterdir():
        if not _SHARD.fullmatch(path.name):  # the settings, and what a killed process has left
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    count = {"shards": len(shar_manifests(directory))}
    write_atomically(directory / _COUNT, json.dumps(count).encode())
    replace_directory(directory, output)


def refuse_other(output: Path) -> None:
    """Raise InputError where `output` is not to be replaced."""
    strange = [output] if output.is_file() else []
    if output.is_dir():
        strange = [path for path in output.iterdir() if not _SHARD.fullmatch(path.name) and path.name != _COUNT]
    if strange:
        raise InputError(f"output={output}: holds {strange[0].name}, which is not Shar's: name another directory")


def is_shar(path: Path) -> bool:
    """Whether this is a directory with at least one shard."""
    return bool(shar_manifests(path))


def shar_manifests(directory: Path) -> list[Path]:
    """The manifests of the shards, in order."""
    return sorted(directory.glob("cuts.*.jsonl.gz"))


def missing_shard(directory: Path) -> str:
    """What is not there of a directory of Shar, as far as its files, and their count if there is one, tell; "" for all.

    Lhotse's own exports have no count, and may be a part of some: of those a shard that lacks as a whole is not missed.
    """
    found = [match.groups() for path in directory.iterdir() if (match := _SHARD.fullmatch(path.name))]
    told = (f"{number:06d}" for number in range(min(shard_count(directory), MOST_SHARDS)))
    numbers = sorted({*told, *(number for _, number, _ in found)})  # without a count they may begin anywhere
    fields = sorted({(field, ending) for field, _, ending in found})
    wanted = ((field, number, ending) for number in numbers for field, ending in fields)
    there = set(found)
    return next((".".join(one) for one in wanted if one not in there), "")


def shard_count(directory: Path) -> int:
    """How many shards there were when the directory was written; 0 where it does not tell."""
    try:
        return int(json.loads(read_regular(directory / _COUNT, MOST_COUNT))["shards"])
    except (OSError, ValueError, TypeError, KeyError):
        return 0


def read_shar(directory: Path, numbers: Iterator[int], wanted: Rows = EVERY) -> Iterator[tuple[int, Cut]]:
    """The wanted rows of a directory and their cuts, with their data, in the order of the export.

    numbers: of its rows, and more. Raises InputError where a tar file ends early, or is compressed.
    """
    for manifest in shar_manifests(directory):
        lines = [line for _, line in read_lines(manifest) if line.strip()]
        rows = list(islice(numbers, len(lines)))
        if any(row in wanted for row in rows):
            yield from read_shard(manifest, list(zip(rows, lines)), wanted)


def read_shard(manifest: Path, rows: Sequence[tuple[int, str]], wanted: Rows) -> Iterator[tuple[int, Cut]]:
    """The wanted rows of a shard and their cuts; what belongs to others is not read, but passed over."""
    for path in tars_of(manifest).values():
        refuse_compressed(path)
    with contextlib.ExitStack() as opened:
        tars = {field: opened.enter_context(tarfile.open(path, "r:")) for field, path in tars_of(manifest).items()}
        for done, (row, line) in enumerate(rows):
            members = {field: [one for one in (tar.next(), tar.next()) if one] for field, tar in tars.items()}
            if any(len(pair) < 2 for pair in members.values()):
                told = f"{done} of {len(rows)} utterances are there"
                raise InputError(f"{manifest}: a tar file beside it ends early, {told}")
            if row in wanted:
                cut: Cut = deserialize_item(json.loads(line))
                for field, pair in members.items():
                    unpack(cut, field, tars[field], *pair)
                yield row, cut


def tars_of(manifest: Path) -> dict[str, Path]:
    """The tar files of a shard, by what is in them."""
    number = manifest.name.split(".")[1]
    return {field: path for field in FIELDS if (path := manifest.with_name(f"{field}.{number}.tar")).exists()}


def unpack(cut: Cut, field: str, tar: tarfile.TarFile, data: tarfile.TarInfo, described: tarfile.TarInfo) -> None:
    """Give a cut its recording or features, from two members of a tar file: the data, and what Lhotse says of them.

    Raises ValueError where they are another cut's.
    """
    name = Path(data.name)
    if str(name.with_suffix("")) != cut.id:
        raise ValueError(f"has {name.with_suffix('')}, where {cut.id} should be")
    if name.suffix != NO_DATA:
        manifest = deserialize_item(json.loads(content(tar, described)))
        fill_shar_placeholder(manifest, content(tar, data), name)
        setattr(cut, field, manifest)


def content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """What a member of a tar file holds. Raises ValueError where it is no file."""
    file = tar.extractfile(member)
    if file is None:
        raise ValueError(f"{member.name} is no file")
    return file.read()


def refuse_compressed(tar: Path) -> None:
    """Raise InputError for a tar file that may unpack to anything."""
    with tar.open("rb") as file:
        if file.read(len(LONGEST_MAGIC)).startswith(COMPRESSED):
            raise InputError(f"{tar}: is compressed, so that nobody knows how large it is; unpack it")
