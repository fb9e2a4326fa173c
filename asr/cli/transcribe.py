"""`asr transcribe FILE...`: print the text of audio files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from lhotse import CutSet
from lhotse.supervision import AlignmentItem

from asr.align.make import ctm_line
from asr.align.words import recognised_words
from asr.config import TranscribeConfig
from asr.data.audio import cut_at_pauses, read_seconds
from asr.data.batch import Skipped
from asr.data.corpus import describe_recording
from asr.data.features import SAMPLING_RATE
from asr.decode.decoder import Decoder
from asr.decode.live import LiveSearch
from asr.decode.subtitles import subrip, webvtt
from asr.device import choose_device
from asr.errors import InputError
from asr.files import write_atomically
from asr.models.subsampling import SUBSAMPLED_SECONDS
from asr.progress import progress
from asr.runs.trained import Trained, load_trained

SUFFIX = {"text": "txt"}  # of the others: their name


@dataclass(frozen=True)
class Transcript:
    """The text of a file and the times of its words, seconds."""

    file: str
    text: str
    words: Sequence[AlignmentItem]


def main(config: TranscribeConfig) -> None:
    """Print each file's text, or write it. Raises InputError for input at fault."""
    if not config.files:
        raise InputError("no audio file given: asr transcribe a.wav b.flac run=exp/NAME")
    check_output(config)
    device = choose_device(config.device)
    files = list(dict.fromkeys(config.files))
    recordings = [describe_recording(file, Path(file)) for file in files]
    trained = load_trained(config.run, config.checkpoint, device)
    decoder = Decoder(trained, config.decode, device, config.streaming)
    if config.streaming:
        for file in files:
            say(decoder, trained, Path(file))
        return
    cuts = {file: cut_at_pauses(recording, config.piece_seconds) for file, recording in zip(files, recordings)}
    for transcript in transcribe(decoder, cuts):
        put_out(config, transcript, len(files) > 1)


def check_output(config: TranscribeConfig) -> None:
    """Raise InputError where files would be written over each other, or words cannot be put out as asked."""
    names = [Path(file).stem for file in dict.fromkeys(config.files)]
    if config.output and len(set(names)) < len(names):
        raise InputError(f"output={config.output}: two files are called alike; transcribe them one after the other")
    if config.format in ("srt", "vtt") and len(names) > 1 and not config.output:
        raise InputError(f"format={config.format}: several files would run into one: give output=DIRECTORY")
    if config.format == "ctm" and (len(set(names)) < len(names) or any(len(name.split()) != 1 for name in names)):
        raise InputError("format=ctm: files need names that differ and have no white space; or use format=json")
    if config.streaming and (config.output or config.format != "text"):
        raise InputError("streaming prints text as it comes: leave out output= and format=")


def transcribe(decoder: Decoder, cuts: dict[str, list]) -> Iterator[Transcript]:  # type: ignore[type-arg]
    """The transcripts of files, each of which is given as one cut or as several pieces."""
    every = CutSet.from_cuts(cut for parts in cuts.values() for cut in parts)
    found = {}
    for result in progress(decoder(every), len(every), "transcribing", "pieces"):
        if isinstance(result, Skipped):
            print(f"skipped {result.id}: {result.reason}", file=sys.stderr)
        else:
            found[result[0].id] = result[0]
    if not found:
        raise InputError("nothing could be transcribed: see above")
    for file, cuts_of_file in cuts.items():
        parts = [cut for cut in cuts_of_file if cut.id in found]
        if not parts:
            continue
        texts = [found[cut.id].hypothesis for cut in parts]
        timed = [(cut.start, recognised_words(found[cut.id], cut.duration)) for cut in parts]
        words = [item._replace(start=round(item.start + start, 3)) for start, items in timed for item in items]
        yield Transcript(file, " ".join(filter(None, texts)), words)


def put_out(config: TranscribeConfig, transcript: Transcript, several: bool) -> None:
    """Print a transcript, or write it into the output directory."""
    content = FORMATS[config.format](transcript)
    if config.output:
        path = Path(config.output) / f"{Path(transcript.file).stem}.{SUFFIX.get(config.format, config.format)}"
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
    return "".join(f"{ctm_line(Path(transcript.file).stem, item)}\n" for item in transcript.words)


FORMATS: dict[str, Callable[[Transcript], str]] = {
    "text": lambda transcript: f"{transcript.text}\n",
    "srt": lambda transcript: subrip(transcript.words),
    "vtt": lambda transcript: webvtt(transcript.words),
    "ctm": as_ctm,
    "json": as_json,
}


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in an InputError."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


@torch.inference_mode()
def say(decoder: Decoder, trained: Trained, path: Path) -> None:
    """Print the words of a file as they are recognised, a line for each stretch of speech between long pauses."""
    live = LiveSearch(trained.model, decoder.search, trained.tokenizer, decoder.dataset.fbank, decoder.chunk)
    step = round(decoder.chunk * SUBSAMPLED_SECONDS * SAMPLING_RATE)
    for second in read_seconds(path):
        for begin in range(0, len(second), step):
            with naming(path):
                for text in live.add(second[begin : begin + step]):
                    print(text, end="", flush=True)
    with naming(path):
        print(live.end())
    print(f"{path}: {live.line()}", file=sys.stderr)
