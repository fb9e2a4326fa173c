"""Where to compute, and what is changed for it in the process."""

import threading
import warnings

import pytest
import torch

from asr.device import reproducible, wait_for, waits_are_counted


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


def test_waits_of_other_threads_are_not_counted_and_other_warnings_are_shown(monkeypatch):
    modes = ["default"]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def wait():
        warnings.warn("called a synchronizing CUDA operation", UserWarning, stacklevel=1)

    before = [*warnings.filters], warnings.showwarning
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with waits_are_counted() as waits:
            for _ in range(2):
                wait()
            thread = threading.Thread(target=wait)
            thread.start()
            thread.join()
            warnings.warn("something else", UserWarning, stacklevel=1)
    assert len(waits) == 2
    assert [str(one.message) for one in shown] == ["something else"]
    assert modes == ["default", "warn", "default"]
    assert ([*warnings.filters], warnings.showwarning) == before


def test_a_thread_waits_for_its_own_stream(monkeypatch):
    waited = []

    class Stream:
        def synchronize(self):
            waited.append(self)

    mine = Stream()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: mine)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: pytest.fail("other threads may be capturing"))
    wait_for(torch.device("cpu"))
    assert not waited
    wait_for(torch.device("cuda", 0))
    assert waited == [mine]
