"""Messages that nobody reads any more end nothing."""

import os
import sys

import pytest
from tqdm import tqdm

from asr.console import lasting_stderr, visible


def test_lines_bars_and_flushes_to_nobody_end_nothing(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", buffering=1) as unread, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", unread)
        with pytest.raises(BrokenPipeError):
            print("to nobody", file=sys.stderr)
        with lasting_stderr():
            print("to nobody", file=sys.stderr)
            for _ in tqdm(range(3), mininterval=0):
                tqdm.write("above the bar", file=sys.stderr)
            sys.stderr.flush()
        assert sys.stderr is unread
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)  # or closing it would fail


def test_what_is_read_arrives_and_the_stream_stays_what_it_was(capsys):
    before = sys.stderr
    with lasting_stderr():
        print("to somebody", file=sys.stderr)
        assert sys.stderr.isatty() == before.isatty()
    assert capsys.readouterr().err == "to somebody\n"
    assert sys.stderr is before


def test_no_stderr_at_all(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with lasting_stderr():
        print("to nobody", file=sys.stderr)
    assert sys.stderr is None


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("ONE\ttwo\n\u5341 e\u0301 \u05d0", "ONE\ttwo\n\u5341 e\u0301 \u05d0"),
        ("\x1b[2J\x07\x9b", r"\x1b[2J\x07\x9b"),
        ("a\rfake: done", r"a\x0dfake: done".replace("x0d", "r")),
        ("\r 10%|#  |\r", "\r 10%|#  |\r"),
        ("a\u202eb\u2028\udcff", r"a\u202eb\u2028\udcff"),
    ],
)
def test_a_terminal_is_shown_what_it_would_obey(written, shown):
    assert visible(written) == shown
    assert visible(shown) == shown
