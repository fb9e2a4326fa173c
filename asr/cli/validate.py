"""`asr validate`: find all that is wrong with manifests and their audio, before a training does."""

from __future__ import annotations

import sys
from pathlib import Path

from asr.config import ValidateConfig
from asr.data.soundness import listen_to
from asr.data.tokenizer import load_tokenizer
from asr.data.validation import Part, examine, held_out, targets_of, write_sound
from asr.errors import InputError, PartlyDone
from asr.train.data import make_admission, parts_of


def main(config: ValidateConfig) -> None:
    """Print all that is wrong, a line each with place, id and remedy, and write what is sound where that is asked for.

    Raises InputError where a manifest cannot be read, and PartlyDone where something is wrong.
    """
    tokenizer = load_tokenizer(config.data.tokenizer) if config.data.tokenizer else None
    admission = make_admission(config, tokenizer) if tokenizer else None
    parts = [
        *parts_of(config, admission, tokenizer),
        *(Part(path, [path], held_out(tokenizer)) for path in config.cuts),
    ]
    if not parts:
        raise InputError("no manifest given: name some in cuts=[…], or the options of a training")
    if config.fix:
        targets_of(parts, Path(config.fix))  # or raise before the work
    if tokenizer is None:
        print(
            "no data.tokenizer: transcripts are not held against a vocabulary, nor labels against frames",
            file=sys.stderr,
        )
    report = examine(parts, config.data.root)
    if config.audio:
        listen_to(parts, report, config.jobs)
    for finding in report.findings:
        print(finding)
    for line in write_sound(parts, report, Path(config.fix)) if config.fix else ():
        print(line, file=sys.stderr)
    line = report.line() + ("" if config.audio else "; their audio was not read")
    if report.findings:
        raise PartlyDone(line)
    print(line)
