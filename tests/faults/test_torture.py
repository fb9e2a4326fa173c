"""scripts/torture.sh: a table with a line for each row, and 0 only if all passed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "torture.sh"
ROW = "import sys\n\n\ndef main():\n    print('one case')\n    print('{}')\n\n\nmain()\n"


@pytest.fixture
def torture(tmp_path):
    """A function that runs it, on rows that print these last lines."""
    (tmp_path / "scripts" / "torture").mkdir(parents=True)
    shutil.copy(SCRIPT, tmp_path / "scripts")
    (tmp_path / "scripts" / "torture" / "shared.py").write_text("")

    def run(*words, **rows):
        for name, last in rows.items():
            (tmp_path / "scripts" / "torture" / f"{name}.py").write_text(ROW.format(last))
        command = ["bash", str(tmp_path / "scripts" / "torture.sh"), *words]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ})

    return run


def test_the_table_has_all_rows_and_those_of_before(torture, tmp_path):
    done = torture(kill="kill: 8/8", two_runs="two_runs: 3/3")
    assert (done.returncode, done.stdout) == (0, "kill: 8/8\ntwo_runs: 3/3\n")
    assert (tmp_path / "torture" / "kill.log").read_text() == "one case\nkill: 8/8\n"
    done = torture("--quick", "kill", kill="kill: 7/8")
    assert (done.returncode, done.stdout) == (1, "kill: 7/8\ntwo_runs: 3/3\n")


@pytest.mark.parametrize("last", ["other: 1/1", "kill: 0/0", "it broke"])
def test_a_row_that_does_not_end_well_has_not_passed(torture, last):
    assert torture(kill=last).returncode == 1


def test_an_unknown_row_is_refused(torture):
    done = torture("kil", kill="kill: 1/1")
    assert (done.returncode, done.stderr) == (2, "torture.sh: error: kil: no such row\n")
