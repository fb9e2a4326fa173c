"""What `asr transcribe` wrote, beside reference texts that lie in plain text files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from asr.data.limits import AUDIO_ENDINGS
from asr.errors import InputError
from asr.files import read_lines
from asr.score.wer import Utterance

PRINTED = re.compile(rf"[^\t]+({'|'.join(map(re.escape, AUDIO_ENDINGS))})\t", re.I)  # of several files


class Text(NamedTuple):
    """A text, and the file that has it."""

    text: str
    file: Path


def pair_texts(hypotheses: Path, reference: Path) -> tuple[list[Utterance], list[str]]:
    """Each reference with the hypothesis of its name, and the names of the references that have none.

    Of one file each the names do not matter. Raises InputError where no two go together, and where any text would be
    compared with itself.
    """
    found, wanted = read_texts(hypotheses), read_texts(reference)
    if len(found) == len(wanted) == 1 and not reference.is_dir():
        found = dict(zip(wanted, found.values()))
    both = {name: (said, found[name]) for name, said in wanted.items() if name in found}
    if not both:
        names = f"{', '.join([*found][:3])} here, {', '.join([*wanted][:3])} there"
        raise InputError(f"{hypotheses}, {reference}: no files of one name ({names}); call a reference NAME.txt")
    if any(said.file.samefile(heard.file) for said, heard in both.values()):
        raise InputError(f"reference={reference}: is what hypotheses= names, too; name what was said")
    utterances = [Utterance(name, said.text, heard.text) for name, (said, heard) in both.items()]
    return utterances, [name for name in wanted if name not in found]


def read_texts(path: Path) -> dict[str, Text]:
    """Texts by name: of a folder's files NAME.txt and NAME.json, of the lines of a file of JSON, or of one whole file.

    Raises InputError where there are none.
    """
    if path.is_dir():
        files = [one for ending in ("txt", "json") for one in sorted(path.rglob(f"*.{ending}"))]
        texts = {
            str(one.relative_to(path).with_suffix("")): Text(text, one) for one in files for _, text in texts_of(one)
        }
    else:
        texts = {name: Text(text, path) for name, text in texts_of(path)}
    if not texts:
        raise InputError(f"{path}: holds no text; name a file, or a folder of files NAME.txt or NAME.json")
    return texts


def texts_of(path: Path) -> Iterator[tuple[str, str]]:
    """The names and texts in a file: one a line of `asr transcribe format=json`, or the whole of it."""
    if path.suffix not in (".json", ".jsonl"):
        lines = [line for _, line in read_lines(path)]
        if len(lines) > 1 and all(map(PRINTED.match, lines)):
            raise InputError(
                f"{path}: has the names of several files, as `asr transcribe` prints them: give that "
                "output=DIRECTORY, or format=json, and score what it writes"
            )
        yield path.stem, " ".join(lines)
        return
    for number, line in read_lines(path):
        try:
            row = json.loads(line)
            yield Path(row["file"]).stem, row["text"]
        except (ValueError, KeyError, TypeError):
            where = f"{path}: line {number}"
            raise InputError(f"{where}: no line of `asr transcribe format=json`, with file and text") from None
