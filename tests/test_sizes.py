"""Numbers that no training can mean are refused before anything is made of them."""

import pytest

from asr.cli.compose import compose
from asr.config import ModelOptions
from asr.errors import InputError
from asr.models import transducer
from asr.models.transducer import require_room


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("model.joiner_dim=1e21", "(must be 1 to 16384|needs a value of type int)"),
        ("model.layers=100000", "must be 1 to 200"),
        ("data.spec_augment.time_masks=9223372036854775808", "must be 0 to 100"),
        ("train.steps=99999999999999999999", "must be 1e[+]09 at most"),
        ("optim.lr=1e300", "must be 1e[+]09 at most"),
        ("data.speed_factors=[1e99]", "must be 0.5 to 2"),
        ("model.chunk_frames=[1e20]", "(must be 1e[+]09 at most|needs a value of type list of int)"),
        ("optim.betas=[0.9]", "needs 2 values"),
        ("optim.betas=[0.9,0.98,0.99]", "needs 2 values"),
        ("optim.betas=[]", "needs 2 values"),
        ("data.noise.snr_db=[1,2,3]", "needs 2 values"),
    ],
)
def test_absurd_sizes_and_lengths_are_refused(word, message):
    more = ["data.noise.cuts=[x]"] if "snr_db" in word else []
    with pytest.raises(InputError, match=f"{word.partition('=')[0]}=.*{message}"):
        compose("train", ["run=x", word, *more])


def test_a_model_that_memory_cannot_hold_is_refused_before_it_is_made(monkeypatch):
    monkeypatch.setattr(transducer, "memory_bytes", lambda: 16e9)
    require_room(ModelOptions())
    with pytest.raises(InputError, match="layers=100 of width 8192, .* over 537 GB of weights, and there are 16 GB"):
        require_room(ModelOptions(layers=100, encoder_dim=8192, feedforward_dim=32768))
