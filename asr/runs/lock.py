"""Who trains in a run's directory: one training at a time, named in exp/NAME/lock.

The system locks that file for the process that trains, and frees it however the process ends. Where such locks reach no
other machine, or there are none, as on some network file systems, the owner's signs of life count: it touches the file
every few seconds. Clocks of machines are not compared, nor process numbers, which containers give twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from asr.errors import InputError
from asr.files import require_directory

try:
    import fcntl
except ModuleNotFoundError:  # on Windows
    fcntl = None  # type: ignore[assignment]
try:
    import msvcrt
except ModuleNotFoundError:  # elsewhere
    msvcrt = None  # type: ignore[assignment]

LOCK = "lock"
BEAT_SECONDS = 5.0  # between two signs of life
SILENCE_SECONDS = 60.0  # without one after which the owner is taken for dead: caches of NFS may be as old
WRITING_SECONDS = 1.0  # that another has to write who it is
BOOT = Path("/proc/sys/kernel/random/boot_id")  # of Linux: tells apart machines, or containers' hosts, of one name
LONGEST = 4096  # bytes of the text that are read
BEYOND = 1 << 30  # the byte that Windows locks: it would let nobody read one that it has locked


class HeldError(Exception):
    """Another process has the lock."""


@dataclass(frozen=True)
class Owner:
    """A training process. machine: what tells its system from others. since: its local time."""

    pid: int
    host: str
    machine: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, on this system as it is running now."""
        here = this_process()
        return (self.host, self.machine) == (here.host, here.machine)


def this_process() -> Owner:
    """The owner that this process is."""
    machine = BOOT.read_text(encoding="utf-8").strip() if BOOT.exists() else ""
    return Owner(os.getpid(), platform.node(), machine, time.strftime("%Y-%m-%d %H:%M:%S"))


@contextlib.contextmanager
def owned(directory: Path) -> Iterator[None]:
    """Have a run's directory, made where there is none, to oneself for as long as the block runs.

    Raises InputError where another training has it. Of one that died without a word on another system, this is known
    after SILENCE_SECONDS.
    """
    made = [one for one in (directory, *directory.parents) if not one.exists()]
    require_directory(directory)
    path = directory / LOCK
    file = take(path)
    ended = threading.Event()
    beating = threading.Thread(target=beat, args=(path, ended), daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        give_back(path, file)
        with contextlib.suppress(OSError):  # it holds a run by now
            for one in made:
                one.rmdir()


def take(path: Path) -> int:
    """The open file of a lock that is this process's now. Raises InputError where it is another's."""
    while True:
        file, is_new = open_or_make(path)
        try:
            owner = holder(path, file, is_new)
            if owner is None and is_file(path, file):
                write(file, this_process())
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)
        if owner is not None:
            raise InputError(f"{path.parent} is being trained by {owner}: stop it first, or give another run=")


def open_or_make(path: Path) -> tuple[int, bool]:
    """The file, open, and whether it was made: by one alone, even where the system has no locks."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
    except FileExistsError:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666), False


def holder(path: Path, file: int, is_new: bool) -> Owner | str | None:
    """Who else has the lock; None: nobody, and the system has locked the file for this process, if it can."""
    try:
        is_certain = lock_by_system(file)
    except HeldError:
        return read(file) or "another process"
    owner = None if is_new else read(file)
    if owner is None or (is_certain and owner.is_here):
        return None
    return owner if gives_sign_of_life(path, owner) else None


def lock_by_system(file: int) -> bool:
    """Lock a file for as long as this process lives and keeps it open; whether the system can. Raises HeldError.

    Not `flock`, which the data workers that a killed training leaves for a second would hold on to.
    """
    try:
        if fcntl is not None:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt is not None:
            os.lseek(file, BEYOND, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except (BlockingIOError, PermissionError):
        raise HeldError from None
    except OSError:  # this file system has no locks
        return False
    return (fcntl or msvcrt) is not None


def gives_sign_of_life(path: Path, owner: Owner) -> bool:
    """Whether the file is touched, or goes, in the next SILENCE_SECONDS."""
    wait = f"waiting {SILENCE_SECONDS:.0f} s for a sign of life"
    print(f"{path.parent} was being trained by {owner}, which may be gone: {wait}", file=sys.stderr)
    with contextlib.suppress(FileNotFoundError):
        before, deadline = path.stat().st_mtime_ns, time.monotonic() + SILENCE_SECONDS
        while path.stat().st_mtime_ns == before:
            if time.monotonic() > deadline:
                return False
            time.sleep(min(1.0, SILENCE_SECONDS / 10))
    return path.exists()


def is_file(path: Path, file: int) -> bool:
    """Whether `path` still is the open file, and not another that came after its owner had removed it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def beat(path: Path, ended: threading.Event) -> None:
    """Give a sign of life now and then."""
    while not ended.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(path)


def give_back(path: Path, file: int) -> None:
    """Remove the lock; Windows does not remove what is open, and keeps an empty file."""
    with contextlib.suppress(OSError):
        os.ftruncate(file, 0)
        path.unlink()
    os.close(file)


# The text


def write(file: int, owner: Owner) -> None:
    """Say who has the lock."""
    os.ftruncate(file, 0)
    os.lseek(file, 0, os.SEEK_SET)
    os.write(file, f"{json.dumps(asdict(owner))}\n".encode())


def read(file: int) -> Owner | None:
    """Who has, or had, the lock, None where it says nothing, not even soon."""
    deadline = time.monotonic() + WRITING_SECONDS
    while True:
        os.lseek(file, 0, os.SEEK_SET)
        text = os.read(file, LONGEST)
        if text.endswith(b"\n") or time.monotonic() > deadline:
            return parse(text)
        time.sleep(0.02)


def parse(text: bytes) -> Owner | None:
    """The owner that a text names, if it does."""
    try:
        owner = Owner(**json.loads(text))
    except (ValueError, TypeError):
        return None
    return owner if f"{owner}{owner.machine}".isprintable() else None
