"""Fixtures that several tests share."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined

REPOSITORY = Path(__file__).resolve().parents[1]


def torture(name: str) -> ModuleType:
    """A row of scripts/torture, or what the rows share."""
    folder = str(REPOSITORY / "scripts" / "torture")
    if folder not in sys.path:
        sys.path.append(folder)  # last: the rows have common names
    return importlib.import_module(name)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real speech data; without it the test is skipped, but fails in continuous integration."""
    shared = Path(os.environ.get("ASR_SHARED", REPOSITORY.parent / "shared"))
    if not (shared / "data").is_dir():
        missing = f"no speech data in {shared / 'data'}: set ASR_SHARED to the folder that holds data/"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    return shared / "data"


@pytest.fixture
def load_prepare(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A function that loads ``prepare.py`` of the recipe named, with its folder on the import path."""

    def load(recipe: str) -> ModuleType:
        path = REPOSITORY / "recipes" / recipe / "local" / "prepare.py"
        monkeypatch.syspath_prepend(path.parent)
        spec = importlib.util.spec_from_file_location(f"{recipe}_prepare", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look up their types
        spec.loader.exec_module(module)
        return module

    return load


TONES = {"LOW": 300, "MID": 800, "HIGH": 1800, "TOP": 3500}  # Hz
SAMPLING_RATE = 16000


@dataclass(frozen=True)
class TinyCorpus:
    """A corpus in which every word is a tone: 24 utterances to train on and 6 to validate on, 0.6 to 1.5 s each."""

    directory: Path
    train: Path
    dev: Path
    tokenizer: Path


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> TinyCorpus:
    """Audio, manifests and a char tokenizer; the same bits every time. Tests must not change the files."""
    from asr.data.corpus import write_cuts  # here, since the kernels are tested where Lhotse is not
    from asr.data.tokenizer import train_tokenizer

    directory = tmp_path_factory.mktemp("tiny_corpus")
    corpus = TinyCorpus(
        directory, directory / "cuts_train.jsonl.gz", directory / "cuts_dev.jsonl.gz", directory / "tokenizer"
    )
    rng = np.random.default_rng(0)
    write_cuts((_tone_cut(directory, f"train-{index:02d}", rng) for index in range(24)), corpus.train)
    write_cuts((_tone_cut(directory, f"dev-{index}", rng) for index in range(6)), corpus.dev)
    train_tokenizer([" ".join(TONES)], "char").save(corpus.tokenizer)
    return corpus


@pytest.fixture(scope="session")
def streaming_run(tiny_corpus: TinyCorpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose encoder is causal and works in chunks of 4 frames, and that recognises some tones."""
    from asr.cli.main import main

    run = tmp_path_factory.mktemp("streaming") / "run"
    words = [f"run={run}", "model=debug", "data=debug", "train=debug", "optim=debug", "train.device=cpu"]
    words += [f"data.train_cuts=[{tiny_corpus.train}]", f"data.valid_cuts=[{tiny_corpus.dev}]"]
    words += [f"data.tokenizer={tiny_corpus.tokenizer}", "model.causal=true", "model.chunk_frames=[4]"]
    steps = ["optim.lr=1e-2", "train.steps=200", "train.validate_every=200", "train.save_every=200"]
    assert main(["train", *words, *steps, "model.left_context=8"]) == 0
    return run


def _tone_cut(directory, cut_id, rng):
    """The cut of two to four words of 0.3 to 0.37 s, and its audio in `directory`."""
    from asr.data.corpus import describe_recording, make_cut, write_flac

    words = rng.choice(list(TONES), size=rng.integers(2, 5))
    samples = np.concatenate([_tone(TONES[word], rng.uniform(0.3, 0.37), rng) for word in words])
    path = directory / f"{cut_id}.flac"
    write_flac(path, (samples * 32767).astype(np.int16), SAMPLING_RATE)
    return make_cut(describe_recording(cut_id, path), " ".join(words), speaker="tone", language="English")


def _tone(frequency, seconds, rng):
    time = np.arange(round(seconds * SAMPLING_RATE)) / SAMPLING_RATE
    fade = np.minimum(1, np.minimum(time, time[::-1]) / 0.02)
    return 0.3 * fade * np.sin(2 * np.pi * frequency * time) + 0.005 * rng.standard_normal(len(time))
