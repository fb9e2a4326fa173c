"""The options that every recipe's run.sh shares: what they make of `asr train`."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPE = """
set -euo pipefail
source "$(dirname "$0")/../../local/run.sh"
parse_options "$@"
if stage_is 2 "train"; then
    asr train run="exp/$name" "${hydra[@]}"
    asr decode run="exp/$name"
fi
"""
FAKE = '#!/bin/sh\necho "$(basename "$0") $*; threads ${OMP_NUM_THREADS-}"\n'


@pytest.fixture
def run_sh(tmp_path):
    """A function that runs a recipe whose `asr` and `torchrun` print how they were called."""
    (tmp_path / "local").mkdir()
    shutil.copy(REPOSITORY / "local" / "run.sh", tmp_path / "local")
    script = tmp_path / "recipes" / "mine" / "run.sh"
    script.parent.mkdir(parents=True)
    script.write_text(RECIPE)
    (tmp_path / "bin").mkdir()
    for name in ("asr", "torchrun"):
        (tmp_path / "bin" / name).write_text(FAKE)
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "OMP_NUM_THREADS": "3"}

    def run(*words):
        return subprocess.run(["bash", str(script), *words], capture_output=True, text=True, env=environment)

    return run


def test_one_process_needs_no_torchrun(run_sh):
    done = run_sh("--", "train.steps=5")
    assert done.stdout.splitlines()[1:] == [
        "asr train run=exp/transducer train.steps=5; threads 3",
        "asr decode run=exp/transducer; threads 3",
    ]


def test_several_processes_are_torchruns_and_decoding_is_one(run_sh):
    done = run_sh("--nproc", "4", "--name", "x", "--", "train.steps=5")
    assert done.stdout.splitlines()[1:] == [
        "torchrun --standalone --nproc-per-node 4 -m asr.cli.main train run=exp/x train.steps=5; threads 3",
        "asr decode run=exp/x; threads 3",
    ]


def test_several_machines_meet_at_the_first(run_sh):
    done = run_sh("--nproc", "8", "--nnodes", "2", "--node-rank", "1", "--rdzv", "host-0:29400")
    assert done.stdout.splitlines()[1] == (
        "torchrun --nnodes 2 --node-rank 1 --rdzv-backend static --rdzv-id transducer --rdzv-endpoint host-0:29400 "
        "--nproc-per-node 8 -m asr.cli.main train run=exp/transducer; threads 3"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nproc", "0"], "--nproc and --nnodes take numbers from 1 on"),
        (["--nproc"], "--nproc needs a value"),
        (["--nnodes", "2"], "--nnodes 2 needs --rdzv HOST:PORT of machine 0"),
        (["--nnodes", "2", "--rdzv", "host"], "--nnodes 2 needs --rdzv HOST:PORT of machine 0"),
        (["--nnodes", "2", "--node-rank", "2", "--rdzv", "h:1"], "--node-rank 2: give 0 to 1"),
    ],
)
def test_impossible_options_are_one_line(run_sh, words, message):
    done = run_sh(*words)
    assert done.returncode == 2
    assert done.stderr == f"run.sh: error: {message}\n"
