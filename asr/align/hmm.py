"""Alignment by the English HMM model that the PyPI package pocketsphinx carries: nothing to train."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from lhotse.cut import Cut
from lhotse.supervision import AlignmentItem

from asr.data.batch import Skipped
from asr.data.ctm import Aligned
from asr.data.dataset import check_supervisions, transcript
from asr.data.features import as_int16, load_samples
from asr.data.words import VARIANT
from asr.errors import InputError, not_installed

SECONDS_PER_FRAME = 0.01  # the model's own frames
TRAILING_SAMPLES = 4800  # of silence: without any, a last word that lasts until the end is not found


class HmmAligner:
    """A mono- and triphone HMM aligner (CMU PocketSphinx) with the CMU dictionary, one utterance at a time.

    A word that the dictionary lacks makes its utterance impossible to align.
    """

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder
        except ModuleNotFoundError:
            raise not_installed("aligner=pocketsphinx: pocketsphinx", "align") from None
        # cmn: over each utterance; the default adapts from one to the next, so that their order would matter.
        self.decoder = Decoder(lm=None, loglevel="FATAL", dither=False, cmn="batch")

    def __call__(self, cuts: Sequence[Cut]) -> list[Aligned | Skipped]:
        """See `Aligner`."""
        results: list[Aligned | Skipped] = []
        for cut in cuts:
            try:
                results.append(Aligned(cut.id, self.align(cut)))
            except InputError as error:
                results.append(Skipped(cut.id, str(error)))
        return results

    def align(self, cut: Cut) -> list[AlignmentItem]:
        """The words of one cut. Raises InputError where a word is unknown or was not said here, or no path is found."""
        check_supervisions(cut)
        words = transcript(cut).split()
        unknown = [word for word in words if self.decoder.lookup_word(word.lower()) is None]
        if unknown:
            raise InputError(f"not in the dictionary: {', '.join(unknown)}")
        samples = as_int16(load_samples(cut))
        # Not with silence at once: it changes the mean that the features are normalised by.
        for silence in (0, TRAILING_SAMPLES) if words else ():
            found = self.search(" ".join(words).lower(), np.pad(samples, (0, silence)))
            if [VARIANT.sub("", item.symbol) for item in found] == [word.lower() for word in words]:
                return [until(item, word, cut.duration) for item, word in zip(found, words)]
        if words:
            raise InputError("no path through the transcript: is this what was said?")
        return []

    def search(self, text: str, samples: np.ndarray) -> list[AlignmentItem]:
        """What PocketSphinx finds, without silences and noises."""
        try:
            self.decoder.reinit_feat()  # forgets the noise and the level of the utterance before
            self.decoder.set_align_text(text)
            self.decoder.start_utt()
            self.decoder.process_raw(samples.tobytes(), full_utt=True)
            self.decoder.end_utt()
            segments = list(self.decoder.seg() or [])
        except RuntimeError as error:
            raise InputError(f"pocketsphinx found no alignment ({error})") from error
        return [
            AlignmentItem(
                segment.word,
                round(segment.start_frame * SECONDS_PER_FRAME, 3),
                round((segment.end_frame - segment.start_frame + 1) * SECONDS_PER_FRAME, 3),
            )
            for segment in segments
            if segment.word[:1] not in "<[(+"
        ]


def until(item: AlignmentItem, word: str, end: float) -> AlignmentItem:
    """The item as `word`, no later than `end`."""
    start = min(item.start, end)
    return AlignmentItem(word, start, round(min(item.end, end) - start, 3))
