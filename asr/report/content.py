"""All that a page about runs shows, gathered before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from asr.config import ReportConfig
from asr.report.curves import Group, groups_of
from asr.report.decodings import Decoding, read_decodings, same_utterances
from asr.report.examples import Example, examples_of
from asr.report.manifests import found_manifests, given_manifests
from asr.report.runs import Run, read_runs


@dataclass(frozen=True)
class Content:
    """The page. examples: of each set of utterances that was decoded. most: utterances of a decoding that are listed.

    notes: what the page lacks, and how to have it. taken: manifests that were read because decode.json names them.
    """

    runs: list[Run]
    groups: list[Group]
    decodings: list[Decoding]
    examples: list[list[Example]]
    most: int
    notes: list[str]
    taken: list[str]


def gather(config: ReportConfig) -> Content:
    """What there is of the runs. Raises InputError where one is none, and for what is damaged."""
    runs = read_runs([Path(path) for path in config.runs])
    decodings, faults = read_decodings(runs), list[str]()
    sets = same_utterances(decodings) if config.examples else []
    given = config.cuts
    manifests = [given_manifests(one, decodings, given) if given else found_manifests(one, runs) for one in sets]
    examples = [*examples_of(config, runs, sets, manifests, faults)] if any(manifests) else []
    taken = [] if given else [*dict.fromkeys(chain(*manifests))]
    groups = groups_of([run.metrics for run in runs])
    missing = [*faults, *notes(config, runs, decodings, groups)]
    if sets and not any(manifests):
        missing.append("Nothing can be heard, or its lattice seen: name the manifests of what was decoded, cuts=[…]")
    return Content(runs, groups, decodings, examples, config.utterances, missing, taken)


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
    return found
