"""What the documents print does what they say: every snippet of Python runs as it stands, after those above it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch

import asr
from asr import config, losses
from asr.cli.main import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "recipes").glob("*/README.md"))]
SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def snippets(page):
    """The snippets of a page, each below as many empty lines as are before it there, so that errors tell its line."""
    text = page.read_text(encoding="utf-8")
    return ["\n" * text.count("\n", 0, one.start(1)) + one[1] for one in SNIPPET.finditer(text)]


@pytest.fixture
def known_losses():
    """Forgets the losses that a test makes known."""
    before = dict(losses.LOSSES), dict(config.LOSSES)
    yield
    for known, old in zip((losses.LOSSES, config.LOSSES), before):
        known.clear()
        known.update(old)


@pytest.fixture
def beside_a_run(streaming_run, tiny_corpus, tmp_path, monkeypatch):
    """The directory that snippets count on: a trained model, an n-gram and recordings, by the names that they print."""
    for name in ("recipes/digits/exp/transducer", "exp/NAME"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).symlink_to(streaming_run)
    for name, audio in (("recording", "dev-4"), ("other", "dev-1"), ("talk", "dev-0")):
        soundfile.write(tmp_path / f"{name}.wav", *soundfile.read(tiny_corpus.directory / f"{audio}.flac"))
    words = [f"cuts=[{tiny_corpus.train}]", f"tokenizer={tiny_corpus.tokenizer}", f"output={tmp_path / '5gram.arpa'}"]
    assert main(["lm", *words, "order=5"]) == 0
    monkeypatch.chdir(tmp_path)


def run(page, names):
    for code in snippets(page):
        exec(compile(code, page, "exec"), names)
    return names


@pytest.mark.parametrize(
    "page", [page for page in PAGES if snippets(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_snippets_run_as_printed(page, known_losses, beside_a_run):
    run(page, {"__name__": "snippet"})


def test_the_snippet_of_the_readme_transcribes(beside_a_run, capsys):
    run(ROOT / "README.md", names := {"__name__": "snippet"})
    model, printed = names["model"], capsys.readouterr().out.splitlines()
    assert printed[0] == model.transcribe("recording.wav").text != ""
    assert [line.split()[2] for line in printed[1 : 1 + len(printed[0].split())]] == printed[0].split()
    assert len(names["found"].nbest) == 4


def test_the_snippet_of_decoding_says_what_is_said(beside_a_run, capsys):
    run(ROOT / "docs" / "decoding.md", names := {"__name__": "snippet"})
    first, whole, fault, said = capsys.readouterr().out.splitlines()
    assert first.endswith(" 0.0")
    assert said.split() == whole.split() != []
    assert fault == "missing.wav: no such file"
    assert len(names["model"].transcribe("talk.wav", beam=8).nbest) == 8


def test_the_snippet_of_the_readme_gives_gradients(beside_a_run):
    names = run(ROOT / "README.md", {"__name__": "snippet"})
    for rows in (names["encoder_out"], names["predictor_out"]):
        assert rows.grad.isfinite().all()
        assert rows.grad[1].count_nonzero() > 0


def test_the_loss_of_ones_own_in_the_documents_is_what_it_says(known_losses):
    names = run(ROOT / "docs" / "losses.md", {"__name__": "snippet"})
    batch = torch.randn(1, 5, 64), torch.tensor([5]), torch.randn(1, 3, 64), torch.tensor([[1, 2]]), torch.tensor([2])
    full = losses.make("full", vocab_size=30)(names["joiner"], *batch).per_utterance
    torch.testing.assert_close(names["loss"](names["joiner"], *batch).per_utterance, 2 * full)


def test_import_asr_is_enough_and_imports_nothing():
    script = (
        "import sys, asr\n"
        "heavy = {'torch', 'numba', 'hydra', 'lhotse'} & set(sys.modules)\n"
        "print(heavy, sys.modules.keys() & {'asr.losses', 'asr.config'}, asr.losses.make('full', vocab_size=3).sizes)\n"
        "import asr.nodes.band, asr.nodes.pruned, asr.arcs.make, asr.ops.joint.live, asr.ops.lattice\n"
        "print({'hydra', 'omegaconf', 'lhotse', 'asr.data'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("set() set() LossSizes(vocab_size=3")


@pytest.mark.parametrize("name", ["loses", "_losses", "make"])
def test_what_asr_has_not_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=f"module 'asr' has no attribute '{name}'"):
        getattr(asr, name)
