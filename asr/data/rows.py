"""What a row of a manifest of cuts must be: a JSON object whose fields have the types and ranges that Lhotse expects.

Lhotse itself believes what it reads: text that is a number, or a duration that is text, fails much later, elsewhere.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from lhotse import Features, MonoCut, MultiCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource
from lhotse.cut import MixedCut, PaddingCut
from lhotse.cut.mixed import MixTrack

from asr.data.held import faults_in, source_fault, storage_fault
from asr.data.limits import LATEST_SECONDS, SHOWN_CHARACTERS

DURATION_TOLERANCE = 0.1  # seconds by which a recording's duration may differ from its number of samples

Check = Callable[[Any, str], Iterator[str]]  # a value, and the beginning of its parts' names → what is wrong with it


@dataclass(frozen=True)
class ManifestRow:
    """A row of a manifest as it was read, and what is wrong with it."""

    value: Any
    faults: list[str]

    @property
    def id(self) -> str:
        """The id that the row gives itself, as JSON where that is no name; empty if it has none."""
        if not isinstance(self.value, dict) or "id" not in self.value:
            return ""
        return self.value["id"] if NAME.right(self.value["id"]) else shown(self.value["id"])

    @property
    def is_cut(self) -> bool:
        """Whether the row says that it is a cut, though its fields may be wrong."""
        return fields_of(self.value) is not None


def read_row(line: str) -> ManifestRow:
    """A line of a manifest of cuts."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        return ManifestRow(None, [f"not JSON ({error.msg} at character {error.pos})"])
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a list of as many lists
        return ManifestRow(None, [f"not JSON that can be read ({error})"])
    try:
        return ManifestRow(value, list(cut_faults(value)))
    except RecursionError:
        return ManifestRow(None, ["objects in objects, too many to be a cut"])


@dataclass(frozen=True)
class Field:
    """What a field must hold: `right` tells it from all else, `wanted` is it in words, `within` checks its parts."""

    right: Callable[[Any], bool]
    wanted: str
    within: Check | None = None


@dataclass(frozen=True)
class Fields:
    """The fields of an object that are checked, and the names of all that it may have."""

    required: Mapping[str, Field]
    optional: Mapping[str, Field]
    known: Collection[str]

    def __call__(self, value: dict[str, Any], at: str) -> Iterator[str]:
        """What is wrong with an object whose fields' names begin with `at`."""
        for name in self.required:
            if name not in value:
                yield f"no {at}{name}"
        for name, part in value.items():
            field = self.required.get(name) or self.optional.get(name)
            if field is not None:
                if not field.right(part):
                    yield f"{at}{name} is {shown(part)}, not {field.wanted}"
                elif field.within is not None:
                    yield from parts_faults(field.within, part, at + name)
            elif name not in self.known:
                yield f"{at}{name} is no field of Lhotse's"


def parts_faults(check: Check, value: Any, name: str) -> Iterator[str]:
    """What is wrong with an object, or with those of a list."""
    if isinstance(value, list):
        for number, one in enumerate(value):
            yield from check(one, f"{name}[{number}].")
    elif value is not None:
        yield from check(value, f"{name}.")


def shown(value: Any) -> str:
    """A value as JSON, cut short."""
    text = json.dumps(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def is_text(value: Any) -> bool:
    """Whether this is text that can be written: half a surrogate pair cannot."""
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value))


def is_number(value: Any, low: float = -LATEST_SECONDS) -> bool:
    """Whether this is a number, and as a time no mistake."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= LATEST_SECONDS


def is_count(value: Any) -> bool:
    """Whether this is a whole number from 1 on."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_channel(value: Any) -> bool:
    """Whether this is the number of a channel, or a list of such."""
    numbers = value if isinstance(value, list) else [value]
    return all(isinstance(number, int) and not isinstance(number, bool) and number >= 0 for number in numbers)


def is_objects(value: Any) -> bool:
    """Whether this is a list of JSON objects."""
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def or_null(right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether a value is null or right."""
    return lambda value: value is None or right(value)


def names(*kinds: Any, beside: Collection[str] = ()) -> frozenset[str]:
    """The names of the fields of Lhotse's dataclasses, and `beside` them."""
    return frozenset(field.name for kind in kinds for field in dataclasses.fields(kind)) | frozenset(beside)


NAME = Field(lambda value: isinstance(value, str) and value != "" and value.isprintable(), "a name that can be printed")
TEXT = Field(or_null(is_text), "text")
STRING = Field(lambda value: isinstance(value, str), "text")
START = Field(partial(is_number, low=0.0), "seconds, 0 or more")
TIME = Field(is_number, "seconds")
LENGTH = Field(lambda value: is_number(value, low=0.0) and value > 0, "seconds, more than 0")
COUNT = Field(is_count, "a whole number, 1 or more")
CHANNEL = Field(is_channel, "a channel's number, or a list of such")


def object_of(check: Check) -> Field:
    """A JSON object that is checked."""
    return Field(lambda value: isinstance(value, dict), "an object", check)


def list_of(check: Check) -> Field:
    """A list of JSON objects that are checked."""
    return Field(is_objects, "a list of objects", check)


def alignment_faults(kinds: dict[str, Any], at: str) -> Iterator[str]:
    """What is wrong with the times of an utterance's units, [symbol, start, duration, score?] each."""
    for kind, items in kinds.items():
        if not isinstance(items, list):
            yield f"{at}{kind} is {shown(items)}, not a list"
            continue
        for item in items:
            values = list(item.values()) if isinstance(item, dict) else item
            if not (isinstance(values, list) and 3 <= len(values) <= 4 and TEXT.right(values[0])):
                yield f"an item of {at}{kind} is {shown(item)}, not [symbol, start, duration]"
            elif not (is_number(values[1]) and is_number(values[2])):
                yield f"a time of {shown(values[0])} in {at}{kind} is no number of seconds"


def faults_at(value: Any, at: str) -> Iterator[str]:
    """What is not data, nor the name of a file, in a value that may hold anything."""
    for fault in faults_in(value):
        yield f"{at.removesuffix('.')}: {fault}"


def source_faults(source: dict[str, Any], at: str) -> Iterator[str]:
    """What is wrong with an audio source: its fields, or what it would have Lhotse do."""
    faults = list(SOURCE(source, at))
    yield from faults
    if not faults and (fault := source_fault(source["type"], source["source"])):
        yield f"{at.removesuffix('.')} {fault}"


def features_faults(features: dict[str, Any], at: str) -> Iterator[str]:
    """What is wrong with stored features, likewise."""
    faults = list(FEATURES(features, at))
    yield from faults
    if not faults and (fault := storage_fault(features["storage_type"], features.get("storage_path"))):
        yield f"{at.removesuffix('.')} {fault}"


CUSTOM = Field(or_null(lambda value: isinstance(value, dict)), "an object", faults_at)
TRANSFORMS = Field(or_null(is_objects), "a list of objects", faults_at)
SOURCE = Fields({"type": STRING, "channels": CHANNEL, "source": STRING}, {}, names(AudioSource))
RECORDING = Fields(
    {"id": NAME, "sources": list_of(source_faults), "sampling_rate": COUNT, "num_samples": COUNT, "duration": LENGTH},
    {"channel_ids": CHANNEL, "transforms": TRANSFORMS},
    names(Recording),
)
SUPERVISION = Fields(
    {"id": NAME, "recording_id": STRING, "start": TIME, "duration": START},
    {
        "channel": CHANNEL,
        **dict.fromkeys(("text", "language", "speaker", "gender"), TEXT),
        "alignment": object_of(alignment_faults),
        "custom": CUSTOM,
    },
    names(SupervisionSegment),
)
FEATURES = Fields(
    {
        **dict.fromkeys(("type", "storage_type"), STRING),
        **dict.fromkeys(("num_frames", "num_features", "sampling_rate"), COUNT),
        "frame_shift": LENGTH,
        "start": START,
        "duration": LENGTH,
        "storage_key": STRING,
    },
    {"storage_path": Field(or_null(STRING.right), "text"), "channels": Field(or_null(is_channel), CHANNEL.wanted)},
    names(Features),
)


def recording_faults(recording: dict[str, Any], at: str) -> Iterator[str]:
    """What is wrong with a recording: its fields, or how they go together."""
    faults = list(RECORDING(recording, at))
    yield from faults
    if not faults:
        duration, counted = recording["duration"], recording["num_samples"] / recording["sampling_rate"]
        if abs(duration - counted) > DURATION_TOLERANCE:
            yield f"{at}duration is {duration:g} s, but num_samples / sampling_rate {counted:g} s"


DATA = Fields(
    {"id": NAME, "start": START, "duration": LENGTH, "channel": CHANNEL},
    {
        "supervisions": list_of(SUPERVISION),
        "recording": object_of(recording_faults),
        "features": object_of(features_faults),
        "custom": CUSTOM,
    },
    names(MonoCut, MultiCut, beside=["type"]),
)
PADDING = Fields({"id": NAME, "duration": LENGTH, "sampling_rate": COUNT}, {}, names(PaddingCut, beside=["type"]))


def track_faults(track: dict[str, Any], at: str) -> Iterator[str]:
    """What is wrong with a cut that is part of another."""
    yield from TRACK(track, at)
    if isinstance(track.get("cut"), dict):
        yield from (PADDING if track.get("type") == "PaddingCut" else DATA)(track["cut"], f"{at}cut.")


TRACK = Fields(
    {"cut": Field(lambda value: isinstance(value, dict), "an object"), "type": STRING},
    {"offset": START, "snr": Field(or_null(is_number), "a number")},
    names(MixTrack),
)
MIXED = Fields(
    {"id": NAME, "tracks": list_of(track_faults)},
    {"transforms": TRANSFORMS},
    names(MixedCut, beside=["type", "snr_reference"]),
)
CUTS: dict[str, Fields] = {"MonoCut": DATA, "Cut": DATA, "MultiCut": DATA, "MixedCut": MIXED}


def fields_of(value: Any) -> Fields | None:
    """The fields of the kind of cut that a row says it is; none where it is no cut."""
    kind = value.get("type") if isinstance(value, dict) else None
    return CUTS.get(kind) if isinstance(kind, str) else None


def cut_faults(value: Any) -> Iterator[str]:
    """What is wrong with a cut as JSON has it."""
    fields = fields_of(value)
    if not isinstance(value, dict):
        yield "no object"
    elif fields is None:
        yield f"no cut: its type is {shown(value.get('type'))}, not {' or '.join(CUTS)}"
    else:
        yield from fields(value, "")
