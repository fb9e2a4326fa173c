"""What an error rate was found with: decode.json, beside the hypotheses and wer.txt that it is of."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from asr.errors import InputError
from asr.files import write_atomically, writing
from asr.options import flatten, shown

NAME = "decode.json"


@dataclass(frozen=True)
class Record:
    """What `asr decode` found hypotheses with.

    asr: version and commit of the program. run, cuts: as they were named. checkpoint: the names of one, or of several
    that are averaged; weights: their digest, which tells them from others of the same names. device: its type.
    decode: the options of the search.
    """

    asr: str
    run: str
    checkpoint: str
    weights: str
    cuts: str
    streaming: bool
    device: str
    decode: dict[str, Any]


KINDS: dict[str, type] = {name: get_origin(kind) or kind for name, kind in get_type_hints(Record).items()}


def write_record(directory: Path, record: Record) -> None:
    """Write it beside what it is of."""
    write_atomically(directory / NAME, (json.dumps(asdict(record), indent=1, ensure_ascii=False) + "\n").encode())


def forget_record(directory: Path) -> None:
    """Remove it, before what it is of is replaced."""
    with writing(directory / NAME):
        (directory / NAME).unlink(missing_ok=True)


def read_record(directory: Path) -> Record | None:
    """That of a directory; None where it has none, as of other systems' hypotheses. Raises InputError where it is
    damaged."""
    path = directory / NAME
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        for name, kind in KINDS.items():
            if not isinstance(told[name], kind):
                raise TypeError(f"'{name}' is no {kind.__name__}")
        flatten(told["decode"])  # as deep as it is
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{path}: is no record of a decoding ({error!r}): decode again, or delete it") from None
    return Record(**{name: told[name] for name in KINDS})  # later versions may tell more


def read_settings(directory: Path) -> dict[str, str]:
    """What a directory was decoded with, by name, as text, to be compared; nothing where it keeps no record of it."""
    record = read_record(directory)
    told = flatten(asdict(record)) if record else {}
    return {name: shown(value) for name, value in told.items() if name not in ("run", "weights")}
