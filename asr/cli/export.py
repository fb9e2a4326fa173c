"""`asr export`: a model in the files of another runtime, checked on real audio."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from lhotse import CutSet

from asr.config import ExportConfig
from asr.data.batch import Batch
from asr.data.dataset import Draw, SpeechDataset
from asr.data.manifest import open_cuts
from asr.errors import InputError
from asr.export.directory import export
from asr.runs.trained import Trained, load_trained


def main(config: ExportConfig) -> None:
    """Export and say what the check found. Raises InputError where the model cannot be exported."""
    trained = load_trained(config.run, config.checkpoint, torch.device("cpu"))
    for line in export(config, trained, read_batches(config, trained)):
        print(line)
    for path in sorted(Path(config.output).glob("*.*")):
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


def read_batches(config: ExportConfig, trained: Trained) -> Iterator[Batch]:
    """Utterances of `cuts` or of the run's validation, to check the export with."""
    dataset = SpeechDataset(trained.config.model.mel_bins, trained.model.timing)
    for cut in islice(open_to_check(config, trained), config.utterances):
        yield dataset[Draw([cut])]


def open_to_check(config: ExportConfig, trained: Trained) -> CutSet:
    """The manifest that is named, or those of the run. Raises InputError where they are not there."""
    paths = [config.cuts] if config.cuts else trained.config.data.valid_cuts
    try:
        return open_cuts(paths)
    except InputError as error:
        if config.cuts:
            raise
        raise InputError(
            f"the run's validation data ({error}): name a manifest to check the export with, cuts=…"
        ) from None
