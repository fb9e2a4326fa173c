"""Rows of records: fields with names, of a table with a header or of JSON lines."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from asr.data.limits import SHOWN_CHARACTERS
from asr.data.sources.row import Place, Row, Source, seconds
from asr.errors import InputError
from asr.options import choose

# What a field may be called, by what it holds; the first that is there counts. Common Voice's and NeMo's are here.
NAMES = {
    "audio": (
        *("audio", "audio_filepath", "audio_path", "audio_file", "path", "file", "file_name", "filename"),
        *("wav", "wav_path", "wav_filename"),
    ),
    "text": ("text", "sentence", "transcript", "transcription"),
    "speaker": ("speaker", "speaker_id", "client_id", "spk", "spk_id"),
    "id": ("id", "utt_id", "utterance_id", "utterance", "segment_id"),
    "start": ("start", "offset", "begin", "start_time"),
    "end": ("end", "end_time"),
    "duration": ("duration", "dur"),
    "language": ("language", "lang", "locale"),
}
NEEDED = ("audio", "text")


def find_fields(fields: Collection[str], given: Mapping[str, str]) -> dict[str, str]:
    """The field of each kind among `fields`; `given` are the user's names.

    Raises InputError where one is missing.
    """
    lower = {field.strip().lower(): field for field in reversed(list(fields))}
    for kind, name in given.items():
        if name not in fields:
            raise InputError(f"{kind}_column={name}: there is no such column; {choose(name, fields)}")
    known = {
        kind: next((lower[name] for name in names if name in lower), given.get(kind)) for kind, names in NAMES.items()
    }
    found = {kind: given.get(kind, name) for kind, name in known.items() if name is not None}
    for kind in (kind for kind in NEEDED if kind not in found):
        listed = ", ".join(fields)
        raise InputError(f"no column for the {kind} (columns: {listed}); name it, {kind}_column=NAME")
    return found


def row_of(record: Mapping[str, object], fields: Mapping[str, str], place: Place, source: Source) -> Row:
    """The row of a record. Raises InputError where a field cannot be what it is to be."""
    values = {kind: record.get(name) for kind, name in fields.items()}
    text, audio = _text(values, "text"), _text(values, "audio")
    if not audio:
        raise InputError("names no audio file; write its name, or remove the row")
    if "end" in fields and "start" not in fields:  # which may be there, and be called something else
        raise InputError(f"has a field for its end, {fields['end']}, and none for its start; call that start")
    start = 0.0 if _absent(values, "start") else seconds(values["start"], "start")
    end = None if _absent(values, "end") else seconds(values["end"], "end")
    if end is None and not _absent(values, "duration"):
        end = start + seconds(values["duration"], "duration")
    name, speaker, language = (_text(values, kind) for kind in ("id", "speaker", "language"))
    return Row(place, source.locate(audio), text, name, speaker, language, start, end)


def _absent(values: Mapping[str, object], kind: str) -> bool:
    return values.get(kind) in (None, "")


def _text(values: Mapping[str, object], kind: str) -> str:
    value = values.get(kind)
    if isinstance(value, (dict, list, bool)):
        raise InputError(f"its {kind} is {str(value)[:SHOWN_CHARACTERS]!r}, not text")
    return "" if value is None else str(value).strip()
