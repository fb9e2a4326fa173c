"""`asr decode`: decode a CutSet with a trained model, and score it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from lhotse import CutSet

from asr.align.tokens import aligned_words
from asr.cli.load import Trained, load_trained
from asr.cli.score import report
from asr.cli.train import choose_device
from asr.config import DataOptions, DecodeConfig, DecodeOptions
from asr.data.batch import Skipped
from asr.data.dataset import SpeechDataset
from asr.data.manifest import open_cuts, unique_ids
from asr.data.sampler import OnePass, make_loader
from asr.decode.greedy import make_search
from asr.decode.search import recognised
from asr.errors import InputError
from asr.models.subsampling import MIN_FRAMES
from asr.progress import progress
from asr.score.wer import Utterance


def main(config: DecodeConfig) -> None:
    """Decode and score; the WER line is the last line printed. Raises InputError for input at fault."""
    cuts = open_cuts([config.cuts])
    device = choose_device(config.device)
    trained = load_trained(config.run, config.checkpoint, device)
    order = unique_ids(cuts)
    words = {cut.id: aligned_words(cut) for cut in cuts}
    decoded: dict[str, Utterance] = {}
    utterances = decode(trained, cuts, config.decode, device)
    for result in progress(utterances, len(order), "decoding", "utterances"):
        if isinstance(result, Skipped):
            print(f"skipped {result.id}: {result.reason}", file=sys.stderr)
        else:
            decoded[result.id] = result
    if not decoded:
        raise InputError(f"{config.cuts}: no utterance could be decoded, of {len(order)}")
    if len(decoded) < len(order):
        missing = len(order) - len(decoded)
        print(f"{missing} of {len(order)} utterances were skipped and are not scored", file=sys.stderr)
    name = config.name or Path(config.cuts).name.split(".")[0].removeprefix("cuts_")
    output = Path(config.output)
    print(f"{output}: hypotheses.jsonl, alignments.txt, errors.txt ({trained.checkpoint})")
    report(output, [decoded[i] for i in order if i in decoded], name, words)


@torch.inference_mode()
def decode(
    trained: Trained, cuts: CutSet, options: DecodeOptions, device: torch.device
) -> Iterator[Utterance | Skipped]:
    """The hypothesis of each utterance, or why it could not be read, in the order of decoding."""
    search = make_search(options, trained.model, trained.config.loss.topology)
    dataset = SpeechDataset(trained.config.model.mel_bins, MIN_FRAMES)
    data = DataOptions(max_seconds=options.max_seconds, max_utterances=options.batch_size)
    for batch in make_loader(dataset, OnePass(cuts, data), workers=0):
        yield from batch.skipped
        if not len(batch):
            continue
        batch = batch.to(device)
        hypotheses = search(*trained.model.encode(batch.features, batch.feature_frames))
        yield from recognised(batch, hypotheses, trained.tokenizer)
