"""A stream that is left anywhere in an epoch goes on from the sampler's state, and nothing before it is read again."""

import gzip
import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from lhotse import CutSet
from lhotse.dataset import DynamicBucketingSampler

from asr.config import DataOptions
from asr.data import manifest, sampler, shar
from asr.data.batch import Position, SamplerState
from asr.data.corpus import write_cuts
from asr.data.manifest import open_cuts
from asr.data.memory import BatchSize, MemoryLimit
from asr.data.numbered import Rows, numbered
from asr.data.sampler import Admission, TrainingStream
from asr.data.shar import Shard, write_shard
from asr.data.tokenizer import load_tokenizer
from asr.errors import InputError
from asr.models.subsampling import frame_timing

OPTIONS = DataOptions(max_seconds=2.0, buckets=2, lookahead=6, speed_factors=[0.9, 1.0, 1.1])
TWO_AT_MOST = MemoryLimit(lambda cuts: BatchSize(len(cuts), 1, 0), [0, 0, 0, 0, 1.0], 103.0)
DRAWS = 60  # more than two epochs


@pytest.fixture(scope="module")
def admit(tiny_corpus):
    return Admission(load_tokenizer(tiny_corpus.tokenizer), 0.8, 30.0, frame_timing(4), ctc=True)


@pytest.fixture(scope="module")
def sources(tiny_corpus, tmp_path_factory):
    """The same 24 cuts in every form that they may have."""
    directory = tmp_path_factory.mktemp("sources")
    cuts = list(open_cuts([str(tiny_corpus.train)]))
    (directory / "plain.jsonl").write_bytes(gzip.decompress(tiny_corpus.train.read_bytes()).replace(b"\n", b"\n\n"))
    write_cuts(cuts[:10], directory / "first.jsonl.gz")
    write_cuts(cuts[10:], directory / "second.jsonl.gz")
    packed = {"packed": cuts, "rest": cuts[10:]}
    for name, content in packed.items():
        (directory / name).mkdir()
        for number, begin in enumerate(range(0, len(content), 5)):
            write_shard(Shard(number, content[begin : begin + 5], directory / name, "flac"))
    names = {
        "gzipped": [str(tiny_corpus.train)],
        "plain, with blank lines": [directory / "plain.jsonl"],
        "two manifests": [directory / "first.jsonl.gz", directory / "second.jsonl.gz"],
        "Shar": [directory / "packed"],
        "a manifest and Shar": [directory / "first.jsonl.gz", directory / "rest"],
    }
    opened = {name: open_cuts([str(path) for path in paths]) for name, paths in names.items()}
    memory = CutSet.from_cuts(cuts)
    return opened | {
        "in memory": memory,
        "filtered": opened["gzipped"].filter(bool),
        "read by Lhotse": lazily(directory),
    }


def lazily(directory: Path) -> CutSet:
    return CutSet.from_jsonl_lazy(directory / "first.jsonl.gz") + CutSet.from_jsonl_lazy(directory / "second.jsonl.gz")


SOURCES = ["gzipped", "plain, with blank lines", "two manifests", "Shar", "a manifest and Shar"]
FORMS = [*SOURCES, "in memory", "filtered", "read by Lhotse"]


def summary(draws):
    return [([cut.id for cut in draw.cuts], draw.position, [one.id for one in draw.refused]) for draw in draws]


def as_saved(position):
    """What a checkpoint gives back of it."""
    if position.sampler is None:
        return position
    return replace(position, sampler=SamplerState.from_json(json.loads(json.dumps(position.sampler.as_json()))))


@pytest.mark.parametrize(("form", "every", "step"), [("gzipped", 1, 1), *((form, 2, 7) for form in FORMS)])
def test_from_any_place_the_stream_goes_on(sources, admit, monkeypatch, form, every, step):
    monkeypatch.setattr(sampler, "STATE_EVERY", every)

    def draws(start, count, **ranks):
        return list(islice(TrainingStream(sources[form], OPTIONS, 0, start, admit, limit=TWO_AT_MOST, **ranks), count))

    whole = draws(Position(), DRAWS)
    assert whole[-1].position.epoch >= 2
    assert any(draw.refused for draw in whole[1:])
    for done in range(1, DRAWS, step):
        start = as_saved(whole[done - 1].position)
        assert start.sampler or start.batch <= 2 * every  # a batch is divided in two at most
        assert summary(draws(start, min(DRAWS - done, 8))) == summary(whole[done : done + 8]), start


def test_of_several_processes_each_goes_on(sources, admit, monkeypatch):
    monkeypatch.setattr(sampler, "STATE_EVERY", 2)
    cuts = sources["gzipped"]
    whole = list(islice(TrainingStream(cuts, OPTIONS, 0, Position(), admit), 24))
    shares = [list(islice(TrainingStream(cuts, OPTIONS, 0, Position(), admit, rank, 3), 8)) for rank in range(3)]
    for done in range(1, 8):
        start = as_saved(shares[0][done - 1].done)
        assert start.sampler or start.batch <= 3
        for rank in range(3):
            (draw,) = islice(TrainingStream(cuts, OPTIONS, 0, start, admit, rank, 3), 1)
            assert summary([draw]) == summary([whole[3 * done + rank]])


@pytest.mark.parametrize("form", SOURCES)
def test_nothing_before_a_state_is_read_but_what_waits(sources, admit, monkeypatch, form):
    monkeypatch.setattr(sampler, "STATE_EVERY", 1)
    made = []

    def making(value):
        made.extend([value["id"]] if value.get("type") == "MonoCut" else [])
        return original(value)

    original = manifest.deserialize_item
    monkeypatch.setattr(manifest, "deserialize_item", making)
    monkeypatch.setattr(shar, "deserialize_item", making)
    options = replace(OPTIONS, speed_factors=[])
    _, left = islice(TrainingStream(sources[form], options, 0, Position(), admit), 2)
    state = left.position.sampler
    made.clear()
    next(iter(TrainingStream(sources[form], options, 0, left.position, admit)))
    names = [cut.id for cut in sources["in memory"]]
    rows = [names.index(one) for one in made]
    assert rows == [*state.rows, *range(state.read, state.read + len(rows) - len(state.rows))]
    assert len(state.rows) < state.read < max(rows)


def test_an_older_checkpoint_knows_the_place_alone(sources, admit, monkeypatch):
    monkeypatch.setattr(sampler, "STATE_EVERY", 1)
    whole = list(islice(TrainingStream(sources["gzipped"], OPTIONS, 0, Position(), admit), 20))
    for done in (1, 6, 14):
        epoch, batch = whole[done - 1].position.epoch, whole[done - 1].position.batch
        rest = islice(TrainingStream(sources["gzipped"], OPTIONS, 0, Position(epoch, batch), admit), 20 - done)
        assert summary(rest) == summary(whole[done:])


@pytest.mark.parametrize(
    "options", [OPTIONS, replace(OPTIONS, buckets=5, lookahead=20), replace(OPTIONS, lookahead=9, max_utterances=2)]
)
def test_the_batches_are_those_of_lhotses_sampler(sources, options):
    """Which made them before: runs that were begun then go on with the same."""
    cuts = sources["in memory"]
    options = replace(options, speed_factors=[])
    found = [draw for draw in islice(TrainingStream(cuts, options, 7), DRAWS) if draw.position.epoch < 2]
    for epoch in (0, 1):
        reference = DynamicBucketingSampler(
            cuts,
            max_duration=options.max_seconds,
            max_cuts=options.max_utterances,
            num_buckets=options.buckets,
            buffer_size=options.lookahead,
            num_cuts_for_bins_estimate=options.lookahead,
            shuffle=True,
            seed=7,
            rank=0,
            world_size=1,
        )
        reference.set_epoch(epoch)
        expected = [[cut.id for cut in batch] for batch in reference]
        assert [[cut.id for cut in draw.cuts] for draw in found if draw.position.epoch == epoch] == expected


@pytest.mark.parametrize("form", FORMS)
def test_rows_count_over_all_manifests(sources, form):
    names = [cut.id for cut in sources["in memory"]]
    wanted = Rows(frozenset([0, 3, 11]), 19)
    rows = [0, 3, 11, *range(19, 24)]
    assert [(row, cut.id) for row, cut in numbered(sources[form], wanted)] == [(row, names[row]) for row in rows]


@pytest.fixture
def state(sources, monkeypatch):
    monkeypatch.setattr(sampler, "STATE_EVERY", 1)
    _, second = islice(TrainingStream(sources["gzipped"], OPTIONS, 0), 2)
    return second.position.sampler


def test_a_state_is_small(state):
    many = replace(state, read=10**6, rows=range(700_000, 1_000_000, 15))
    assert len(json.dumps(many.as_json())) < 80_000
    assert [*SamplerState.from_json(many.as_json()).rows] == [*many.rows]


@pytest.mark.parametrize(
    "damage",
    [
        {"rows": "3 -1"},
        {"rows": "5 1000"},
        {"generators": ["00"]},
        {"generators": []},
        {"bins": [2.0, 1.0]},
        {"read": "?"},
    ],
    ids=str,
)
def test_what_is_no_state_is_refused(state, damage):
    state = state.as_json()
    assert SamplerState.from_json(state)
    with pytest.raises(ValueError):  # noqa: PT011
        SamplerState.from_json(state | damage)


def test_an_epoch_of_which_every_utterance_is_refused_at_its_speed_is_an_input_error(sources, admit):
    longest = max(cut.duration for cut in sources["in memory"])
    cuts = CutSet.from_cuts(cut for cut in sources["in memory"] if 2 * cut.duration > longest)
    strict = replace(admit, min_duration=0.1, max_duration=longest, refused={})
    assert next(iter(TrainingStream(cuts, replace(OPTIONS, speed_factors=[1.0]), 0, admission=strict))).cuts
    stream = TrainingStream(cuts, replace(OPTIONS, speed_factors=[0.5]), 0, admission=strict)
    with pytest.raises(InputError, match=f"no utterance is left to train on, {len(cuts)} were refused; .*: lasts"):
        next(iter(stream))
