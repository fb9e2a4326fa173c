"""Predictions of memory are found from few measurements, and batches keep to them."""

from dataclasses import replace
from itertools import islice, pairwise

import pytest

from asr.config import DataOptions
from asr.data.manifest import open_cuts
from asr.data.memory import HEADROOM, RESERVE_MB, BatchSize, Measure, MemoryLimit, fit_weights, make_limit, predict_mb
from asr.data.sampler import Admission, TrainingStream
from asr.data.tokenizer import load_tokenizer
from asr.errors import InputError
from asr.models.subsampling import frame_timing
from asr.train.preflight import probe_sizes

TRUE = [400.0, 0.02, 1e-5, 3e-4, 0.01]
OPTIONS = DataOptions(max_seconds=8.0, buckets=3)


@pytest.fixture
def cuts(tiny_corpus):
    return open_cuts([str(tiny_corpus.train)])


@pytest.fixture
def measure(tiny_corpus):
    return Measure(frame_timing(4), load_tokenizer(tiny_corpus.tokenizer))


@pytest.mark.parametrize("absent", [(), (2,), (3, 4), (0,)])
def test_weights_are_found_from_the_probes(absent):
    weights = [0.0 if index in absent else weight for index, weight in enumerate(TRUE)]
    probes = probe_sizes([BatchSize(64, 100, 20), BatchSize(4, 700, 120), BatchSize(16, 300, 60)])
    found = fit_weights(probes, [predict_mb(weights, size) for size in probes])
    assert found == pytest.approx(weights, rel=1e-6, abs=1e-9)


def test_no_weight_is_negative_whatever_was_measured():
    probes = probe_sizes([BatchSize(64, 100, 20)])
    noise = [500 + 40 * (-1) ** index for index in range(len(probes))]
    assert all(weight >= 0 for weight in fit_weights(probes, noise))


def test_probes_stay_below_the_largest_and_differ_in_every_term():
    sizes = [BatchSize(64, 100, 20), BatchSize(4, 700, 120)]
    probes = probe_sizes(sizes)
    assert max(size.utterances * size.frames for size in probes) <= 0.5 * 6400 + 700
    assert all(len({size.terms()[term] for size in probes}) >= 4 for term in range(1, 5))


def test_a_batch_that_fits_stays_as_it_is(cuts, measure):
    some = list(cuts)[:5]
    assert MemoryLimit(measure, TRUE, 1e6).split(some) == [some]


def test_a_batch_that_does_not_fit_is_divided(cuts, measure):
    everything = list(cuts)
    limit = MemoryLimit(measure, [0, 1, 0, 0, 0], 400.0)
    batches = limit.split(everything)
    assert sorted(cut.id for batch in batches for cut in batch) == sorted(cut.id for cut in everything)
    allowed = HEADROOM * (400 - RESERVE_MB)
    assert all(limit.needed_mb(batch) <= allowed for batch in batches)
    assert all(limit.needed_mb([*one, other[0]]) > allowed for one, other in pairwise(batches))
    assert [len(batch) for batch in replace(limit, max_mb=1.0).split(everything)] == [1] * 24


def test_the_stream_keeps_to_the_limit_from_any_position(cuts, measure):
    limit = MemoryLimit(measure, [0, 1, 0, 0, 0], 250.0)
    whole = list(islice(TrainingStream(cuts, OPTIONS, 0, limit=limit), 30))
    assert all(limit.fits(draw.cuts) for draw in whole)
    assert max(len(draw.cuts) for draw in whole) > 1
    first = [cut.id for draw in whole if draw.position.epoch == 0 for cut in draw.cuts]
    assert sorted(first) == sorted(cut.id for cut in cuts)
    for done in (1, 7, 20):
        rest = islice(TrainingStream(cuts, OPTIONS, 0, whole[done - 1].position, limit=limit), 30 - done)
        expected = [([cut.id for cut in draw.cuts], draw.position) for draw in whole[done:]]
        assert [([cut.id for cut in draw.cuts], draw.position) for draw in rest] == expected


def test_an_utterance_that_alone_needs_too_much_is_refused(cuts, measure):
    cut = next(iter(cuts))
    limit = MemoryLimit(measure, [100, 1, 0, 0, 0], 110.0)
    admit = Admission(measure.tokenizer, 0.1, 30.0, frame_timing(4), ctc=True, limit=limit)
    assert not admit(cut)
    assert admit.refused[cut.id].startswith("alone it needs 1")
    assert "data.max_memory_mb=110 is too little" in admit.refused[cut.id]


def test_a_limit_needs_its_weights(measure):
    assert make_limit(DataOptions(), measure) is None
    with pytest.raises(
        InputError, match="data.max_memory_mb=4000 needs data.memory_weights, 5 numbers: `asr preflight`"
    ):
        make_limit(DataOptions(max_memory_mb=4000.0), measure)
    assert make_limit(DataOptions(max_memory_mb=4000.0, memory_weights=TRUE), measure).max_mb == 4000
