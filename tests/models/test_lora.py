"""LoRA begins as the model that it adapts, is what is trained of the encoder, and merges into plain weights."""

import pytest
import torch
from small_model import small_options

from asr.errors import InputError
from asr.models.lora import adapt, maps, merged
from asr.models.transducer import Transducer


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Transducer(small_options(), vocab_size=5).eval()


BATCH = torch.randn(2, 30, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([30, 22])


def test_it_begins_as_the_model_and_trains_nothing_else_of_the_encoder(model):
    before = model.encode(*BATCH)[0]
    added = adapt(model.encoder, rank=2, alpha=4.0)
    torch.testing.assert_close(model.encode(*BATCH)[0], before, rtol=0, atol=1e-6)
    trained = [name for name, p in model.encoder.named_parameters() if p.requires_grad]
    assert len(trained) == len(added) == 2 * len(maps(model.encoder))
    assert {name.rpartition(".")[2] for name in trained} == {"up", "down"}
    assert len(maps(model.encoder)) == 2 * (3 + 2 * 2)  # three of attention and two of each feed-forward, in two layers
    assert all(p.requires_grad for p in [*model.predictor.parameters(), *model.joiner.parameters()])


def test_every_map_that_is_adapted_has_an_effect_and_a_gradient(model):
    adapt(model.encoder, rank=2, alpha=4.0)
    for linear in maps(model.encoder):  # also those that attention reads the weights of, and never calls
        before = model.encode(*BATCH)[0]
        linear.parametrizations.weight[0].up.data.normal_()
        assert not torch.allclose(model.encode(*BATCH)[0], before, atol=1e-5)
    model.encode(*BATCH)[0].square().sum().backward()
    for linear in maps(model.encoder):
        assert linear.parametrizations.weight[0].up.grad.abs().sum() > 0
        assert linear.parametrizations.weight.original.grad is None


def test_merged_weights_are_those_of_a_plain_model_and_merge_once(model):
    plain = Transducer(small_options(), vocab_size=5).eval()
    adapt(model.encoder, rank=3, alpha=6.0)
    for linear in maps(model.encoder):
        linear.parametrizations.weight[0].up.data.normal_()
    weights = merged(model.state_dict(), "exp/x")
    plain.load_state_dict(weights)
    torch.testing.assert_close(plain.encode(*BATCH)[0], model.encode(*BATCH)[0], rtol=1e-6, atol=1e-6)
    low = maps(model.encoder)[0].parametrizations.weight
    expected = low.original + 6.0 / 3 * low[0].up @ low[0].down
    torch.testing.assert_close(maps(plain.encoder)[0].weight, expected)
    with pytest.raises(InputError, match="exp/x: trained with train.lora, but has none .* merged before"):
        merged(weights, "exp/x")
