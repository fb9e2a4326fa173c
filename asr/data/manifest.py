"""Reading Lhotse manifests: lazily, and with a clear word where one is damaged.

What is wrong with a manifest is met in one of two ways:

- A *row* that is malformed (no JSON, a field that is missing or of the wrong type, a time that is none, an id that
  another row has) makes the manifest be refused before any work: the first of them are named, by line and id, in one
  pass over all rows that opens no audio. A program wrote them, and there will be more.
- *What a row describes* (audio, features, a transcript that does not belong to its audio) is seen when it is read. The
  utterance is named and left out, and the others go on.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path

import numpy as np
from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.serialization import deserialize_item

from asr.data.features import one_line
from asr.data.held import files_in, outside
from asr.data.limits import AUDIO_ENDINGS
from asr.data.numbered import EVERY, Rows
from asr.data.rows import ManifestRow, read_row
from asr.data.shar import is_shar, missing_shard, read_shar, shar_manifests
from asr.errors import InputError
from asr.files import read_lines

SHOWN = 20  # rows at fault that are named
AGAIN = "prepare the corpus again (`asr manifest`, or stage 0 of a recipe's run.sh)"


def open_cuts(paths: Sequence[str], root: str = "", rows_known: bool = False) -> CutSet:
    """The cuts of one or more manifests or directories of Shar, read lazily, in the order given.

    Every row is looked at first, which takes 3 s for 100,000. root: the directory that the files must lie in, if any.
    rows_known: they have been, and the manifests have not changed; where there is a root, a link may have.
    Raises InputError for a missing or unreadable manifest, and one that names the first rows at fault, repeated ids
    among them.
    """
    if not paths:
        raise InputError("no manifest given: name at least one cuts_*.jsonl.gz")
    for path in paths:
        if reason := why_not(Path(path)):
            raise InputError(f"{path}: {reason}")
        check_kind(path)
    if root or not rows_known:
        check_rows(paths, root)
    return CutSet(Manifests(paths))


def why_not(path: Path) -> str:
    """Why what lies at a path cannot be a manifest, and the remedy; empty if it may be one."""
    if path.is_dir():
        if not is_shar(path):
            return f"a directory, not a manifest; {how_to_make(path)}"
        missing = missing_shard(path)
        return f"{missing} is missing; restore it, or {AGAIN}" if missing else ""
    if not path.is_file():
        return "no such manifest; `asr manifest` makes one of a corpus, stage 0 of run.sh that of a recipe"
    if path.suffix.lower() in AUDIO_ENDINGS:
        return f"not a manifest but audio; `asr transcribe {path}` reads audio files"
    return ""


def how_to_make(corpus: Path | str) -> str:
    """How a manifest of a corpus is made."""
    return f"make one of it: asr manifest input={corpus} output=cuts.jsonl.gz"


def check_kind(path: str) -> None:
    """Raise InputError where no row of a manifest is a cut, well-formed or not: it is something else."""
    fault = ""
    for place, row in rows(path):
        if row.is_cut:
            return
        fault = fault or f"{place}: {', '.join(row.faults)}"
    if fault:
        raise InputError(f"{path}: not a manifest of cuts ({fault}); {how_to_make(path)}")
    raise InputError(f"{path}: holds no cuts; {AGAIN}")


def check_rows(paths: Sequence[str], root: str = "") -> None:
    """Raise InputError where rows are malformed or two have one id; their ids are kept in 8 bytes each."""
    faults: list[tuple[str, str]] = []  # manifest, and what is wrong with which line of it
    count, ids = 0, array("q")
    for path in paths:
        for place, row in rows(path):
            ids.append(hash(row.id))
            at_fault = row.faults or outside_of(root, row)
            if at_fault:
                count += 1
                faults += [(path, f"{place}: {', '.join(at_fault)}")] if count <= SHOWN else []
    if not count:
        faults = list(islice(repeated_ids(paths, ids), SHOWN))
    if faults:
        raise InputError(summary(faults, count))


def outside_of(root: str, row: ManifestRow) -> list[str]:
    """What is wrong with a row that names a file outside of the data root; nothing where there is no such root."""
    name = outside(files_in(row.value), root) if root else ""
    return [f"names {name}, outside of data.root={root}"] if name else []


def summary(faults: list[tuple[str, str]], count: int) -> str:
    """Rows at fault, manifest by manifest, in one line; there are `count`, or as many as are shown."""
    by_path: dict[str, list[str]] = {}
    for path, fault in faults:
        by_path.setdefault(path, []).append(fault)
    named = "; ".join(f"{path}: {'; '.join(of_path)}" for path, of_path in by_path.items())
    more = f"; {count - len(faults)} more rows are at fault" if count > len(faults) else ""
    return f"{named}{more}: correct the manifest, or {AGAIN}"


def repeated_ids(paths: Sequence[str], ids: array[int]) -> Iterator[tuple[str, str]]:
    """Where an id occurs again, by manifest and line. ids: hashes of all ids; only if two agree are the rows read."""
    hashes, counts = np.unique(np.frombuffer(ids, dtype=np.int64), return_counts=True)
    suspects = frozenset(hashes[counts > 1].tolist())
    first: dict[str, str] = {}
    for path in paths if suspects else ():
        for place, row in rows(path):
            if hash(row.id) in suspects:
                if row.id in first:
                    yield path, f"{place}: has the id of {first[row.id]}; give each utterance its own"
                first.setdefault(row.id, f"{path}, {place}")


def rows(path: str) -> Iterator[tuple[str, ManifestRow]]:
    """Each row of a manifest, or of those in a directory of Shar, and its place: `line 3 (u7)`."""
    directory = Path(path).is_dir()
    for manifest in shar_manifests(Path(path)) if directory else [Path(path)]:
        for number, line in read_lines(manifest):
            if line.strip():
                row = read_row(line)
                place = f"{manifest.name} line {number}" if directory else f"line {number}"
                yield f"{place} ({row.id})" if row.id else place, row


class Manifests:
    """The cuts of manifests, one after the other."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = list(paths)

    def __iter__(self) -> Iterator[Cut]:
        return (cut for _, cut in self.numbered(EVERY))

    def numbered(self, wanted: Rows) -> Iterator[tuple[int, Cut]]:
        """The wanted rows and the cuts in them; of others neither JSON nor audio is read."""
        numbers = count()
        for path in self.paths:
            yield from (read_packed if Path(path).is_dir() else read_manifest)(path, numbers, wanted)


def read_manifest(path: str, numbers: Iterator[int], wanted: Rows = EVERY) -> Iterator[tuple[int, Cut]]:
    """The wanted rows of a manifest, whose rows have been looked at, and their cuts. numbers: of its rows, and more.

    Raises InputError at a row that Lhotse cannot read.
    """
    for number, line in read_lines(Path(path)):
        if line.strip() and (row := next(numbers)) in wanted:
            try:
                cut: Cut = deserialize_item(json.loads(line))
            except Exception as error:  # of fields that may hold anything, or the manifest has changed since
                raise InputError(f"{path}: line {number}: no cut ({one_line(error)})") from error
            yield row, cut


def read_packed(path: str, numbers: Iterator[int], wanted: Rows = EVERY) -> Iterator[tuple[int, Cut]]:
    """The same, of a directory of Shar. Raises InputError where it is damaged."""
    done = 0
    try:
        for done, one in enumerate(read_shar(Path(path), numbers, wanted), 1):  # noqa: B007
            yield one
    except InputError:
        raise
    except Exception as error:  # tar, gzip, audio and Lhotse each have their own exceptions
        raise InputError(f"{path}: damaged after {done} cuts ({one_line(error)}); {AGAIN}") from error
