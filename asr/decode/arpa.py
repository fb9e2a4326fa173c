"""The ARPA format of back-off n-gram models, plain or gzipped.

An own reader, since a search needs the scores of all labels at once, and KenLM gives one a call; since what tools write
and KenLM refuses is to be read, too; and since a line that is not well-formed must be named. KenLM (`ufal.kenlm`) is
what the tests compare it with.
"""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from asr.decode.ngram import BEGIN, END, IMPOSSIBLE, UNKNOWN, NGrams, Tokens
from asr.errors import InputError
from asr.files import read_lines, replacing, sync

_DATA, _END = "\\data\\", "\\end\\"
_BLANKS = " \t\r"  # what separates columns; others, as U+00A0, are of tokens
_COUNT = re.compile(r"ngram[ \t]+(\d+)[ \t]*=[ \t]*(\d+)", re.ASCII)
_NAMES = {"<UNK>": UNKNOWN, "<S>": BEGIN, "</S>": END}  # as CMU's toolkit writes them, and tools for text in capitals
_ROUNDING = 1e-4  # nats by which a probability may be above 1

_IRSTLM = "IRSTLM's own form, not ARPA: make ARPA of it (compile-lm --text=yes)"
_BINARY = "a binary, not ARPA: give the ARPA file that it was made of"
_OTHER_FORMS = {  # by what they begin with
    "iARPA": _IRSTLM,  # whose numbers are no probabilities yet
    "qARPA": _IRSTLM,
    "blmt": _IRSTLM,
    "Qblmt": _IRSTLM,
    "mmap lm http://kheafield.com": _BINARY,
    "SRILM_BINARY": _BINARY,
}


def read_arpa(path: Path) -> NGrams:
    """The model in an ARPA file, with the names of ours for `<s>`, `</s>` and `<unk>`.

    Raises InputError with the file and the line that is not as it should be.
    """
    lines = _Lines(path)
    counts = _counts(lines)
    ngrams = NGrams(order=len(counts), arcs={(): {}})
    for length, count in enumerate(counts, 1):
        if count or lines.line == _title(length):  # of no n-grams there need not be a section
            _read_section(lines, ngrams, length, count)
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
            if line.strip(_BLANKS):
                self.number, self.line = number, line.strip(_BLANKS)
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
    lines.advance()
    for beginning, form in _OTHER_FORMS.items():
        if lines.line.startswith(beginning):
            raise InputError(f"{lines.path}: is {form}")
    while lines.line != _DATA:
        lines.advance()
    counts: list[int] = []
    lines.advance()
    while not lines.line.startswith("\\"):
        counts.append(_count(lines, len(counts) + 1))
        lines.advance()
    if not counts:
        raise lines.fault(f"no `ngram 1=...` after {_DATA}")
    return counts


def _count(lines: _Lines, length: int) -> int:
    said = _COUNT.fullmatch(lines.line)
    if not said or int(said[1]) != length:
        raise lines.fault(f"`ngram {length}=COUNT` expected, not {lines.line[:80]!r}")
    return int(said[2])


def _read_section(lines: _Lines, ngrams: NGrams, length: int, count: int) -> None:
    """Add the n-grams of a length, and go on to the line after them."""
    lines.require(_title(length))
    for _ in range(count):
        lines.advance()
        _add(lines, ngrams, length)
    lines.advance()


def _add(lines: _Lines, ngrams: NGrams, length: int) -> None:
    """Add the next line, `log10 p, tokens, log10 back-off`; the back-off may lack, and is 0 in the highest order."""
    first, *rest = [column for column in lines.line.replace("\t", " ").split(" ") if column]
    tokens, backoff = rest[:length], rest[length:]
    if len(tokens) < length or len(backoff) > 1 or (length == ngrams.order and any(map(_weighs, backoff))):
        raise lines.fault(f"a {length}-gram should be here (are there as many as said?), not {lines.line[:80]!r}")
    gram = tuple(_NAMES.get(token, token) for token in tokens)
    _check_gram(lines, ngrams, gram)
    ngrams.arcs.setdefault(gram[:-1], {})[gram[-1]] = min(_nats(lines, first, highest=_ROUNDING), 0.0)
    if backoff and length < ngrams.order:
        ngrams.backoffs[gram] = _nats(lines, backoff[0], highest=-IMPOSSIBLE)


def _weighs(backoff: str) -> bool:
    """Whether a column is anything but a back-off weight of 0, which some tools write in the highest order, too."""
    try:
        return float(backoff) != 0
    except ValueError:
        return True


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
