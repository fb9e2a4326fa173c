"""The manifests in which the sound is of what was decoded."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from lhotse.cut import Cut

from asr.data.manifest import open_cuts
from asr.errors import InputError
from asr.report.decodings import Decoding
from asr.report.runs import Run
from asr.score.record import Record


def given_manifests(group: Sequence[Decoding], decodings: Sequence[Decoding], given: Sequence[str]) -> list[str]:
    """Those of `given` that a set of utterances may be of, the one that was decoded last.

    Where the same ids were decoded from several manifests, each set is heard from its own.
    """
    own, named = ({one.cuts for one in some if one.cuts} for some in (group, decodings))
    others = [path for path in given if not is_any_of(path, named)]
    return [*others, *(path for path in given if is_any_of(path, own))]


def is_any_of(path: str, names: Collection[str]) -> bool:
    """Whether a manifest may be one that was named so, here or elsewhere."""
    parts = Path(path).absolute().parts
    return any(parts[-len(tail) :] == tail for tail in (Path(name).parts for name in names) if tail)


def found_manifests(group: Sequence[Decoding], runs: Sequence[Run]) -> list[str]:
    """Those that a set of utterances was decoded from, as far as there is a record of it and they are still there."""
    records = [(runs[one.run].path, one.record) for one in group if one.record]
    there = (str(path) for run, record in records for path in [*filter(os.path.exists, places(run, record))][:1])
    return [*dict.fromkeys(there)]


def places(run: Path, record: Record) -> Iterator[Path]:
    """Where a manifest may lie that a record names: below the directory in which `asr decode` ran, or below this one.

    A record that somebody else wrote may name any file, so that names which begin at the root, or lead up, are not
    followed.
    """
    name, tail = Path(record.cuts), Path(record.run).parts
    if not name.parts or name.is_absolute() or ".." in name.parts:
        return
    for path in (run.absolute(), run.resolve()):
        if tail and path.parts[-len(tail) :] == tail:
            yield Path(*path.parts[: -len(tail)], name)
    yield name


def read_cuts(path: str, wanted: Collection[str]) -> dict[str, Cut]:
    """The wanted cuts of a manifest, by id. Raises InputError where it is at fault."""
    try:
        return {cut.id: cut for cut in open_cuts([path]) if cut.id in wanted}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
