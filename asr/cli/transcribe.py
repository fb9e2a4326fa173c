"""`asr transcribe FILE...`: print the text of audio files."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from asr.config import DecodeOptions, TranscribeConfig
from asr.data.audio import AudioFile
from asr.data.audio_files import as_paths, list_files, names_of, without_white_space
from asr.decode.formats import FORMATS, file_name
from asr.decode.transcribe import refuse_replacing, transcripts_journal
from asr.errors import InputError, PartlyDone, naming
from asr.files import write_atomically
from asr.journal import AGAIN
from asr.progress import progress
from asr.recognizer import Recognizer, Skipped, Transcript, load


def main(config: TranscribeConfig) -> None:
    """Print each file's text, or write it as soon as it is known; interrupted, go on where it was.

    Raises InputError for input at fault, PartlyDone where only some of the files could be transcribed.
    """
    files = list_files(config.files)
    check_output(config, len(files))
    refuse_replacing(config, names_of(files))  # or raise before the work, as names that are not told apart do
    model = load(config.run, config.checkpoint, config.device)
    faults = parts = 0
    with as_paths(files) as paths:
        for result in (stream if config.streaming else transcribe)(config, model, paths):
            if not isinstance(result, Skipped):
                parts += result
            elif len(files) == 1:
                raise InputError(result.reason)
            else:
                faults += 1
                print(f"not transcribed: {result.reason}", file=sys.stderr)
    summary = summed_up(len(files), faults, parts)
    if faults:
        raise (PartlyDone if faults < len(files) else InputError)(summary)
    if parts and len(files) > 1:
        print(summary, file=sys.stderr)


def summed_up(files: int, faults: int, parts: int) -> str:
    """How many files were not transcribed, and how many in part."""
    if not faults:
        return f"{parts} of {files} files could be transcribed in part only: see above"
    return f"{faults} of {files} files could not be transcribed{f', {parts} in part only' * bool(parts)}: see above"


def check_output(config: TranscribeConfig, files: int) -> None:
    """Raise InputError where words of so many files cannot be put out as asked."""
    if config.format in ("srt", "vtt") and files > 1 and not config.output:
        raise InputError(f"format={config.format}: several files would run into one: give output=DIRECTORY")
    if config.streaming and (config.output or config.format != "text"):
        raise InputError("streaming prints text as it comes: leave out output= and format=")


def transcribe(config: TranscribeConfig, model: Recognizer, paths: Mapping[str, str]) -> Iterator[bool | Skipped]:
    """Put out what is said in each file: whether that is but a part of it, or why there is nothing."""
    names = names_of([*paths])
    ids = without_white_space(names)
    journal = transcripts_journal(config, model.decoder(config.decode), [*paths]) if config.output else None
    several = len(paths) > 1
    shown = progress(paths.values(), len(paths), "transcribing", "files") if several else paths.values()
    how = config.decode, config.piece_seconds, journal, not several
    try:
        for result, file in zip(model.transcribe_each(shown, None, *how), paths):
            if isinstance(result, Transcript):
                put_out(config, replace(result, name=file), names[file], ids[file], several)
            yield result if isinstance(result, Skipped) else result.in_part
    except KeyboardInterrupt:
        raise KeyboardInterrupt(AGAIN if config.output else "") from None
    if journal:
        journal.close()


def put_out(config: TranscribeConfig, transcript: Transcript, name: str, ctm_id: str, several: bool) -> None:
    """Print a transcript, or write it into the output directory; and what is wrong with the file."""
    for fault in transcript.faults:
        print(f"{transcript.name}: {fault}", file=sys.stderr)
    content = FORMATS[config.format](transcript, ctm_id)
    if config.output:
        path = Path(config.output) / file_name(name, config.format)
        write_atomically(path, content.encode(errors="backslashreplace"))  # of names that are no text
        print(path)
    else:
        print(f"{transcript.name}\t{content}" if several and config.format == "text" else content, end="")


def stream(config: TranscribeConfig, model: Recognizer, paths: Mapping[str, str]) -> Iterator[bool | Skipped]:
    """Print the words of each file as they are recognised, under its name where there are several."""
    for file, path in paths.items():
        try:
            yield say(model, config.decode, Path(path), f"{file}:\n" * (len(paths) > 1), file)
        except InputError as error:
            yield Skipped(file, str(error))


def say(model: Recognizer, search: DecodeOptions, path: Path, title: str = "", name: str = "") -> bool:
    """Print the words of a file as they are recognised, a line for each stretch of speech between long pauses.

    Returns whether some of it could not be read. title: what comes before its words. name: of the file in messages.
    Raises InputError, which names it, where it cannot be read.
    """
    name = name or str(path)
    with naming(name):
        audio, live = AudioFile(path), model.stream(search=search)
        print(title, end="", flush=True)
        for said in live.read(audio.seconds()):
            print(said.text, end="", flush=True)
    print()
    for fault in [*audio.faults, live.line()]:
        print(f"{name}: {fault}", file=sys.stderr)
    return audio.lost != 0
