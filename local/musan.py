#!/usr/bin/env python3
"""Prepare MUSAN (Snyder, Chen and Povey, 2015; OpenSLR 17): music, speech and noise to mix into training data.

The manifest ``cuts_noise.jsonl.gz`` holds whole recordings of all three parts.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from asr.data.corpus import add_corpus_options, fetch, run, write_cuts
from asr.errors import InputError

if TYPE_CHECKING:
    import lhotse

PARTS = ("music", "speech", "noise")
URL = "https://www.openslr.org/resources/17/musan.tar.gz"
MD5 = "0c472d4fc0c5141eca47ad1ffeb2a7df"  # nobody publishes a better sum


def main(arguments: list[str] | None = None) -> None:
    """Write ``cuts_noise.jsonl.gz`` into ``--output``."""
    parser = argparse.ArgumentParser(description="Prepare the MUSAN corpus.")
    add_corpus_options(parser)
    options = parser.parse_args(arguments)
    corpus = options.corpus_dir or download(options.download_dir)
    write_cuts(read_noises(corpus), options.output / "cuts_noise.jsonl.gz")


def download(directory: Path) -> Path:
    """Download and unpack 11 GB, unless done before; an interrupted download goes on."""
    unpacked = fetch(URL, directory, MD5)
    return unpacked / "musan" if (unpacked / "musan").is_dir() else unpacked  # where Lhotse has done it


def read_noises(corpus: Path) -> "Iterator[lhotse.MonoCut]":
    """The recordings of the parts that are there, in order of their ids. Raises `InputError` where there are none."""
    from lhotse.recipes.musan import scan_recordings

    try:
        recordings = [r for part in PARTS for r in scan_recordings((corpus / part).absolute())]
    except Exception as error:  # every audio backend has its own exceptions
        raise InputError(f"{corpus}: {str(error).splitlines()[0]}; restore it from the corpus") from error
    if not recordings:
        raise InputError(f"{corpus}: no recordings in {', '.join(PARTS)}; name the folder that holds these")
    return (recording.to_cut() for recording in sorted(recordings, key=lambda recording: str(recording.id)))


if __name__ == "__main__":
    run(main)
