"""All that a page about runs shows, gathered before anything is written."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
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

    notes: what the page lacks, and how to have it. left_out: which decodings could not be read, and why. taken:
    manifests that were read because decode.json names them.
    """

    runs: list[Run]
    groups: list[Group]
    decodings: list[Decoding]
    examples: list[list[Example]]
    most: int
    notes: list[str]
    left_out: list[str]
    taken: list[str]


def gather(config: ReportConfig) -> Content:
    """What there is of the runs. Raises InputError where one is none, and for damaged manifests that `config` names."""
    runs = read_runs([Path(path) for path in config.runs])
    (decodings, left_out), faults = read_decodings(runs), list[str]()
    sets = same_utterances(decodings) if config.examples else []
    given = config.cuts
    manifests = [given_manifests(one, decodings, given) if given else found_manifests(one, runs) for one in sets]
    examples = [*examples_of(config, runs, sets, manifests, faults)] if any(manifests) else []
    taken = [] if given else [*dict.fromkeys(chain(*manifests))]
    groups = groups_of([run.metrics for run in runs])
    decoded = {one.run for one in decodings} | {one.run for one in left_out}
    missing = [*faults, *bare(runs, decoded), *sampled(config, runs, decodings)]
    if sets and not any(manifests):
        missing.append("Nothing can be heard, or its lattice seen: name the manifests of what was decoded, cuts=[…]")
    return Content(
        runs, groups, decodings, examples, config.utterances, missing, [one.reason for one in left_out], taken
    )


def bare(runs: Sequence[Run], decoded: Collection[int]) -> Iterator[str]:
    """What runs lack, with the command that would bring it. decoded: the places of those that were decoded into."""
    for place, run in enumerate(runs):
        if place not in decoded:
            command = f"asr decode run={run.path} cuts=CUTS.jsonl.gz output={run.path}/decode_NAME"
            yield f"{run.name}: nothing was decoded into this run, so there are no error rates of it: {command}"
        if not run.metrics:
            yield f"{run.name}: has no metrics yet, so there are no curves of it"


def sampled(config: ReportConfig, runs: Sequence[Run], decodings: Sequence[Decoding]) -> Iterator[str]:
    """Of which decodings not all utterances are listed."""
    for decoding in decodings:
        count = len(decoding.score.per_utterance)
        if count > config.utterances:
            half = f"the {config.utterances // 2:,} with most errors and as many drawn at random"
            yield (
                f"{runs[decoding.run].name}/{decoding.name}: of {count:,} utterances {config.utterances:,} are listed, "
                f"{half}; rates and frequent errors are of all. utterances={count} lists all"
            )
