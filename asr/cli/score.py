"""`asr score`: word error rate of a hypotheses file."""

from __future__ import annotations

from pathlib import Path

from asr.config import ScoreConfig
from asr.score.report import read_hypotheses, write_report


def main(config: ScoreConfig) -> None:
    """Write the reports; the WER line is the last line printed. Raises InputError for input at fault."""
    path = Path(config.hypotheses)
    name = config.name or path.resolve().parent.name
    scored = write_report(Path(config.output), read_hypotheses(path), name)
    print(scored.line(name))
