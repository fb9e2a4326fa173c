"""How many samples a FLAC stream holds, by its frames: each tells its place in the stream and its length (RFC 9639)."""

from __future__ import annotations

import mmap

Data = bytes | mmap.mmap

_LONGEST_HEADER = 16  # bytes
_BLOCKS = {1: 192, **{n: 576 << n - 2 for n in range(2, 6)}, **{n: 1 << n for n in range(8, 16)}}  # samples, by code
_BLOCK_BYTES = {6: 1, 7: 2}  # in which the samples are told instead
_RATE_BYTES = {12: 1, 13: 2, 14: 2}  # in which the sampling rate is


def samples_of_frames(data: Data, begin: int, end: int) -> int:
    """Samples until the end of the last frame that begins in the stream at `begin`; 0 where none is found."""
    place = first_frame(data, begin, end)
    first, block = data[place : place + 4], int.from_bytes(data[begin + 10 : begin + 12], "big")
    frame = end
    while len(first) == 4 and (frame := data.rfind(first[:2], place, frame)) >= 0:
        samples = samples_until(data[frame : min(frame + _LONGEST_HEADER, end)], first, block)
        if samples:
            return samples
    return 0


def first_frame(data: Data, begin: int, end: int) -> int:
    """Where the blocks of a stream end that come before its frames."""
    place, last = begin + 4, False
    while not last and place + 4 <= end:
        last = bool(data[place] & 0x80)
        place += 4 + int.from_bytes(data[place + 1 : place + 4], "big")
    return place


def samples_until(header: bytes, first: bytes, block: int) -> int:
    """Samples until the end of the frame of this header; 0 where it is none.

    first: the beginning of the first frame's header; others differ from it in their length and kind of stereo alone.
    block: samples of a frame, where frames are counted and not samples.
    """
    if len(header) < 6 or (header[2] ^ first[2]) & 0x0F or (header[3] ^ first[3]) & 0x0F:
        return 0
    number, place = coded_number(header[4:])
    place += 4
    told = _BLOCK_BYTES.get(header[2] >> 4, 0)
    samples = int.from_bytes(header[place : place + told], "big") + 1 if told else _BLOCKS.get(header[2] >> 4, 0)
    place += told + _RATE_BYTES.get(header[2] & 0x0F, 0)
    if number < 0 or not samples or place >= len(header) or sum_of(header[:place]) != header[place]:
        return 0
    return (number if header[1] & 1 else number * block) + samples


def coded_number(code: bytes) -> tuple[int, int]:
    """A number that is coded as UTF-8 codes letters, but with up to 36 bits, and its bytes; −1 where it is none."""
    ones = f"{code[0]:08b}0".index("0")
    rest = code[1:ones]
    if ones in (1, 8) or len(rest) < ones - 1 or any(byte >> 6 != 2 for byte in rest):
        return -1, 0
    number = code[0] & (0x7F >> ones)
    for byte in rest:
        number = number << 6 | byte & 0x3F
    return number, 1 + len(rest)


def sum_of(content: bytes) -> int:
    """The check sum at the end of a header: CRC-8 with the polynomial x⁸ + x² + x + 1."""
    value = 0
    for byte in content:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ 0x07 * (value >> 7)) & 0xFF
    return value
