"""What there is to say of a corpus: how much of it, and what its user may want to know before the training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from lhotse import MultiCut
from lhotse.cut.data import DataCut

from asr.config import SpecAugmentOptions
from asr.data.sources.split import REST, divisible
from asr.frames import FRAME_SECONDS

SHORT_SECONDS = 2.0  # that a word or two take, which a mask of SpecAugment may hide


def of_channels(cuts: Sequence[DataCut]) -> Iterator[str]:
    """Which channels are taken where nobody chose."""
    several = sum(isinstance(cut, MultiCut) for cut in cuts)
    if several:
        yield f"{several} utterances have several channels: their mean is heard, as by `asr transcribe`"


def of_lengths(cuts: Sequence[DataCut]) -> Iterator[str]:
    """What training wants where half of the utterances have a word or two."""
    half, mask = median(cut.duration for cut in cuts), SpecAugmentOptions().time_mask_frames * FRAME_SECONDS
    if half < SHORT_SECONDS:
        what = f"half of the utterances are under {half:.1f} s, and a mask of SpecAugment, {mask:g} s, may hide a word"
        remedy = "train with data.spec_augment.time_masks=0 or data.spec_augment.time_mask_frames=10"
        yield f"{what}: {remedy}"


def of_characters(parts: Mapping[str, Sequence[DataCut]]) -> Iterator[str]:
    """Which characters the part to train on lacks: a tokenizer made of it cannot spell those of the others."""
    found = {name: {one for cut in part for one in cut.supervisions[0].text} for name, part in parts.items()}
    trained = found.pop(REST, set())
    for name, letters in found.items():
        missing = " ".join(sorted(letters - trained))
        if missing and name:
            yield f"in {name}, and not in {REST}: {missing} (another seed= may divide better)"


def of_columns(unused: Sequence[str]) -> Iterator[str]:
    """Columns of a table that nothing is made of; times under names of their own are easily missed."""
    if unused:
        yield f"columns that nothing is made of: {', '.join(unused)} (times are read from `start` and `end`)"


def of_parts(cuts: list[DataCut], parts: int, unused: Sequence[str]) -> Iterator[str]:
    """Where parts will have speakers in common."""
    unit = divisible(cuts, parts)
    unknown = sum(not cut.supervisions[0].speaker for cut in cuts)
    if unit != "speakers":
        what = f"too few speakers for {parts} parts: {unit}"
    else:
        what = f"{unknown} utterances have no speaker: their recordings"
    if unit != "speakers" or unknown:
        remedy = f"; if one of these columns is the speaker, speaker_column=NAME: {', '.join(unused)}" * bool(unused)
        yield f"{what} are divided instead, and a speaker may be in two parts{remedy}"


def described(cuts: Sequence[DataCut]) -> str:
    """How much there is in a manifest."""
    seconds = sorted(cut.duration for cut in cuts)
    speakers = {cut.supervisions[0].speaker for cut in cuts} - {None}
    return (
        f"{len(cuts)} utterances, {sum(seconds) / 3600:.2f} hours, {len(speakers) or 'unknown'} speakers, "
        f"{seconds[0]:.1f} to {seconds[-1]:.1f} s, half of them under {seconds[len(seconds) // 2]:.1f} s"
    )


def characters(cuts: Sequence[DataCut]) -> str:
    """The characters of the transcripts: one that should not be there is seen at a glance."""
    found = sorted({one for cut in cuts for one in cut.supervisions[0].text} - {" "})
    return f"{len(found)} characters: {' '.join(found[:200])}{' …' * (len(found) > 200)}"
