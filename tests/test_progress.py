"""What takes long is told, and what does not is not."""

import threading

from asr import progress
from asr.progress import told_if_slow


def test_a_slow_block_is_told_of_while_it_runs(monkeypatch):
    monkeypatch.setattr(progress, "SLOW_SECONDS", 0.0)
    heard, said = threading.Event(), []
    with told_if_slow("compiling", lambda what: (said.append(what), heard.set())):
        assert heard.wait(60)
    assert said == ["compiling"]


def test_a_quick_block_is_not_told_of_and_leaves_no_thread(monkeypatch):
    monkeypatch.setattr(progress, "SLOW_SECONDS", 1000.0)
    before, said = threading.enumerate(), []
    with told_if_slow("compiling", said.append):
        (timer,) = (thread for thread in threading.enumerate() if thread not in before)
    timer.join(60)
    assert not timer.is_alive()
    assert [thread for thread in threading.enumerate() if thread not in before] == []
    assert said == []
