"""`asr score`: error rate of a hypotheses file, and emission delays where the times of words are known."""

from __future__ import annotations

import sys
from pathlib import Path

from asr.config import ScoreConfig
from asr.data.manifest import open_cuts
from asr.data.words import aligned_words
from asr.errors import InputError
from asr.files import write_atomically
from asr.score.delay import Words, emission_delays
from asr.score.report import read_hypotheses, unheard, write_report
from asr.score.wer import Utterance


def main(config: ScoreConfig) -> None:
    """Write the reports; the line of the error rate is the last line printed. Raises InputError for input at fault."""
    path = Path(config.hypotheses)
    utterances = read_hypotheses(path)
    words = {cut.id: aligned_words(cut) for cut in open_cuts([config.cuts])} if config.cuts else {}
    if config.cuts and not any(words.get(one.id) for one in utterances):
        raise InputError(f"{config.cuts}: has no times of words of these utterances; see `asr align` and `asr attach`")
    report(Path(config.output), utterances, config.name or path.resolve().parent.name, words, config.unit)


def report(output: Path, utterances: list[Utterance], name: str, words: Words, unit: str, note: str = "") -> None:
    """Write all reports and print their lines; `words` are the times of words by utterance, where known.

    note: what is not in the rate.
    """
    scored = write_report(output, utterances, name, unit, note)
    if unheard(scored):
        print(unheard(scored), file=sys.stderr)
    (output / "delay.txt").unlink(missing_ok=True)
    if any(words.values()):
        line = emission_delays(utterances, words).line()
        write_atomically(output / "delay.txt", f"{line}\n".encode())
        print(line)
    print(scored.line(name))
