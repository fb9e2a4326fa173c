"""`asr segment`: cut long recordings into utterances."""

from __future__ import annotations

import sys
from pathlib import Path

from lhotse.cut import Cut

from asr.align.segment import segment
from asr.config import SegmentConfig
from asr.data.batch import Skipped
from asr.data.corpus import write_cuts
from asr.data.manifest import open_cuts
from asr.errors import InputError
from asr.files import require_writable


def main(config: SegmentConfig) -> None:
    """Write the manifest of the utterances, and name what makes none. Raises InputError where nothing does."""
    output = Path(config.output)
    if output.absolute() == Path(config.cuts).absolute():
        raise InputError(f"output={config.output} is the manifest that is read: name another")
    require_writable(output)
    utterances: list[Cut] = []
    total = 0.0
    for cut in open_cuts([config.cuts]):
        total += cut.duration
        for part in segment(cut, config.max_seconds, config.min_pause):
            if isinstance(part, Skipped):
                print(f"not used: {part.id}: {part.reason}", file=sys.stderr)
            else:
                utterances.append(part)
    if not utterances:
        raise InputError(f"{config.cuts}: no utterance can be cut out of it: see above")
    write_cuts(utterances, output)
    seconds = sum(cut.duration for cut in utterances)
    print(f"{output}: {len(utterances)} utterances, {seconds / 60:.1f} of {total / 60:.1f} minutes")
