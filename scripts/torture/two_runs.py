#!/usr/bin/env python3
"""Two trainings in one directory, started at random offsets: the second is refused, and names the first.

python scripts/torture/two_runs.py [--quick] [--tries N]
"""

from __future__ import annotations

import importlib
import random
import sys
import tempfile
from pathlib import Path

import trainings
from trainings import Tally

check_two_runs = importlib.import_module("check_two_runs")  # found by way of `trainings`
SPAN = 15.0  # seconds between the two of a pair at most


def main() -> int:
    """See the module."""
    given = trainings.arguments(__doc__, quick=3, full=50)
    tally, draw = Tally("two_runs"), random.Random(given.seed)
    with tempfile.TemporaryDirectory() as directory:
        trainings.make_corpus(corpus := Path(directory) / "corpus")
        options = trainings.options(corpus, "data.workers=1", "train.save_every=5")
        for _ in range(given.tries):
            offset, fault = draw.uniform(0, SPAN), ""
            try:
                check_two_runs.pair_up(Path(directory) / "run", options, offset)
            except SystemExit as error:
                fault = str(error)
            tally.note(f"{offset:.1f} s apart", fault)
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
