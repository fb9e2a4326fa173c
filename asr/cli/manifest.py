"""`asr manifest`: make a manifest of a corpus in the form that it lies in."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from asr.config import ManifestConfig
from asr.console import visible
from asr.data.corpus import write_cuts
from asr.data.sources.cuts import make_cuts
from asr.data.sources.read import read_rows
from asr.data.sources.remarks import (
    characters,
    described,
    of_channels,
    of_characters,
    of_columns,
    of_lengths,
    of_parts,
)
from asr.data.sources.row import Fault, Source
from asr.data.sources.split import divide, parse_split
from asr.data.sources.text import Spelling
from asr.errors import InputError, PartlyDone
from asr.files import require_writable, write_atomically

SHOWN = 20  # faults that are printed; the report has them all
ENDING = ".jsonl.gz"


def main(config: ManifestConfig) -> None:
    """Write the manifest, or one a part, and the faults. Raises InputError where no utterance can be used."""
    output = Path(config.output)
    if not output.name.endswith(ENDING):
        raise InputError(f"output={output}: a manifest's name ends with {ENDING}")
    require_writable(output)
    shares = parse_split(config.split)
    source = source_of(config)
    rows = read_rows(source, config.form)
    cuts = list(make_cuts(rows, source, Spelling(config.case, config.punctuation), config.jobs))
    report_faults(source.faults, output)
    if not cuts:
        raise InputError(f"{config.input}: none of {len(rows)} rows can be used, {sorted(source.faults)[0]}")
    warn(of_channels(cuts))
    warn(of_columns(source.unused))
    if shares:
        warn(of_parts(cuts, len(shares) + 1, source.unused))
    parts = divide(cuts, shares, config.seed) if shares else {"": cuts}
    for name, part in parts.items():
        path = output.with_name(output.name.removesuffix(ENDING) + f"_{name}" * bool(name) + ENDING)
        replaced = ", in place of what was there" * path.exists()
        write_cuts(part, path)
        print(f"{path}: {described(part)}{replaced}")
    print(characters(cuts))
    warn(of_characters(parts))
    warn(of_lengths(cuts))
    if len(source.faults) > len(cuts):
        raise PartlyDone(f"{len(source.faults)} rows at fault are more than the {len(cuts)} that could be used")


def source_of(config: ManifestConfig) -> Source:
    """The corpus that the options name."""
    given = {"audio": config.audio_column, "text": config.text_column, "speaker": config.speaker_column}
    columns = {kind: name for kind, name in given.items() if name}
    audio = Path(config.audio_dir).absolute() if config.audio_dir else None
    if audio is not None and not audio.is_dir():
        raise InputError(f"audio_dir={config.audio_dir}: no such directory")
    return Source(Path(config.input).absolute(), audio, columns)


def report_faults(faults: list[Fault], output: Path) -> None:
    """Print the first faults, and write all of them, in the order of their places, to OUTPUT.faults.txt."""
    report = output.with_name(output.name + ".faults.txt")
    report.unlink(missing_ok=True)
    if not faults:
        return
    lines = [visible(str(fault)) for fault in sorted(faults)]
    for line in islice(lines, SHOWN):
        print(line, file=sys.stderr)
    write_atomically(report, "".join(f"{line}\n" for line in lines).encode())
    print(f"{len(lines)} rows at fault are left out; all are named in {report}", file=sys.stderr)


def warn(lines: Iterable[str]) -> None:
    """Print remarks on standard error."""
    for line in lines:
        print(line, file=sys.stderr)
