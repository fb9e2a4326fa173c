"""Error rates of parts of a set: by speaker, by length, or by any other field of the supervisions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from lhotse.cut import Cut

from asr.console import table
from asr.errors import InputError
from asr.score.bootstrap import Interval, rate_interval
from asr.score.wer import RATES, UNITS, Score, ScoredUtterance

DURATION = "duration"  # of the cut, seconds
FIELDS = ("speaker", "gender", "language", "channel", "recording_id")  # that every supervision may have
UNKNOWN = "unknown"
QUARTERS = (0.25, 0.5, 0.75)

Values = Mapping[str, object]
"""Of a field, by utterance."""


def values_of(cuts: Iterable[Cut], names: str) -> dict[str, dict[str, object]]:
    """The values of each of the fields in "speaker,gender", by utterance, of those that have one.

    Raises InputError for a field that no cut has, with those there are.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        return {}
    rows = {cut.id: fields_of(cut) for cut in cuts}
    known = list(dict.fromkeys(name for row in rows.values() for name in row))
    for name in wanted:
        if name not in known:
            raise InputError(f"by={name}: no supervision has this; there are {', '.join(known)}")
    return {name: {id_: row[name] for id_, row in rows.items() if name in row} for name in wanted}


def fields_of(cut: Cut) -> dict[str, object]:
    """What is known of a cut and its supervisions; several values of these as one text."""
    found: dict[str, list[object]] = {}
    for one in cut.supervisions:
        known = {name: getattr(one, name) for name in FIELDS} | (one.custom or {})
        for name, value in known.items():
            if isinstance(value, (str, int, float)) and value not in found.setdefault(name, []):
                found[name].append(value)
    single = {name: values[0] if len(values) == 1 else " + ".join(map(str, values)) for name, values in found.items()}
    return {DURATION: cut.duration, **{name: value for name, value in single.items() if value != ""}}


def parts(score: Score, values: Values) -> dict[str, Score]:
    """The parts of a score by the value of a field: of measures, such as durations, quarters, the shortest first; of
    anything else the worst first, and last what has no value."""
    measured = is_measure(values)
    names = quarters(values) if measured else {id_: str(value) for id_, value in values.items()}
    found: dict[str, list[ScoredUtterance]] = {name: [] for name in [*names.values(), UNKNOWN]}
    for one in score.per_utterance:
        found[names.get(one.utterance.id, UNKNOWN)].append(one)
    scores = {name: Score(score.unit, scored) for name, scored in found.items() if scored}
    order = list(scores) if measured else sorted(scores, key=lambda name: -scores[name].errors.rate)
    return {name: scores[name] for name in sorted(order, key=lambda name: name == UNKNOWN)}


def is_measure(values: Values) -> bool:
    """Whether the values are numbers with fractions, of which hardly two are the same."""
    return all(isinstance(value, (int, float)) for value in values.values()) and any(
        isinstance(value, float) for value in values.values()
    )


def quarters(values: Values) -> dict[str, str]:
    """The quarter that each value is in, from the first to the last, by its lowest and highest value."""
    numbers = np.array(list(values.values()), dtype=float)
    places = np.searchsorted(np.quantile(numbers, QUARTERS), numbers)
    names = {
        place: f"{numbers[places == place].min():.4g}-{numbers[places == place].max():.4g}" for place in set(places)
    }
    return {id_: names[place] for place, id_ in sorted(zip(places, values), key=lambda pair: pair[0])}


def lines_by(name: str, score: Score, values: Values) -> Iterator[str]:
    """A Markdown table of the parts, below the whole."""
    scores = parts(score, values)
    head = [name, "utterances", UNITS[score.unit], "errors", RATES[score.unit].upper(), "95 %"]
    whole = [row("all", score, score.interval)]
    drawn = None if is_measure(values) else interval_by_parts(scores.values())
    if drawn:
        whole.append(row(f"all, each {name} drawn as a whole", score, drawn))
    yield from table([head, *whole, *(row(part, one, one.interval) for part, one in scores.items())])


def row(name: str, score: Score, interval: Interval | None) -> list[str]:
    """The cells of a part."""
    errors = score.errors
    counts = map(str, (len(score.per_utterance), errors.words, errors.total))
    return [name, *counts, f"{errors.rate:.2f}", str(interval or "")]


def interval_by_parts(scores: Iterable[Score]) -> Interval | None:
    """What holds the rate where whole parts are drawn: other speakers, not other utterances of the same."""
    counts = [score.errors for score in scores]
    return rate_interval([one.total for one in counts], [one.words for one in counts])
