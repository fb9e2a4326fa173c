"""`asr shar`: pack cuts with their audio or features into tar files that are read from front to back."""

from __future__ import annotations

import sys
from pathlib import Path

from lhotse.lazy import count_newlines_fast

from asr.config import SharConfig
from asr.data.batch import Skipped
from asr.data.manifest import open_cuts
from asr.data.shar import Shard, begin, finish, shar_manifests, write_shard
from asr.parallel import chunked, start_workers
from asr.progress import progress


def main(config: SharConfig) -> None:
    """Write the shards; interrupted, go on where it was. Unreadable utterances are named, counted and left out."""
    cuts = open_cuts([config.cuts])
    total = sum(1 for _ in cuts)
    output = Path(config.output).resolve()
    directory = begin(output, settings(config))
    shards = (Shard(*numbered, directory, config.audio) for numbered in enumerate(chunked(cuts, config.shard_size)))
    left = (shard for shard in shards if not shard.done)
    count = -(-total // config.shard_size) - len(list(directory.glob("cuts.*")))
    skipped: list[Skipped] = []
    with start_workers(config.jobs, config.scheduler) as workers:
        for unreadable in progress(workers.map(write_shard, left), count, "packing", f"shards of {config.shard_size}"):
            skipped += unreadable
    finish(directory, output)
    for utterance in skipped:
        print(f"skipped {utterance.id}: {utterance.reason}", file=sys.stderr)
    manifests = shar_manifests(output)
    done = sum(count_newlines_fast(path) for path in manifests)
    size = sum(path.stat().st_size for path in output.iterdir()) / 2**20
    print(f"{output}: {done} of {total} utterances in {len(manifests)} shards, {size:.0f} MiB")


def settings(config: SharConfig) -> dict[str, object]:
    """What the shards depend on: the manifest as it is now, and the options."""
    cuts = Path(config.cuts).resolve()
    changed = cuts.stat().st_mtime_ns
    return {"cuts": str(cuts), "changed": changed, "shard_size": config.shard_size, "audio": config.audio}
