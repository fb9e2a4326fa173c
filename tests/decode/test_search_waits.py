"""How often a search waits for a GPU, and what is made a CUDA graph of."""

import logging
import math

import pytest
import torch
from arcs_by_definition import KINDS, arcs_of
from greedy_ways import Graphed, InSteps
from random_models import TableAutomaton, TableScorer, random_encoded, random_model
from waits import DEVICE, Away, Waits, moved

from asr.decode import greedy
from asr.decode.beam import BeamSearch
from asr.decode.greedy import GreedySearch, Part
from asr.decode.greedy_graph import Graphs
from asr.decode.scorer import Tabulated
from asr.decode.search import search_all

VOCAB, LONGEST = 6, 12


def model_of(kind, seed=0):
    arcs, extra = arcs_of(kind, VOCAB)
    return random_model(seed, VOCAB, extra), arcs


@pytest.mark.parametrize(("kind", "steps"), [("standard", 16), *((kind, 4) for kind in KINDS[::2])])
def test_a_batch_waits_once_for_so_many_steps_and_once_for_what_was_found(kind, steps, monkeypatch):
    monkeypatch.setattr(greedy, "STEPS", steps)
    (model, arcs), (encoded, frames) = model_of(kind), random_encoded(0)
    expected = search_all(GreedySearch(model, 2, arcs), encoded, frames)
    most = max(int(length) + len(best.tokens) for length, (best,) in zip(frames, expected))
    with torch.inference_mode(), Waits() as waits:
        found = search_all(GreedySearch(moved(model), 2, arcs), Away(encoded), Away(frames))
    assert [best.tokens for (best,) in found] == [best.tokens for (best,) in expected]
    assert [best.score for (best,) in found] == pytest.approx([best.score for (best,) in expected])
    assert waits.count <= math.ceil(most / steps) + 1, waits.where


@pytest.mark.parametrize("kind", KINDS[::2])
@pytest.mark.parametrize("scored", [False, True])
def test_steps_wait_for_nothing(kind, scored):
    (model, arcs), (encoded, frames) = model_of(kind), random_encoded(0)
    with torch.inference_mode(), Waits() as waits:
        table = [Tabulated(TableAutomaton(TableScorer(VOCAB, 0)), 1.0, DEVICE)] if scored else []
        search = GreedySearch(moved(model), 2, arcs, table, blank_penalty=1.0)
        state = search.start(len(frames))
        before = waits.count
        state, labels = search.walk(state, Part.of(Away(encoded), state.frame_B, Away(frames)), 5)
    assert waits.count == before, waits.where
    assert (labels.token_BN.values > 0).any()


def test_where_scorers_know_where_labels_lead_they_are_not_waited_for(monkeypatch):
    monkeypatch.setattr(greedy, "STEPS", 4)
    (model, arcs), (encoded, frames) = model_of("standard"), random_encoded(0)
    counts = []
    with torch.inference_mode(), Waits() as waits:
        table = Tabulated(TableAutomaton(TableScorer(VOCAB, 0)), 1.0, DEVICE)
        search = GreedySearch(moved(model), 2, arcs, [table])
        for _ in range(2):
            before = waits.count
            found = search_all(search, Away(encoded), Away(frames))
            counts.append(waits.count - before)
    most = max(len(best.tokens) + int(length) for length, (best,) in zip(frames, found))
    assert counts[1] <= math.ceil(most / 4) + 1 < counts[0]


@pytest.mark.parametrize("kind", ["standard", "tdt modified"])
def test_beam_search_waits_for_the_lengths_of_each_part_and_for_what_was_found(kind):
    (model, arcs), (encoded, frames) = model_of(kind), random_encoded(0, 4, 6)
    expected = search_all(BeamSearch(model, 3, arcs, 2), encoded, frames)
    with torch.inference_mode(), Waits() as waits:
        session = BeamSearch(moved(model), 3, arcs, 2).begin(len(frames))
        for t in (0, 3):
            session.read(Away(encoded[:, t : t + 3]), Away((frames - t).clamp(0, 3)))
        found = session.best()
    assert waits.count == 2 + 6, waits.where  # score, last label, and four columns of the history
    for hypotheses, wanted in zip(found, expected, strict=True):
        assert [one.tokens for one in hypotheses] == [one.tokens for one in wanted]
        assert [one.score for one in hypotheses] == pytest.approx([one.score for one in wanted])


@pytest.mark.parametrize("kind", KINDS[::2])
def test_there_is_a_graph_for_each_power_of_two_and_what_it_gives_does_not_depend_on_earlier_ones(kind, monkeypatch):
    monkeypatch.setattr(greedy, "STEPS", 4)
    model, arcs = model_of(kind)
    search, plain = Graphed(model, 2, arcs), GreedySearch(model, 2, arcs)
    for seed, batch in enumerate((8, 5, 7, 3, 8, 1)):  # of rows that are as many
        encoded, frames = random_encoded(seed, batch, LONGEST)
        sessions = [one.begin(batch) for one in (search, plain)]
        for session in sessions:
            session.read(encoded[:, :4], frames.clamp(max=4))
            session.read(encoded[:, 4:], (frames - 4).clamp(min=0))
        assert sessions[0].best() == sessions[1].best()
        assert sessions[0].joined() == sessions[1].joined()
    assert sorted(size[2] for size in search.graphs.captured) == [1, 1, 4, 4, 8, 8]


def test_what_cannot_be_a_graph_goes_step_by_step_and_the_log_says_so_once(caplog):
    def capture(function, given, pool):
        asked.append(given)
        raise RuntimeError("it waits for the GPU 3 times")

    asked = []
    (model, arcs), (encoded, frames) = model_of("tdt"), random_encoded(1)
    search = InSteps(model, 2, arcs)
    search.graphs = Graphs(capture, after=0)
    with caplog.at_level(logging.WARNING, "asr"):
        found = [search_all(search, encoded, frames) for _ in range(2)]
    assert found == 2 * [search_all(GreedySearch(model, 2, arcs), encoded, frames)]
    assert [record.getMessage() for record in caplog.records] == [
        "greedy search without a CUDA graph, more slowly: it waits for the GPU 3 times"
    ]
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("kind", "limit", "frames", "steps"),
    [
        ("standard", 2, 3, 8),
        ("standard", 1, 3, 4),
        ("standard modified", 5, 4, 4),
        ("tdt modified", 5, 1, 1),
        ("hat", 9, 90, 16),
    ],
)
def test_short_parts_take_no_more_steps_than_they_may_need(kind, limit, frames, steps, monkeypatch):
    (model, arcs), (encoded, _) = model_of(kind), random_encoded(0, 3, frames)
    lengths = torch.full((3,), frames)
    taken = []
    monkeypatch.setattr(InSteps, "step", lambda *given: taken.append(1) or GreedySearch.step(*given))
    found = search_all(InSteps(model, limit, arcs), encoded, lengths)
    assert [best.tokens for (best,) in found] == [
        best.tokens for (best,) in search_all(GreedySearch(model, limit, arcs), encoded, lengths)
    ]
    assert len(taken) % steps == 0
    assert len(taken) == steps or frames > greedy.STEPS
