#!/usr/bin/env python3
"""Prepare the yesno corpus (OpenSLR 1): 60 recordings of one speaker, 8 words YES or NO each.

The file names are the transcripts: 1 is YES, 0 is NO. Names that begin with 0 are for training, those
with 1 for the test. There is no development set: 60 utterances are too few to spare one.
Silence separates the words; where it does so clearly, their times are kept as alignments (see pauses.py).

Lhotse's own yesno recipe splits differently (every other file), hence this one.
"""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

import soundfile
from pauses import word_times

from asr.data.corpus import add_corpus_options, describe_recording, fetch, make_cut, run, write_cuts
from asr.errors import InputError

if TYPE_CHECKING:
    import lhotse

URL = "https://www.openslr.org/resources/1/waves_yesno.tar.gz"
SHA256 = "c3f49e0cca421f96b75b41640749167b52118f232498667ca7a5f9416aef8e73"
WORDS = {"0": "NO", "1": "YES"}
SPLITS = {"train": "0", "test": "1"}
SAMPLING_RATE = 16000


def main(arguments: list[str] | None = None) -> None:
    """Write ``cuts_train.jsonl.gz`` and ``cuts_test.jsonl.gz`` into ``--output``.

    The audio stays where it is, at 8 kHz; the cuts resample it to 16 kHz when it is read.
    """
    parser = argparse.ArgumentParser(description="Prepare the yesno corpus.")
    add_corpus_options(parser)
    options = parser.parse_args(arguments)
    corpus = options.corpus_dir or fetch(URL, options.download_dir, SHA256) / "waves_yesno"
    cuts = {split: [_cut(path) for path in paths] for split, paths in split_files(corpus).items()}
    for split in SPLITS:
        write_cuts(cuts[split], options.output / f"cuts_{split}.jsonl.gz")
        print(f"{split}: {len(cuts[split])} utterances")


def split_files(corpus: Path) -> dict[str, list[Path]]:
    """The wave files of each split, sorted. Raises `InputError` where a split has none."""
    paths = sorted(path.absolute() for path in corpus.glob("[01]_*.wav"))
    splits = {split: [path for path in paths if path.name[0] == first] for split, first in SPLITS.items()}
    for split, found in splits.items():
        if not found:
            raise InputError(f"{corpus}: holds no {SPLITS[split]}_*.wav; --corpus-dir is waves_yesno/")
    return splits


def transcript(name: str) -> str:
    """The words that a file name without suffix stands for: "1_0" gives "YES NO"."""
    if not re.fullmatch(r"[01](_[01])*", name):
        raise InputError(f"{name}.wav: the name is not made of 0 and 1; remove the file from the corpus")
    return " ".join(WORDS[digit] for digit in name.split("_"))


def _cut(path: Path) -> "lhotse.MonoCut":
    from lhotse.supervision import AlignmentItem

    recording, text = describe_recording(path.stem, path), transcript(path.stem)
    samples, rate = soundfile.read(path, dtype="int16")
    times = word_times(samples, rate, len(text.split()))
    words = [AlignmentItem(word, *time) for word, time in zip(text.split(), times)]
    alignment = {"word": words} if words else None
    return make_cut(recording.resample(SAMPLING_RATE), text, "yesno", language="he", alignment=alignment)


if __name__ == "__main__":
    run(main)
