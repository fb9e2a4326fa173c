"""Where to compute, and what is changed for it in the process."""

import warnings

import pytest
import torch

from asr.device import reproducible


@pytest.mark.parametrize("fails", [False, True])
def test_what_training_changes_in_the_process_is_given_back(fails):
    def state():
        mode, fills = torch.get_deterministic_debug_mode(), torch.utils.deterministic.fill_uninitialized_memory
        return mode, fills, [*warnings.filters]

    before = state()
    with pytest.raises(ZeroDivisionError) if fails else warnings.catch_warnings(), reproducible(torch.device("cuda")):
        assert state()[:2] == (1, False)  # warns
        assert fails is False or 1 / 0
    assert state() == before
    with reproducible(torch.device("cpu")):
        assert state() == before
