"""`asr transcribe FILE...`: print the text of audio files."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path

import torch
from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.supervision import AlignmentItem

from asr.align.make import ctm_line
from asr.align.words import recognised_words
from asr.config import TranscribeConfig
from asr.data.audio import AudioFile, Heard, listen
from asr.data.batch import Skipped
from asr.data.features import SAMPLING_RATE
from asr.data.limits import AUDIO_ENDINGS
from asr.data.pauses import Lengths, cut_at_pauses
from asr.data.scripts import joined
from asr.decode.decoder import Decoder
from asr.decode.live import LiveSearch
from asr.decode.results import decode_to, results_journal, search_settings
from asr.decode.subtitles import subrip, webvtt
from asr.device import choose_device
from asr.errors import InputError, PartlyDone
from asr.files import require_directory, write_atomically
from asr.journal import AGAIN, Journal, content_of
from asr.progress import progress
from asr.runs.trained import Trained, load_trained
from asr.score.wer import Utterance

SUFFIX = {"text": "txt"}  # of the others: their name
STDIN = "-"


@dataclass(frozen=True)
class Done:
    """A file of which something was transcribed. in_part: not all."""

    file: str
    in_part: bool


@dataclass(frozen=True)
class Transcript(Done):
    """The text of a file and the times of its words, seconds.

    name: of what is written about it. ctm_id: the same in a CTM.
    """

    text: str
    words: Sequence[AlignmentItem]
    name: str = ""
    ctm_id: str = ""


def main(config: TranscribeConfig) -> None:
    """Print each file's text, or write it as soon as it is known; interrupted, go on where it was.

    Raises InputError for input at fault, PartlyDone where only some of the files could be transcribed.
    """
    files = list_files(config.files)
    names = names_of(files)
    ids = without_white_space(names)
    check_output(config, len(files))
    device = choose_device(config.device)
    trained = load_trained(config.run, config.checkpoint, device)
    decoder = Decoder(trained, config.decode, device, config.streaming)
    work = stream if config.streaming else transcribe
    faults = parts = 0
    for result in work(config, decoder, trained, files):
        if isinstance(result, Skipped):
            if len(files) == 1:
                raise InputError(result.reason)
            faults += 1
            print(f"not transcribed: {result.reason}", file=sys.stderr)
            continue
        parts += result.in_part
        if isinstance(result, Transcript):
            put_out(config, replace(result, name=names[result.file], ctm_id=ids[result.file]), len(files) > 1)
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


def list_files(names: Sequence[str]) -> list[str]:
    """The files that are named, each once: of a directory those that are audio by their names, "-" for standard input.

    Raises InputError where there are none.
    """
    if not names:
        raise InputError("no audio file given: asr transcribe a.wav b.flac run=exp/NAME")
    files: dict[str, None] = {}
    for name in names:
        inside = audio_in(Path(name)) if name != STDIN and Path(name).is_dir() else [name]
        if not inside:
            raise InputError(f"{name}: a directory without audio ({', '.join(AUDIO_ENDINGS)})")
        files |= dict.fromkeys(inside)
    return list(files)


def audio_in(directory: Path) -> list[str]:
    """The audio files in a directory and those below, in order of their names."""
    inside = (path for path in sorted(directory.rglob("*")) if path.suffix.lower() in AUDIO_ENDINGS)
    return [str(path) for path in inside if path.is_file()]


def names_of(files: Sequence[str]) -> dict[str, str]:
    """Names for what is written about files: their own without suffixes; if two are alike, with what tells them apart.

    Raises InputError where one is named twice.
    """
    paths = [Path("stdin" if file == STDIN else file).absolute() for file in files]
    home = os.path.commonpath([path.parent for path in paths])
    inside = [path.relative_to(home) for path in paths]
    for names in (
        [path.stem for path in paths],
        [str(path.with_suffix("")) for path in inside],
        [str(path) for path in inside],
    ):
        if len(set(names)) == len(names):
            return dict(zip(files, names))
    raise InputError("the same file is named twice, in different ways: name it once")


def without_white_space(names: Mapping[str, str]) -> dict[str, str]:
    """The names of files with "_" for white space, which ends an id in a CTM; numbered where one is there already."""
    kept = {file: name for file, name in names.items() if name.split() == [name]}
    taken = set(kept.values())
    for file in [file for file in names if file not in kept]:
        name = "_".join(names[file].split()) or "_"
        kept[file] = next(one for one in chain([name], (f"{name}-{n}" for n in count(2))) if one not in taken)
        taken.add(kept[file])
    return kept


def check_output(config: TranscribeConfig, files: int) -> None:
    """Raise InputError where words of so many files cannot be put out as asked."""
    if config.format in ("srt", "vtt") and files > 1 and not config.output:
        raise InputError(f"format={config.format}: several files would run into one: give output=DIRECTORY")
    if config.streaming and (config.output or config.format != "text"):
        raise InputError("streaming prints text as it comes: leave out output= and format=")


def transcribe(
    config: TranscribeConfig, decoder: Decoder, trained: Trained, files: Sequence[str]
) -> Iterator[Transcript | Skipped]:
    """What comes of each file, in order; what an interrupted run into the same directory has found is not lost."""
    with tempfile.TemporaryDirectory(prefix="asr-", ignore_cleanup_errors=True) as temporary:
        journal = results_journal(
            Path(config.output or temporary) / ".transcribe.journal", settings(config, trained, files)
        )
        if config.output:
            require_directory(Path(config.output))
        journal.open()
        heard = (hear(file, Path(temporary)) for file in files)
        shown = progress(heard, len(files), "transcribing", "files") if len(files) > 1 else heard
        try:
            for group in in_groups(shown, config.decode.max_seconds):
                yield from transcribe_group(decoder, group, lengths_of(config, trained), journal, len(files) == 1)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(AGAIN if config.output else "") from None
        journal.close()


def settings(config: TranscribeConfig, trained: Trained, files: Sequence[str]) -> dict[str, object]:
    """What the texts depend on."""
    contents = content_of(*(file for file in files if Path(file).exists()))
    lengths = dataclasses.astuple(lengths_of(config, trained))
    return {"files": contents, "pieces": [*lengths], **search_settings(config, trained)}


def lengths_of(config: TranscribeConfig, trained: Trained) -> Lengths:
    """How long the pieces of long recordings are to be."""
    longest = config.piece_seconds or trained.lengths.longest
    return replace(trained.lengths, longest=longest).within(min(longest, config.decode.max_seconds))


def hear(file: str, directory: Path) -> Heard | Skipped:
    """A file as it can be heard, copied into `directory`, or why it cannot; what is missing of it is named."""
    with tempfile.NamedTemporaryFile(dir=directory, suffix=".w64", delete=False) as copy:
        pass
    try:
        heard = listen(file, as_path(file, directory), Path(copy.name))
    except InputError as error:
        return Skipped(file, str(error))
    for fault in heard.faults:
        print(f"{file}: {fault}", file=sys.stderr)
    return heard


def as_path(file: str, directory: Path) -> Path:
    """Where a file is; standard input is written into `directory`."""
    if file != STDIN:
        return Path(file)
    with (directory / STDIN).open("wb") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
    return directory / STDIN


def in_groups(heard: Iterable[Heard | Skipped], seconds: float) -> Iterator[list[Heard | Skipped]]:
    """Files that are transcribed together: as many as make a batch."""
    group: list[Heard | Skipped] = []
    for one in heard:
        group.append(one)
        if sum(one.recording.duration for one in group if isinstance(one, Heard)) >= seconds:
            yield group
            group = []
    if group:
        yield group


def transcribe_group(
    decoder: Decoder, group: list[Heard | Skipped], lengths: Lengths, journal: Journal[list[Utterance]], alone: bool
) -> Iterator[Transcript | Skipped]:
    """What comes of some files. Their copies are removed."""
    pieces = {
        one.recording.id: cut_at_pauses(one.recording.to_cut().with_id(one.recording.id), one.loudness_N, lengths)
        for one in group
        if isinstance(one, Heard)
    }
    cuts = CutSet.from_cuts(cut for parts in pieces.values() for _, cut in parts)
    reasons = {}
    results = decode_to(journal, decoder, cuts) if len(cuts) else iter(())
    for result in progress(results, len(cuts), "transcribing", "pieces") if alone else results:
        if isinstance(result, Skipped):
            reasons[result.id] = result.reason
    for one in group:
        if isinstance(one, Skipped):
            yield one
            continue
        Path(one.recording.sources[0].source).unlink()
        yield in_one(one, pieces[one.recording.id], journal.done, reasons)


def in_one(
    heard: Heard,
    pieces: Sequence[tuple[float, Cut]],
    found: Mapping[str, list[Utterance]],
    reasons: Mapping[str, str],
) -> Transcript | Skipped:
    """The text of the pieces of a file. Pieces without one are named, with their times."""
    file = heard.recording.id
    missing = [(begin, cut) for begin, cut in pieces if cut.id not in found]
    if len(missing) == len(pieces):
        return Skipped(file, f"{file}: {reasons[pieces[0][1].id]}")
    for begin, cut in missing:
        print(f"{file}: {begin:.1f} to {begin + cut.duration:.1f} s: {reasons[cut.id]}", file=sys.stderr)
    best = [(begin, cut, found[cut.id][0]) for begin, cut in pieces if cut.id in found]
    words = [
        item._replace(start=round(item.start + begin, 3))
        for begin, cut, utterance in best
        for item in recognised_words(utterance, cut.duration)
    ]
    text = joined([one.hypothesis for _, _, one in best if one.hypothesis])
    return Transcript(file, heard.in_part or bool(missing), text, words)


def put_out(config: TranscribeConfig, transcript: Transcript, several: bool) -> None:
    """Print a transcript, or write it into the output directory."""
    content = FORMATS[config.format](transcript)
    if config.output:
        path = Path(config.output) / f"{transcript.name}.{SUFFIX.get(config.format, config.format)}"
        write_atomically(path, content.encode())
        print(path)
    else:
        print(f"{transcript.file}\t{content}" if several and config.format == "text" else content, end="")


def as_json(transcript: Transcript) -> str:
    """File, text, and words with start and end (seconds) and confidence."""
    words = [
        {"word": item.symbol, "start": item.start, "end": round(item.end, 3), "confidence": item.score}
        for item in transcript.words
    ]
    return json.dumps({"file": transcript.file, "text": transcript.text, "words": words}, ensure_ascii=False) + "\n"


def as_ctm(transcript: Transcript) -> str:
    """NIST CTM, with the file's name for the utterance's id."""
    return "".join(f"{ctm_line(transcript.ctm_id, item)}\n" for item in transcript.words)


FORMATS: dict[str, Callable[[Transcript], str]] = {
    "text": lambda transcript: f"{transcript.text}\n",
    "srt": lambda transcript: subrip(transcript.words),
    "vtt": lambda transcript: webvtt(transcript.words),
    "ctm": as_ctm,
    "json": as_json,
}


def stream(
    config: TranscribeConfig, decoder: Decoder, trained: Trained, files: Sequence[str]
) -> Iterator[Done | Skipped]:
    """Print the words of each file as they are recognised, under its name where there are several."""
    for file in files:
        with tempfile.TemporaryDirectory(prefix="asr-", ignore_cleanup_errors=True) as temporary:
            try:
                path = as_path(file, Path(temporary))
                in_part = say(decoder, trained, path, file, f"{file}:\n" * (len(files) > 1))
                yield Done(file, in_part)
            except InputError as error:
                yield Skipped(file, str(error))


@torch.inference_mode()
def say(decoder: Decoder, trained: Trained, path: Path, name: str = "", title: str = "") -> bool:
    """Print the words of a file as they are recognised, a line for each stretch of speech between long pauses.

    Returns whether some of it could not be read.

    name: of the file in messages; default: its path. title: what comes before its words. Raises InputError, which names
    it, where it cannot be read.
    """
    name = name or str(path)
    audio = AudioFile(path)
    print(title, end="", flush=True)
    live = LiveSearch(trained.model, decoder.search, trained.tokenizer, decoder.dataset.fbank, decoder.chunk)
    step = round(decoder.chunk * decoder.timing.shift * SAMPLING_RATE)
    with naming(name):
        for second in audio.seconds():
            for begin in range(0, len(second), step):
                for text in live.add(second[begin : begin + step]):
                    print(text, end="", flush=True)
        print(live.end())
    for fault in [*audio.faults, live.line()]:
        print(f"{name}: {fault}", file=sys.stderr)
    return audio.in_part


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Name the file in an InputError that does not."""
    try:
        yield
    except InputError as error:
        raise error if name in str(error) else InputError(f"{name}: {error}") from error
