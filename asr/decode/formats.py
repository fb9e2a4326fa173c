"""Transcripts as text, subtitles, times of words, and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable

from lhotse.supervision import AlignmentItem

from asr.data.ctm import ctm_line
from asr.decode.subtitles import subrip, webvtt
from asr.decode.transcript import Transcript

SUFFIX = {"text": "txt"}  # of the others: their name


def file_name(name: str, form: str) -> str:
    """Of the transcript of the audio called `name`."""
    return f"{name}.{SUFFIX.get(form, form)}"


def as_json(transcript: Transcript, name: str) -> str:
    """File, text, and words with start and end (seconds) and confidence."""
    words = [
        {"word": word.text, "start": word.start, "end": round(word.end, 3), "confidence": word.confidence}
        for word in transcript.words
    ]
    return json.dumps({"file": transcript.name, "text": transcript.text, "words": words}, ensure_ascii=False) + "\n"


def as_ctm(transcript: Transcript, name: str) -> str:
    """NIST CTM, with `name` for the utterance's id."""
    items = (
        AlignmentItem(word.text, word.start, round(word.end - word.start, 8), word.confidence)
        for word in transcript.words
    )
    return "".join(f"{ctm_line(name, item)}\n" for item in items)


# name: without white space
FORMATS: dict[str, Callable[[Transcript, str], str]] = {
    "text": lambda transcript, name: f"{transcript.text}\n",
    "srt": lambda transcript, name: subrip(transcript.words),
    "vtt": lambda transcript, name: webvtt(transcript.words),
    "ctm": as_ctm,
    "json": as_json,
}
