"""`asr compare RUN...`: a table of runs, for sweeps: which options they differ in, and how well they do."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from asr.config import CompareConfig
from asr.console import table
from asr.errors import InputError, PartlyDone
from asr.options import differing
from asr.progress import told_if_slow
from asr.runs.result import Result, read_result
from asr.runs.table import columns, is_path, place
from asr.score.comparison import against_best, alone, read_scores
from asr.score.record import read_settings
from asr.score.report import Rate, read_rates
from asr.score.tables import DIFFERENCES, decodings, differences


def main(config: CompareConfig) -> None:
    """Print the tables. Raises InputError for a directory that is neither run nor decoding, PartlyDone where what was
    decoded is damaged: its error rate, or what it was decoded with.
    """
    if count := show(config):
        raise PartlyDone(f"files of what was decoded that could not be read: {count}; see above")


def show(config: CompareConfig) -> int:
    """Print a Markdown table, the best run first, those with rates of words before those with rates of characters.

    Directories of decodings have a table of their own. What of that which was decoded could not be read is named;
    returns how many files that is.
    """
    if not config.runs:
        raise InputError("no run given: name run directories of `asr train`, as in `asr compare exp/*`")
    decoded = [path for path in config.runs if is_decoding(Path(path))]
    if not decoded:
        faults = compare_runs([read_result(Path(path)) for path in config.runs], config)
    elif len(decoded) == len(config.runs):
        faults = compare_decodings(decoded)
    else:
        raise InputError(f"{decoded[0]}: a decoding, and others are runs: compare runs, or compare decodings")
    for fault in faults:
        print(f"not read: {fault}", file=sys.stderr)
    return len(faults)


def compare_decodings(paths: Sequence[str]) -> list[str]:
    """Print the tables of directories that were decoded into; returns what of them could not be read, and why."""
    read, faults = read_rates(Path(path) / "wer.txt" for path in paths)
    if not read:
        raise InputError(faults[0])
    rates = {str(path): rate for path, rate in read.items()}
    settings, unknown = settings_of(rates)
    print("\n".join(table([*rows(decodings(rates, settings))])))
    print_differences([rates])
    return [*faults, *unknown]


def compare_runs(results: Sequence[Result], config: CompareConfig) -> list[str]:
    """Print the tables of runs; returns what of that which was decoded into them could not be read, and why."""
    results = sorted(results, key=place)
    names = differing([result.options for result in results])
    paths = [] if config.paths else [name for name in names if is_path(name)]
    settings, faults = settings_of([str(one.path / name) for one in results for name in one.decoded])
    print("\n".join(table([*rows(columns(results, [name for name in names if name not in paths], settings))])))
    searches = sorted({name for result in results for name in result.decoded})
    print_differences(
        {str(one.path / name): one.decoded[name] for one in results if name in one.decoded} for name in searches
    )
    if paths:
        print(f"the runs differ in {', '.join(paths)}, too: paths=true shows these", file=sys.stderr)
    if len({result.measure for result in results if result.validation}) > 1:
        print("rates of words (WER) and of characters (CER) do not compare: the runs are ranked apart", file=sys.stderr)
    return [*(fault for result in results for fault in result.faults), *faults]


def settings_of(paths: Iterable[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """What directories were decoded with, as far as there is a sound record of it, and why others have none."""
    settings, faults = dict[str, dict[str, str]](), list[str]()
    for path in paths:
        try:
            settings[path] = read_settings(Path(path))
        except InputError as error:
            settings[path] = {}
            faults.append(str(error))
    return settings, faults


def print_differences(sets: Iterable[Mapping[str, Rate]]) -> None:
    """Print a table of which decodings differ, of each set by directory, where hypotheses of several are there."""
    sets = list(sets)
    with told_if_slow("comparing the decodings, utterance by utterance", partial(print, file=sys.stderr)):
        read = [read_scores(rates) for rates in sets]
        found = [against_best(scores, rates) for (scores, _), rates in zip(read, sets)]
    pairs = [pair for one in found for pair in one]
    if pairs:
        print("\n".join(["", *table([DIFFERENCES, *differences(pairs)])]))
    for first, second, comparison in pairs:
        if note := comparison.note(first, second):
            print(f"{first}, {second}: {note}", file=sys.stderr)
    for fault in dict.fromkeys(fault for _, faults in read for fault in faults.values()):
        print(f"not compared: {fault}", file=sys.stderr)
    for left in (alone(scores, one) for (scores, _), one in zip(read, found)):
        if len(left) > 1 or (left and pairs):
            what = "no other has an utterance of theirs, scored in the same unit and spelling"
            print(f"not compared: {', '.join(left)}: {what}", file=sys.stderr)


def is_decoding(path: Path) -> bool:
    """Whether a directory is one that `asr decode` or `asr score` wrote into, and no run."""
    return (path / "wer.txt").is_file() and not (path / "config.yaml").is_file()


def rows(columns: Iterable[tuple[str, list[str]]]) -> Iterator[tuple[str, ...]]:
    """The cells of a table, its head first."""
    return zip(*([head, *cells] for head, cells in columns), strict=True)
