"""`asr align`: find out when each word of the transcripts was said."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from asr.align.hmm import HmmAligner
from asr.align.make import Aligner, MakeAligner, align_all, words_journal
from asr.align.trained import TrainedAligner
from asr.config import AlignConfig
from asr.data.ctm import Aligned, check_for_ctm, write_ctm
from asr.data.dataset import SpeechDataset
from asr.data.manifest import open_cuts
from asr.device import choose_device
from asr.errors import InputError
from asr.files import require_writable
from asr.journal import content_of
from asr.runs.trained import Trained, load_trained
from asr.train.task import load_task


def main(config: AlignConfig) -> None:
    """Align, and write a CTM; interrupted, go on where it was. Raises InputError for input at fault."""
    cuts = open_cuts([config.cuts])
    order = [cut.id for cut in cuts]
    check_for_ctm(order)
    trained = load_model(config)
    make_aligner: MakeAligner = MakeTrained(config, trained.digest) if trained else HmmAligner
    make_aligner()  # here first: what is missing is better said by one process than by all
    output = Path(config.output)
    require_writable(output)
    journal = words_journal(output.with_name(f".{output.name}.journal"), settings(config, trained))
    align_all(make_aligner, cuts, len(order), journal, config.jobs, config.scheduler)
    results = [journal.done[utterance] for utterance in order]
    aligned = [result for result in results if isinstance(result, Aligned)]
    for result in results:
        if not isinstance(result, Aligned):
            print(f"not aligned: {result.id}: {result.reason}", file=sys.stderr)
    if not aligned:
        raise InputError(f"{config.cuts}: no utterance could be aligned")
    write_ctm(output, aligned)
    journal.close()
    print(f"{output}: {len(aligned)} of {len(order)} utterances aligned")


def settings(config: AlignConfig, trained: Trained | None) -> dict[str, object]:
    """What the times depend on: the aligner, the weights of its model, the manifest as it is now."""
    weights = [str(Path(config.run).resolve()), trained.checkpoint, trained.digest] if trained else []
    return {"aligner": config.aligner, "cuts": content_of(config.cuts), "weights": weights}


@dataclass(frozen=True)
class MakeTrained:
    """Makes a `TrainedAligner` in whatever process it is called. digest: of the weights that it should have."""

    config: AlignConfig
    digest: str

    def __call__(self) -> Aligner:
        """Load the model. Raises InputError where the run was trained on in the meantime."""
        task, trained = load_task(self.config.run, self.config.checkpoint, choose_device(self.config.device))
        if trained.digest != self.digest:
            raise InputError(
                f"run={self.config.run}: has other checkpoints than a moment ago; name one: checkpoint=..."
            )
        dataset = SpeechDataset(trained.config.model.mel_bins, task.model.timing, trained.tokenizer)
        return TrainedAligner(task, dataset, self.config.aligner)


def load_model(config: AlignConfig) -> Trained | None:
    """The model of an aligner that has one. Raises InputError where none is named."""
    if config.aligner == "pocketsphinx":
        return None
    if not config.run:
        raise InputError(f"aligner={config.aligner} needs run=..., the run directory of a trained model")
    return load_trained(config.run, config.checkpoint, choose_device(config.device))
