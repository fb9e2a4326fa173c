"""One drawing of an utterance over one axis of time: spectrogram, what was said and recognised when, and lattices.

All lengths are pixels of the page, as SVG counts them: from the left, and downwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lhotse.supervision import AlignmentItem
from torch import Tensor

from asr.frames import FrameTiming
from asr.plot.lattice import LatticeView
from asr.report.pictures import occupation

NARROW, WIDE, RIGHT = 24, 110, 12  # margins: the left one by the longest label of a lattice
NARROWEST, SLOWEST, FASTEST = 800, 110, 400  # a drawing's width, and pixels a second
SPECTROGRAM, GAP = 120, 14  # heights
HEAD, WORDS, ROW, ROWS = 14, 16, 12, 3  # heights of a lane's name, its words, and each of the rows that tokens share
LETTER = 6.5  # width of a character of a token
TICKS = 0.1, 0.2, 0.5, 1, 2, 5  # seconds between two of them
TICK_ROOM = 55
LATTICES, HIGHEST, LEGIBLE = (340, 240), 16, 10  # height of a lattice, and of several; the highest row, and label


END = "end"  # the label position that nothing is left to say at


@dataclass(frozen=True)
class Scale:
    """From seconds to pixels. left: where time begins."""

    left: float
    per_second: float

    def x(self, seconds: float) -> float:
        """How far from the left a time is."""
        return round(self.left + seconds * self.per_second, 1)


@dataclass(frozen=True)
class Label:
    """A text and where it begins. about: what is told of it."""

    x: float
    y: float
    text: str
    about: str = ""


@dataclass(frozen=True)
class Lane:
    """Words and tokens of one reference or hypothesis; tokens without a text are marks."""

    y: float
    height: float
    name: str
    words: list[Label]
    tokens: list[Label]


@dataclass(frozen=True)
class Spoken:
    """What a lane is of: words with their times, and tokens (text, seconds, confidence) with theirs."""

    name: str
    words: Sequence[AlignmentItem]
    tokens: Sequence[tuple[str, float, float | None]] = ()


@dataclass(frozen=True)
class Lattice:
    """A lattice. bounds: names and SVG paths of what restricted losses keep. path, passed: the likeliest path, and the
    nodes on it. image: see `asr.report.pictures.occupation`."""

    y: float
    x: float
    width: float
    height: float
    name: str
    about: str
    image: str
    labels: list[Label]
    bounds: list[tuple[str, str]]
    path: str
    passed: str


@dataclass(frozen=True)
class Drawing:
    """All of it. seconds: of the utterance; sound: where its spectrogram is, (x, y, width, height)."""

    width: float
    height: float
    seconds: float
    scale: Scale
    spectrogram: str
    sound: tuple[float, float, float, float]
    ticks: list[Label]
    lanes: list[Lane]
    lattices: list[Lattice]


def draw(
    seconds: float, spectrogram: str, spoken: Sequence[Spoken], views: Sequence[tuple[str, LatticeView]]
) -> Drawing:
    """An utterance of so many seconds. views: lattices with their names."""
    longest = max((len(piece) for _, view in views for piece in [*view.pieces, END]), default=0)
    scale = Scale(min(NARROW + LETTER * longest, WIDE), min(max(NARROWEST / seconds, SLOWEST), FASTEST))
    bottom: float = SPECTROGRAM
    ticks = [*ticks_of(seconds, scale, bottom + ROW)]
    bottom += ROW + GAP
    lanes, lattices = [], []
    for one in spoken:
        lanes.append(lane(one, scale, bottom))
        bottom += lanes[-1].height + GAP / 2
    for name, view in views:
        lattices.append(lattice(name, view, scale, bottom + HEAD, LATTICES[len(views) > 1]))
        bottom += HEAD + lattices[-1].height + GAP
    sound = scale.x(0), 0.0, round(seconds * scale.per_second, 1), float(SPECTROGRAM)
    return Drawing(scale.x(seconds) + RIGHT, bottom, seconds, scale, spectrogram, sound, ticks, lanes, lattices)


def ticks_of(seconds: float, scale: Scale, y: float) -> Iterator[Label]:
    """Times along the axis."""
    every = next((one for one in TICKS if one * scale.per_second >= TICK_ROOM), TICKS[-1])
    for place in range(math.floor(seconds / every) + 1):
        yield Label(scale.x(place * every), y, f"{place * every:g} s")


def lane(spoken: Spoken, scale: Scale, y: float) -> Lane:
    """Words above, tokens below in rows, so that their texts do not cover each other."""
    words = [
        Label(scale.x(word.start), y + HEAD + WORDS - 4, word.symbol, f"{word.start:.2f} to {word.end:.2f} s")
        for word in spoken.words
    ]
    free = [0.0] * ROWS
    tokens = []
    for text, time, sure in spoken.tokens:
        x, about = scale.x(time), f"{text} at {time:.2f} s" + (f", confidence {sure:.2f}" if sure is not None else "")
        row = next((n for n, end in enumerate(free) if end <= x), None)
        if row is not None:
            free[row] = x + LETTER * (len(text) + 1)
        tokens.append(Label(x, y + HEAD + WORDS + ROW * ((row or 0) + 1) - 2, text if row is not None else "", about))
    rows = ROWS if spoken.tokens else 0
    return Lane(y, HEAD + WORDS + ROW * rows, spoken.name, words, tokens)


def lattice(name: str, view: LatticeView, scale: Scale, y: float, most: float) -> Lattice:
    """A lattice with its top at y, no higher than `most`."""
    frames, positions = view.occupation_TU.shape
    row = min(most / positions, HIGHEST)
    timing, height = view.timing, round(row * positions, 1)
    grid = Grid(timing, scale, y + height, row)
    begin, end = scale.x(timing.begin(0)), scale.x(timing.begin(frames))
    every = math.ceil(LEGIBLE / row)
    names = [*view.pieces, END]
    labels = [Label(scale.left - 4, grid.y(n) + 3, names[n]) for n in range(0, positions, every)]
    skipped = sum(arc.frames - 1 for arc in view.path if arc.frames > 1)
    about = f"{frames} frames × {positions} label positions, loss {view.loss:.2f} nats; likeliest path: "
    about += f"{len(view.path)} arcs" + f", {skipped} frames skipped" * bool(skipped)
    bounds = [(kept(text, first, last), grid.stairs(first, last)) for text, (first, last) in view.bounds.items()]
    nodes = [(arc.frame, arc.position) for arc in view.path]
    last = view.path[-1] if view.path else None
    ends = [(min(last.frame + last.frames, frames - 1), last.position + last.labels)] if last else []
    image = occupation(view.occupation_TU.numpy())
    path, passed = grid.line([*nodes, *ends]), "".join(f"M{grid.middle(*node)}h0" for node in nodes)
    return Lattice(y, begin, round(end - begin, 1), height, name, about, image, labels, bounds, path, passed)


def kept(name: str, first: Tensor, last: Tensor) -> str:
    """What a restricted loss keeps, in words."""
    return f"{name} ({int((last - first + 1).sum())} nodes)"


@dataclass(frozen=True)
class Grid:
    """Where the nodes of a lattice are drawn. bottom: below the first label; row: the height of a label."""

    timing: FrameTiming
    scale: Scale
    bottom: float
    row: float

    def y(self, position: float) -> float:
        """The middle of a label position."""
        return round(self.bottom - (position + 0.5) * self.row, 1)

    def middle(self, frame: int, position: int) -> str:
        """A node, as a point of a path."""
        return f"{self.scale.x(self.timing.middle(frame)):g} {self.y(position):g}"

    def line(self, nodes: Sequence[tuple[int, int]]) -> str:
        """A path from node to node."""
        return "M" + "L".join(self.middle(*node) for node in nodes) if nodes else ""

    def stairs(self, first: Tensor, last: Tensor) -> str:
        """The outline of label positions from first (T,) to last (T,) of each frame."""
        return self.steps([n - 0.5 for n in first.tolist()]) + self.steps([n + 0.5 for n in last.tolist()])

    def steps(self, positions: Sequence[float]) -> str:
        """One side of it; frames of one height are one step."""
        drawn = ""
        for frame, position in enumerate(positions):
            if frame and position == positions[frame - 1]:
                continue
            x, y = self.scale.x(self.timing.begin(frame)), self.y(position)
            drawn += f"H{x:g}V{y:g}" if drawn else f"M{x:g} {y:g}"
        return drawn + f"H{self.scale.x(self.timing.begin(len(positions))):g}" if drawn else ""
