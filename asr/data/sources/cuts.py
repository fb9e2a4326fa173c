"""From rows to cuts: audio is opened, and whatever is wrong with a row is found in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lhotse import MonoCut, MultiCut, Recording, SupervisionSegment
from lhotse.cut.data import DataCut

from asr.data.corpus import describe_recording
from asr.data.sources.row import Place, Row, Source, below, is_file
from asr.errors import InputError
from asr.parallel import start_threads
from asr.progress import progress

SLACK_SECONDS = 0.25  # by which an utterance may seem to end after its audio, or before it, and end with it
SHORTEST_SECONDS = 0.02
MOST_CHARACTERS = 50  # a second: nobody speaks half as fast


@dataclass(frozen=True)
class Opened:
    """What became of a file's header: a recording, or what is wrong with it."""

    recording: Recording | None
    reason: str = ""


def make_cuts(rows: Sequence[Row], source: Source, spell: Callable[[str], str], jobs: int) -> Iterator[DataCut]:
    """The cuts of rows, in order; what is wrong with the others is added to `source.faults`.

    spell: makes the transcript; raises InputError where it cannot. jobs: files that are opened at a time.
    """
    opened = open_all([row.audio for row in rows], source.home, jobs)
    ids: dict[object, Place] = {}
    parts: dict[object, Place] = {}
    for row in rows:
        try:
            cut = cut_of(row, opened[row.audio], spell)
            refuse_second(ids, cut.id, row.place, f"is called {cut.id}")
            refuse_second(parts, (row.audio, cut.start, cut.end, str(cut.channel)), row.place, "has the same audio")
            yield cut
        except InputError as error:
            source.fault(row.place, str(error))


def open_all(files: Sequence[Path], home: Path, jobs: int) -> dict[Path, Opened]:
    """Every file's recording, or what is wrong with it."""
    different = list(dict.fromkeys(files))
    with start_threads(jobs) as workers:
        opened = workers.map(lambda path: open_one(path, home), different)
        return dict(zip(different, progress(opened, len(different), "audio", "files")))


def open_one(path: Path, home: Path) -> Opened:
    """A file's recording, named after its path from `home` on, or what is wrong with it."""
    if not is_file(path):
        return Opened(None, f"{path}: no such file; add it, remove the row, or say where the audio lies, audio_dir=…")
    try:
        return Opened(describe_recording(name_of(path, home), path))
    except InputError as error:
        return Opened(None, str(error))


def name_of(path: Path, home: Path) -> str:
    """A name for the audio of a file, without blanks, which CTM files could not hold."""
    return "_".join(below(home, path).with_suffix("").as_posix().split())


def cut_of(row: Row, opened: Opened, spell: Callable[[str], str]) -> DataCut:
    """The cut of a row. Raises InputError where its audio, times or text are impossible."""
    recording = opened.recording
    if recording is None:
        raise InputError(opened.reason)
    end = end_of(row, recording)
    duration = round(end - row.start, 8)
    text = spell(row.text)
    if len(text) > MOST_CHARACTERS * duration:
        what = "not its transcript, or the times are wrong; mend the row"
        raise InputError(f"{len(text)} characters in {duration:.2f} s of audio: {what}")
    name = "_".join(row.id.split()) or part_name(recording, row.start, end)
    supervision = SupervisionSegment(
        id=name,
        recording_id=recording.id,
        start=0.0,
        duration=duration,
        channel=channels_of(row, recording),
        text=text,
        language=row.language or None,
        speaker=row.speaker or None,
        alignment={"word": list(row.words)} if row.words else None,
    )
    kind = MultiCut if isinstance(supervision.channel, list) else MonoCut
    return kind(name, row.start, duration, supervision.channel, [supervision], recording=recording)


def end_of(row: Row, recording: Recording) -> float:
    """Where a row ends, seconds. Raises InputError where that is outside of its audio, or no time is left."""
    length = recording.duration
    end = length if row.end is None or abs(row.end - length) <= SLACK_SECONDS else row.end
    if end > length:
        raise InputError(f"ends at {end:g} s, but {recording.id} has {length:.2f} s; correct the times")
    if end - row.start < SHORTEST_SECONDS:
        raise InputError(f"begins at {row.start:g} s and ends at {end:g} s; correct the times")
    return end


def channels_of(row: Row, recording: Recording) -> int | list[int]:
    """The channel of a row, or, where it names none, all of its audio. Raises InputError where there is no such one."""
    if row.channel is None and recording.num_channels > 1:
        return list(range(recording.num_channels))
    wanted = row.channel or 0
    if wanted >= recording.num_channels:
        raise InputError(f"is in channel {wanted + 1} of audio with {recording.num_channels}; correct the channel")
    return wanted


def part_name(recording: Recording, start: float, end: float) -> str:
    """The recording's id and, of a part of it, the times in hundredths of a second."""
    if start == 0 and end == recording.duration:
        return str(recording.id)
    return f"{recording.id}-{round(100 * start):07d}-{round(100 * end):07d}"


def refuse_second(seen: dict[object, Place], key: object, place: Place, what: str) -> None:
    """Raise InputError where another row had this key; remember it otherwise."""
    first = seen.setdefault(key, place)
    if first is not place:
        raise InputError(f"{what} as {first}; remove one of them, or give each its own")
