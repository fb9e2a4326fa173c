"""Where the audio of a file lies, found in its bytes: what a header says of its length need not be so.

A recorder that was stopped, or that wrote into a pipe, leaves a length of 0, the largest there is, or an old one; files
that were joined end to end have a header for the first alone; MP3 need not have any. libsndfile believes them all.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from asr.data.flac import Data, samples_of_frames

_FLAC = b"fLaC\x00\x00\x00\x22"  # the marker, and the head of the block that always follows
_OGG_FLAC = b"\x7fFLAC"  # what the first page of FLAC in Ogg holds, before the marker
_OGG_FLAC_HEAD = 9  # bytes before the marker
_ANY_LENGTH = (1 << 36) - 1  # samples, the largest that FLAC can state
_UNKNOWN_BYTES = 0x7FFF0000  # sizes from here on stand for "not known when it was written"
_ENDLESS, _TAIL = 1 << 40, 1 << 12  # bytes
MISSING_PAGES, MISSING_FRAMES = "pages are missing in it", "frames are missing in it"
_TAGS = re.compile(rb"ID3|TAG|APETAGEX")  # which may stand between the frames of MP3
_LEAST_AUDIO = 64  # bytes behind the data chunk that are no chunk, from which on they count as audio
_WAVE = re.compile(rb"RIFF.{4}WAVE", re.DOTALL)
_NAME = re.compile(rb"[ -~]{4}")  # of a chunk
_MP3_WITHIN = 8192  # bytes from the beginning, in which the first frame is looked for
_HERTZ = (44100, 48000, 32000)  # of MPEG 1, layer III; MPEG 2 has half of it, MPEG 2.5 a quarter
_KILOBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KILOBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


@dataclass(frozen=True)
class Part:
    """A stretch of a file that libsndfile can read as one.

    begin, end: in bytes. patch: bytes that stand in place of the file's, by the place where they begin.
    unknown: nothing says how many samples there are, so that libsndfile is told a number that is too large.
    counted: samples that there are, where that is known without decoding.
    stated_samples: samples that the header says there are, where libsndfile does not tell.
    share: of the bytes that the header says there are, how much is there.
    fault: what is wrong with it, where nobody knows how many samples that has cost.
    open_end: whether more samples may have followed than can be known of.
    displaced: whether something is missing in the middle, and what is behind it seems to come sooner than it did.
    content: what is to be read in place of the file, if anything; begin and end count in it.
    """

    begin: int
    end: int
    patch: dict[int, bytes] = field(default_factory=dict)
    unknown: bool = False
    counted: int | None = None
    stated_samples: int = 0
    share: float = 1.0
    fault: str = ""
    open_end: bool = False
    displaced: bool = False
    content: bytes = field(default=b"", repr=False)


class View(io.RawIOBase):
    """A part of a file as a file of its own."""

    def __init__(self, data: Data, part: Part) -> None:
        self.data, self.part, self.place = part.content or data, part, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """As of any file. A part of unknown length seems to be endless: from its size a decoder would guess one."""
        size = _ENDLESS if self.part.unknown else self.part.end - self.part.begin
        self.place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: size}[whence]
        return self.place

    def tell(self) -> int:
        """Where reading goes on."""
        return self.place

    def readinto(self, buffer: Any, /) -> int:
        """Read as many bytes as fit and are there."""
        if self.part.unknown and self.place >= _ENDLESS - _TAIL:  # where mpg123 looks for a title
            buffer[:] = bytes(len(buffer))
            return len(buffer)
        begin = self.part.begin + self.place
        content = bytearray(self.data[begin : max(min(begin + len(buffer), self.part.end), begin)])
        for place, patch in self.part.patch.items():
            for n, byte in enumerate(patch, place - begin):
                if 0 <= n < len(content):
                    content[n] = byte
        buffer[: len(content)] = content
        self.place += len(content)
        return len(content)


def find_parts(data: Data) -> list[Part]:
    """The parts of a file, in order; all of it where nothing is to be known better than libsndfile does."""
    head = data[:12]
    if head.startswith(b"OggS"):
        return ogg_parts(data)
    if head[:4] in (b"RIFF", b"RIFX") and head[8:] == b"WAVE":
        return list(wave_parts(data))
    if head.startswith(b"NIST_1A"):
        return [nist_part(data)]
    if b"fLaC" in (head[:4], data[(begin := after_id3(data, 0)) : begin + 4]):
        return flac_parts(data)
    if size := stated_size(data):
        return [sized_part(data, size, 0, len(data))]
    return mp3_parts(data) or [Part(0, len(data))]


# Ogg: a file may be several streams, one after the other, each with pages that begin and end it.


class Page(NamedTuple):
    """A page of Ogg: where it, what it holds, and its end are, whether it begins or ends a stream, of which stream it
    is, and which of its pages."""

    place: int
    body: int
    end: int
    begins: bool
    ends: bool
    serial: bytes
    number: int


def ogg_parts(data: Data) -> list[Part]:
    """Vorbis, Opus or FLAC in Ogg: a part for each stream of a chain."""
    streams: list[list[Page]] = []
    for page in ogg_pages(data):
        if not streams or (page.begins and not streams[-1][-1].begins):
            streams.append([])
        streams[-1].append(page)
    begins = [stream[0].place for stream in streams] or [0]
    ends = [*begins[1:], len(data)]
    return [ogg_part(data, stream, begin, end) for stream, begin, end in zip(streams or [[]], begins, ends)]


def ogg_part(data: Data, pages: list[Page], begin: int, end: int) -> Part:
    """A stream; of FLAC what its pages hold, one after the other, which is FLAC as it is without Ogg."""
    fault = ogg_fault(pages) if pages else ""
    if not pages or data[pages[0].body : pages[0].body + len(_OGG_FLAC)] != _OGG_FLAC:
        return Part(begin, end, fault=fault, displaced=fault == MISSING_PAGES)
    bodies = [data[page.body : page.end] for page in pages if page.serial == pages[0].serial]
    cut_off = data[pages[-1].end : end]  # a page of which the end is missing
    content = b"".join([*bodies, cut_off[27 + cut_off[26] :] if len(cut_off) > 27 else b""])[_OGG_FLAC_HEAD:]
    return replace(flac_part(content, 0, len(content)), fault=fault, content=content)


def ogg_fault(pages: list[Page]) -> str:
    """What is wrong with a stream."""
    numbers: dict[bytes, int] = {}
    for page in pages:
        if page.number != numbers.get(page.serial, page.number):
            return MISSING_PAGES
        numbers[page.serial] = page.number + 1
    return "" if pages[-1].ends else "it is cut off before its end"


def ogg_pages(data: Data) -> Iterator[Page]:
    """The pages that are whole."""
    place = 0
    while (place := data.find(b"OggS", place)) >= 0 and place + 27 <= len(data):
        kind, lengths = data[place + 5], data[place + 27 : place + 27 + data[place + 26]]
        size = 27 + len(lengths) + sum(lengths)
        if place + size <= len(data):
            number = int.from_bytes(data[place + 18 : place + 22], "little")
            body = place + 27 + len(lengths)
            serial = data[place + 14 : place + 18]
            yield Page(place, body, place + size, bool(kind & 2), bool(kind & 4), serial, number)
        place += size if place + size <= len(data) else 4


# FLAC: how many samples there are stands in its first block, 0 where that was not known; what each frame tells is so.


def flac_parts(data: Data) -> list[Part]:
    """Each FLAC stream of a file."""
    begins = [match.start() for match in re.finditer(re.escape(_FLAC), data)] or [0]
    return [flac_part(data, begin, end) for begin, end in pairwise([*begins, len(data)])]


def flac_part(data: Data, begin: int, end: int) -> Part:
    """A FLAC stream; told how many samples its frames have where it says fewer, or nothing; if no frame tells, the most
    that there can be."""
    fields = int.from_bytes(data[begin + 18 : begin + 26], "big")
    stated, held = fields & _ANY_LENGTH, samples_of_frames(data, begin, end)
    if stated and stated >= held:
        return Part(begin, end)
    known = fields - stated + (held or _ANY_LENGTH)
    return Part(begin, end, {begin + 18: known.to_bytes(8, "big")}, unknown=not held, open_end=True)


# Formats in which a number says how many bytes of audio follow.


class Size(NamedTuple):
    """Where a file says how many bytes of audio follow, and where these begin."""

    place: int
    width: int
    order: Literal["little", "big"]
    begin: int

    def stated(self, data: Data) -> int:
        """The number of bytes."""
        return int.from_bytes(data[self.place : self.place + self.width], self.order)

    def unknown(self, data: Data) -> bool:
        """Whether the number is one that stands for another, which was not known yet."""
        return self.stated(data) == 0 or self.stated(data) >= min(_UNKNOWN_BYTES, (1 << 8 * self.width) - 1)


def stated_size(data: Data) -> Size | None:
    """Of Sun's AU, Apple's CAF and Creative's VOC."""
    if data[:4] == b".snd":
        return Size(8, 4, "big", int.from_bytes(data[4:8], "big"))
    if data[:4] == b"caff":
        return next((size for name, size in chunks(data, 8, "big", 8) if name == b"data"), None)
    if data[:19] == b"Creative Voice File":
        block = int.from_bytes(data[20:22], "little")
        return Size(block + 1, 3, "little", block + 4)
    return None


def chunks(data: Data, place: int, order: Literal["little", "big"], width: int) -> Iterator[tuple[bytes, Size]]:
    """Names and sizes of chunks, from `place` on, as far as they are chunks."""
    while place + 4 + width <= len(data) and bytes(data[place : place + 4]).isascii():
        size = Size(place + 4, width, order, place + 4 + width)
        yield data[place : place + 4], size
        stated = size.stated(data)
        place = size.begin + stated + (stated % 2 if width == 4 else 0)


def sized_part(data: Data, size: Size, begin: int, end: int) -> Part:
    """A part with as many bytes of audio as are there, whatever it says."""
    there, stated = end - size.begin, size.stated(data)
    if there <= 0 or there == stated:
        return Part(begin, end)
    patch = {size.place: there.to_bytes(size.width, size.order)}
    compressed = data[:4] == b"caff" and data[28:32] != b"lpcm"  # whose samples are counted elsewhere
    share = 1.0 if compressed or size.unknown(data) else min(there / stated, 1.0)
    return Part(begin, end, patch, share=share)


def wave_parts(data: Data) -> Iterator[Part]:
    """WAV, and what else was joined to it."""
    begin = 0
    while begin < len(data):
        order: Literal["little", "big"] = "big" if data[begin : begin + 4] == b"RIFX" else "little"
        size = next((size for name, size in chunks(data, begin + 12, order, 4) if name == b"data"), None)
        if size is None:
            yield Part(begin, len(data))
            return
        stated = size.stated(data)
        fits = size.begin + stated <= len(data)
        following = _WAVE.search(data, size.begin + stated * fits)
        end = following.start() if following else len(data)
        believed = fits and are_chunks(data, size.begin + stated + stated % 2, end, order)
        yield Part(begin, end) if believed else sized_part(data, size, begin, end)
        begin = end


def are_chunks(data: Data, place: int, end: int, order: Literal["little", "big"]) -> bool:
    """Whether chunks, or next to nothing, stand from `place` to `end`: what is no chunk there will be audio."""
    while place + _LEAST_AUDIO <= end:
        if not _NAME.fullmatch(data[place : place + 4]):
            return False
        stated = int.from_bytes(data[place + 4 : place + 8], order)
        place += 8 + stated + stated % 2
    return True


def nist_part(data: Data) -> Part:
    """NIST SPHERE: its header is text, and says how many samples there are of each channel."""
    count = re.search(rb"sample_count -i (\d+)", data[:1024])
    return Part(0, len(data), stated_samples=int(count[1]) if count else 0)


# MP3: frames, one after the other, each of which says how long it is. Encoders that know it in the end write the number
# of frames into a first one, which holds no audio; of others libsndfile guesses it from the first frame's bit rate.


class Frame(NamedTuple):
    """A frame of MPEG audio, layer III. format: what must not change.

    stated: the number of frames that it tells instead of audio, None if it holds audio. tells_at: where that stands.
    """

    place: int
    size: int
    samples: int
    format: tuple[int, int]
    stated: int | None
    tells_at: int

    @property
    def end(self) -> int:
        """Where the next one should begin."""
        return self.place + self.size


def mp3_parts(data: Data) -> list[Part]:
    """Each MP3 of a file: a new one begins with a frame that states a number, or with another sampling rate.

    One that is damaged in the middle has parts, too: a decoder gives up where it finds no frame for long.
    """
    whole: list[list[list[Frame]]] = []
    for frame in mp3_frames(data):
        if not whole or frame.stated is not None or frame.format != whole[-1][-1][-1].format:
            whole.append([[]])
        elif frame.place > whole[-1][-1][-1].end:
            whole[-1].append([])
        whole[-1][-1].append(frame)
    return [part for pieces in whole for part in of_one_mp3(pieces, is_broken(data, pieces))]


def is_broken(data: Data, pieces: list[list[Frame]]) -> bool:
    """Whether something is between the frames of an MP3 that is no tag."""
    return any(not _TAGS.match(data, piece[-1].end) for piece in pieces[:-1])


def of_one_mp3(pieces: list[list[Frame]], broken: bool) -> Iterator[Part]:
    """The parts of an MP3. A number of frames that its first one tells is put right, unless there simply are fewer."""
    first, samples = pieces[0][0], pieces[0][0].samples
    count = sum(map(len, pieces)) - (first.stated is not None)
    lost = max((first.stated or 0) - count, 0)
    fault = MISSING_FRAMES * broken
    for piece in pieces:
        told = piece[0].stated
        frames = piece if told is None else piece[1:]
        if told:
            right = {first.tells_at: len(frames).to_bytes(4, "big")} if len(pieces) > 1 or count > told else {}
            yield Part(first.place, piece[-1].end, right, fault=fault, displaced=broken)
        elif frames:
            there = len(frames) * samples
            stated = there + lost * samples * (piece is pieces[-1])
            known = Part(frames[0].place, piece[-1].end, fault=fault, displaced=broken)
            yield replace(known, unknown=True, counted=there, stated_samples=stated)


def mp3_frames(data: Data) -> Iterator[Frame]:
    """All frames, what stands between them left out; none where a file does not begin with some."""
    place = after_id3(data, 0)
    begin, found = place, False
    while place + 4 <= len(data):
        frame = mp3_frame(data, place)
        if frame and frame.end <= len(data) and (found or followed(data, frame)):
            found = True
            yield frame
            place = frame.end
            continue
        tag = after_id3(data, place)
        place = tag if tag > place else data.find(b"\xff", place + 1)
        if place < 0 or (not found and place > begin + _MP3_WITHIN):
            return


def followed(data: Data, frame: Frame) -> bool:
    """Whether two more frames of the same kind come after, or the end."""
    for _ in range(2):
        after = mp3_frame(data, frame.end)
        if after is None or after.format != frame.format:
            return frame.end >= len(data)
        frame = after
    return True


def mp3_frame(data: Data, place: int) -> Frame | None:
    """The frame at `place`, if there is one."""
    head = data[place : place + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:  # the sync, and layer III
        return None
    version, bits, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or bits in (0, 15) or rate == 3:
        return None
    first_version = version == 3
    hertz = _HERTZ[rate] >> {3: 0, 2: 1, 0: 2}[version]
    kilobits = (_KILOBITS_1 if first_version else _KILOBITS_2)[bits]
    size = (144 if first_version else 72) * kilobits * 1000 // hertz + (head[2] >> 1 & 1)
    mono = head[3] >> 6 == 3
    side = ((17 if mono else 32) if first_version else (9 if mono else 17)) + 4
    stated, tells_at = stated_frames(data, place, side, size)
    return Frame(place, size, 1152 if first_version else 576, (hertz, mono), stated, tells_at)


def stated_frames(data: Data, place: int, side: int, size: int) -> tuple[int | None, int]:
    """The number of frames that a frame tells (Xing, LAME, VBRI), and where; None where it is one of audio."""
    tag = data[place + side : place + side + 12]
    if tag[:4] in (b"Xing", b"Info"):
        return int.from_bytes(tag[8:12], "big") * (tag[7] & 1), place + side + 8
    if data[place + 36 : place + 40] == b"VBRI" and size > 54:
        return int.from_bytes(data[place + 50 : place + 54], "big"), place + 50
    return None, 0


def after_id3(data: Data, place: int) -> int:
    """Where an ID3v2 tag at `place` ends; `place` where there is none."""
    head = data[place : place + 10]
    if len(head) < 10 or head[:3] != b"ID3":
        return place
    size = 0
    for byte in head[6:]:
        size = size << 7 | byte & 0x7F
    return place + 10 + size
