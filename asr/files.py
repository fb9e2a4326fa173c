"""Files that are written whole or not at all; text files, read whole or refused, or line by line with their faults."""

from __future__ import annotations

import codecs
import contextlib
import errno
import gzip
import os
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from asr.errors import InputError

_GZIP_MAGIC = b"\x1f\x8b"
NOT_UTF_8 = "not UTF-8"  # how the reason against a line that is not text begins
MOST_LINE = 2**26  # bytes, of text that has lines
# What keeps files from being written, and nothing from being read; None: numpy has only words for it.
NO_ROOM = errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG, errno.EROFS, None
READING = errno.ENOENT, errno.EISDIR
_UTF_16 = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE


@contextlib.contextmanager
def writing(path: Path, size: int | None = None) -> Iterator[None]:
    """Raises InputError, with the path, its disk's free bytes and the remedy, where the block cannot write there.

    size: bytes that are to be written, where that is known. What the block cannot read stays what it is.
    """
    try:
        yield
    except OSError as error:
        if error.errno in READING or (error.errno not in NO_ROOM and str(path.parent) not in str(error.filename)):
            raise
        raise InputError(cannot_write(path, error.strerror or str(error), error.errno, size)) from error


def cannot_write(path: Path, reason: str, number: int | None = None, size: int | None = None) -> str:
    """Why nothing more can be written to a file, and what to do."""
    told = f"{path}: cannot be written ({reason})"
    needed = "" if size is None else f"{size:,} bytes are needed, "
    if number == errno.EFBIG:
        return f"{told}: {needed}raise the limit on the size of files (ulimit -f)"
    if number in NO_ROOM and number != errno.EROFS:
        return f"{told}: {needed}{free_bytes(path):,} bytes are free; make room, and run again"
    return f"{told}: name another place, or let it be written to"


def free_bytes(path: Path) -> int:
    """Of the disk that a file is, or is to be, on; without end where that does not tell."""
    path = path.absolute()
    place = next(place for place in (path, *path.parents) if place.exists())
    usage = shutil.disk_usage(place)
    return usage.free if usage.total else sys.maxsize


def require_space(path: Path, size: int) -> None:
    """Raise InputError unless there is room for `size` bytes more where `path` is to be written."""
    if free_bytes(path) < size:
        raise InputError(cannot_write(path, os.strerror(errno.ENOSPC), errno.ENOSPC, size))


@contextlib.contextmanager
def replacing(path: Path, size: int | None = None) -> Iterator[Path]:
    """Yields a temporary path beside `path` that takes its place if the block ends well, else goes.

    A reader, or a killed process, finds the old file or the new one, whole. Raises InputError as `writing` does.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def remove_unfinished(directory: Path, name: str, process: object) -> None:
    """Remove from a directory what `replacing` had not finished: a file of this name, or any of a process's files."""
    for path in directory.glob(".*.tmp"):
        what, _, owner = path.name.removeprefix(".").removesuffix(".tmp").rpartition(".")
        if what == name or owner == str(process):
            path.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the content of `path`, in a way that survives a power cut, too."""
    with replacing(path, len(content)) as temporary:
        temporary.write_bytes(content)
        sync(temporary)


def read_regular(path: Path, most: int) -> bytes:
    """The content of a file. Raises InputError for one of more than `most` bytes, and for a device or a pipe, which may
    have no end; FileNotFoundError, or another OSError, where there is none or it cannot be read."""
    with open(path, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path}: no regular file; restore it")
        if status.st_size > most:
            raise InputError(f"{path} has {status.st_size} bytes, more than {most}; restore it")
        return file.read()


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe that nobody writes to is waited for, else


def require_writable(path: Path) -> None:
    """Raise InputError unless a file can be written at `path`: said before long work rather than after it."""
    if path.is_dir():
        raise InputError(f"{path}: is a directory; name a file in it")
    require_directory(path.parent)


def require_directory(path: Path) -> None:
    """Make the directory `path`, where there is none. Raises InputError unless files can be written there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except FileExistsError:
        raise InputError(f"{path}: is a file, where a directory is to be; name another") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be written to ({error.strerror}); name another place") from error


def replace_directory(new: Path, path: Path) -> None:
    """Put the directory `new`, beside `path`, in its place; what was there goes. Interrupted, it may be done again."""
    before = path.with_name(f".{path.name}.before")
    shutil.rmtree(before, ignore_errors=True)
    if path.exists():
        path.rename(before)
    new.rename(path)
    shutil.rmtree(before, ignore_errors=True)


def sync(path: Path) -> None:
    """Force a file, or the names inside a directory, to the disk, so that a power cut does not undo it.

    Windows opens no directories, and writes nothing out that is open for reading alone.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    except PermissionError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 text file, plain or gzipped, numbered from 1 and without their ends.

    Raises InputError where the file cannot be read, or is damaged, at the line in question.
    """
    number = 0
    try:
        with _opened(path) as file:
            for line in bounded_lines(file):
                number += 1
                yield number, line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: line {number}: not UTF-8 text; convert it, or give another file") from error
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory; name a file") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        place = f"damaged after line {number}" if number else "cannot read it"
        raise InputError(f"{path}: {place} ({reason}); give a file that is whole") from error


def sound_lines(path: Path, fault: Callable[[int, str], None]) -> Iterator[tuple[int, str]]:
    """Number and text, without its end, of each line of a text file, plain or gzipped, that is UTF-8.

    `fault` is told the number of each other line, and why; 0 and why, where the file as a whole is at fault. Raises
    InputError where it cannot be read at all.
    """
    number = 0
    try:
        with _opened(path) as file:
            for number, line in enumerate(bounded_lines(file), 1):
                if number == 1 and line.startswith(_UTF_16):
                    fault(0, "is UTF-16; convert it: iconv -f UTF-16 -t UTF-8")
                    return
                try:
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                except UnicodeDecodeError:
                    fault(number, f"{NOT_UTF_8}, convert it: {line[:80]!r}")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        fault(number + 1, f"damaged from here on ({error}); restore the file")
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory; name a file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot read it ({error.strerror})") from error


def bounded_lines(file: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    """The lines of a file. Raises EOFError where one has MOST_LINE bytes: few may unpack to gigabytes."""
    while line := file.readline(MOST_LINE):
        if len(line) == MOST_LINE:
            raise EOFError(f"a line of more than {MOST_LINE} bytes")
        yield line


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """The lines of a file, as bytes; what begins like a gzip file is decompressed."""
    with path.open("rb") as file:
        zipped = file.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC)
        yield gzip.GzipFile(fileobj=file) if zipped else file
