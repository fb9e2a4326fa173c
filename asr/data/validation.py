"""What is wrong with manifests, all of it in one pass: rows, times, transcripts, and what parts have in common.

Whatever a training would refuse, leave out or be misled by is a finding, with its place, its id and a remedy. Audio is
not read here: see `asr.data.soundness`.
"""

from __future__ import annotations

import gzip
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from lhotse.cut import Cut
from lhotse.serialization import deserialize_item

from asr.data.dataset import check_supervisions, transcript
from asr.data.features import heard_parts, one_line
from asr.data.manifest import outside_of, rows, why_not
from asr.data.rows import ManifestRow
from asr.data.scripts import units_of_text, width
from asr.data.tokenizer import Tokenizer
from asr.data.words import aligned_words
from asr.errors import InputError
from asr.files import read_lines, require_writable, write_atomically

SLACK_SECONDS = 0.1  # by which times may be off: of rounding, and of aligners
MOST_CHARACTERS = 50  # a second: nobody speaks half as fast
SHARED = "its audio is in"  # how a finding begins against what two parts have
TELLING = 40  # columns of a transcript that two speakers hardly say by chance


@dataclass(frozen=True)
class Part:
    """Manifests of one purpose. name: what to call it. reason_against: why a cut of it would be left out, or ""."""

    name: str
    paths: Sequence[str]
    reason_against: Callable[[Cut], str]


class Finding(NamedTuple):
    """What is wrong at a place of a manifest, and the remedy.

    place: `line 3 (u7)`. id: of the utterance. left_out: for what is wrong with it; else it is used all the same.
    """

    part: str
    path: str
    place: str
    id: str
    reason: str
    left_out: bool = False

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.path, self.place, self.reason)))


@dataclass
class Report:
    """What was found, and how many utterances there are in each part."""

    findings: list[Finding] = field(default_factory=list)
    utterances: dict[str, int] = field(default_factory=dict)

    def line(self) -> str:
        """The counts in one line."""
        counts = ", ".join(f"{count} of {name}" for name, count in self.utterances.items())
        faulty = len({(one.path, one.place) for one in self.findings})
        return f"{sum(self.utterances.values())} utterances ({counts}), {faulty} at fault"


@dataclass(slots=True)
class Spans:
    """What a part has of a file, by begin: each span's begin, number and end, in seconds, and id; the longest one."""

    spans: list[tuple[float, int, float, str]] = field(default_factory=list)
    longest: float = 0.0

    def add(self, start: float, end: float, name: str) -> None:
        """Keep a span."""
        insort(self.spans, (start, len(self.spans), end, name))
        self.longest = max(self.longest, end - start)

    def overlapping(self, start: float, end: float) -> str | None:
        """The id of the first of the spans, as they came, that has more than SLACK_SECONDS of this one."""
        near = self.spans[bisect_left(self.spans, (start - self.longest,)) : bisect_left(self.spans, (end,))]
        found = ((number, name) for at, number, until, name in near if min(end, until) - max(start, at) > SLACK_SECONDS)
        return min(found, default=(0, None))[1]


@dataclass
class Common:
    """What parts have in common: where audio and texts were met first. By hashes, since a corpus has millions of them.

    spans: of each part, in each file and channel.
    """

    spans: dict[str, dict[int, Spans]] = field(default_factory=dict)
    texts: dict[int, tuple[str, str]] = field(default_factory=dict)

    def faults(self, cut: Cut, part: str) -> Iterator[str]:
        """What of a cut is in another part, too; what it has is kept."""
        for place, start, end in spans_of(cut):
            file = hash(place)
            for other, files in self.spans.items():
                if other != part and file in files and (name := files[file].overlapping(start, end)) is not None:
                    yield f"{SHARED} {other}, too ({name}); take it out of one of them"
            self.spans.setdefault(part, {}).setdefault(file, Spans()).add(start, end, str(cut.id))
        text = transcript(cut)
        if width(text) >= TELLING:
            other, name = self.texts.setdefault(hash(text), (part, str(cut.id)))
            if other != part:
                yield f"its transcript is in {other}, too ({name}): what is read twice tells little; take out one"


def spans_of(cut: Cut) -> Iterator[tuple[tuple[str, str], float, float]]:
    """File and channel of the audio of a cut, and from when to when it is heard, seconds."""
    for part in heard_parts(cut):
        for source in part.recording.sources if part.has_recording else []:
            if source.type == "file":
                yield (str(source.source), str(part.channel)), part.start, part.end


def examine(parts: Sequence[Part], root: str = "") -> Report:
    """All that is wrong with manifests, without reading audio. Raises InputError where one cannot be read at all."""
    report, common = Report(), Common()
    for part in parts:
        ids: dict[str, tuple[str, str]] = {}
        report.utterances[part.name] = 0
        for path in part.paths:
            if reason := why_not(Path(path)):
                raise InputError(f"{path}: {reason}")
            for place, row in rows(path):
                report.utterances[part.name] += 1
                left_out, faults = faults_of(row, part, common, root)
                first = ids.setdefault(row.id, (path, place))
                if first != (path, place) and row.id:
                    faults.append(f"has the id of {', '.join(first)}; give each utterance its own")
                report.findings += [Finding(part.name, path, place, row.id, reason, left_out) for reason in faults]
    return report


def faults_of(row: ManifestRow, part: Part, common: Common, root: str) -> tuple[bool, list[str]]:
    """Whether an utterance is left out, and what is wrong with it."""
    if faults := row.faults or outside_of(root, row):
        return True, [f"{fault}; correct the row" for fault in faults]
    try:
        cut = deserialize_item(row.value)
    except Exception as error:  # of fields that may hold anything
        return True, [f"no cut ({one_line(error)}); correct the row"]
    reason = part.reason_against(cut)
    return bool(reason), [*[reason] * bool(reason), *faults_of_times(cut), *common.faults(cut, part.name)]


def faults_of_times(cut: Cut) -> Iterator[str]:
    """What is wrong with the times of a cut in its recordings, and of the words in it."""
    for part in heard_parts(cut):
        if part.has_recording and part.end > part.recording.duration + SLACK_SECONDS:
            seconds = f"{part.end:.2f} s, its recording lasts {part.recording.duration:.2f} s"
            yield f"the cut ends at {seconds}; cut what there is, or give the recording that is meant"
    characters = len(transcript(cut))
    if characters > MOST_CHARACTERS * max(cut.duration, SLACK_SECONDS):
        yield f"{characters} characters in {cut.duration:.2f} s cannot be said; see to its transcript, or its times"
    yield from faults_of_words(cut)


def faults_of_words(cut: Cut) -> Iterator[str]:
    """The first thing that is wrong with the times of the words of a cut."""
    words = aligned_words(cut)
    if not words:
        return
    remedy = "align it again, or take the times away"
    for word in words:
        if word.duration < 0:
            yield f"word {word.symbol} ends before it starts; {remedy}"
            return
        if word.start < -SLACK_SECONDS or word.end > cut.duration + SLACK_SECONDS:
            yield f"word {word.symbol} at {word.start:.2f} to {word.end:.2f} s is outside of the cut; {remedy}"
            return
    for one, other in pairwise(words):
        if other.start < one.end - SLACK_SECONDS:
            yield f"word {other.symbol} at {other.start:.2f} s begins before {one.symbol} ends; {remedy}"
            return
    written = sum(len(units_of_text(word)) for word in transcript(cut).split())
    if len(words) != written:
        yield f"{len(words)} words have times, and its transcript has {written}: they are not used; {remedy}"


def held_out(tokenizer: Tokenizer | None) -> Callable[[Cut], str]:
    """Why a cut is no good to decode and score; without a tokenizer its transcript is not held against a vocabulary."""

    def reason_against(cut: Cut) -> str:
        try:
            check_supervisions(cut)
            text = transcript(cut)
            if tokenizer is not None:
                tokenizer.encode(text)
            elif not text:
                return "empty transcript: remove the utterance or give it text"
        except InputError as error:
            return str(error)
        return ""

    return reason_against


def write_sound(parts: Sequence[Part], report: Report, output: Path) -> Iterator[str]:
    """Write the rows that nothing is wrong with, as they are, into manifests of the same names; say how many."""
    at_fault = {(one.path, one.place) for one in report.findings}
    for source, target in targets_of(parts, output).items():
        kept, count = [], 0
        for place, line in placed_lines(source):
            count += 1
            kept += [line] if (source, place) not in at_fault else []
        content = "".join(f"{line}\n" for line in kept).encode()
        write_atomically(target, gzip.compress(content, mtime=0) if target.suffix == ".gz" else content)
        yield f"{target}: {len(kept)} of {count} utterances of {source}"


def placed_lines(path: str) -> Iterator[tuple[str, str]]:
    """The rows of a manifest as they are written, and their places."""
    lines = (line for _, line in read_lines(Path(path)) if line.strip())
    return ((place, line) for (place, _), line in zip(rows(path), lines))


def targets_of(parts: Sequence[Part], output: Path) -> dict[str, Path]:
    """Where the sound rows of each manifest are to go. Raises InputError where that cannot be."""
    paths = list(dict.fromkeys(path for part in parts for path in part.paths))
    for path in (path for path in paths if Path(path).is_dir()):
        raise InputError(f"fix={output}: {path} is a directory of Shar; mend the manifest that it was made of")
    is_file = output.name.endswith((".jsonl", ".jsonl.gz"))
    if is_file and len(paths) > 1:
        raise InputError(f"fix={output}: there are {len(paths)} manifests; name a directory")
    targets = {path: output if is_file else output / Path(path).name for path in paths}
    if len(set(targets.values())) < len(targets):
        raise InputError(f"fix={output}: two manifests have one name; validate them one after the other")
    for path, target in targets.items():
        if target.resolve() == Path(path).resolve():
            raise InputError(f"fix={output}: would replace {path}; name another place")
        require_writable(target)
    return targets
