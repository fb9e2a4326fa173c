"""`asr train --multirun`: one training for every combination of values, started by Hydra's launchers.

    asr train --multirun run=exp/sweep loss=pruned,optimized optim.lr=1e-3,2e-3

By default they run here, one after the other; `hydra/launcher=submitit_slurm` makes a Slurm job of each, in which every
task is one of the processes that train together.
"""

from __future__ import annotations

import functools
import logging
import os
import traceback
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig

from asr.cli import compare, train
from asr.cli.compose import compose_sweep, hydra_at_home, quoted, require_own
from asr.config import CompareConfig, TrainConfig
from asr.config.schema import checked
from asr.errors import InputError
from asr.runs.result import read_result
from asr.train.distributed import join_tasks

COMMAND = "train"
LAUNCHER = "hydra/launcher=", "hydra.launcher."  # what overrides of Hydra itself begin with
LONGEST_NAME = 255  # bytes, on the file systems of Linux
# A training's directory has a config and a log of its own.
QUIET = "hydra.output_subdir=null", "hydra.sweep.subdir=.", "hydra/job_logging=none", "hydra/hydra_logging=none"


def main(words: Sequence[str], config_dir: Path | None, config_name: str | None) -> None:
    """Train them all, and print the table of `asr compare`. Raises InputError where one of them cannot be trained.

    Every value is checked, by itself, before the first training begins; one that fails does not keep the others from
    theirs.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise InputError(
            "--multirun starts trainings of its own, which torchrun cannot divide: "
            "use hydra/launcher=submitit_local hydra.launcher.tasks_per_node=2"
        )
    of_hydra = [word for word in words if word.lstrip("+").startswith(LAUNCHER)]
    overrides = [word for word in words if word not in of_hydra]
    sweep = compose_sweep(COMMAND, overrides, config_dir, config_name)
    if not sweep.values and not of_hydra:
        raise InputError("--multirun: no option has several values, as in optim.lr=1e-3,2e-3; leave it out")
    base: Path = Path(sweep.first.run)
    names = run_names(sweep.values)
    job = functools.partial(train_one, base=base, swept=frozenset(sweep.values))
    directory = f"hydra.sweep.dir={quoted(str(base))}"
    try:
        launch(job, [*sweep.overrides, *QUIET, directory, *of_hydra], config_dir, config_name)
    finally:
        report(base / name for name in names)


def run_names(values: dict[str, list[str]]) -> list[str]:
    """The directory of each combination. Raises InputError where two would be one, or one has too long a name."""
    names = [run_name(words) for words in product(*values.values())]
    for name in (name for name in names if names.count(name) > 1):
        raise InputError(f"--multirun: two trainings would have the directory {name}: give each value once")
    for name in (name for name in names if len(os.fsencode(name)) > LONGEST_NAME):
        raise InputError(f"--multirun: {name[:60]}… is too long for a directory's name: sweep fewer options at a time")
    return names


def report(runs: Iterable[Path]) -> None:
    """Print the table of the runs that have begun; what of them is damaged is named, and fails no training."""
    begun = [str(run) for run in runs if (run / "config.yaml").is_file()]
    if begun:
        compare.show(CompareConfig(runs=begun, paths=True))  # a sweep may be over paths


def launch(
    job: Callable[[DictConfig], float], overrides: list[str], config_dir: Path | None, config_name: str | None
) -> None:
    """Have Hydra's launcher call `job` with the config of every combination."""
    require_own(COMMAND, overrides, config_dir, config_name)
    with hydra_at_home(COMMAND, config_dir, config_name) as (name, search_path):
        try:
            GlobalHydra.instance().hydra.multirun(name, job, [search_path, *overrides])  # type: ignore[union-attr]
        except (HydraException, RuntimeError) as error:  # of the launcher: no Slurm here, a job that was killed
            raise InputError(f"--multirun: {' '.join(str(error).split())}") from error


def train_one(raw: DictConfig, base: Path, swept: frozenset[str]) -> float:
    """One training, in BASE/OPTION=VALUE,…; its best error rate of a validation, in %."""
    config: TrainConfig = checked(raw, COMMAND)
    name = run_name(word for word in HydraConfig.get().overrides.task if option_name(word) in swept)
    config.run = str(base / name)
    try:
        join_tasks()
        train.main(config)
    except KeyboardInterrupt as interrupt:
        if "SUBMITIT_EXECUTOR" not in os.environ:
            raise
        raise InputError(f"{name}: stopped; {interrupt}") from None  # which the launcher hears of
    except Exception as error:
        logging.getLogger("asr").error("%s: %s", name, " ".join(str(error).splitlines()))
        traceback.clear_frames(error.__traceback__)  # which Hydra keeps, and which hold the model
        raise
    return read_result(Path(config.run)).best


def run_name(overrides: Iterable[str]) -> str:
    """A directory's name for a combination: `loss=pruned,optim.lr=0.001`."""
    return ",".join(word.lstrip("+").replace("/", "_") for word in overrides) or "run"


def option_name(word: str) -> str:
    """`optim.lr` of `++optim.lr=1e-3`."""
    return word.partition("=")[0].lstrip("+")
