"""Lhotse manifests: cuts, or recordings beside supervisions, as its recipes write them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lhotse import Recording, SupervisionSegment
from lhotse.cut.data import DataCut
from lhotse.serialization import deserialize_item

from asr.data.features import one_line
from asr.data.sources.row import Place, Row, Source
from asr.data.sources.table import json_record, numbered_lines
from asr.errors import InputError

ENDINGS = (".jsonl.gz", ".jsonl")


def read_lhotse(source: Source) -> Iterator[Row]:
    """A row for each supervision, with the times of its words."""
    if source.path.is_file():
        for place, cut in entries(source, source.path, DataCut):
            for supervision in cut.supervisions:
                yield from attempted(source, place, cut.recording, supervision, cut.start)
        return
    recordings = {
        one.id: one for path in manifests(source, "recordings") for _, one in entries(source, path, Recording)
    }
    for path in manifests(source, "supervisions"):
        for place, supervision in entries(source, path, SupervisionSegment):
            yield from attempted(source, place, recordings.get(supervision.recording_id), supervision, 0.0)


def manifests(source: Source, what: str) -> list[Path]:
    """The manifests of recordings or of supervisions in the directory."""
    return sorted(path for path in source.path.glob(f"*{what}*") if path.name.endswith(ENDINGS))


def entries(source: Source, path: Path, kind: type) -> Iterator[tuple[Place, Any]]:
    """The entries of a manifest; a line that is none of this kind becomes a fault."""
    for number, line in numbered_lines(source, path):
        place = source.place(path, number)
        try:
            entry = deserialize_item(dict(json_record(line)))
            if isinstance(entry, kind):
                yield place, entry
            else:
                source.fault(place, f"a {type(entry).__name__}, not a {kind.__name__}; give a manifest of those")
        except InputError as error:
            source.fault(place, str(error))
        except Exception as error:  # Lhotse raises whatever a field that is missing or of another type leads to
            source.fault(place, f"not an entry of a Lhotse manifest ({one_line(error)}); mend the line")


def attempted(
    source: Source, place: Place, recording: Recording | None, supervision: SupervisionSegment, offset: float
) -> Iterator[Row]:
    """The row of a supervision that begins `offset` seconds before its own start; none where it has no file."""
    files = [one.source for one in recording.sources if one.type == "file"] if recording else []
    if len(files) != 1:
        what = "no recording" if recording is None else f"{len(files)} files"
        source.fault(place, f"{supervision.id} has {what}; each needs one audio file")
        return
    start = max(offset + supervision.start, 0.0)
    channels = supervision.channel if isinstance(supervision.channel, list) else [supervision.channel]
    words = (supervision.alignment or {}).get("word", [])
    yield Row(
        place,
        source.locate(str(files[0])),
        supervision.text or "",
        id=supervision.id,
        speaker=supervision.speaker or "",
        language=supervision.language or "",
        start=start,
        end=start + supervision.duration,
        channel=channels[0] if len(channels) == 1 else None,
        words=tuple(word.with_offset(-supervision.start) for word in words),
    )
