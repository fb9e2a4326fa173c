"""A corpus divided into parts that have no speaker in common."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from lhotse import MonoCut

from asr.errors import InputError

REST = "train"  # the part that what is left goes to


def parse_split(text: str) -> dict[str, float]:
    """The share of each part in `dev:0.05,test:0.05`; none in "". Raises InputError for anything else."""
    shares: dict[str, float] = {}
    for word in text.replace(" ", "").split(",") if text.strip() else ():
        name, colon, share = word.partition(":")
        try:
            value = float(share)
        except ValueError:
            value = 0.0
        if not (colon and name.isidentifier() and name not in (REST, *shares) and 0 < value < 1):
            raise InputError(f"split={text}: {word!r} is not NAME:SHARE; write for example dev:0.05,test:0.05")
        shares[name] = value
    if sum(shares.values()) >= 1:
        raise InputError(f"split={text}: nothing is left for {REST}; the shares must add up to less than 1")
    return shares


def divide(cuts: Sequence[MonoCut], shares: dict[str, float], seed: int) -> dict[str, list[MonoCut]]:
    """The cuts of each part and of `train`, in their order; no speaker is in two parts.

    shares: of the seconds of audio, which a part never exceeds, unless its smallest speaker alone does. Where no
    speaker is known, recordings are divided. Raises InputError where there are fewer speakers than parts.
    """
    totals: dict[str, float] = defaultdict(float)
    for cut in cuts:
        totals[speaker_of(cut)] += cut.duration
    if len(totals) <= len(shares):
        raise InputError(
            f"split: {len(totals)} speakers cannot be divided into {len(shares) + 1} parts; name fewer parts"
        )
    order = sorted(totals)
    random.Random(seed).shuffle(order)
    part_of: dict[str, str] = {}
    for part, share in shares.items():
        free = [speaker for speaker in order if speaker not in part_of]
        chosen = fill(free, totals, share * sum(totals.values())) or [min(free, key=lambda one: totals[one])]
        part_of |= dict.fromkeys(chosen, part)
    parts: dict[str, list[MonoCut]] = {name: [] for name in (REST, *shares)}
    for cut in cuts:
        parts[part_of.get(speaker_of(cut), REST)].append(cut)
    return parts


def speaker_of(cut: MonoCut) -> str:
    """Whose cut this is; the recording's where that is not known."""
    speaker = cut.supervisions[0].speaker
    return f"speaker {speaker}" if speaker else f"recording {cut.recording_id}"


def fill(speakers: Sequence[str], seconds: dict[str, float], wanted: float) -> list[str]:
    """Those of the speakers, in order, that fit into so many seconds together."""
    chosen, left = [], wanted
    for speaker in speakers:
        if seconds[speaker] <= left:
            chosen.append(speaker)
            left -= seconds[speaker]
    return chosen
