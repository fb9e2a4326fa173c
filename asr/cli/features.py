"""`asr features`: compute filterbanks once and write a manifest that points to them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from lhotse import CutSet
from lhotse.cut import Cut

from asr.config import FeaturesConfig
from asr.data.batch import Skipped
from asr.data.corpus import write_cuts
from asr.data.manifest import open_cuts
from asr.data.store import Store, Task, digest, store_chunk
from asr.errors import InputError
from asr.files import replace_directory, require_writable
from asr.parallel import chunked, start_workers
from asr.progress import progress

CHUNK = 50  # cuts that a process takes at a time


def main(config: FeaturesConfig) -> None:
    """Compute, store, and write the new manifest. Unreadable utterances are named, counted and left out.

    Interrupted, what an earlier run has stored is as it was.
    """
    cuts, output = open_cuts([config.cuts]), Path(config.output)
    require_writable(output)
    factors = [1.0, *(factor for factor in config.speed_factors if factor != 1.0)]
    done: list[Cut] = []
    skipped: list[Skipped] = []
    total = -(-sum(1 for _ in cuts) // CHUNK)
    store = Store(Path(config.storage).resolve() / f"{output.name.split('.')[0]}-{digest(str(output.resolve()))[:8]}")
    shutil.rmtree(store.unfinished, ignore_errors=True)
    tasks = (Task(chunk, factors, store, config.mel_bins) for chunk in chunked(cuts, CHUNK))
    with start_workers(config.jobs, config.scheduler) as workers:
        for stored, unreadable in progress(workers.map(store_chunk, tasks), total, "features", f"batches of {CHUNK}"):
            done += stored
            skipped += unreadable
    for utterance in skipped:
        print(f"skipped {utterance.id}: {utterance.reason}", file=sys.stderr)
    if not done:
        raise InputError(f"{config.cuts}: no utterance could be read")
    output.unlink(missing_ok=True)  # or one of an earlier run would describe the features of this one
    replace_directory(store.unfinished, store.place)
    write_cuts(CutSet.from_cuts(done), output)
    print(f"{config.output}: {len(done)} utterances with features, {len(skipped)} skipped")
