"""Beam search against all label sequences and all of their alignments."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from arcs_by_definition import KINDS, arcs_of, arcs_of_node
from random_models import TableScorer, outputs, random_encoded, random_model

from asr.arcs.standard import standard_arcs
from asr.decode.beam import BeamSearch
from asr.decode.greedy import GreedySearch
from asr.decode.search import search_all


@torch.no_grad()
def log_probs(model, kind, encoded_TJ, limit, along=None, blank_penalty=0.0):
    """Log-probability of every label sequence, or of `along` and what it begins with: the sum over alignments, by
    recursion over (frame, labels of this frame, labels so far). One ends where it passes the last frame.
    """
    ends, done, predicted = len(encoded_TJ), {}, {}
    at = {(0, 0): {(): 1.0}}
    for t, emitted in product(range(ends), range(limit + 1)):
        for labels, here in at.pop((t, emitted), {}).items():
            z = outputs(model, kind, encoded_TJ[t], labels, blank_penalty, predicted)
            for (token, frames), weight in arcs_of_node(kind, z).items():
                after = (*labels, token) if token else labels
                if (token and emitted == limit) or (along is not None and list(after) != along[: len(after)]):
                    continue
                key = t + frames, emitted + 1 if token and not frames else 0
                level = done if key[0] >= ends else at.setdefault(key, {})
                level[after] = level.get(after, 0.0) + here * math.exp(weight)
    return {labels: math.log(mass) for labels, mass in done.items()}


def ranked(model, kind, encoded_TJ, limit, scorer=None, blank_penalty=0.0):
    """Every label sequence with its score, best first."""
    found = log_probs(model, kind, encoded_TJ, limit, None, blank_penalty)
    added = scorer.total if scorer else lambda labels: 0.0
    return sorted(((score + added(labels), list(labels)) for labels, score in found.items()), reverse=True)


def check_against_all(seed, kind, limit, frames, blank_penalty=0.0):
    """A beam as wide as the space has all label sequences, in order, with the sums over their alignments."""
    arcs, extra = arcs_of(kind, 3)
    model = random_model(seed, 3, extra)
    scorer = TableScorer(3, seed) if seed % 2 else None
    encoded, _ = random_encoded(seed, 1, frames)
    every = ranked(model, kind, encoded[0], limit, scorer, blank_penalty)
    search = BeamSearch(model, len(every), arcs, limit, [scorer] if scorer else [], blank_penalty)
    ((best, *others),) = search_all(search, encoded, torch.tensor([frames]))
    assert best.tokens == every[0][1]
    assert best.score == pytest.approx(every[0][0], abs=1e-5 if scorer else 1e-9)
    found = sorted((hypothesis.score, hypothesis.tokens) for hypothesis in [best, *others])
    assert len(found) == len(every)
    for (score, tokens), (wanted, labels) in zip(reversed(found), every):
        assert score == pytest.approx(wanted, abs=1e-5)
        assert tokens == labels


CASES = [("standard modified", 1, 4), ("standard modified", 1, 3), ("standard", 1, 3), ("standard", 2, 2)]


@pytest.mark.parametrize("block", range(10))
def test_a_beam_as_wide_as_the_space_finds_the_most_probable_sequence(block):
    """500 random models of the standard arcs: (kind, limit, frames)."""
    for seed in range(50 * block, 50 * block + 50):
        check_against_all(seed, *CASES[seed % len(CASES)])


@pytest.mark.parametrize("kind", KINDS[2:])
@pytest.mark.parametrize("block", range(2))
def test_so_it_does_with_all_other_arcs(kind, block):
    """120 random models; frames beyond the longest arc, too."""
    for seed in range(10 * block, 10 * block + 10):
        limit, frames = [(1, 3), (2, 2), (1, 5)][seed % 3] if kind.endswith("modified") else [(1, 4), (2, 2)][seed % 2]
        check_against_all(seed, kind, limit, frames)


@pytest.mark.parametrize("kind", KINDS)
def test_nats_taken_off_blank_are_those_of_the_definition(kind):
    for seed in range(4):
        check_against_all(seed, kind, 1 + seed % 2, 2, blank_penalty=1.5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_penalty_of_blank_makes_labels_likelier(kind):
    arcs, extra = arcs_of(kind, 5)
    model, (encoded, frames) = random_model(1, 5, extra), random_encoded(1)
    labels = {}
    for nats in (0.0, 3.0):
        found = search_all(BeamSearch(model, 4, arcs, 3, blank_penalty=nats), encoded, frames)
        labels[nats] = sum(len(best.tokens) for best, *_ in found)
    assert labels[3.0] > 1.3 * labels[0.0] > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beam", [1, 3, 8])
def test_result_does_not_depend_on_the_batch_or_on_the_parts_that_are_read(beam, kind):
    arcs, extra = arcs_of(kind, 5)
    model, (encoded, frames) = random_model(5, 5, extra), random_encoded(5)
    model.joiner.output.bias.data[0] -= 2.0 * kind.startswith("hat")  # or blank is likelier than all labels together
    search = BeamSearch(model, beam, arcs, 3, [TableScorer(model.vocab_size, 0)])
    together = search_all(search, encoded, frames)
    assert max(len(best.tokens) for best, *_ in together) > 3
    for row in range(len(frames)):
        (alone,) = search_all(search, encoded[row : row + 1, : frames[row]], frames[row : row + 1])
        session = search.begin(1)
        for t in range(int(frames[row])):
            session.read(encoded[row : row + 1, t : t + 1], torch.ones(1, dtype=torch.long))
        for other in (alone, session.best()[0]):
            assert [h.tokens for h in other] == [h.tokens for h in together[row]]
            assert [h.frames for h in other] == [h.frames for h in together[row]]
            assert [h.score for h in other] == pytest.approx([h.score for h in together[row]], rel=1e-9)


@torch.no_grad()
def modified_beam_search(model, encoded_TJ, beam):
    """icefall's: hypotheses with their scores, best first."""
    found = {(): 0.0}
    for encoded_J in encoded_TJ:
        extended = [
            (score + log_prob, (*labels, token) if token else labels)
            for labels, score in found.items()
            for token, log_prob in enumerate(outputs(model, "standard", encoded_J, labels, 0.0).log_softmax(0).tolist())
        ]
        found = {}
        for score, labels in sorted(extended, reverse=True)[:beam]:
            found[labels] = float(np.logaddexp(score, found.get(labels, -math.inf)))
    context = model.predictor.context_size
    return sorted(found.items(), key=lambda one: one[1] / (len(one[0]) + context), reverse=True)


def test_as_icefall_it_finds_what_modified_beam_search_does():
    others = 0
    for seed in range(4):
        model, (encoded, _) = random_model(seed), random_encoded(seed, 2, 10)
        frames = torch.tensor([10, 7])
        ours, theirs = (BeamSearch(model, 3, standard_arcs("modified"), as_icefall=own) for own in (False, True))
        best = search_all(ours, encoded, frames)
        for row, hypotheses in enumerate(search_all(theirs, encoded, frames)):
            wanted = modified_beam_search(model, encoded[row, : frames[row]], 3)
            assert [tuple(one.tokens) for one in hypotheses] == [labels for labels, _ in wanted]
            assert [one.score for one in hypotheses] == pytest.approx([score for _, score in wanted], abs=1e-4)
            others += best[row][0].tokens != hypotheses[0].tokens
    assert others > 0


def test_hypotheses_differ_and_are_in_order():
    model, (encoded, frames) = random_model(2), random_encoded(2)
    for hypotheses in search_all(BeamSearch(model, 6, standard_arcs("modified")), encoded, frames):
        assert len({tuple(hypothesis.tokens) for hypothesis in hypotheses}) == len(hypotheses)
        scores = [hypothesis.score for hypothesis in hypotheses]
        assert scores == sorted(scores, reverse=True)
        for hypothesis in hypotheses:
            assert hypothesis.frames == sorted(set(hypothesis.frames))  # at most one label a frame
            assert len(hypothesis.frames) == len(hypothesis.tokens) == len(hypothesis.confidences)
            assert all(0 < confidence <= 1 for confidence in hypothesis.confidences)


def test_a_beam_is_better_than_greedy_on_the_whole():
    total = {"greedy": 0.0, "beam": 0.0}
    for seed in range(12):
        model, (encoded, frames) = random_model(seed, vocab_size=5), random_encoded(seed)
        searches = {"greedy": GreedySearch(model, 1), "beam": BeamSearch(model, 4, standard_arcs("modified"))}
        for name, search in searches.items():
            for row, (best, *_) in enumerate(search_all(search, encoded, frames)):
                scores = log_probs(model, "standard modified", encoded[row, : frames[row]], 1, along=best.tokens)
                total[name] += scores[tuple(best.tokens)]
    assert total["beam"] > total["greedy"] + 10


def test_merging_adds_up_what_greedy_would_count_once():
    """Two frames, either of which can emit the only label: its sequence has the sum of both alignments."""
    model = random_model(0, vocab_size=2)
    torch.nn.init.zeros_(model.joiner.output.weight)
    model.joiner.output.bias.data = torch.tensor([0.55, 0.45], dtype=torch.double).log()
    search = BeamSearch(model, 4, standard_arcs("modified"))
    ((best, *_),) = search_all(search, torch.zeros(1, 2, 8).double(), torch.tensor([2]))
    assert best.tokens == [1]
    assert best.score == pytest.approx(math.log(2 * 0.55 * 0.45))
    ((greedy,),) = search_all(GreedySearch(model, 1), torch.zeros(1, 2, 8).double(), torch.tensor([2]))
    assert greedy.tokens == []
