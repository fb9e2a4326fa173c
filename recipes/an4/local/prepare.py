#!/usr/bin/env python3
"""Prepare CMU AN4 (census): spelling, dates and numbers read by 74 speakers, 16 kHz.

Official training and test parts are kept, but for four speakers of training (two women, two men) who make
the development set. NIST sphere files become 16-bit FLAC under the output folder, which more tools can read.
Nobody publishes a checksum of the archive, so each file is verified against the sample count and the checksum
in its own header.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from asr.data.corpus import (
    add_corpus_options,
    describe_recording,
    fetch,
    make_cut,
    run,
    write_cuts,
    write_flac,
)
from asr.errors import InputError
from asr.progress import progress

if TYPE_CHECKING:
    import lhotse

URL = "http://www.speech.cs.cmu.edu/databases/an4/an4_sphere.tar.gz"
DEV_SPEAKERS = frozenset({"ffmm", "fsrb", "mblw", "mtcv"})
_HEADER_BYTES = 1024


def main(arguments: list[str] | None = None) -> None:
    """Write ``cuts_{train,dev,test}.jsonl.gz`` and ``audio/`` into ``--output``."""
    parser = argparse.ArgumentParser(description="Prepare the CMU AN4 corpus.")
    add_corpus_options(parser)
    options = parser.parse_args(arguments)
    corpus = options.corpus_dir or fetch(URL, options.download_dir, checksum=None) / "an4"
    for split, utterances in split_utterances(corpus).items():
        items = progress(utterances.items(), len(utterances), split, "utterances")
        cuts = [_cut(corpus, file_id, text, options.output) for file_id, text in items]
        write_cuts(cuts, options.output / f"cuts_{split}.jsonl.gz")


def split_utterances(corpus: Path) -> dict[str, dict[str, str]]:
    """For each split, the text of each file id ("an4_clstk/fash/an251-fash-b").

    Raises `InputError` where a list is missing, lists a file that has no transcript, or leaves a split empty.
    """
    listed = read_part(corpus, "train")
    dev = {file_id: text for file_id, text in listed.items() if speaker_of(file_id) in DEV_SPEAKERS}
    train = {file_id: text for file_id, text in listed.items() if file_id not in dev}
    splits = {"train": train, "dev": dev, "test": read_part(corpus, "test")}
    for split, utterances in splits.items():
        if not utterances:
            raise InputError(f"{corpus}: lists no utterance for {split}; restore etc/*.fileids")
    return splits


def read_part(corpus: Path, part: str) -> dict[str, str]:
    """The text of each file id of an official part, "train" or "test"."""
    texts = dict(_read_transcripts(corpus / "etc" / f"an4_{part}.transcription"))
    file_ids = _read_lines(corpus / "etc" / f"an4_{part}.fileids")
    for file_id in file_ids:
        if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", file_id):
            raise InputError(f"{file_id!a}: an4_{part}.fileids names no file of the corpus so; restore the file")
        if not texts.get(Path(file_id).name):
            raise InputError(f"{file_id}: an4_{part}.transcription has no text for it; restore the file")
    return {file_id: texts[Path(file_id).name] for file_id in file_ids}


def read_sphere(path: Path) -> tuple[np.ndarray, int]:
    """The int16 samples, shape (n,), and the sampling rate in Hz of a 16-bit mono NIST sphere file.

    Raises `InputError` where the file is missing or unreadable, or its samples do not agree with the count
    and the checksum in its header.
    """
    header = _read_header(path)
    try:
        samples, rate = soundfile.read(str(path), dtype="int16")
    except (soundfile.SoundFileError, OSError) as error:
        raise InputError(f"{path}: not a readable sphere file; restore it from the corpus") from error
    found = {"sample_count": samples.size, "sample_checksum": checksum(samples)}
    for field, value in found.items():
        if header.get(field) != str(value):
            raise InputError(f"{path}: damaged ({field} {value}, not {header.get(field)}); restore it")
    return samples, rate


def checksum(samples: np.ndarray) -> int:
    """NIST's checksum of int16 samples: their sum modulo 2^16."""
    return int(samples.sum(dtype=np.int64)) % 2**16


def speaker_of(file_id: str) -> str:
    """The speaker of a file id: the name of its folder."""
    return Path(file_id).parent.name


def _cut(corpus: Path, file_id: str, text: str, output: Path) -> "lhotse.MonoCut":
    samples, rate = read_sphere(corpus / "wav" / f"{file_id}.sph")
    path = (output / "audio" / f"{file_id}.flac").absolute()
    write_flac(path, samples, rate)
    return make_cut(describe_recording(path.stem, path), text, speaker_of(file_id), language="en-us")


def _read_header(path: Path) -> dict[str, str]:
    # Lines of "name -type value", up to "end_head".
    try:
        with path.open("rb") as file:
            text = file.read(_HEADER_BYTES).decode("latin-1")
    except OSError as error:
        raise InputError(f"{path}: cannot read it ({error.strerror}); restore it from the corpus") from error
    return {name: value.strip() for name, value in re.findall(r"^(\w+) -\w+ (.*)$", text, re.MULTILINE)}


def _read_transcripts(path: Path) -> Iterator[tuple[str, str]]:
    # "<s> ENTER SIX </s> (an406-fcaw-b)", or without the marks of sentence.
    for line in _read_lines(path):
        match = re.fullmatch(r"(.*?)\s*\((\S+)\)", line)
        if not match:
            raise InputError(f"{path}: no (utterance) ends the line {line!r}; restore the file")
        yield match[2], " ".join(re.sub(r"</?s>", " ", match[1]).split())


def _read_lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot read it; --corpus-dir is the folder with etc/ and wav/") from error
    return [line.strip() for line in lines if line.strip()]


if __name__ == "__main__":
    run(main)
