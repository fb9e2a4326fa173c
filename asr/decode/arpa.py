"""The ARPA format of back-off n-gram models, plain or gzipped.

An own reader, since the library for it, kenlm, is on PyPI as source only, and this project needs no compiler; and a
line that is not well-formed must be named.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from asr.decode.ngram import BEGIN, END, IMPOSSIBLE, NGrams, Tokens
from asr.errors import InputError
from asr.files import read_lines, replacing, sync

_DATA, _END = "\\data\\", "\\end\\"


def read_arpa(path: Path) -> NGrams:
    """The model in an ARPA file.

    Raises InputError with the file and the line that is not as it should be.
    """
    lines = _Lines(path)
    counts = _counts(lines)
    ngrams = NGrams(order=len(counts), arcs={(): {}})
    for length, count in enumerate(counts, 1):
        lines.require(_title(length))
        for _ in range(count):
            lines.advance()
            _add(lines, ngrams, length)
        lines.advance()
    lines.require(_END)
    lines.finish()
    for token in (BEGIN, END):
        if token not in ngrams.arcs[()]:
            raise InputError(f"{path}: has no 1-gram {token}: make it anew from text with sentence ends")
    return ngrams


def write_arpa(path: Path, ngrams: NGrams) -> None:
    """Write an ARPA file, whole or not at all; gzipped where the name ends in .gz."""
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            if path.name.endswith(".gz"):
                with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as zipped:
                    zipped.writelines(_encoded(ngrams))
            else:
                file.writelines(_encoded(ngrams))
        sync(temporary)


def list_ngrams(ngrams: NGrams) -> list[list[Tokens]]:
    """The n-grams of each length, from 1 to the order."""
    listed: list[list[Tokens]] = [[] for _ in range(ngrams.order)]
    for history, arcs in ngrams.arcs.items():
        listed[len(history)] += [(*history, token) for token in arcs]
    return listed


def _encoded(ngrams: NGrams) -> Iterable[bytes]:
    return (f"{line}\n".encode() for line in _formatted(ngrams))


def _formatted(ngrams: NGrams) -> Iterator[str]:
    """The lines of the file."""
    listed = list_ngrams(ngrams)
    yield _DATA
    yield from (f"ngram {length}={len(grams)}" for length, grams in enumerate(listed, 1))
    for length, grams in enumerate(listed, 1):
        yield from ("", _title(length))
        yield from (_entry(ngrams, gram) for gram in grams)
    yield from ("", _END)


def _entry(ngrams: NGrams, gram: Tokens) -> str:
    entry = f"{_log10(ngrams.arcs[gram[:-1]][gram[-1]])}\t{' '.join(gram)}"
    return f"{entry}\t{_log10(ngrams.backoffs[gram])}" if gram in ngrams.backoffs else entry


def _log10(nats: float) -> str:
    return f"{nats / math.log(10):.8f}"


def _title(length: int) -> str:
    return f"\\{length}-grams:"


@dataclass
class _Lines:
    """The lines of a file that hold something, one after the other, and which one it is."""

    path: Path
    number: int = 0
    line: str = ""
    _rest: Iterator[tuple[int, str]] = field(init=False)

    def __post_init__(self) -> None:
        self._rest = read_lines(self.path)

    def advance(self) -> None:
        """Go on to the next line that is not blank. Raises InputError where there is none."""
        for number, line in self._rest:
            if line.strip():
                self.number, self.line = number, line.strip()
                return
        raise self.fault(f"the file ends before {_END}")

    def require(self, line: str) -> None:
        """Raise InputError where this line is another."""
        if self.line != line:
            raise self.fault(f"{line} should be here (are there as many n-grams as said?), not {self.line[:80]!r}")

    def finish(self) -> None:
        """Read to the end, where gzip's checksum is. Raises InputError where there is more text."""
        for _, line in self._rest:
            if line.strip():
                raise self.fault(f"{line[:80]!r} follows")

    def fault(self, what: str) -> InputError:
        """The error that says what is wrong with the line."""
        return InputError(f"{self.path}: line {self.number}: {what}; not a well-formed ARPA file: copy or make it anew")


def _counts(lines: _Lines) -> list[int]:
    """How many n-grams there are of each length; what comes before `\\data\\` is a comment."""
    while lines.line != _DATA:
        lines.advance()
    counts: list[int] = []
    lines.advance()
    while not lines.line.startswith("\\"):
        counts.append(_count(lines, f"ngram {len(counts) + 1}="))
        lines.advance()
    if not counts:
        raise lines.fault(f"no `ngram 1=...` after {_DATA}")
    return counts


def _count(lines: _Lines, before: str) -> int:
    count = lines.line.removeprefix(before)
    if count == lines.line or not (count.isascii() and count.isdigit()):
        raise lines.fault(f"`{before}COUNT` expected, not {lines.line[:80]!r}")
    return int(count)


def _add(lines: _Lines, ngrams: NGrams, length: int) -> None:
    """Add the next line, `log10 p, tokens, log10 back-off`; the back-off may lack, and does in the highest order."""
    first, *rest = lines.line.split()
    if len(rest) not in (length, length + (length < ngrams.order)):
        raise lines.fault(f"a {length}-gram should be here (are there as many as said?), not {lines.line[:80]!r}")
    gram = tuple(rest[:length])
    _check_gram(lines, ngrams, gram)
    ngrams.arcs.setdefault(gram[:-1], {})[gram[-1]] = _nats(lines, first, highest=0.0)
    if len(rest) > length:
        ngrams.backoffs[gram] = _nats(lines, rest[length], highest=-IMPOSSIBLE)


def _check_gram(lines: _Lines, ngrams: NGrams, gram: Tokens) -> None:
    """Raise InputError where an n-gram is listed twice, or its history or its last token is not listed before it."""
    if _has(ngrams, gram):
        raise lines.fault(f"{' '.join(gram)!r} is there twice")
    for part in (gram[:-1], gram[-1:]):
        if 0 < len(part) < len(gram) and not _has(ngrams, part):
            raise lines.fault(f"{' '.join(gram)!r} is there, but {' '.join(part)!r} is not")


def _has(ngrams: NGrams, gram: Tokens) -> bool:
    return gram[-1] in ngrams.arcs.get(gram[:-1], {})


def _nats(lines: _Lines, text: str, highest: float) -> float:
    """A log10 as nats; log 0 is written in several ways."""
    try:
        nats = float(text) * math.log(10)
    except ValueError:
        raise lines.fault(f"{text[:80]!r} is not a number") from None
    if not nats <= highest:
        raise lines.fault(f"{text} is no logarithm of a probability or of a back-off weight")
    return max(nats, IMPOSSIBLE)
