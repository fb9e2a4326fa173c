"""What the documents print does what they say: their Python and their commands run, block after block.

A block of commands that is not run says why, `<!-- not run: REASON -->` in the line above it; the options of its
commands are checked all the same.
"""

import glob
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile
import torch

import asr
from asr import config, losses
from asr.cli.compose import compose_sweep
from asr.cli.main import main
from asr.cli.multirun import LAUNCHER

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "recipes").glob("*/README.md"))]
BLOCK = re.compile(r"(?:^<!-- not run: ([^\n]+) -->\n)?^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHORT = [f"train.{name}=2" for name in ("steps", "validate_every", "save_every")]
SHORT += ["train.average_last=1", "train.device=cpu", "data.workers=0"]


@dataclass(frozen=True)
class Block:
    """What a page prints to be run. not_run: why the tests do not."""

    language: str
    code: str
    line: int
    not_run: str


def blocks(page):
    text = page.read_text(encoding="utf-8")
    return [Block(one[2], one[3], text.count("\n", 0, one.start(3)), one[1] or "") for one in BLOCK.finditer(text)]


def commands(block):
    """The words of each command of a block, without where its output goes."""
    lines = re.split("\n|&&", block.code.replace("\\\n", " "))
    return [words for line in lines if (words := shlex.split(line.partition(" > ")[0], comments=True))]


PARSED = {page: blocks(page) for page in PAGES}
RUN = [page for page in PAGES if any(not block.not_run for block in PARSED[page])]
NOT_RUN = [page for page in PAGES if any(block.not_run for block in PARSED[page])]


@pytest.fixture
def known_losses():
    """Forgets the losses that a test makes known."""
    before = dict(losses.LOSSES), dict(config.LOSSES)
    yield
    for known, old in zip((losses.LOSSES, config.LOSSES), before):
        known.clear()
        known.update(old)


@pytest.fixture(scope="module")
def place(streaming_run, tiny_corpus, tmp_path_factory):
    """What snippets count on: a trained model, an n-gram and recordings, by the names that they print."""
    place = tmp_path_factory.mktemp("place")
    for name in ("recipes/digits/exp/transducer", "exp/NAME"):
        shutil.copytree(streaming_run, place / name)
    for folder in (place / "data", place / "recipes/digits/data"):
        folder.mkdir()
        for name, cuts in (("train", tiny_corpus.train), ("dev", tiny_corpus.dev), ("test", tiny_corpus.dev)):
            (folder / f"cuts_{name}.jsonl.gz").symlink_to(cuts)
        shutil.copytree(tiny_corpus.tokenizer, folder / "char")
    for name, audio in (("recording", "dev-4"), ("other", "dev-1"), ("talk", "dev-0")):
        soundfile.write(place / f"{name}.wav", *soundfile.read(tiny_corpus.directory / f"{audio}.flac"))
    for path in sorted(tiny_corpus.directory.glob("train-*.flac")):
        speaker = place / "corpora" / "mine" / path.stem[:-1]
        speaker.mkdir(parents=True, exist_ok=True)
        (speaker / path.name).symlink_to(path)
        (speaker / f"{path.stem}.txt").write_text("LOW MID HIGH TOP")
    words = [f"cuts=[{tiny_corpus.train}]", f"tokenizer={tiny_corpus.tokenizer}", f"output={place / '5gram.arpa'}"]
    assert main(["lm", *words, "order=5"]) == 0
    return place


@pytest.fixture
def beside_a_run(place, tmp_path, monkeypatch):
    """That, to write into, as the directory in which a test is, and the home directory."""
    shutil.copytree(place, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def run(page, names, languages=("python",)):
    """Runs what a page prints in these languages; what Python knows afterwards."""
    for block in PARSED[page]:
        if block.not_run or block.language not in languages:
            continue
        if block.language == "python":
            exec(compile("\n" * block.line + block.code, page, "exec"), names)
        for words in commands(block) if block.language == "bash" else ():
            run_command(words, f"{page.name}:{block.line}")
    return names


def run_command(words, place):
    """Runs a command as it is printed; a training, so that it is over soon."""
    assert words[0] == "asr", (
        f"{place}: {words[0]} is not run by this test; put <!-- not run: REASON --> above the block"
    )
    found = [one for word in words[1:] for one in (sorted(glob.glob(word)) or [word])]
    found = [re.sub("^model=.*", "model=debug", word) for word in found]
    faster = {"train": SHORT, "validate": ["jobs=0"]}.get(words[1], [])
    assert main([*found, *faster]) == 0, f"{place}: {shlex.join(words)}"


def check_command(words):
    """Whether a command's options are such; a `…` is what a training needs."""
    needed = ["run=r", "data.train_cuts=[c]", "data.valid_cuts=[c]", "data.tokenizer=t"]
    words = [one for word in words[1:] for one in (needed if word == "…" else [word])]
    if "--config-name" in words:
        name = words.index("--config-name")
        recipe = next(ROOT.glob(f"recipes/*/conf/{words[name + 1]}.yaml"), None)
        words = [word for at, word in enumerate(words) if at not in range(name - 2, name + 2)]
        words += ["--config-dir", str(recipe.parent), "--config-name", recipe.stem] if recipe else []
    if "--multirun" not in words:
        assert main([*words, "--cfg"]) == 0, shlex.join(words)
    else:
        options = [word for word in words[2:-4] if not word.startswith(LAUNCHER)]
        compose_sweep(words[0], options, Path(words[-3]), words[-1])


@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run_as_printed(page, known_losses, beside_a_run):
    run(page, {"__name__": "snippet"}, ("python", "bash"))


@pytest.mark.parametrize("page", NOT_RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_are_not_run_have_options_that_there_are(page, beside_a_run):
    for words in (words for block in PARSED[page] if block.not_run for words in commands(block)):
        if words[0] == "asr":
            check_command(words)


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


def test_losses_in_ones_own_code_give_gradients(known_losses):
    names = run(ROOT / "docs" / "losses.md", {"__name__": "snippet"})
    for rows in (names["encoder_out"], names["predictor_out"]):
        assert rows.grad.isfinite().all()
        assert rows.grad[1].count_nonzero() > 0


def test_the_loss_of_ones_own_in_the_documents_is_what_it_says(known_losses):
    names = run(ROOT / "docs" / "losses.md", {"__name__": "snippet"})
    batch = torch.randn(1, 5, 64), torch.tensor([5]), torch.randn(1, 3, 64), torch.tensor([[1, 2]]), torch.tensor([2])
    full = losses.make("full", vocab_size=30)(names["joiner"], *batch).per_utterance
    torch.testing.assert_close(names["loss"](names["joiner"], *batch).per_utterance, 2 * full)


def test_a_fifth_loss_takes_at_most_60_lines():
    file = PARSED[ROOT / "docs" / "own-loss.md"][0].code
    assert "losses.register(" in file
    assert file.count("\n") <= 60


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
