"""`asr score`: error rate of a hypotheses file, and emission delays where the times of words are known."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from asr.config import DecodeConfig, ScoreConfig
from asr.data.manifest import open_cuts
from asr.data.words import aligned_words
from asr.errors import InputError, PartlyDone
from asr.files import write_atomically
from asr.score.delay import Words, emission_delays
from asr.score.groups import Values, lines_by, values_of
from asr.score.normalize import normalizer
from asr.score.record import Record, read_record
from asr.score.report import HYPOTHESES, in_other_case, not_scored, read_hypotheses, unheard, write_report
from asr.score.texts import pair_texts
from asr.score.wer import Score, Utterance

PARTS = "parts.txt"
SHOWN = 30  # lines of a table that are printed


def main(config: ScoreConfig) -> None:
    """Write the reports; the line of the error rate is the last line printed.

    Raises InputError for input at fault, PartlyDone where references have no hypothesis and are not scored.
    """
    path, missing, record = Path(config.hypotheses), list[str](), None
    if config.reference:
        utterances, missing = pair_texts(path, Path(config.reference))
    else:
        utterances = read_hypotheses(path)
        record = record_of(path, Path(config.output))
    cuts = open_cuts([config.cuts]) if config.cuts else []
    words = {cut.id: aligned_words(cut) for cut in cuts}
    fields = values_of(cuts, config.by)
    if fields and not any(one.id in words for one in utterances):
        raise InputError(f"{config.cuts}: has none of these utterances; give their manifest")
    if config.cuts and not fields and not any(words.get(one.id) for one in utterances):
        raise InputError(f"{config.cuts}: has no times of words of these utterances; see `asr align` and `asr attach`")
    note = not_scored(len(missing), len(missing) + len(utterances))
    report(config, utterances, config.name or path.resolve().parent.name, words, fields, note, record)
    if missing:
        raise PartlyDone(f"{note}: there is no transcript of {', '.join(missing)}")


def record_of(hypotheses: Path, output: Path) -> Record | None:
    """What hypotheses were found with, where that is known; of another file in the same folder it is not.

    A file of that name which is none may be another system's: it is told of, and is refused only where the scores would
    take its place.
    """
    if hypotheses.name != HYPOTHESES:
        return None
    try:
        return read_record(hypotheses.parent)
    except InputError as error:
        if output.resolve() == hypotheses.parent.resolve():
            raise
        print(f"{error}; scored without it", file=sys.stderr)
        return None


def report(
    config: ScoreConfig | DecodeConfig,
    utterances: list[Utterance],
    name: str,
    words: Words,
    fields: Mapping[str, Values],
    note: str = "",
    record: Record | None = None,
) -> None:
    """Write all reports and print their lines.

    words: times of words by utterance, where known. fields: that rates are wanted by. note: what is not in the rate.
    record: what the hypotheses were found with, where that is known.
    """
    output = Path(config.output)
    scored = write_report(output, utterances, name, config.unit, note, normalizer(config.normalize), record)
    for doubt in filter(None, (unheard(scored, utterances), in_other_case(scored))):
        print(doubt, file=sys.stderr)
    (output / "delay.txt").unlink(missing_ok=True)
    if any(words.values()):
        line = emission_delays(utterances, words).line()
        write_atomically(output / "delay.txt", f"{line}\n".encode())
        print(line)
    report_parts(output, scored, fields)
    print(scored.line(name))


def report_parts(output: Path, scored: Score, fields: Mapping[str, Values]) -> None:
    """Write tables of the rates by each of the fields, and print as much as there is room for."""
    (output / PARTS).unlink(missing_ok=True)
    tables = [[*lines_by(name, scored, values)] for name, values in fields.items()]
    if tables:
        write_atomically(output / PARTS, "\n".join("\n".join([*lines, ""]) for lines in tables).encode())
    for lines in tables:
        more = [f"… {len(lines) - SHOWN} more lines in {output / PARTS}"] if len(lines) > SHOWN else []
        print("\n".join([*lines[:SHOWN], *more, ""]))
