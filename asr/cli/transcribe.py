"""`asr transcribe FILE...`: print the text of audio files."""

from __future__ import annotations

from pathlib import Path

from lhotse import CutSet

from asr.cli.decode import decode
from asr.cli.load import load_trained
from asr.cli.train import choose_device
from asr.config import TranscribeConfig
from asr.data.batch import Skipped
from asr.data.corpus import describe_recording
from asr.errors import InputError


def main(config: TranscribeConfig) -> None:
    """Print `FILE<tab>TEXT` for each file, or the text alone if there is one. Raises InputError."""
    if not config.files:
        raise InputError("no audio file given: asr transcribe a.wav b.flac run=exp/NAME")
    recordings = [describe_recording(path, Path(path)) for path in dict.fromkeys(config.files)]
    device = choose_device(config.device)
    trained = load_trained(config.run, config.checkpoint, device)
    cuts = CutSet.from_cuts(recording.to_cut().with_id(recording.id) for recording in recordings)
    texts: dict[str, str] = {}
    for result in decode(trained, cuts, config.decode, device):
        if isinstance(result, Skipped):
            raise InputError(f"{result.id}: {result.reason}")
        texts[result.id] = result.hypothesis
    for recording in recordings:
        print(texts[recording.id] if len(recordings) == 1 else f"{recording.id}\t{texts[recording.id]}")
