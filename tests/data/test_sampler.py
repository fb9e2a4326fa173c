"""The stream of training batches can be joined anywhere, and only what can be trained on is in it."""

from dataclasses import replace
from itertools import islice, pairwise
from types import SimpleNamespace

import pytest
import torch
from lhotse import CutSet
from lhotse.features.io import NumpyFilesWriter

from asr.config import DataOptions, SpecAugmentOptions
from asr.data import sampler
from asr.data.batch import Position
from asr.data.dataset import Augmentation, SpeechDataset
from asr.data.features import SAMPLING_RATE, frame_count, load_samples, make_fbank
from asr.data.loader import Loader
from asr.data.manifest import open_cuts
from asr.data.sampler import Admission, OnePass, TrainingStream, frames_needed
from asr.data.tokenizer import load_tokenizer
from asr.errors import InputError
from asr.models.subsampling import frame_timing

OPTIONS = DataOptions(max_seconds=5.0, buckets=3, speed_factors=[0.9, 1.0, 1.1])
DRAWS = 30  # more than two epochs


@pytest.fixture(autouse=True)
def positions_with_states(monkeypatch):
    monkeypatch.setattr(sampler, "STATE_EVERY", 2)


@pytest.fixture
def cuts(tiny_corpus):
    return open_cuts([str(tiny_corpus.train)])


@pytest.fixture(scope="module")
def tokenizer(tiny_corpus):
    return load_tokenizer(tiny_corpus.tokenizer)


def draws(cuts, options=OPTIONS, seed=0, start=Position(), count=DRAWS, **ranks):  # noqa: B008
    return list(islice(TrainingStream(cuts, options, seed, start, **ranks), count))


def summary(draws):
    return [([cut.id for cut in draw.cuts], draw.position) for draw in draws]


def ids_of_epoch(draws, epoch):
    """Sorted ids, without the mark of a speed."""
    return sorted(cut.id.split("_sp")[0] for draw in draws for cut in draw.cuts if draw.position.epoch == epoch)


def admission(tokenizer, ctc=True, **limits):
    limits = {"min_duration": 0.1, "max_duration": 30.0, **limits}
    return Admission(tokenizer, timing=frame_timing(4), ctc=ctc, **limits)


def with_text(cut, text):
    return replace(cut, supervisions=[replace(cut.supervisions[0], text=text)])


def test_every_utterance_comes_once_in_an_epoch(cuts):
    stream = draws(cuts)
    everything = sorted(cut.id for cut in cuts)
    assert ids_of_epoch(stream, 0) == ids_of_epoch(stream, 1) == everything


def test_positions_count_batches_and_epochs(cuts):
    positions = [draw.position for draw in draws(cuts)]
    assert positions[0] == Position(0, 1)
    for before, after in pairwise(positions):
        assert after in (Position(before.epoch, before.batch + 1), Position(before.epoch + 1, 1))
    assert positions[-1].epoch >= 2


def test_the_stream_depends_on_the_seed_alone(cuts):
    assert summary(draws(cuts)) == summary(draws(cuts))
    assert summary(draws(cuts)) != summary(draws(cuts, seed=1))


def test_epochs_differ(cuts):
    stream = summary(draws(cuts))
    orders = [[ids for ids, position in stream if position.epoch == epoch] for epoch in (0, 1)]
    assert orders[0] != orders[1]


def test_joining_at_any_position_gives_the_rest_of_the_stream(cuts):
    whole = summary(draws(cuts))
    for done, (_, position) in enumerate(whole, 1):
        rest = summary(draws(cuts, start=position, count=DRAWS - done))
        assert rest == whole[done:], position


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_bits_from_any_position_with_any_number_of_workers(cuts, tokenizer, workers):
    dataset = SpeechDataset(80, frame_timing(4), tokenizer, Augmentation(SpecAugmentOptions(), seed=0))
    whole = [dataset[draw] for draw in draws(cuts, count=16)]
    for done in (0, 1, 7, 12):
        start = whole[done - 1].position if done else Position()
        loader = Loader(dataset, TrainingStream(cuts, OPTIONS, 0, start), workers)
        for batch, expected in zip(loader, whole[done : done + 4]):
            assert (batch.ids, batch.position, batch.seconds) == (expected.ids, expected.position, expected.seconds)
            assert torch.equal(batch.features, expected.features)
            assert torch.equal(batch.labels, expected.labels)


@pytest.mark.parametrize("max_seconds", [1.6, 3.0, 8.0])
def test_no_batch_holds_more_than_max_seconds_with_padding_before_its_last_cut(cuts, max_seconds):
    def padded(cuts):
        return len(cuts) * max((cut.duration for cut in cuts), default=0.0)

    stream = draws(cuts, replace(OPTIONS, max_seconds=max_seconds, speed_factors=[]))
    assert max(padded(draw.cuts[:-1]) for draw in stream) <= max_seconds
    assert max(padded(draw.cuts) for draw in stream) > 0.5 * max_seconds


def test_no_batch_of_equal_lengths_holds_more_than_max_seconds(cuts):
    equal = CutSet.from_cuts(cut.truncate(duration=0.5).with_id(cut.id) for cut in cuts)
    stream = draws(equal, replace(OPTIONS, max_seconds=2.2, speed_factors=[]))
    assert max(len(draw.cuts) for draw in stream) == 4


def test_no_batch_holds_more_than_max_utterances(cuts):
    stream = draws(cuts, replace(OPTIONS, max_seconds=100.0, max_utterances=2))
    assert max(len(draw.cuts) for draw in stream) == 2


@pytest.mark.parametrize("count", [1, 2, 9, 10, 11])
def test_there_may_be_fewer_cuts_than_buckets(cuts, count):
    few = cuts.subset(first=count).to_eager()
    stream = draws(few, replace(OPTIONS, buckets=10), count=count + 1)
    assert ids_of_epoch(stream, 0) == sorted(few.ids)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_processes_deal_the_stream_out_among_them(cuts, size):
    whole = draws(cuts, count=4 * size)
    for rank in range(size):
        share = draws(cuts, count=4, rank=rank, world_size=size)
        assert summary(share) == summary(whole[rank::size])
        assert [draw.done for draw in share] == [draw.position for draw in whole[size - 1 :: size]]
        joined = draws(cuts, count=3, start=share[0].done, rank=rank, world_size=size)
        assert summary(joined) == summary(share[1:])


def test_one_pass_is_dealt_out_too(cuts):
    shares = [list(OnePass(cuts, OPTIONS, rank, 3)) for rank in range(3)]
    assert sorted(cut.id for share in shares for draw in share for cut in draw.cuts) == sorted(cut.id for cut in cuts)


def test_one_pass_has_every_cut_once_and_no_position(cuts):
    one_pass = list(OnePass(cuts, OPTIONS))
    assert sorted(cut.id for draw in one_pass for cut in draw.cuts) == sorted(cut.id for cut in cuts)
    assert {draw.position for draw in one_pass} == {None}


def test_one_utterance_longer_than_all_others_is_nothing_to_warn_of(cuts, recwarn):
    first = list(cuts)[:4]
    mixed = CutSet.from_cuts([*first[:3], first[3].pad(duration=60.0)])
    assert sorted(cut.id for draw in OnePass(mixed, OPTIONS) for cut in draw.cuts) == sorted(cut.id for cut in mixed)
    assert [str(one.message) for one in recwarn if issubclass(one.category, RuntimeWarning)] == []


def test_speeds_are_drawn_anew_for_each_epoch_and_change_the_duration(cuts):
    stream = draws(cuts)
    original = {cut.id: cut.duration for cut in cuts}
    speeds = [{}, {}]
    for draw in stream:
        for cut in draw.cuts:
            name, _, factor = cut.id.partition("_sp")
            assert cut.duration == pytest.approx(original[name] / float(factor or 1), abs=1e-4)
            if draw.position.epoch < 2:
                speeds[draw.position.epoch][name] = float(factor or 1)
    assert {*speeds[0].values()} == {*speeds[1].values()} == {0.9, 1.0, 1.1}
    assert speeds[0] != speeds[1]


def test_speed_factors_are_refused_for_stored_features(cuts, tmp_path):
    fbank = make_fbank(80)
    with NumpyFilesWriter(str(tmp_path)) as writer:
        stored = [
            replace(
                cut,
                features=fbank.extract_from_samples_and_store(load_samples(cut)[None], writer, SAMPLING_RATE, 0.0, 0),
            )
            for cut in cuts.subset(first=2)
        ]
    with pytest.raises(InputError, match="data.speed_factors needs audio"):
        draws(CutSet.from_cuts(stored), count=1)
    assert draws(CutSet.from_cuts(stored), replace(OPTIONS, speed_factors=[]), count=1)


def test_admission_takes_what_can_be_trained_on(cuts, tokenizer):
    admit = admission(tokenizer)
    assert all(admit(cut) for cut in cuts)
    assert admit.refused == {}


def test_admission_says_why_not(cuts, tokenizer):
    cut = next(iter(cuts))
    frames = frame_timing(4).length(frame_count(cut))
    cases = [
        (admission(tokenizer, min_duration=5.0), cut, f"lasts {cut.duration:.2f} s, outside 5 to 30 s"),
        (admission(tokenizer, max_duration=0.5), cut, f"lasts {cut.duration:.2f} s, outside 0.1 to 0.5 s"),
        (admission(tokenizer), with_text(cut, " \t"), "empty transcript"),
        (admission(tokenizer), replace(cut, supervisions=[]), "empty transcript"),
        (
            admission(tokenizer),
            with_text(cut, "LOW ZOO"),
            "character 'Z' of 'ZOO' is not in the tokenizer's vocabulary",
        ),
        (admission(tokenizer), with_text(cut, "LOW " * 20), f"frames, the encoder gives {frames}"),
    ]
    for admit, refused, reason in cases:
        assert not admit(refused)
        assert list(admit.refused) == [cut.id]
        assert reason in admit.refused[cut.id]


def test_more_labels_than_frames_are_refused_for_ctc_alone(cuts, tokenizer):
    cut = next(iter(cuts))
    frames = frame_timing(4).length(frame_count(cut))
    text = ("LM" * frames)[: frames - 1]  # and the space piece that begins every text
    assert len(tokenizer.encode(text)) == frames
    assert admission(tokenizer)(with_text(cut, text))
    assert not admission(tokenizer)(with_text(cut, text + "H"))
    assert not admission(tokenizer)(with_text(cut, text[:-2] + "LL"))  # equal labels need a blank between them
    assert admission(tokenizer, ctc=False)(with_text(cut, "LM" * frames))


def test_an_utterance_of_no_encoder_frame_is_refused_without_ctc_too(cuts, tokenizer):
    click = next(iter(cuts)).truncate(duration=0.06)
    assert not admission(tokenizer, ctc=False, min_duration=0.0)(click)


def test_frames_that_ctc_needs_by_brute_force():
    def fewest(labels):
        """Length of the shortest path: labels, with a blank wherever two equal ones would merge."""
        path = []
        for label in labels:
            path += [0, label] if path and path[-1] == label else [label]
        return max(len(path), 1)

    for code in range(3**6):
        labels = [code // 3**i % 3 + 1 for i in range(6)][: code % 7]
        assert frames_needed(labels) == fewest(labels)


def test_refused_utterances_are_not_in_the_stream(cuts, tokenizer):
    admit = admission(tokenizer, min_duration=1.0)
    stream = draws(cuts.filter(admit))
    long = sorted(cut.id for cut in cuts if cut.duration >= 1.0)
    assert 0 < len(long) < 24
    assert ids_of_epoch(stream, 0) == long
    assert sorted(admit.refused) == sorted(cut.id for cut in cuts if cut.id not in long)


def told(batches):
    return [(one.id, batch.position) for batch in batches for one in batch.skipped]


@pytest.mark.parametrize("lookahead", [2, 20000])
@pytest.mark.parametrize("speeds", [[], [0.8, 1.25]])
def test_what_is_refused_is_told_once_in_an_epoch_by_its_own_name_from_any_position_on(
    cuts, tokenizer, lookahead, speeds
):
    options = replace(OPTIONS, speed_factors=speeds, lookahead=lookahead, buckets=2, max_seconds=2.0)
    dataset = SpeechDataset(80, frame_timing(4), tokenizer)

    def batches(start, count, workers=0):
        admit = admission(tokenizer, min_duration=1.0)
        stream = TrainingStream(cuts.filter(admit), options, 0, start, admit)
        next(iter(stream.cuts))  # as what looks at the cuts before the training does
        return list(islice(Loader(dataset, stream, workers), count))

    whole = batches(Position(), 30)
    taken = {name.split("_sp")[0] for batch in whole if batch.position.epoch == 0 for name in batch.ids}
    for epoch in (0, 1):
        refused = [name for name, position in told(whole) if position.epoch == epoch]
        assert len(refused) == len({*refused})
        assert all("_sp" not in name for name in refused)
    if not speeds:
        assert {name for name, position in told(whole) if position.epoch == 0} == {cut.id for cut in cuts} - taken
    for done in (1, 5, 16):
        rest = batches(whole[done - 1].position, 6)
        assert told(rest) == told(whole[done : done + 6])


@pytest.mark.parametrize("workers", [0, 2])
def test_the_processes_together_tell_what_was_refused(cuts, tokenizer, workers):
    dataset = SpeechDataset(80, frame_timing(4), tokenizer)

    def batches(count, rank, size, workers):
        admit = admission(tokenizer, min_duration=1.0)
        stream = TrainingStream(cuts.filter(admit), OPTIONS, 0, Position(), admit, rank, size)
        return list(islice(Loader(dataset, stream, workers), count))

    whole = [one.id for batch in batches(8, 0, 1, 0) for one in batch.skipped]
    shares = [one.id for rank in range(2) for batch in batches(4, rank, 2, workers) for one in batch.skipped]
    assert sorted(shares) == sorted(whole) != []


def test_nothing_left_to_train_on_is_an_input_error(cuts, tokenizer):
    admit = admission(tokenizer, min_duration=9.0)
    reason = "no utterance is left to train on, 24 were refused; train-00: lasts .* s, outside 9 to 30 s; train-01: "
    with pytest.raises(InputError, match=reason):
        draws(cuts.filter(admit), count=1, admission=admit)


def test_the_modified_topology_needs_a_frame_per_label(cuts, tokenizer):
    cut = with_text(next(iter(cuts)), "LOW")
    strict = Admission(tokenizer, 0.1, 30.0, SimpleNamespace(length=lambda _: 3), ctc=False, modified=True)
    labels = len(tokenizer.encode("LOW"))
    reason = f"{labels} labels need {labels} frames, the encoder gives 3"
    helpful = "larger units, loss.topology=regular or longer utterances would help"
    assert strict.reason_against(cut) == f"{reason}: {helpful}"
    assert Admission(tokenizer, 0.1, 30.0, SimpleNamespace(length=lambda _: labels), ctc=False, modified=True)(cut)
