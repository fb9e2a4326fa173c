"""A Kaldi data directory: `wav.scp` and `text`; `segments` and `utt2spk` where there are such.

Lhotse's reader ends at the first line at fault, drops what it cannot open, takes one sampling rate for all recordings,
and makes of a pipe in `wav.scp` a command that is run whenever the audio is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from asr.data.limits import AUDIO_ENDINGS
from asr.data.sources.row import Place, Row, Source, seconds
from asr.data.sources.table import numbered_lines
from asr.errors import InputError

DECODERS = ("flac", "sph2pipe", "cat")  # programs of pipes that only read a file, which is then read without them
Entries = dict[str, tuple[Place, str]]  # of a file of Kaldi's: what follows the key of a line


def read_kaldi(source: Source) -> Iterator[Row]:
    """A row for each line of `text`."""
    recordings, texts, speakers = (read_entries(source, name) for name in ("wav.scp", "text", "utt2spk"))
    cut = (source.path / "segments").is_file()
    segments = read_entries(source, "segments") if cut else {key: (place, key) for key, (place, _) in texts.items()}
    for key, (place, text) in texts.items():
        try:
            if key not in segments:
                raise InputError(f"{key} is not in segments; add it there, or remove the line")
            recording, start, end = segment_of(segments[key][1], cut)
            if recording not in recordings:
                raise InputError(f"recording {recording} is not in wav.scp; add it there, or remove the line")
            audio = source.locate(file_of(recordings[recording][1]))
            speaker = speakers.get(key, (place, ""))[1]
            yield Row(place, audio, text, id=key, speaker=speaker, start=start, end=end)
        except InputError as error:
            source.fault(place, str(error))
    for key, (place, _) in (segments if cut else recordings).items():
        if key not in texts:
            source.fault(place, f"{key} is not in text; add its transcript there, or remove the line")


def read_entries(source: Source, name: str) -> Entries:
    """The lines of a file by their first word; none where there is no such file."""
    path, entries = source.path / name, Entries()
    for number, line in numbered_lines(source, path) if path.is_file() else ():
        key, *rest = line.split(maxsplit=1)
        if key in entries:
            source.fault(
                source.place(path, number), f"{key} is in line {entries[key][0].line}, too; remove one of them"
            )
        else:
            entries[key] = source.place(path, number), rest[0].strip() if rest else ""
    return entries


def segment_of(line: str, cut: bool) -> tuple[str, float, float | None]:
    """Recording, start and end (None: the recording's, which Kaldi writes as −1) of a line of `segments`."""
    if not cut:
        return line, 0.0, None
    words = line.split()
    if len(words) != 3:
        raise InputError("its line in segments is not `utterance recording start end`; mend it")
    end = None if words[2] in ("-1", "-1.0") else seconds(words[2], "end")
    return words[0], seconds(words[1], "start"), end


def file_of(entry: str) -> str:
    """The file that an entry of `wav.scp` names. Raises InputError for a pipe that is more than a file's decoder."""
    if not entry.endswith("|"):
        return entry
    program, *words = entry.removesuffix("|").split() or [""]
    files = [word for word in words if Path(word).suffix.lower() in AUDIO_ENDINGS]
    if Path(program).name in DECODERS and len(files) == 1 and "2" not in words:
        return files[0]
    raise InputError(f"its audio comes from a pipe, `{entry[:60]}`; write it to a file, and name that in wav.scp")
