"""All that a page about runs shows, gathered before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from asr.config import ReportConfig
from asr.report.curves import Group, groups_of
from asr.report.decodings import Decoding, read_decodings
from asr.report.examples import Example, examples_of
from asr.report.runs import Run, read_runs


@dataclass(frozen=True)
class Content:
    """The page. examples: of each set of utterances that was decoded. most: utterances of a decoding that are listed.

    notes: what the page lacks, and how to have it.
    """

    runs: list[Run]
    groups: list[Group]
    decodings: list[Decoding]
    examples: list[list[Example]]
    most: int
    notes: list[str]


def gather(config: ReportConfig) -> Content:
    """What there is of the runs. Raises InputError where one is none, and for what is damaged."""
    runs = read_runs([Path(path) for path in config.runs])
    decodings = read_decodings(runs)
    config = replace(config, cuts=config.cuts or manifests(runs, decodings))
    examples = [*examples_of(config, runs, decodings)] if config.examples and config.cuts else []
    groups = groups_of([run.metrics for run in runs])
    return Content(runs, groups, decodings, examples, config.utterances, [*notes(config, runs, decodings, groups)])


def manifests(runs: Sequence[Run], decodings: Sequence[Decoding]) -> list[str]:
    """Those that were decoded, as far as there is a record of it and they are still there.

    They are named as they were to `asr decode`, from where it ran: most likely here, or above the run's directory.
    """
    found = []
    for decoding in decodings:
        places = [Path(), *runs[decoding.run].path.resolve().parents]
        named = [place / decoding.record.cuts for place in places] if decoding.record else []
        found += [str(path) for path in named if path.exists()][:1]
    return [*dict.fromkeys(found)]


def notes(
    config: ReportConfig, runs: Sequence[Run], decodings: Sequence[Decoding], groups: Sequence[Group]
) -> list[str]:
    """What is missing, with the command that would bring it."""
    found = []
    decoded = {decoding.run for decoding in decodings}
    for place, run in enumerate(runs):
        if place not in decoded:
            command = f"asr decode run={run.path} cuts=CUTS.jsonl.gz output={run.path}/decode_NAME"
            found.append(f"{run.name}: nothing was decoded into this run, so there are no error rates of it: {command}")
        if not run.metrics:
            found.append(f"{run.name}: has no metrics yet, so there are no curves of it")
    for decoding in decodings:
        count = len(decoding.score.per_utterance)
        if count > config.utterances:
            half = f"the {config.utterances // 2:,} with most errors and as many drawn at random"
            found.append(
                f"{runs[decoding.run].name}/{decoding.name}: of {count:,} utterances {config.utterances:,} are listed, "
                f"{half}; rates and frequent errors are of all. utterances={count} lists all"
            )
    if config.examples and decodings and not config.cuts:
        found.append("Nothing can be heard, or its lattice seen: name the manifests of what was decoded, cuts=[…]")
    return found
