"""Audio files as far as they can be read: all of it is heard, and what is missing is counted."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import stat
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import soundfile
from lhotse.utils import compute_num_samples

from asr.data.containers import Part, View, find_parts
from asr.data.flac import Data
from asr.errors import InputError

BLOCK_SECONDS = 1.0  # of what `blocks` gives, and between places that are tried behind damage
DECODED_BLOCKS = 4  # at a time: most utterances at once
CHECKED_SAMPLES = 256  # that are read again
ALLOWED_SECONDS = 0.025  # that a decoder may add or lose, as in Lhotse
# Seconds to decode before what is wanted: an MP3 frame needs bits of those before it, and Vorbis counts from the end of
# a page, which in the last one is not where the samples end; of FLAC some, to see that they go on there.
LEAD_SECONDS = {"MP3": 0.8, "OGG": 10.0, "FLAC": 0.3}
_FEWER_BYTES = re.compile(r"(\d+) \(should be (\d+)\)")  # in libsndfile's log: what a header says, and what is there


class Unreadable(InputError):
    """What libsndfile does not take for audio."""


class Decoder(soundfile.SoundFile):  # type: ignore[misc]
    """An audio file that is read on from block to block.

    soundfile goes to where it is after every read, if a file is seekable, and an MP3 decoder has to begin anew then.
    """

    def seekable(self) -> bool:
        """No; though `seek` works."""
        return False


@dataclass
class Sound:
    """An audio file. missing: samples that `blocks` found missing, or could only replace by silence. gaps: where it did
    the latter, first sample and end, as far as was read.

    Raises Unreadable where it does not look like audio that libsndfile reads, and InputError where the parts that it
    was joined of do not go together.
    """

    data: Data
    path: Path | None = None
    rate: int = 0
    channels: int = 0
    missing: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)
    gave_up: bool = False

    @classmethod
    def open(cls, path: Path | str) -> Sound:
        """The sound in a file."""
        with Path(path).open("rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                raise InputError("a device, which may have no end; name a file")
            size = status.st_size
            return cls(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b"", Path(path))

    def __post_init__(self) -> None:
        self.parts = find_parts(self.data)
        self.stated = [self.read_header(part) for part in self.parts]

    @cached_property
    def there(self) -> list[int]:
        """Samples of each part that can be read; found without decoding all, where that can be."""
        return list(map(self.count, self.parts, self.stated))

    @property
    def frames(self) -> int:
        """Samples of each channel that can be read."""
        return sum(self.there)

    @property
    def promised(self) -> int:
        """Samples of each channel that the headers say there are; as many as there are where they do not."""
        return sum(stated or there for stated, there in zip(self.stated, self.there))

    def blocks(self, seconds: float = BLOCK_SECONDS) -> Iterator[np.ndarray]:
        """All samples (n,channels), float32 in [−1, 1]: so many seconds at a time, the last ones shorter.

        What is damaged in the middle is silence.
        """
        size = max(round(seconds * self.rate), 1)
        yield from in_blocks(self.decode(size), size)

    def decode(self, size: int) -> Iterator[np.ndarray]:
        """All samples, about `size` at a time; then it is known what is there, and what is missing."""
        self.missing, self.gaps, there = 0, [], list[int]()
        for part, stated in zip(self.parts, self.stated):
            there.append(0)
            for block in self.read_part(part, stated, size, sum(there)):
                there[-1] += len(block)
                yield block
        self.there = there

    def read(self, begin: int = 0, count: int | None = None) -> np.ndarray:
        """Samples (n,channels) from `begin` on: `count`, or all; fewer where there are not so many."""
        if begin == 0 and count is None:
            return self.join(self.blocks())
        if len(self.parts) == 1 and not self.parts[0].unknown and count is not None:
            with contextlib.suppress(soundfile.SoundFileError), self.opened(self.parts[0]) as file:
                return read_at(file, begin, count)
        return self.join(self.until(begin + (self.frames if count is None else count)))[begin:]

    def until(self, end: int) -> Iterator[np.ndarray]:
        """The blocks of the first `end` samples."""
        for block in self.blocks():
            yield block[:end]
            end -= len(block)
            if end <= 0:
                return

    def join(self, blocks: Iterator[np.ndarray]) -> np.ndarray:
        """Blocks as one."""
        return np.concatenate([np.zeros((0, self.channels), np.float32), *blocks])

    @contextlib.contextmanager
    def opened(self, part: Part) -> Iterator[Decoder]:
        """A part as libsndfile sees it."""
        try:
            with quiet():
                file = Decoder(as_named(self.path) if self.path and part == self.whole else View(self.data, part))
        except (soundfile.SoundFileError, OSError) as error:
            reason = getattr(error, "error_string", str(error)).strip().rstrip(".")
            raise Unreadable(reason) from error
        try:
            yield file
        finally:
            with quiet(), contextlib.suppress(soundfile.SoundFileError):
                file.close()

    @property
    def whole(self) -> Part:
        """All of the file as it is."""
        return Part(0, len(self.data))

    def read_header(self, part: Part) -> int:
        """Samples that a header says a part has, 0 where none does; sets `rate` and `channels`."""
        with self.opened(part) as file:
            if (file.samplerate, file.channels) != (self.rate or file.samplerate, self.channels or file.channels):
                raise InputError("joined of files with different sampling rates or channels: give them one by one")
            self.rate, self.channels = file.samplerate, file.channels
            if part.unknown or part.stated_samples:
                return part.stated_samples
            shares = [there / said for said, there in byte_counts(file.extra_info) if there < said]
            return round(file.frames / min([part.share, *shares]))

    def count(self, part: Part, stated: int) -> int:
        """Samples of a part that can be read: as many as stated if the last one is there, else found by reading."""
        if part.counted is not None:
            return part.counted
        if stated and self.reaches(part, stated - 1):
            return stated
        return sum(map(len, self.read_on(part, 0, round(BLOCK_SECONDS * self.rate))))

    def reaches(self, part: Part, place: int) -> bool:
        """Whether there is a sample at `place`."""
        with self.opened(part) as file, quiet():
            try:
                file.seek(place)
                return len(file.read(1)) == 1
            except soundfile.SoundFileError:
                return False

    def read_part(self, part: Part, promised: int, size: int, before: int) -> Iterator[np.ndarray]:
        """The samples of a part, (n,channels) each; silence where it is damaged, if there is more behind.

        before: samples that other parts have before it.
        """
        here: int | None = 0
        while here is not None:
            done = here
            for block in self.read_on(part, here, size):
                done += len(block)
                yield block
            here = self.behind(part, done, promised, size)
            if here is not None:
                self.missing += here - done
                self.gaps.append((before + done, before + here))
                yield np.zeros((here - done, self.channels), np.float32)
        self.missing += max(promised - done, 0)

    def read_on(self, part: Part, begin: int, size: int) -> Iterator[np.ndarray]:
        """The samples of a part from `begin` on, until nothing more comes or the decoder gives up."""
        many = DECODED_BLOCKS * size
        with self.opened(part) as file:
            if begin:
                file.seek(begin)
            self.gave_up, count = False, many
            while count == many and not self.gave_up:
                with quiet():
                    block, self.gave_up = read_block(file, many)
                count = len(block)
                if count:
                    yield block

    def behind(self, part: Part, place: int, promised: int, step: int) -> int | None:
        """The first place behind `place` from which a part can be read again where the decoder gave up, if any."""
        if not self.gave_up or place >= promised or not self.reaches(part, promised - 1):
            return None
        return next((later for later in range(place + step, promised, step) if self.reaches(part, later)), None)

    @property
    def lost(self) -> float:
        """Seconds that are missing, as far as anything tells how many. Gaps in the middle show once all was read."""
        return max(self.missing, self.promised - self.frames) / self.rate

    @property
    def fault(self) -> str:
        """What is missing, in words; "" where nothing is; see `lost`."""
        if self.lost > ALLOWED_SECONDS:
            least = "at least " * any(part.open_end for part in self.parts)
            return f"{least}{self.lost:.2f} s of {self.promised / self.rate:.2f} s cannot be read: the file is damaged"
        unknown = [part.fault for part in self.parts if part.fault]
        return f"{self.frames / self.rate:.2f} s can be read, but {unknown[0]}" if unknown else ""


def as_named(path: Path | str) -> Path | str | bytes:
    """The name of a file as libsndfile takes it; soundfile refuses one that is no text, where names are bytes."""
    return os.fsencode(path) if os.name == "posix" else path


def in_blocks(pieces: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Arrays of any lengths as arrays of `size` rows, the last of which may have fewer."""
    waiting: list[np.ndarray] = []
    for piece in pieces:
        waiting.append(piece)
        if sum(map(len, waiting)) >= size:
            joined = np.concatenate(waiting)
            whole = len(joined) // size * size
            yield from (joined[begin : begin + size] for begin in range(0, whole, size))
            waiting = [joined[whole:]]
    if waiting and len(rest := np.concatenate(waiting)):
        yield rest


def byte_counts(log: str) -> Iterator[tuple[int, int]]:
    """How many bytes headers say there are, and how many are there, of libsndfile's log."""
    return ((int(said), int(there)) for said, there in _FEWER_BYTES.findall(log) if int(said) < 0x7FFF0000)


def read_at(file: Decoder, begin: int, count: int) -> np.ndarray:
    """Samples (n,channels) from `begin` on, `count` or as many as there are.

    Raises SoundFileError where it is damaged there: libFLAC, sent to a place that is lost, gives what comes behind it.
    """
    before = min(begin, round(LEAD_SECONDS.get(file.format, 0) * file.samplerate))
    with quiet():
        file.seek(begin - before)
        samples = np.asarray(file.read(before + count, dtype="float32", always_2d=True))[before:]
        if file.format == "FLAC" and len(samples):
            file.seek(begin)
            again = file.read(min(len(samples), CHECKED_SAMPLES), dtype="float32", always_2d=True)
            if not np.array_equal(again, samples[: len(again)]):
                raise soundfile.SoundFileError("damaged")
        return samples


def read_seconds_at(path: Path | str, offset: float, duration: float) -> tuple[np.ndarray, int] | None:
    """Samples (n,channels) of a piece of a file, and their rate; None where libsndfile does not find all of it.

    Without going through the whole file, which is long if pieces of it are read.
    """
    try:
        with quiet():
            file = Decoder(as_named(path))
        with file:
            count = compute_num_samples(duration, file.samplerate)
            samples = read_at(file, compute_num_samples(offset, file.samplerate), count)
            return (samples, file.samplerate) if len(samples) == count else None
    except (soundfile.SoundFileError, OSError):
        return None


def displaced(path: Path | str) -> str:
    """Why a place in a file of MP3 or Ogg, whose decoders count what is there, is not what it was; "" where it is."""
    try:
        stat = os.stat(path)
    except OSError:
        return ""
    return displaced_as_of(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def displaced_as_of(path: str, size: int, changed: int) -> str:
    """The same, of a file as it is now: all of it has to be gone through, which takes half a second an hour of MP3."""
    with open(path, "rb") as file:
        if not size or not file.peek(4).startswith((b"OggS", b"ID3", b"\xff")):
            return ""
        with contextlib.closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as data:
            return next((part.fault for part in find_parts(data) if part.displaced), "")


def read_block(file: Decoder, size: int) -> tuple[np.ndarray, bool]:
    """Up to `size` samples (n,channels), and whether the decoder gave up then.

    soundfile drops what was decoded before an error, unless it is given the array to put it in.
    """
    out = np.full((size, file.channels), np.nan, np.float32)
    try:
        return file.read(out=out), False
    except soundfile.SoundFileError:
        missing = np.isnan(out).any(axis=1)
        return out[: int(missing.argmax()) if missing.any() else size], True


_quiet = threading.RLock()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing is printed: mpg123, inside libsndfile, writes of each frame that it finds odd to the terminal."""
    with _quiet:
        try:
            saved = os.dup(2)
        except OSError:  # there is no standard error
            yield
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
