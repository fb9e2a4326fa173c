"""Another process that has a run's directory to itself."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asr

# It has the lock, has forked a process that lives on, and says so.
OWNER = """
import os, sys, time
from pathlib import Path
from asr.runs import lock
if sys.argv[2] == "without":
    lock.fcntl = None
lock.BEAT_SECONDS = 0.02
with lock.owned(Path(sys.argv[1])):
    if os.fork() == 0:
        os.close(1)
        time.sleep(60)
    print("owner", flush=True)
    sys.stdin.read()
"""
PACKAGES = str(Path(asr.__file__).parents[1])


@contextlib.contextmanager
def other_process(directory: Path, system_lock: str = "with") -> Iterator[subprocess.Popen[bytes]]:
    """A process, leader of a group, that has the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, directory, system_lock],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": PACKAGES},
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == b"owner\n"
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
