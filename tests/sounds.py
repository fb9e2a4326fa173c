"""Audio files of every kind that libsndfile writes, and what happens to files: cut off, joined, with a wrong length."""

import io
import struct
from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import soundfile

RATE = 16000
SECONDS = 6


class Made(NamedTuple):
    """A file's content, and which seconds of the tones can be heard in it, by number.

    lost: seconds that are missing; None where it has lost some that nothing tells the number of.
    """

    content: bytes
    heard: list[int]
    lost: float | None = 0.0


def hertz(second: int) -> int:
    """The tone of each second."""
    return 300 + 150 * second


def tones(seconds: int = SECONDS, rate: int = RATE) -> np.ndarray:
    """Samples (n,) in which every second is a tone of its own."""
    time = np.arange(seconds * rate) / rate
    rng = np.random.default_rng(0)
    return 0.3 * np.sin(2 * np.pi * (300 + 150 * np.floor(time)) * time) + 0.001 * rng.standard_normal(len(time))


def encoded(kind: str, subtype: str | None = None, **options: object) -> bytes:
    """The tones in a format."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", RATE, 1, subtype, format=kind, **options) as sound:
        sound.write(tones())
    return file.getvalue()


def changed(content: bytes, place: int, number: int, width: int, order: str) -> bytes:
    """The content with another number at a place."""
    return content[:place] + number.to_bytes(width, order) + content[place + width :]


def without_xing(mp3: bytes) -> bytes:
    """An MP3 as an encoder writes it into a pipe: its first frame, which tells their number, is missing."""
    return mp3[mp3.index(mp3[:2], 4) :]


def stated_by_flac(content: bytes, samples: int) -> bytes:
    """A FLAC file that says it has so many samples."""
    fields = int.from_bytes(content[18:26], "big") >> 36 << 36 | samples
    return changed(content, 18, fields, 8, "big")


def check_sum(content: bytes, polynomial: int, bits: int) -> int:
    """A cyclic redundancy check as FLAC and Ogg have it."""
    value, table, most = 0, check_sums(polynomial, bits), (1 << bits) - 1
    for byte in content:
        value = value << 8 & most ^ table[value >> bits - 8 ^ byte]
    return value


@cache
def check_sums(polynomial: int, bits: int) -> list[int]:
    """Those of each byte."""
    values = [byte << bits - 8 for byte in range(256)]
    for _ in range(8):
        values = [(value << 1 ^ polynomial * (value >> bits - 1)) & (1 << bits) - 1 for value in values]
    return values


def in_ogg(content: bytes) -> bytes:
    """A FLAC file in Ogg: a page for each of its blocks, and of its frames, which are known by their sums."""
    place, last, blocks = 4, False, []
    while not last:
        last, begin = content[place] >= 0x80, place
        place += 4 + int.from_bytes(content[place + 1 : place + 4], "big")
        blocks.append(content[begin:place])
    blocks[0] = b"\x7fFLAC\1\0" + (len(blocks) - 1).to_bytes(2, "big") + b"fLaC" + blocks[0]
    frames = []
    while place < len(content):
        end = content.find(content[place : place + 2], place + 2)
        while end >= 0 and (content[end + 4] != len(frames) + 1 or check_sum(content[place:end], 0x8005, 16)):
            end = content.find(content[place : place + 2], end + 1)
        frames.append(content[place : end if end >= 0 else None])
        place += len(frames[-1])
    ends = [0] * len(blocks) + [min(4096 * (n + 1), SECONDS * RATE) for n in range(len(frames))]
    kinds = [2, *[0] * (len(ends) - 2), 4]  # the first page, and the last
    return b"".join(map(ogg_page, blocks + frames, ends, range(len(ends)), kinds))


def ogg_page(packet: bytes, end: int, number: int, kind: int) -> bytes:
    """A page of Ogg that holds a packet. end: samples until its end."""
    lengths = bytes([*[255] * (len(packet) // 255), len(packet) % 255])
    head = b"OggS\0" + struct.pack("<BqIIIB", kind, end, 7, number, 0, len(lengths)) + lengths
    return changed(head + packet, 22, check_sum(head + packet, 0x04C11DB7, 32), 4, "little")


def data_size(content: bytes, number: int) -> bytes:
    """A WAV or CAF file that says it has so many bytes of audio."""
    wave = content[:4] == b"RIFF"
    return changed(content, content.index(b"data") + 4, number, 4 if wave else 8, "little" if wave else "big")


WHOLE = list(range(SECONDS))
PAGE = [0]  # what the first pages of Vorbis hold: one that is cut off cannot be read
HALF = WHOLE[: SECONDS // 2]
VARIABLE = {"bitrate_mode": "VARIABLE", "compression_level": 0.5}
FORMATS = [
    *[("WAV", subtype) for subtype in ("PCM_16", "PCM_24", "FLOAT", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM")],
    *[(kind, "PCM_16") for kind in ("NIST", "AIFF", "AU", "CAF", "W64", "RF64", "WAVEX", "VOC", "FLAC")],
    *[("NIST", "ULAW"), ("CAF", "ALAC_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")],
]


def half(content: bytes) -> bytes:
    """The first half of a file, and a little more."""
    return content[: len(content) * 52 // 100]


def vbr() -> bytes:
    """An MP3 of variable bit rate."""
    return encoded("MP3", "MPEG_LAYER_III", **VARIABLE)


def sound_files() -> dict[str, Callable[[], Made]]:
    """Files by name, made when they are called for."""
    made: dict[str, Callable[[], Made]] = {}
    for kind, subtype in FORMATS:
        name = f"{kind}-{subtype}".lower()
        made[name] = partial(whole, kind, subtype)
        if subtype != "ALAC_16":  # its table of packets is at the end: without, nothing can be decoded
            made[f"{name}-truncated"] = partial(truncated, kind, subtype)
        if kind in ("FLAC", "OGG", "MP3") or name == "wav-pcm_16":
            made[f"{name}-joined"] = partial(joined, kind, subtype)
    return made | SPECIAL


def whole(kind: str, subtype: str) -> Made:
    """A file as it should be."""
    return Made(encoded(kind, subtype), WHOLE)


def truncated(kind: str, subtype: str) -> Made:
    """The first half of a file. Nothing tells how long Ogg should be."""
    return Made(
        half(encoded(kind, subtype)), PAGE if subtype == "VORBIS" else HALF, None if kind == "OGG" else SECONDS * 0.48
    )


def joined(kind: str, subtype: str) -> Made:
    """A file twice, end to end."""
    return Made(encoded(kind, subtype) * 2, WHOLE * 2)


def xing(mp3: bytes, frames: int) -> bytes:
    """An MP3 that says it has so many frames."""
    return changed(mp3, mp3.index(b"Xing") + 8, frames, 4, "big")


def hole(content: bytes, size: int) -> bytes:
    """A file of which some bytes in the fourth second were lost on a disk."""
    begin = len(content) * 7 // 12
    return content[:begin] + bytes(size) + content[begin + size :]


def heard(samples: np.ndarray, rate: int = RATE) -> list[int]:
    """Which seconds can be heard: of every quarter of a second its tone, those of one after the other once."""
    size = rate // 4
    found: list[int] = []
    for begin in range(0, len(samples) - size + 1, size):
        spectrum = np.abs(np.fft.rfft(samples[begin : begin + size] * np.hanning(size)))
        place = int(spectrum.argmax())
        second = round((place * 4 - 300) / 150)
        clear = spectrum[place] > 0.05 * size and abs(place * 4 - hertz(second)) <= 16
        if clear and found[-1:] != [second]:
            found.append(second)
    return found


def wav() -> bytes:
    """A WAV file."""
    return encoded("WAV", "PCM_16")


def flac() -> bytes:
    """A FLAC file."""
    return encoded("FLAC", "PCM_16")


@cache
def ogg_flac(samples: int) -> bytes:
    """FLAC in Ogg that says it has so many samples."""
    return in_ogg(stated_by_flac(flac(), samples))


SPECIAL: dict[str, Callable[[], Made]] = {
    "mp3-vbr": lambda: Made(vbr(), WHOLE),
    "mp3-vbr-without-xing": lambda: Made(without_xing(vbr()), WHOLE),
    "mp3-without-xing": lambda: Made(without_xing(encoded("MP3", "MPEG_LAYER_III")), WHOLE),
    "mp3-joined-without-xing": lambda: Made(vbr() + without_xing(vbr()), WHOLE * 2),
    "mp3-xing-too-small": lambda: Made(xing(vbr(), 20), WHOLE),
    "mp3-xing-too-large": lambda: Made(xing(vbr(), 400), WHOLE, 400 * 576 / RATE - SECONDS),
    "mp3-hole": lambda: Made(hole(vbr(), 4000), WHOLE, 1.0),
    "mp3-hole-without-xing": lambda: Made(hole(without_xing(vbr()), 4000), [0, 1, 2, 3, 5], None),
    "mp3-joined-with-tags": lambda: Made((without_xing(vbr()) + b"TAG" + bytes(125)) * 2, WHOLE * 2),
    "opus-hole": lambda: Made(hole(encoded("OGG", "OPUS"), 3000), [0, 1, 2, 5], 2.0),
    "mp3-id3": lambda: Made(b"ID3\3\0\0\0\0\7\x76" + bytes(1014) + vbr() + b"TAG" + bytes(125), WHOLE),
    "wav-size-0": lambda: Made(data_size(wav(), 0), WHOLE),
    "wav-size-0-joined": lambda: Made(data_size(wav(), 0) * 2, WHOLE * 2),
    "wav-size-largest": lambda: Made(data_size(wav(), 0xFFFFFFFF), WHOLE),
    "wav-size-too-small": lambda: Made(data_size(wav(), 32000), WHOLE),
    "wav-with-a-chunk-behind": lambda: Made(wav() + b"LIST\4\0\0\0abcd", WHOLE),
    "au-size-0": lambda: Made(changed(encoded("AU", "PCM_16"), 8, 0, 4, "big"), WHOLE),
    "au-size-largest": lambda: Made(changed(encoded("AU", "PCM_16"), 8, 0xFFFFFFFF, 4, "big"), WHOLE),
    "caf-size-unknown": lambda: Made(data_size(encoded("CAF", "PCM_16"), (1 << 64) - 1), WHOLE),
    "flac-length-unknown": lambda: Made(stated_by_flac(flac(), 0), WHOLE),
    "flac-length-too-large": lambda: Made(stated_by_flac(flac(), 2 * SECONDS * RATE), WHOLE, float(SECONDS)),
    "flac-truncated-joined": lambda: Made(half(flac()) + flac(), [*HALF, *WHOLE], SECONDS * 0.48),
    "flac-hole": lambda: Made(hole(flac(), 2000), WHOLE, 1.0),
    "flac-length-too-small": lambda: Made(stated_by_flac(flac(), 2 * RATE), WHOLE),
    "flac-length-too-small-by-one": lambda: Made(stated_by_flac(flac(), SECONDS * RATE - 1), WHOLE),
    "flac-length-too-small-joined": lambda: Made(stated_by_flac(flac(), 2 * RATE) * 2, WHOLE * 2),
    "flac-length-too-small-truncated": lambda: Made(half(stated_by_flac(flac(), 2 * RATE)), HALF, None),
    "flac-length-too-small-hole": lambda: Made(hole(stated_by_flac(flac(), 2 * RATE), 2000), WHOLE, 1.0),
    "flac-length-unknown-truncated": lambda: Made(half(stated_by_flac(flac(), 0)), HALF, None),
    "flac-length-unknown-hole": lambda: Made(hole(stated_by_flac(flac(), 0), 2000), WHOLE, 1.0),
    "ogg-flac": lambda: Made(ogg_flac(SECONDS * RATE), WHOLE),
    "ogg-flac-truncated": lambda: Made(half(ogg_flac(SECONDS * RATE)), HALF, SECONDS * 0.48),
    "ogg-flac-joined": lambda: Made(ogg_flac(SECONDS * RATE) * 2, WHOLE * 2),
    "ogg-flac-hole": lambda: Made(hole(ogg_flac(SECONDS * RATE), 2000), WHOLE, 1.0),
    "ogg-flac-length-unknown": lambda: Made(ogg_flac(0), WHOLE),
    "ogg-flac-length-unknown-truncated": lambda: Made(half(ogg_flac(0)), HALF, None),
    "ogg-flac-length-too-small": lambda: Made(ogg_flac(2 * RATE), WHOLE),
    "ogg-flac-length-too-large": lambda: Made(ogg_flac(2 * SECONDS * RATE), WHOLE, float(SECONDS)),
}
