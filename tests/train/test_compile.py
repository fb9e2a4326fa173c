"""Compiled layers compute what the others do; without a compiler one line says so."""

import os
import shutil

import pytest
import torch
from small_model import small_options

from asr.errors import InputError
from asr.models.transducer import Transducer
from asr.train.task import compile_layers


def test_no_compiler_is_one_line(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    model = Transducer(small_options(), 5)
    with pytest.raises(InputError, match="train.compile=true needs a C\\+\\+ compiler, and no-such-compiler is not"):
        compile_layers(model)


@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler")
def test_compiled_layers_have_the_same_outputs_gradients_and_names():
    torch.manual_seed(0)
    plain, compiled = (Transducer(small_options(layers=1), 5) for _ in range(2))
    compiled.load_state_dict(plain.state_dict())
    compile_layers(compiled)
    plain.encoder.packs = compiled.encoder.packs  # what stands in the padding is compared, too
    assert list(compiled.state_dict()) == list(plain.state_dict())
    for frames in (40, 52):
        features, lengths = torch.randn(2, frames, 8), torch.tensor([frames, frames - 9])
        outputs = [model.encode(features, lengths)[0] for model in (plain, compiled)]
        torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)
        for out in outputs:
            out.square().sum().backward()
    for one, other in zip(plain.encoder.parameters(), compiled.encoder.parameters()):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)
