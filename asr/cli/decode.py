"""`asr decode`: decode a CutSet with a trained model, and score it."""

from __future__ import annotations

import sys
from pathlib import Path

from lhotse import CutSet

from asr.cli.score import report
from asr.config import BeamOptions, DecodeConfig
from asr.data.batch import Skipped
from asr.data.ctm import Aligned, check_for_ctm, write_ctm
from asr.data.manifest import open_cuts
from asr.data.words import aligned_words
from asr.decode.decoder import Decoder
from asr.decode.results import decode_to, record_of, results_journal, search_settings
from asr.decode.words import recognised_words
from asr.errors import InputError, PartlyDone
from asr.files import require_directory
from asr.journal import AGAIN, Journal, content_of
from asr.progress import progress
from asr.recognizer import load
from asr.score.delay import first_word_latencies
from asr.score.groups import values_of
from asr.score.normalize import normalizer
from asr.score.report import not_scored, write_nbest
from asr.score.wer import Utterance


def main(config: DecodeConfig) -> None:
    """Decode and score; interrupted, go on where it was. The line of the error rate is the last line printed.

    Raises InputError for input at fault, PartlyDone where some utterances could not be decoded and are not scored.
    """
    check_nbest(config)
    cuts = open_cuts([config.cuts])
    check_scoring(config, cuts)
    model = load(config.run, config.checkpoint, config.device)
    order = [cut.id for cut in cuts]
    check_for_ctm(order)
    decoder = model.decoder(config.decode, streaming=config.streaming)
    output = Path(config.output)
    require_directory(output)
    journal = results_journal(
        output / ".decode.journal", {"cuts": content_of(config.cuts), **search_settings(config, model.trained)}
    )
    journal.open()
    try:
        decode_all(decoder, cuts, len(order), journal)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(AGAIN) from None
    found = [journal.done[name] for name in order if name in journal.done]
    if not found:
        journal.close()
        raise InputError(f"{config.cuts}: no utterance could be decoded, of {len(order)}")
    note = not_scored(len(order) - len(found), len(order))
    write_all(config, cuts, found, decoder, note)
    journal.close()
    if note:
        raise PartlyDone(f"{note}: see above")


def decode_all(decoder: Decoder, cuts: CutSet, total: int, journal: Journal[list[Utterance]]) -> None:
    """Decode what the journal does not have yet, and name what is skipped or cut in pieces."""
    for cut in cuts:
        if decoder.too_long(cut):
            limit = f"decode.max_seconds={decoder.options.max_seconds:g}"
            print(f"{cut.id}: lasts {cut.duration:.1f} s, more than {limit}: decoded in pieces", file=sys.stderr)
    left = total - len(journal.done)
    for result in progress(decode_to(journal, decoder, cuts), left, "decoding", "utterances"):
        if isinstance(result, Skipped):
            print(f"skipped {result.id}: {result.reason}", file=sys.stderr)
    if decoder.clock.audio:
        print(decoder.clock.line())


def check_nbest(config: DecodeConfig) -> None:
    """Raise InputError where the search does not have as many hypotheses as are asked for."""
    beam = config.decode.beam if isinstance(config.decode, BeamOptions) else 1
    if config.nbest > beam:
        needed = f"decode=beam decode.beam={config.nbest}"
        raise InputError(f"nbest={config.nbest}: the search follows {beam} hypotheses; use {needed}, or more")


def check_scoring(config: DecodeConfig, cuts: CutSet) -> None:
    """Raise InputError where what is decoded could not be scored as it is asked for."""
    normalizer(config.normalize)
    values_of(cuts, config.by)


def write_all(config: DecodeConfig, cuts: CutSet, found: list[list[Utterance]], decoder: Decoder, note: str) -> None:
    """Write hypotheses, times of words and reports, and print what they say; `note` is of what is not among them."""
    output = Path(config.output)
    name = config.name or Path(config.cuts).name.split(".")[0].removeprefix("cuts_")
    words = {cut.id: aligned_words(cut) for cut in cuts}
    durations = {cut.id: cut.duration for cut in cuts}
    best = [hypotheses[0] for hypotheses in found]
    write_ctm(output / "hypotheses.ctm", (Aligned(u.id, recognised_words(u, durations[u.id])) for u in best))
    (output / "nbest.jsonl").unlink(missing_ok=True)
    if config.nbest > 1:
        write_nbest(output / "nbest.jsonl", (hypotheses[: config.nbest] for hypotheses in found))
    files = ["hypotheses.jsonl", "hypotheses.ctm", "recogs.txt", "errs.txt", "alignments.txt", "decode.json"]
    print(f"{output}: {', '.join(files + ['nbest.jsonl'] * (config.nbest > 1))} ({decoder.trained.checkpoint})")
    if config.streaming:
        print(first_word_latencies(best, words, durations, decoder.chunk, decoder.timing))
    report(config, best, name, words, values_of(cuts, config.by), note, record_of(config, decoder.trained))
