"""A folder of audio files, with the transcript of NAME.wav beside it in NAME.txt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from asr.data.limits import AUDIO_ENDINGS
from asr.data.sources.row import Row, Source
from asr.data.sources.segments import LABEL
from asr.data.sources.table import numbered_lines


def audio_below(directory: Path) -> Iterator[Path]:
    """The audio files in a directory and all below it, in order of their names; hidden ones are none."""
    files = (path for path in directory.rglob("*") if path.suffix.lower() in AUDIO_ENDINGS)
    return iter(sorted(path for path in files if path.is_file() and not path.name.startswith(".")))


def read_folder(source: Source) -> Iterator[Row]:
    """A row for each audio file; its speaker is the folder that it lies in, below the one that the user named."""
    described: dict[Path, Path] = {}
    for audio in audio_below(source.path):
        name = audio.with_suffix("").relative_to(source.path)
        text, place = audio.with_suffix(".txt"), source.place(audio)
        other = described.setdefault(text, audio)
        if other != audio:
            source.fault(place, f"has the same transcript as {other.name}; rename or remove one of them")
        elif not text.is_file():
            source.fault(place, f"has no {text.name} beside it; write its transcript there, or remove it")
        else:
            before = len(source.faults)
            lines = [line for _, line in numbered_lines(source, text)]
            content = " ".join(lines)
            if lines and LABEL.match(lines[0]):
                source.fault(source.place(text), "is a label track, no transcript; read its folder with form=audacity")
            elif len(source.faults) == before:
                yield Row(source.place(text), audio, content, id=name.as_posix(), speaker=speaker_of(name))
    for text in sorted(source.path.rglob("*.txt")):
        if text not in described:
            remedy = "add it, or remove the text"
            source.fault(source.place(text), f"there is no audio file called {text.stem} beside it; {remedy}")


def speaker_of(name: Path) -> str:
    """The folders of a file's name."""
    return "" if name.parent == Path() else name.parent.as_posix()
