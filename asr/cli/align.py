"""`asr align`: find out when each word of the transcripts was said."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from asr.align.hmm import HmmAligner
from asr.align.make import Aligned, Aligner, Journal, MakeAligner, align_all, check_for_ctm, write_ctm
from asr.align.trained import TrainedAligner
from asr.config import AlignConfig
from asr.data.dataset import SpeechDataset
from asr.data.manifest import open_cuts
from asr.device import choose_device
from asr.errors import InputError
from asr.models.subsampling import MIN_FRAMES
from asr.runs.trained import checkpoint_digest, checkpoint_names
from asr.train.task import load_task


def main(config: AlignConfig) -> None:
    """Align, and write a CTM; interrupted, go on where it was. Raises InputError for input at fault."""
    cuts = open_cuts([config.cuts])
    order = [cut.id for cut in cuts]
    check_for_ctm(order)
    make_aligner = choose_aligner(config)
    make_aligner()  # here first: what is missing is better said by one process than by all
    output = Path(config.output)
    journal = Journal(output.with_name(f".{output.name}.journal"), settings(config))
    align_all(make_aligner, cuts, len(order), journal, config.jobs, config.scheduler)
    results = [journal.done[utterance] for utterance in order]
    aligned = [result for result in results if isinstance(result, Aligned)]
    for result in results:
        if not isinstance(result, Aligned):
            print(f"not aligned: {result.id}: {result.reason}", file=sys.stderr)
    if not aligned:
        raise InputError(f"{config.cuts}: no utterance could be aligned")
    write_ctm(output, aligned)
    journal.path.unlink()
    print(f"{output}: {len(aligned)} of {len(order)} utterances aligned")


def settings(config: AlignConfig) -> dict[str, str]:
    """What the times depend on: the aligner, the checkpoints and weights of its model, the manifest as it is now."""
    cuts = Path(config.cuts).resolve()
    chosen = {"aligner": config.aligner, "cuts": str(cuts), "changed": str(cuts.stat().st_mtime_ns)}
    if config.aligner != "pocketsphinx":
        chosen |= {
            "run": str(Path(config.run).resolve()),
            "checkpoint": " ".join(checkpoint_names(config.run, config.checkpoint)),
            "weights": checkpoint_digest(config.run, config.checkpoint),
        }
    return chosen


@dataclass(frozen=True)
class MakeTrained:
    """Makes a `TrainedAligner` in whatever process it is called."""

    config: AlignConfig

    def __call__(self) -> Aligner:
        """Load the model."""
        task, trained = load_task(self.config.run, self.config.checkpoint, choose_device(self.config.device))
        dataset = SpeechDataset(trained.config.model.mel_bins, MIN_FRAMES, trained.tokenizer)
        return TrainedAligner(task, dataset, self.config.aligner)


def choose_aligner(config: AlignConfig) -> MakeAligner:
    """What makes the aligner that a configuration names. Raises InputError where it lacks its model."""
    if config.aligner == "pocketsphinx":
        return HmmAligner
    if not config.run:
        raise InputError(f"aligner={config.aligner} needs run=..., the run directory of a trained model")
    return MakeTrained(config)
