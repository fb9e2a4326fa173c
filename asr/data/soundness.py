"""Whether the audio of a cut is what it should be: all of it there, finite, loud enough, not clipped, and met once."""

from __future__ import annotations

import contextlib
import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from lhotse.cut import Cut
from lhotse.serialization import deserialize_item

from asr.data.features import SAMPLING_RATE, as_int16, heard_parts, load_samples, read_stored
from asr.data.lhotse_audio import disagreement
from asr.data.manifest import read_packed, rows
from asr.data.rows import ManifestRow
from asr.data.sound import as_named, quiet
from asr.data.validation import SHARED, Finding, Part, Report
from asr.errors import InputError
from asr.parallel import chunked, start_workers
from asr.progress import progress

CHUNK = 20  # cuts that a process takes at a time
FULL_SCALE, MOST_CLIPPED = 0.999, 0.01  # from which a sample is clipped, and the share that may be
LARGEST = 2.0  # of samples in [−1, 1], with what resampling and codecs add
FAINTEST_DB = -60.0  # of the whole utterance: 16 bits have 30 steps there
BLOCK_SAMPLES, MOST_EMPTY = SAMPLING_RATE // 10, 0.5  # of which no sample is other than 0, and the share of such blocks


class Heard(NamedTuple):
    """An utterance that was read. digest: the same where audio is the same; "" where it cannot be read."""

    id: str
    digest: str
    faults: list[str]


def listen_to(parts: Sequence[Part], report: Report, jobs: int) -> None:
    """Read the audio of all rows that are well-formed, and add what is wrong with it to a report.

    jobs: processes that read; 0: this one.
    """
    places: deque[tuple[str, str, str]] = deque()
    first: dict[str, tuple[str, str]] = {}  # part and id of what was heard, by its digest
    known = {(one.path, one.place) for one in report.findings if one.reason.startswith(SHARED)}
    chunks, total = chunked(noted(parts, places), CHUNK), -(-sum(report.utterances.values()) // CHUNK)
    with contextlib.nullcontext() if jobs == 0 else start_workers(jobs) as workers:
        heard = workers.map(hear_all, chunks) if workers else map(hear_all, chunks)
        for one in chain.from_iterable(progress(heard, total, "listening", f"batches of {CHUNK}")):
            part, path, place = places.popleft()
            faults = [*one.faults]
            other, name = first.setdefault(one.digest, (part, one.id)) if one.digest else (part, "")
            if other != part and (path, place) not in known:
                faults.append(f"{SHARED} {other}, too ({name}); take it out of one of them")
            report.findings += [Finding(part, path, place, one.id, reason) for reason in faults]


def noted(parts: Sequence[Part], places: deque[tuple[str, str, str]]) -> Iterator[Cut]:
    """The cuts of all rows that are well-formed; part, manifest and place of each are added to `places`."""
    for part in parts:
        for path in part.paths:
            packed = (cut for _, cut in read_packed(path, count())) if Path(path).is_dir() else None
            for place, row in rows(path):
                cut = next(packed, None) if packed else cut_of(row)
                if cut is not None:
                    places.append((part.name, path, place))
                    yield cut


def cut_of(row: ManifestRow) -> Cut | None:
    """The cut of a row; None where it is none."""
    try:
        return None if row.faults else deserialize_item(row.value)
    except Exception:  # which the rows have been examined for
        return None


def hear_all(cuts: Sequence[Cut]) -> list[Heard]:
    """Read the audio, or the stored features, of cuts."""
    torch.set_num_threads(1)
    return [hear(cut) for cut in cuts]


def hear(cut: Cut) -> Heard:
    """Read the audio of a cut, or its stored features, and say what is wrong with it."""
    try:
        if cut.has_features:
            return Heard(cut.id, hashlib.blake2b(read_stored(cut).tobytes()).hexdigest(), [])
        samples = load_samples(cut)
    except InputError as error:
        return Heard(cut.id, "", [f"{error}; restore the file, or leave the utterance out"])
    told = disagreement(cut)
    faults = [*faults_of_samples(samples), *[f"{told}; prepare it again"] * bool(told), *faults_of_channels(cut)]
    return Heard(cut.id, hashlib.blake2b(as_int16(samples).tobytes()).hexdigest() if samples.any() else "", faults)


def faults_of_samples(samples: np.ndarray) -> Iterator[str]:
    """What is wrong with samples (N,) that are finite."""
    largest = float(np.abs(samples).max())
    level = 10 * np.log10(max(float(np.mean(samples.astype(np.float64) ** 2)), 1e-20))
    clipped = float(np.mean(np.abs(samples) >= FULL_SCALE))
    empty = share_of_empty(samples)
    if largest > LARGEST:
        yield f"samples up to {largest:.3g}, which should lie in [−1, 1]: convert it again"
    elif clipped > MOST_CLIPPED:
        yield f"{100 * clipped:.1f} % of its samples are clipped: record or convert it again, at a lower level"
    if largest == 0:
        yield "nothing but zeros: restore it, or leave it out"
    elif level < FAINTEST_DB:
        yield f"its level is {level:.0f} dB of full scale, as good as silence: is it the right file, or channel?"
    elif empty > MOST_EMPTY:
        yield f"{100 * empty:.0f} % of it are zeros: is all of it there?"


def share_of_empty(samples: np.ndarray) -> float:
    """The share of blocks of 0.1 s in which every sample is 0."""
    count = len(samples) // BLOCK_SAMPLES
    blocks = samples[: count * BLOCK_SAMPLES].reshape(count, BLOCK_SAMPLES)
    return float(np.mean(~blocks.any(axis=1))) if count else 0.0


def faults_of_channels(cut: Cut) -> Iterator[str]:
    """Where a file has other channels than its manifest says."""
    for part in heard_parts(cut):
        for source in part.recording.sources:
            found = channels_of(source.source) if source.type == "file" else None
            if found is not None and found != len(source.channels):
                said = f"{source.source} has {found} channels, its manifest says {len(source.channels)}"
                yield f"{said}; prepare it again"


def channels_of(path: str) -> int | None:
    """The channels of an audio file; None where its header does not tell."""
    try:
        with quiet():
            return int(soundfile.info(as_named(path)).channels)
    except (soundfile.SoundFileError, OSError):
        return None
