"""What a search adds to the log-probabilities of labels: language models, context biasing, and their sum.

An `Automaton` says what each of its states adds, and where a label leads; `Tabulated` makes a `LabelScorer` of it,
which a search asks for a whole beam at a time, without a loop over hypotheses.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

State = TypeVar("State", bound=Hashable)

# Numbers in a table of scores beyond which another is begun: 0.25 GB of scores and as much of following states.
LARGEST_TABLE = 1 << 26
_UNSEEN = -1


class LabelScorer(Protocol):
    """Adds to the log-probability of labels, given the labels before them.

    A state stands for the labels of a hypothesis so far: a row of long integers, which a search may copy, reorder and
    drop like those of any tensor (`state_N[rows]`), and cannot read. Another scorer knows nothing of them.
    """

    def start(self, count: int) -> Tensor:
        """The state (N, …) of `count` hypotheses without a label."""

    def scores(self, state_N: Tensor) -> Tensor:
        """Nats (N,V), float32, to add to the log-probability of each label; column 0, the blank's, is 0."""

    def advance(self, state_N: Tensor, label_N: Tensor) -> Tensor:
        """States after one more label each; a blank (0) leaves the state as it is."""

    def final(self, state_N: Tensor) -> Tensor:
        """Nats (N,), float32, to add when the utterance ends."""


class Automaton(Protocol[State]):
    """A deterministic weighted automaton over labels; its states need not exist before they are reached."""

    @property
    def start(self) -> State:
        """The state before any label."""

    def follow(self, state: State, label: int) -> State:
        """The state after one more label, which is no blank."""

    def weights(self, states: Sequence[State]) -> tuple[Tensor, Tensor]:
        """Nats of each label (n,V), and of the end of the utterance (n,). Column 0 is ignored."""


class Tabulated(Generic[State]):
    """An automaton in tables, states × labels, of which a row is filled when its state is first reached.

    What is asked for again, nearly all of what a search asks for, is then one indexing on the device of the tables.
    """

    def __init__(
        self, automaton: Automaton[State], weight: float, device: torch.device, largest_table: int = LARGEST_TABLE
    ) -> None:
        """`weight` multiplies all that the automaton adds. `largest_table`: numbers, see `LARGEST_TABLE`."""
        self.automaton = automaton
        self.weight = weight
        self.device = device
        self.largest_table = largest_table
        self._begin()

    def renewed(self) -> Tabulated[State]:
        """This one, or where its tables have become large another, of empty tables; states of this one stay its own."""
        if len(self._states) * self._scores.shape[1] <= self.largest_table:
            return self
        return Tabulated(self.automaton, self.weight, self.device, self.largest_table)

    def start(self, count: int) -> Tensor:
        """See `LabelScorer`."""
        return torch.zeros(count, dtype=torch.long, device=self.device)

    def scores(self, state_N: Tensor) -> Tensor:
        """See `LabelScorer`."""
        return self._scores[state_N]

    def final(self, state_N: Tensor) -> Tensor:
        """See `LabelScorer`."""
        return self._final[state_N]

    def advance(self, state_N: Tensor, label_N: Tensor) -> Tensor:
        """See `LabelScorer`."""
        following_N = self.following(state_N, label_N)
        unseen = following_N == _UNSEEN
        if unseen.any():
            states, labels = torch.stack((state_N, label_N))[:, unseen].cpu().tolist()
            self._explore(sorted(set(zip(states, labels))))
            following_N = self.following(state_N, label_N)
        return following_N

    def following(self, state_N: Tensor, label_N: Tensor) -> Tensor:
        """`advance` as far as the tables go, −1 where that is not known yet: nothing waits for their device."""
        return self._following[state_N, label_N].long()

    def tables(self) -> tuple[Tensor, Tensor]:
        """What each state adds to labels, and where these lead, −1 where that is not known. Good until `advance`."""
        return self._scores, self._following

    @torch.inference_mode(False)  # or the tables could not be written to outside of a search
    @torch.no_grad()
    def _begin(self) -> None:
        """Tables that hold the start alone."""
        scores, final = self._weights([self.automaton.start])
        self._states: list[State] = [self.automaton.start]
        self._numbers: dict[State, int] = {self.automaton.start: 0}
        self._scores, self._final = scores, final
        self._following = torch.full_like(scores, _UNSEEN, dtype=torch.int32)
        self._following[0, 0] = 0

    @torch.inference_mode(False)
    @torch.no_grad()
    def _explore(self, arcs: list[tuple[int, int]]) -> None:
        """Fill in where arcs, each a state and a label, lead to."""
        targets = [self.automaton.follow(self._states[state], label) for state, label in arcs]
        self._add([state for state in dict.fromkeys(targets) if state not in self._numbers])
        numbers = torch.tensor([self._numbers[state] for state in targets], dtype=torch.int32)
        self._following[torch.tensor(arcs).to(self.device).unbind(1)] = numbers.to(self.device)

    def _add(self, states: list[State]) -> None:
        """Give numbers and rows to states that have none."""
        if not states:
            return
        first, last = len(self._states), len(self._states) + len(states)
        self._scores = _with_rows(self._scores, last, 0)
        self._final = _with_rows(self._final, last, 0)
        self._following = _with_rows(self._following, last, _UNSEEN)
        self._scores[first:last], self._final[first:last] = self._weights(states)
        self._following[first:last, 0] = torch.arange(first, last, device=self.device)
        self._numbers.update(zip(states, range(first, last)))
        self._states += states

    def _weights(self, states: list[State]) -> tuple[Tensor, Tensor]:
        scores_NV, final_N = self.automaton.weights(states)
        scores_NV = self.weight * scores_NV.to(self.device, torch.float32)
        scores_NV[:, 0] = 0
        return scores_NV, self.weight * final_N.to(self.device, torch.float32)


class ScorerSum:
    """The sum of any number of scorers, none included; its states (N,K) are theirs side by side."""

    def __init__(self, scorers: Sequence[LabelScorer], device: torch.device) -> None:
        """Scorers over the same labels and on the same device, whose states are (N,)."""
        self.scorers, self.device = list(scorers), device

    def renewed(self) -> ScorerSum:
        """The sum that a new batch begins with: see `Tabulated`. Batches that are under way keep the one they have."""
        return ScorerSum([one.renewed() if isinstance(one, Tabulated) else one for one in self.scorers], self.device)

    def start(self, count: int) -> Tensor:
        """See `LabelScorer`."""
        nothing = torch.zeros(count, 0, dtype=torch.long, device=self.device)
        return torch.cat([nothing, *(scorer.start(count)[:, None] for scorer in self.scorers)], dim=1)

    def scores(self, state_N: Tensor) -> Tensor:
        """See `LabelScorer`; (N,1), for all labels alike, of no scorers."""
        columns = zip(self.scorers, state_N.unbind(1))
        return sum(
            (scorer.scores(state) for scorer, state in columns), torch.zeros(len(state_N), 1, device=self.device)
        )

    def advance(self, state_N: Tensor, label_N: Tensor) -> Tensor:
        """See `LabelScorer`."""
        return self._each((scorer.advance for scorer in self.scorers), state_N, label_N)

    def following(self, state_N: Tensor, label_N: Tensor) -> Tensor:
        """`advance`, with −1 for a scorer that does not know it yet, as one in tables may not; see `Tabulated`."""
        known = (one.following if isinstance(one, Tabulated) else one.advance for one in self.scorers)
        return self._each(known, state_N, label_N)

    def _each(
        self, functions: Iterable[Callable[[Tensor, Tensor], Tensor]], state_N: Tensor, label_N: Tensor
    ) -> Tensor:
        """States (N,K), each by the function of its scorer."""
        columns = [function(state, label_N)[:, None] for function, state in zip(functions, state_N.unbind(1))]
        return torch.cat(columns, dim=1) if columns else state_N

    def final(self, state_N: Tensor) -> Tensor:
        """See `LabelScorer`."""
        columns = zip(self.scorers, state_N.unbind(1))
        return sum((scorer.final(state) for scorer, state in columns), torch.zeros(len(state_N), device=self.device))


def _with_rows(table: Tensor, rows: int, fill: int) -> Tensor:
    """`table`, or a copy with room for `rows` and as many again, so that growing costs little."""
    if len(table) >= rows:
        return table
    new = table.new_full((2 * rows - len(table), *table.shape[1:]), fill)
    return torch.cat((table, new))
