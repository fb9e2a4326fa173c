"""A corpus divided into parts that have no speaker in common, where there are speakers enough."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from lhotse.cut.data import DataCut

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


def divide(cuts: Sequence[DataCut], shares: Mapping[str, float], seed: int) -> dict[str, list[DataCut]]:
    """The cuts of each part and of `train`, in their order; no part is empty, and none has the speaker of another.

    shares: of the seconds of audio, which a part never exceeds, unless its smallest speaker alone does. Where there are
    fewer speakers than parts, recordings are divided, or utterances: see `divisible`. Raises InputError where there are
    fewer utterances, too.
    """
    group_of = UNITS[divisible(cuts, len(shares) + 1)]
    totals: dict[str, float] = defaultdict(float)
    for cut in cuts:
        totals[group_of(cut)] += cut.duration
    order = sorted(totals)
    random.Random(seed).shuffle(order)
    part_of: dict[str, str] = {}
    for later, (part, share) in zip(range(len(shares), 0, -1), shares.items()):
        free = [group for group in order if group not in part_of]
        chosen = fill(free, totals, share * sum(totals.values())) or [min(free, key=lambda one: totals[one])]
        part_of |= dict.fromkeys(chosen[: len(free) - later], part)  # each of the later parts gets one, too
    parts: dict[str, list[DataCut]] = {name: [] for name in (REST, *shares)}
    for cut in cuts:
        parts[part_of.get(group_of(cut), REST)].append(cut)
    return parts


def divisible(cuts: Sequence[DataCut], parts: int) -> str:
    """The first of UNITS of which there are enough for so many parts. Raises InputError where there is none."""
    for unit, group_of in UNITS.items():
        if len({group_of(cut) for cut in cuts}) >= parts:
            return unit
    raise InputError(f"split: {len(cuts)} utterances cannot be divided into {parts} parts; name fewer parts")


def speaker_of(cut: DataCut) -> str:
    """Whose cut this is; the recording's where that is not known."""
    speaker = cut.supervisions[0].speaker
    return f"speaker {speaker}" if speaker else recording_of(cut)


def recording_of(cut: DataCut) -> str:
    """What a cut was cut out of."""
    return f"recording {cut.recording.id}"


# What may be divided, by what it is called, and which of them a cut belongs to.
UNITS: dict[str, Callable[[DataCut], str]] = {
    "speakers": speaker_of,
    "recordings": recording_of,
    "utterances": lambda cut: str(cut.id),
}


def fill(groups: Sequence[str], seconds: Mapping[str, float], wanted: float) -> list[str]:
    """Those of the groups, in order, that fit into so many seconds together."""
    chosen, left = [], wanted
    for group in groups:
        if seconds[group] <= left:
            chosen.append(group)
            left -= seconds[group]
    return chosen
