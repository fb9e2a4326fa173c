"""`asr train --multirun`: one training for every combination of values, by Hydra's sweepers and launchers.

    asr train --multirun run=exp/sweep loss=pruned,optimized optim.lr=1e-3,2e-3

By default they run here, one after the other; `hydra/launcher=submitit_slurm` makes a Slurm job of each, in which every
task is one of the processes that train together. Each training returns its best word error rate, which is what a
sweeper like Optuna's (`hydra/sweeper=optuna`) minimises.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig

from asr.cli import compare, train
from asr.cli.compose import checked, compose_sweep, hydra_at_home
from asr.config import CompareConfig, TrainConfig
from asr.errors import InputError

COMMAND = "train"
HYDRA = "hydra/", "hydra."  # what overrides of Hydra itself begin with: its launcher and sweeper
# A training's directory has a config and a log of its own.
QUIET = "hydra.output_subdir=null", "hydra.sweep.subdir=.", "hydra/job_logging=none", "hydra/hydra_logging=none"


def main(words: Sequence[str], config_dir: Path | None, config_name: str | None) -> None:
    """Train them all, and print the table of `asr compare`. Raises InputError where one of them cannot be trained.

    Every value is checked before the first training begins, and one that fails does not keep the others from theirs.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise InputError(
            "--multirun starts trainings of its own, which torchrun cannot divide: "
            "use hydra/launcher=submitit_local hydra.launcher.tasks_per_node=2"
        )
    of_hydra = [word for word in words if word.startswith(HYDRA)]
    overrides = [word for word in words if word not in of_hydra]
    config, fixed, swept = compose_sweep(COMMAND, overrides, config_dir, config_name)
    if not swept and not of_hydra:
        raise InputError("--multirun: no option has several values, as in optim.lr=1e-3,2e-3; leave it out")
    base = Path(config.run)
    job = functools.partial(train_one, base=base, fixed=frozenset(map(option_name, fixed)))
    try:
        launch(job, [*fixed, *swept, *QUIET, f"hydra.sweep.dir='{base}'", *of_hydra], config_dir, config_name)
    finally:
        runs = sorted(str(path.parent) for path in base.glob("*/config.yaml"))
        if runs:
            compare.main(CompareConfig(runs=runs))


def launch(
    job: Callable[[DictConfig], float], overrides: list[str], config_dir: Path | None, config_name: str | None
) -> None:
    """Have Hydra's launcher call `job` with the config of every combination."""
    with hydra_at_home(COMMAND, config_dir, config_name) as (name, search_path):
        try:
            GlobalHydra.instance().hydra.multirun(name, job, [search_path, *overrides])  # type: ignore[union-attr]
        except HydraException as error:
            message = " ".join(str(error).split())
            raise InputError(f"--multirun: {message}") from None


def train_one(raw: DictConfig, base: Path, fixed: frozenset[str]) -> float:
    """One training, in BASE/OPTION=VALUE,…; its best word error rate of a validation, in %."""
    config: TrainConfig = checked(raw, COMMAND)
    varied = [word for word in HydraConfig.get().overrides.task if option_name(word) not in fixed]
    config.run = str(base / run_name(varied))
    join_tasks()
    train.main(config)
    return compare.read_result(Path(config.run)).best


def run_name(overrides: Sequence[str]) -> str:
    """A directory's name for a combination: `loss=pruned,optim.lr=0.001`."""
    return ",".join(word.lstrip("+").replace("/", "_") for word in overrides) or "run"


def option_name(word: str) -> str:
    """`optim.lr` of `++optim.lr=1e-3`."""
    return word.partition("=")[0].lstrip("+")


def join_tasks() -> None:
    """In a job of several tasks that submitit has started, say in torchrun's words which of them this is."""
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return
    import submitit  # type: ignore[import-untyped]

    if submitit.JobEnvironment().num_tasks > 1:
        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
