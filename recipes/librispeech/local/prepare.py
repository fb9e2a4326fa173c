#!/usr/bin/env python3
"""Prepare LibriSpeech (Panayotov et al., ICASSP 2015): English audio books, 16 kHz, one FLAC file an utterance.

Manifests are Lhotse's. Each set has its own folder with the manifests ``cuts_{train,dev,…}.jsonl.gz``:
their audio stays where the corpus is. The training manifest is shuffled, once and for all, because the sampler
looks a limited way ahead and would else see one reader after the other.
"""

import argparse
import contextlib
import logging
import random
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asr.data.corpus import add_corpus_options, fetch, make_cut, run, write_cuts
from asr.errors import InputError

if TYPE_CHECKING:
    import lhotse

# Utterances of each part as published (OpenSLR 12 and 31).
PUBLISHED = {
    "train-clean-100": 28539,
    "train-clean-360": 104014,
    "train-other-500": 148688,
    "dev-clean": 2703,
    "dev-other": 2864,
    "test-clean": 2620,
    "test-other": 2939,
    "train-clean-5": 1519,
    "dev-clean-2": 1089,
}
_EVALUATION = {"dev": ["dev-clean", "dev-other"], "test-clean": ["test-clean"], "test-other": ["test-other"]}
SETS = {  # which parts make each manifest of a set
    "mini": {"train": ["train-clean-5"], "dev": ["dev-clean-2"]},
    "100h": {"train": ["train-clean-100"], **_EVALUATION},
    "960h": {"train": ["train-clean-100", "train-clean-360", "train-other-500"], **_EVALUATION},
}
DOWNLOAD_URL = "https://www.openslr.org/resources"
SHA256 = {  # of the archives, as torchaudio has them; nobody publishes those of the two small parts
    "train-clean-100": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
}
FOLDER, RESOURCE, RESOURCE_OF_SMALL = "LibriSpeech", 12, 31  # on OpenSLR; the folder is in every archive
THREADS = 4  # that read the headers of audio files


@dataclass(frozen=True)
class Part:
    """What is there of a part of the corpus: its cuts, and the transcribed utterances that have no audio."""

    name: str
    cuts: "list[lhotse.MonoCut]"
    without_audio: list[str]

    def __str__(self) -> str:
        speakers = {cut.supervisions[0].speaker for cut in self.cuts}
        lines = [f"{self.name}: {len(self.cuts)} utterances of {len(speakers)} speakers"]
        if len(self.cuts) != PUBLISHED[self.name]:
            lines.append(f"{PUBLISHED[self.name]} are published, so figures are not those of the official part")
        if self.without_audio:
            lines.append(f"{len(self.without_audio)} have a transcript but no audio, the first {self.without_audio[0]}")
        return "; ".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Write ``cuts_{train,dev,…}.jsonl.gz`` of a set into ``--output``, those that are not there yet."""
    parser = argparse.ArgumentParser(description="Prepare the LibriSpeech corpus.")
    add_corpus_options(parser)
    parser.add_argument("--set", choices=SETS, default="100h", help="the parts to prepare")
    options = parser.parse_args(arguments)
    splits = {split: options.output / f"cuts_{split}.jsonl.gz" for split in SETS[options.set]}
    missing = {split: path for split, path in splits.items() if not path.exists()}
    corpus = options.corpus_dir or download(options.download_dir, [p for s in missing for p in SETS[options.set][s]])
    for split, path in missing.items():
        cuts = read_parts(corpus, SETS[options.set][split], split)
        if split == "train":
            random.Random(0).shuffle(cuts)
        write_cuts(cuts, path)


def download(directory: Path, parts: list[str]) -> Path:
    """Download parts and unpack them into one folder, unless done before; an interrupted download goes on."""
    corpus = directory / FOLDER
    for part in (part for part in parts if not (corpus / part).is_dir()):
        small = part not in SHA256
        url = f"{DOWNLOAD_URL}/{RESOURCE_OF_SMALL if small else RESOURCE}/{part}.tar.gz"
        unpacked = fetch(url, directory, SHA256.get(part))
        if not (unpacked / FOLDER / part).is_dir():
            raise InputError(f"{unpacked}: holds no {FOLDER}/{part}; remove it and its archive, and run again")
        corpus.mkdir(exist_ok=True)
        (unpacked / FOLDER / part).rename(corpus / part)
        shutil.rmtree(unpacked)
    return corpus


def read_parts(corpus: Path, parts: list[str], split: str) -> "list[lhotse.MonoCut]":
    """The cuts of the parts that are there, the others named. Raises `InputError` where none is."""
    cuts = []
    for name in parts:
        if not (corpus / name).is_dir():
            print(f"{name}: not in {corpus}, goes without", file=sys.stderr)
            continue
        part = read_part(corpus, name)
        print(part, file=sys.stderr)
        cuts += part.cuts
    if not cuts:
        wanted = ", ".join(str(corpus / name) for name in parts)
        raise InputError(f"no utterance for {split}: none in {wanted}; --corpus-dir is the folder that holds these")
    return cuts


def read_part(corpus: Path, name: str) -> Part:
    """What is there of a part, in order of the ids. Raises `InputError` for a damaged audio file or transcript."""
    from lhotse.recipes.librispeech import prepare_librispeech

    expected = sorted(transcribed(corpus / name))
    try:
        with _quiet():
            found = prepare_librispeech(corpus.absolute(), dataset_parts=name, num_jobs=THREADS)[name]
    except Exception as error:  # every audio backend has its own exceptions
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{corpus / name}: {what}; restore it from the corpus") from error
    texts = {supervision.recording_id: supervision for supervision in found["supervisions"]}
    recordings = sorted(found["recordings"], key=lambda recording: str(recording.id))
    cuts = [make_cut(r, texts[r.id].text, texts[r.id].speaker, "English") for r in recordings]
    return Part(name, cuts, sorted({*expected} - {cut.id for cut in cuts}))


def transcribed(part: Path) -> Iterator[str]:
    """The ids of all utterances of a part that have a transcript. Raises `InputError` for an empty one."""
    for path in part.rglob("*.trans.txt"):
        for line in path.read_text(encoding="utf-8").splitlines():
            utterance, _, text = line.strip().partition(" ")
            if not text:
                raise InputError(f"{path}: no transcript in the line {line!r}; restore the file")
            yield utterance


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # Lhotse warns of each utterance that has no audio, of which a partial corpus may have thousands.
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


if __name__ == "__main__":
    run(main)
