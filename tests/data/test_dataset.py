"""Batches: shapes, padding, what is skipped, and that nothing but the draw matters."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet, SupervisionSegment

import asr
from asr.config import SpecAugmentOptions
from asr.data.batch import Position
from asr.data.corpus import describe_recording, make_cut
from asr.data.dataset import Augmentation, Draw, SpeechDataset, transcript
from asr.data.features import load_features
from asr.data.tokenizer import load_tokenizer
from asr.models.subsampling import frame_timing

TIMING = frame_timing(4)
SOURCE = Path(asr.__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def cuts(tiny_corpus):
    return list(CutSet.from_file(tiny_corpus.dev))


@pytest.fixture(scope="module")
def dataset(tiny_corpus):
    return SpeechDataset(80, TIMING, load_tokenizer(tiny_corpus.tokenizer), Augmentation(SpecAugmentOptions(), seed=3))


def bad_cuts(directory, cut):
    """Copies of a cut whose audio is missing, garbled, NaN, shorter than a frame, and too short for the encoder."""
    bad = []
    for name, samples in {
        "missing": np.zeros(16000),
        "garbled": np.zeros(16000),
        "nan": np.full(16000, np.nan),
        "click": np.zeros(100),
        "short": np.zeros(160 * (TIMING.window - 1)),
    }.items():
        path = directory / f"{name}.wav"
        soundfile.write(path, samples, 16000, subtype="FLOAT")
        bad.append(make_cut(describe_recording(name, path), cut.supervisions[0].text, "speaker", "English"))
    (directory / "missing.wav").unlink()
    (directory / "garbled.wav").write_bytes(b"garbled")
    return bad


REASONS = {
    "missing": "unreadable audio",
    "garbled": "unreadable audio",
    "nan": "audio with NaN or infinite values",
    "click": "100 samples of audio",
    "short": "6 feature frames, the encoder needs 7",
}


def digest(batch):
    """SHA-256 of the features and the ids."""
    return hashlib.sha256(batch.features.numpy().tobytes() + " ".join(batch.ids).encode()).hexdigest()


def test_features_and_labels_are_padded_with_zeros(dataset, cuts):
    batch = dataset[Draw(cuts)]
    assert len(batch) == len(cuts)
    assert batch.features.shape == (len(cuts), batch.feature_frames.max(), 80)
    assert batch.labels.shape == (len(cuts), batch.label_lengths.max())
    assert batch.feature_frames.min() < batch.feature_frames.max()
    assert batch.label_lengths.min() < batch.label_lengths.max()
    for row, cut in enumerate(cuts):
        frames, labels = batch.feature_frames[row], batch.label_lengths[row]
        assert torch.equal(batch.features[row, :frames], load_features(cut, dataset.fbank))
        assert (batch.features[row, frames:] == 0).all()
        assert dataset.tokenizer.decode(batch.labels[row, :labels].tolist()) == transcript(cut)
        assert (batch.labels[row, labels:] == 0).all()


def test_a_batch_names_its_utterances(dataset, cuts):
    batch = dataset[Draw(cuts, Position(2, 5))]
    assert batch.ids == [cut.id for cut in cuts]
    assert batch.texts == [cut.supervisions[0].text for cut in cuts]
    assert batch.seconds == pytest.approx(sum(cut.duration for cut in cuts), rel=1e-12)
    assert batch.position == Position(2, 5)
    assert batch.skipped == []


def test_bad_utterances_are_named_and_the_rest_goes_on(dataset, cuts, tmp_path):
    bad = bad_cuts(tmp_path, cuts[0])
    mixed = [bad[0], cuts[0], *bad[1:3], cuts[1], *bad[3:]]
    batch, clean = dataset[Draw(mixed)], dataset[Draw(cuts[:2])]
    assert {skipped.id for skipped in batch.skipped} == set(REASONS)
    assert all(skipped.reason.startswith(REASONS[skipped.id]) for skipped in batch.skipped)
    assert digest(batch) == digest(clean)
    assert torch.equal(batch.labels, clean.labels)
    assert batch.seconds == clean.seconds


def test_a_batch_of_which_nothing_can_be_read_is_empty(dataset, cuts, tmp_path):
    batch = dataset[Draw(bad_cuts(tmp_path, cuts[0]), Position(0, 1))]
    assert len(batch) == 0
    assert len(batch.skipped) == len(REASONS)
    assert batch.features.shape == (0, 0, 80)
    assert batch.labels.shape == (0, 0)
    assert batch.seconds == 0
    assert batch.position == Position(0, 1)


def test_augmentation_is_for_training_alone_and_follows_seed_epoch_and_utterance(dataset, cuts):
    plain = dataset[Draw(cuts)]
    epoch_0, again, epoch_1 = (dataset[Draw(cuts, Position(epoch, 1))] for epoch in (0, 0, 1))
    assert digest(epoch_0) == digest(again)
    assert len({digest(plain), digest(epoch_0), digest(epoch_1)}) == 3
    other_seed = SpeechDataset(80, TIMING, dataset.tokenizer, replace(dataset.augmentation, seed=4))
    assert digest(other_seed[Draw(cuts, Position(0, 1))]) != digest(epoch_0)


def test_two_views_of_an_utterance_differ_in_their_masks_alone(dataset, cuts, tmp_path):
    bad, *_ = bad_cuts(tmp_path, cuts[0])
    draw = Draw([bad, *cuts], Position(2, 1))
    twice = SpeechDataset(80, TIMING, dataset.tokenizer, dataset.augmentation, views=2)
    once, batch = dataset[draw], twice[draw]
    assert (once.views, batch.views, len(once), len(batch)) == (1, 2, len(cuts), 2 * len(cuts))
    assert (batch.ids, batch.texts, batch.words) == (once.ids * 2, once.texts * 2, once.words * 2)
    assert batch.seconds == once.seconds
    assert batch.skipped == once.skipped
    for name in ("labels", "label_lengths", "feature_frames", "alignment"):
        assert all(torch.equal(half, getattr(once, name)) for half in getattr(batch, name).chunk(2))
    first, second = batch.features.chunk(2)
    assert torch.equal(first, once.features)
    assert all((one != other).any() for one, other in zip(first, second))
    assert torch.equal(second, twice[draw].features.chunk(2)[1])
    assert batch.select([0, len(cuts)]).views == 1


def test_what_is_not_trained_on_has_one_view(dataset, cuts):
    twice = SpeechDataset(80, TIMING, dataset.tokenizer, dataset.augmentation, views=2)
    assert digest(twice[Draw(cuts)]) == digest(dataset[Draw(cuts)])
    assert twice[Draw(cuts)].views == 1


def test_an_utterance_does_not_depend_on_the_others_of_its_batch(dataset, cuts):
    together, alone = dataset[Draw(cuts, Position(0, 1))], dataset[Draw(cuts[2:3], Position(0, 9))]
    assert torch.equal(together.features[2, : together.feature_frames[2]], alone.features[0])


def test_the_same_draw_gives_the_same_bits_in_another_process(dataset, cuts, tiny_corpus):
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_dataset import *
dataset = SpeechDataset(80, TIMING, None, Augmentation(SpecAugmentOptions(), seed=3))
print(digest(dataset[Draw(list(CutSet.from_file({str(tiny_corpus.dev)!r})), Position(1, 1))]))
"""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONHASHSEED": "7"}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == digest(dataset[Draw(cuts, Position(1, 1))])


def test_without_a_tokenizer_there_are_no_labels(cuts):
    batch = SpeechDataset(80, TIMING)[Draw(cuts)]
    assert batch.label_lengths.tolist() == [0] * len(cuts)
    assert batch.labels.shape == (len(cuts), 0)
    assert batch.texts == [transcript(cut) for cut in cuts]


def test_a_transcript_joins_supervisions_in_order_of_time(cuts):
    def at(start, text):
        return SupervisionSegment(f"s{start}", "u", start, 0.1, text=text)

    def said(*supervisions):
        return transcript(replace(cuts[0], supervisions=list(supervisions)))

    assert said(at(0.4, "TOP  LOW "), at(0.0, " MID\tLOW"), at(0.2, None), at(0.3, "")) == "MID LOW TOP LOW"
    assert said(at(0.0, None)) == ""
    assert said() == ""


def test_moving_a_batch_keeps_everything(dataset, cuts):
    batch = dataset[Draw(cuts, Position(0, 1))]
    moved = batch.to(torch.device("meta"))
    assert moved.features.device.type == "meta"
    assert moved.labels.device.type == moved.label_lengths.device.type == "cpu"  # where they can be looked at
    assert (moved.ids, moved.position, moved.seconds) == (batch.ids, batch.position, batch.seconds)
