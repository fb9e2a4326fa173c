"""The package as users get it: an sdist, the wheel that is built of it, and `asr train` where there is no checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def run(*words: object, cwd: Path) -> str:
    """What a command prints that knows nothing of the checkout, and compiles nothing anew for another place."""
    known = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = {**known, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([*map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(kind: str, source: Path, output: Path) -> Path:
    """The one file that comes of it."""
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", output, cwd=source)
    (built,) = output.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A virtual environment with the package, which sees the libraries that this one has, and no other `asr`."""
    place = tmp_path_factory.mktemp("installed")
    with tarfile.open(build("sdist", REPOSITORY, place / "sdist")) as archive:
        archive.extractall(place / "source", filter="data")
    (source,) = (place / "source").iterdir()
    wheel = build("wheel", source, place / "wheel")
    venv.create(place / "venv", symlinks=True)
    (site,) = (place / "venv").glob("lib/python*/site-packages")
    paths = sysconfig.get_paths()
    (site / "libraries.pth").write_text("\n".join({paths["purelib"], paths["platlib"]}))
    pip = [sys.executable, "-m", "pip", "--python", place / "venv" / "bin" / "python"]
    run(*pip, "install", "--no-deps", "--no-index", "--no-compile", "--quiet", wheel, cwd=place)
    return place / "venv"


def test_the_sdist_has_what_its_documents_and_tests_are_made_of(installed):
    (source,) = (installed.parent / "source").iterdir()
    there = {one.name for one in source.iterdir()}
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "docs", "recipes", "scripts", "tests"} <= there
    assert (source / "docs" / "concepts" / "batch.png").is_file()


def test_the_wheel_of_the_sdist_has_all_parts(installed):
    (site,) = installed.glob("lib/python*/site-packages")
    assert {one.name for one in (site / "asr" / "report" / "web").iterdir()} >= {"page.html", "page.css", "uplot"}
    licences = [one for one in site.glob("asr_transducer-*.dist-info/licenses/**/LICENSE") if one.is_file()]
    assert any("Leon Sorokin" in one.read_text() for one in licences)
    assert not (site / "tests").exists()


def test_it_trains_outside_of_the_checkout(installed, tiny_corpus, tmp_path):
    where = run(installed / "bin" / "python", "-c", "import asr; print(asr.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(installed)
    words = ["model=debug", "data=debug", "train=debug", "optim=debug", "train.device=cpu", "data.workers=0"]
    words += [f"data.train_cuts=[{tiny_corpus.train}]", f"data.valid_cuts=[{tiny_corpus.dev}]"]
    words += [f"data.tokenizer={tiny_corpus.tokenizer}", "train.steps=2", "train.average_last=1"]
    run(installed / "bin" / "asr", "train", "run=exp/first", *words, cwd=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "exp/first/metrics.jsonl").read_text().splitlines()]
    assert any(line.get("validation/utterances") == 6 for line in lines)
    assert all(0 < line["train/loss"] < 100 for line in lines if "train/loss" in line)
    assert [one.name for one in (tmp_path / "exp/first/checkpoints").glob("step-*2")] == ["step-00000002"]
