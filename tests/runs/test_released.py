"""Runs of every version that was released go on: with this one's options, and to the same losses."""

import hashlib
import json
import zipfile
from pathlib import Path

import make_released
import pytest
import torch
from conftest import torture

from asr.runs.trained import load_trained

RELEASED = sorted((Path(__file__).parent / "released").glob("*.zip"))
processes = torture("processes")


def as_older(run: Path) -> None:
    """Take out what runs did not keep before there was a release, and options that they did not have."""
    for name in ("data.json", "config.sha256", "checkpoints/averages.json"):
        (run / name).unlink()
    (checkpoint,) = (run / "checkpoints").iterdir()
    state = json.loads((checkpoint / "state.json").read_text())
    for name in ("tokenizer", "batches_per_step", "rate", "validation_due", "metrics", "asr"):
        del state["info"][name]
    (checkpoint / "state.json").write_text(json.dumps(state))
    digest = hashlib.sha256((checkpoint / "state.json").read_bytes()).hexdigest()
    lines = (checkpoint / "SHA256SUMS").read_text().splitlines()
    kept = [line for line in lines if not line.endswith("  state.json")]
    (checkpoint / "SHA256SUMS").write_text("\n".join([*kept, f"{digest}  state.json"]) + "\n")
    options = (run / "config.yaml").read_text().splitlines(keepends=True)
    new = "  timeout:", "  root:", "  max_bad_steps:", "unit:"
    (run / "config.yaml").write_text("".join(line for line in options if not line.startswith(new)))


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("release", RELEASED, ids=lambda path: path.stem)
def test_a_run_goes_on(release, older, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    make_released.make_corpus()
    with zipfile.ZipFile(release) as archive:
        archive.extractall("run")
    if older:
        as_older(Path("run"))
    trained = load_trained("run", "step-00000002", torch.device("cpu"))
    assert trained.tokenizer.vocab_size == 13
    make_released.train("train.steps=4")
    expected = [json.loads(line) for line in Path("run/expected.jsonl").read_text().splitlines()]
    found = [row for row in processes.lines(Path("run")) if row["step"] > 2]
    for row, wanted in zip(found, expected, strict=True):
        told = {name: value for name, value in wanted.items() if not name.endswith(processes.CLOCKS)}
        assert {name: row[name] for name in told} == pytest.approx(told, rel=1e-3)
    assert "step 2 of 4" in capfd.readouterr().err
