"""`asr attach`: put times of words onto a CutSet."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

from asr.align.attach import Attachment
from asr.align.read import read_words
from asr.config import AttachConfig
from asr.data.corpus import write_cuts
from asr.data.manifest import open_cuts
from asr.errors import InputError

SHOWN = 20  # faults that are printed; the report has them all


def main(config: AttachConfig) -> None:
    """Write the manifest and the coverage report. Raises InputError where no utterance gets times."""
    cuts = open_cuts([config.cuts])
    attachment = Attachment(read_words(Path(config.words)))
    aligned = list(attachment(cuts))
    coverage, output = attachment.coverage, Path(config.output)
    report = output.with_name(output.name + ".coverage.txt")
    coverage.write(report)
    for line in islice(coverage.details(), SHOWN):
        print(line, file=sys.stderr)
    if not coverage.aligned:
        raise InputError(f"{config.words}: {coverage.line()}; {report} has the reasons")
    write_cuts(aligned, output)
    print(f"{output}: {coverage.line()} (see {report})")
