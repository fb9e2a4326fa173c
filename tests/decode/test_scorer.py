"""Tables of automata against the automata, and the sum of scorers."""

import pytest
import torch
from scoring import total
from torch import Tensor

from asr.decode.scorer import ScorerSum, Tabulated

VOCAB = 5

CPU = torch.device("cpu")


class LastLabels:
    """States are the last labels; weights are drawn at random, but the same ones for the same state."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.count, self.seed = count, seed
        self.start: tuple[int, ...] = ()
        self.asked: list[tuple[int, ...]] = []

    def follow(self, state: tuple[int, ...], label: int) -> tuple[int, ...]:
        return (*state, label)[-self.count :]

    def weights(self, states: list[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
        self.asked += states
        rows = torch.stack([self.row(state) for state in states])
        return rows[:, :-1], rows[:, -1]

    def row(self, state: tuple[int, ...]) -> Tensor:
        """Of the labels, and of the end."""
        seed = self.seed + sum((label + 1) * 10**place for place, label in enumerate(state[-9:]))
        return torch.randn(VOCAB + 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tabulated(count: int = 2, seed: int = 0, weight: float = 1.0, largest: int = 1 << 20) -> Tabulated:
    return Tabulated(LastLabels(count, seed), weight, torch.device("cpu"), largest)


def random_labels(seed: int, steps: int, count: int) -> Tensor:
    """Labels (steps, count), blanks included."""
    return torch.randint(0, VOCAB, (steps, count), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("weight", [1.0, -0.3])
def test_tables_hold_what_the_automaton_says(weight):
    scorer, labels = tabulated(weight=weight), random_labels(1, 30, 7)
    reference, histories = LastLabels(2), [()] * 7
    state = scorer.start(7)
    for step in labels:
        rows = weight * torch.stack([reference.row(history) for history in histories]).float()
        rows[:, 0] = 0
        torch.testing.assert_close(scorer.scores(state), rows[:, :VOCAB])
        torch.testing.assert_close(scorer.final(state), rows[:, VOCAB])
        state = scorer.advance(state, step)
        histories = [
            reference.follow(history, label) if label else history for history, label in zip(histories, step.tolist())
        ]


def test_blank_adds_nothing_and_goes_nowhere():
    scorer = tabulated()
    state = scorer.advance(scorer.start(3), torch.tensor([1, 2, 3]))
    assert torch.equal(scorer.advance(state, torch.zeros(3, dtype=torch.long)), state)
    assert not scorer.scores(state)[:, 0].any()


def test_automaton_is_asked_once_for_each_state():
    scorer = tabulated()
    for step in (state := scorer.start(7), *random_labels(2, 200, 7))[1:]:
        state = scorer.advance(state, step)
    asked = scorer.automaton.asked
    assert len(asked) == len(set(asked)) == 1 + 4 + 16


def test_same_states_have_the_same_number():
    scorer = tabulated()
    one = scorer.advance(scorer.advance(scorer.start(1), torch.tensor([1])), torch.tensor([2]))
    other = scorer.start(1)
    for label in (3, 1, 2):
        other = scorer.advance(other, torch.tensor([label]))
    assert torch.equal(one, other)


def test_only_states_that_are_reached_are_filled():
    scorer = Tabulated(LastLabels(50), 1.0, torch.device("cpu"))
    for step in (state := scorer.start(2), *random_labels(3, 40, 2))[1:]:
        state = scorer.advance(state, step)
    assert len(scorer.automaton.asked) <= 81


def test_large_tables_are_begun_anew_at_the_start_of_a_batch():
    scorer, labels = tabulated(count=4, largest=50 * VOCAB), [1, 2, 3, 4, 0, 1, 1, 2]
    expected = total(tabulated(count=4), labels)
    for seed in range(20):
        scorer = scorer.renewed()
        assert total(scorer, labels) == pytest.approx(expected)
        scorer = scorer.renewed()
        state = scorer.start(7)
        for step in random_labels(seed, 10, 7):
            state = scorer.advance(state, step)
        assert len(scorer._states) <= 50 + 8 + 70
    assert len(scorer.automaton.asked) > len(set(scorer.automaton.asked))


def test_tables_made_while_searching_serve_outside_and_inside():
    with torch.inference_mode():
        scorer = tabulated()
        expected = total(scorer, [1, 2])
    assert total(scorer, [1, 2]) == expected
    assert total(scorer, [4, 3, 2]) == pytest.approx(total(tabulated(), [4, 3, 2]))
    with torch.inference_mode():
        assert total(scorer, [2, 3, 4]) == pytest.approx(total(tabulated(), [2, 3, 4]))
    assert not scorer.scores(scorer.start(1)).requires_grad


def test_sum_is_the_sum_and_its_states_move_like_rows():
    parts = [tabulated(1, seed=10), tabulated(3, seed=20, weight=-0.5), tabulated(2, seed=30)]
    scorer = ScorerSum([tabulated(1, 10), tabulated(3, 20, -0.5), tabulated(2, 30)], CPU)
    labels = random_labels(4, 20, 6)
    order = torch.tensor([3, 3, 0, 5, 1, 1])
    together, apart = scorer.start(6), [part.start(6) for part in parts]
    for step in labels:
        together = scorer.advance(together, step)[order]
        apart = [part.advance(state, step)[order] for part, state in zip(parts, apart)]
        torch.testing.assert_close(
            scorer.scores(together), sum(part.scores(state) for part, state in zip(parts, apart))
        )
        torch.testing.assert_close(scorer.final(together), sum(part.final(state) for part, state in zip(parts, apart)))
    assert scorer.scores(together).dtype == torch.float32


def test_sum_of_none_adds_nothing():
    scorer = ScorerSum([], CPU)
    state = scorer.advance(scorer.start(3), torch.tensor([1, 0, 2]))
    assert state.shape == (3, 0)
    assert not (torch.zeros(3, 5) + scorer.scores(state)).any()
    assert scorer.final(state).tolist() == [0, 0, 0]
