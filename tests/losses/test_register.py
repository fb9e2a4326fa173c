"""A loss in one's own code: found by an installed package's entry point, configured, trained and decoded with."""

import dataclasses

import pytest

from asr import config, losses
from asr.cli.main import main
from asr.config.loss import load_installed
from asr.errors import InputError

SIZES = {"vocab_size": 5, "encoder_dim": 4, "predictor_dim": 4}
MINE = '''
from dataclasses import dataclass
from asr.losses import LossOptions, LossOutput, TransducerLoss, register
from asr.losses.full import FullLoss
from asr.options import option

@dataclass
class ScaledOptions(LossOptions):
    name: str = option("scaled", "which transducer loss", choices=("scaled",))
    scale: float = option(1.0, "what the loss is multiplied by", low=0)

class ScaledLoss(FullLoss):
    """The full loss times a factor that is trained, and one that is given."""

    def __init__(self, sizes, options):
        super().__init__(sizes, options)
        import torch
        self.factor = torch.nn.Parameter(torch.ones(()))

    def compute(self, inputs, rules):
        out = super().compute(inputs, rules)
        per_utterance = out.per_utterance * self.factor * self.options.scale
        return LossOutput(per_utterance, {**out.parts, "scaled": per_utterance.detach()}, out.nodes, out.kept)

register("scaled", ScaledLoss, ScaledOptions)
'''


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A function that installs a package with this module, whose losses are known until the end of the test."""
    before = dict(losses.LOSSES), dict(config.LOSSES)

    def install(code, module):
        (tmp_path / f"{module}.py").write_text(code)
        metadata = tmp_path / f"{module}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[asr.losses]\nany = {module}\n")
        monkeypatch.syspath_prepend(tmp_path)
        load_installed.cache_clear()

    yield install
    for known, old in zip((losses.LOSSES, config.LOSSES), before):
        known.clear()
        known.update(old)
    load_installed.cache_clear()


def test_a_loss_of_another_package_is_configured_trained_and_decoded_with(installed, tiny_corpus, tmp_path, capsys):
    installed(MINE, "scaled_of_mine")
    run = f"run={tmp_path / 'run'}"
    data = [f"data.train_cuts=[{tiny_corpus.train}]", f"data.valid_cuts=[{tiny_corpus.dev}]"]
    debug = ["model=debug", "data=debug", "optim=debug", "train=debug", "train.device=cpu", "train.steps=2"]
    words = [run, "loss=scaled", "loss.scale=3", *data, f"data.tokenizer={tiny_corpus.tokenizer}", *debug]
    assert main(["train", *words]) == 0
    assert "loss scaled" in capsys.readouterr().err
    metrics = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "scaled" in metrics
    assert "scale: 3.0" in (tmp_path / "run" / "config.yaml").read_text()
    assert main(["decode", run, f"cuts={tiny_corpus.dev}", f"output={tmp_path / 'out'}", "device=cpu"]) == 0


def test_its_options_are_checked_and_shown_as_all_others(installed, capsys):
    installed(MINE, "scaled_of_mine_checked")
    assert main(["train", "run=r", "loss=scaled", "loss.scale=-1"]) == 2
    assert "loss.scale=-1.0: must be >= 0 (what the loss is multiplied by)" in capsys.readouterr().err
    assert main(["train", "run=r", "loss.scale=1"]) == 2
    assert "there is one of loss=scaled" in capsys.readouterr().err
    assert main(["train", "loss=scaled", "--help"]) == 0
    assert "scaled" in capsys.readouterr().out


def test_it_is_made_without_the_command_line_and_has_parameters_of_its_own(installed):
    installed(MINE, "scaled_of_mine_made")
    loss = losses.make("scaled", **SIZES, scale=2.0)
    assert [name for name, _ in loss.named_parameters()] == ["factor"]


def test_a_package_that_cannot_be_imported_is_one_line(installed, capsys):
    installed("import a_module_that_is_missing", "broken_of_mine")
    assert main(["train", "run=r"]) == 2
    err = capsys.readouterr().err
    assert "entry point asr.losses: broken_of_mine cannot be imported (ModuleNotFoundError: No module named" in err
    assert err.count("\n") == 1


def test_names_are_not_taken_twice():
    @dataclasses.dataclass
    class Options(losses.LossOptions):
        name: str = "full"

    with pytest.raises(InputError, match="there is a loss called full already"):
        losses.register("full", losses.TransducerLoss, Options)
    with pytest.raises(InputError, match="their name is 'full'; give it 'other'"):
        losses.register("other", losses.TransducerLoss, Options)
    assert "other" not in config.LOSSES
