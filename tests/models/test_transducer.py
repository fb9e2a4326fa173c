"""The container: contradictions refused, every choice of conf/model built, and its parts fitting together."""

import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from small_model import small_options

from asr.config import ModelOptions
from asr.errors import InputError
from asr.models.transducer import Transducer, check_model

CHOICES = sorted((Path(__file__).resolve().parents[2] / "conf" / "model").glob("*.yaml"))
VOCAB = 500


def parameters(path: Path) -> int:
    """How many parameters the model of a file has; on no device, so that the large one costs nothing."""
    with torch.device("meta"):
        model = Transducer(ModelOptions(**OmegaConf.load(path)), VOCAB)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3, "encoder_dim": 8}, "model.heads=3 does not divide model.encoder_dim=8"),
        ({"chunk_frames": [4]}, "set model.causal=true"),
        ({"chunk_frames": [4], "causal": True, "right_context": 2}, "leave out model.right_context"),
        ({"chunk_frames": [4], "causal": True, "normalize": "utterance"}, "use model.normalize=global"),
        ({"kernel_size": 4}, "model.kernel_size=4 is even"),
    ],
)
def test_contradictions_are_refused(changes, message):
    options = small_options(**changes)
    for refuse in (check_model, lambda options: Transducer(options, VOCAB)):
        with pytest.raises(InputError, match=message):
            refuse(options)


def test_sizes_are_in_order():
    count = {path.stem: parameters(path) for path in CHOICES}
    assert count["debug"] < count["tiny"] < count["small"] < count["medium"] < count["large"]


@pytest.mark.parametrize("path", CHOICES, ids=lambda path: path.stem)
def test_every_choice_builds_with_the_size_it_states(path):
    check_model(ModelOptions(**OmegaConf.load(path)))
    stated = re.match(r"# About (\d+) M parameters", path.read_text())
    count = parameters(path)
    if stated:
        assert count == pytest.approx(int(stated[1]) * 1e6, rel=0.15)
    else:
        assert path.stem == "debug"
        assert count < 50_000


@pytest.mark.parametrize("context_size", [1, 2, 3])
def test_predict_equals_predict_next(context_size):
    torch.manual_seed(0)
    model = Transducer(small_options(context_size=context_size), vocab_size=6).double()
    labels = torch.randint(1, 6, (2, 5))
    known = model.predict(labels)
    context = model.predictor.start(2, labels.device)
    for u in range(6):
        torch.testing.assert_close(known[:, u], model.predict_next(context), rtol=0, atol=1e-12)
        context = torch.cat((context[:, 1:], labels[:, u : u + 1]), dim=1)


def test_forward_is_encode_and_predict():
    torch.manual_seed(0)
    model = Transducer(small_options(), vocab_size=6)
    features, lengths, labels = torch.randn(2, 31, 8), torch.tensor([31, 19]), torch.randint(1, 6, (2, 4))
    encoder_out, frames, predictor_out = model(features, lengths, labels)
    assert torch.equal(encoder_out, model.encode(features, lengths)[0])
    assert torch.equal(predictor_out, model.predict(labels))
    assert frames.tolist() == [7, 4]
    assert model.joiner(encoder_out[:, 0], predictor_out[:, 0]).shape == (2, 6)


@pytest.mark.parametrize(("size", "published"), [("s", 10.3), ("m", 30.7), ("l", 118.8)])
def test_conformers_have_the_published_size_less_what_a_stateless_predictor_saves(size, published):
    millions = parameters(CHOICES[0].with_name(f"conformer_{size}.yaml")) / 1e6
    assert 0.87 * published < millions < published
