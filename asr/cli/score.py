"""`asr score`: error rate of a hypotheses file, and emission delays where the times of words are known."""

from __future__ import annotations

import sys
from pathlib import Path

from asr.config import ScoreConfig
from asr.data.manifest import open_cuts
from asr.data.words import aligned_words
from asr.errors import InputError, PartlyDone
from asr.files import write_atomically
from asr.score.delay import Words, emission_delays
from asr.score.record import Record, read_record
from asr.score.report import in_other_case, not_scored, read_hypotheses, unheard, write_report
from asr.score.texts import pair_texts
from asr.score.wer import Utterance


def main(config: ScoreConfig) -> None:
    """Write the reports; the line of the error rate is the last line printed.

    Raises InputError for input at fault, PartlyDone where references have no hypothesis and are not scored.
    """
    path, missing, record = Path(config.hypotheses), list[str](), None
    if config.reference:
        utterances, missing = pair_texts(path, Path(config.reference))
    else:
        utterances, record = read_hypotheses(path), read_record(path.parent)
    words = {cut.id: aligned_words(cut) for cut in open_cuts([config.cuts])} if config.cuts else {}
    if config.cuts and not any(words.get(one.id) for one in utterances):
        raise InputError(f"{config.cuts}: has no times of words of these utterances; see `asr align` and `asr attach`")
    note = not_scored(len(missing), len(missing) + len(utterances))
    name = config.name or path.resolve().parent.name
    report(Path(config.output), utterances, name, words, config.unit, note, record)
    if missing:
        raise PartlyDone(f"{note}: there is no transcript of {', '.join(missing)}")


def report(
    output: Path,
    utterances: list[Utterance],
    name: str,
    words: Words,
    unit: str,
    note: str = "",
    record: Record | None = None,
) -> None:
    """Write all reports and print their lines; `words` are the times of words by utterance, where known.

    note: what is not in the rate. record: what the hypotheses were found with, where that is known.
    """
    scored = write_report(output, utterances, name, unit, note, record)
    for doubt in filter(None, (unheard(scored), in_other_case(scored))):
        print(doubt, file=sys.stderr)
    (output / "delay.txt").unlink(missing_ok=True)
    if any(words.values()):
        line = emission_delays(utterances, words).line()
        write_atomically(output / "delay.txt", f"{line}\n".encode())
        print(line)
    print(scored.line(name))
