"""`asr features`: what is stored is what the manifest names, whatever was stored before."""

import contextlib
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile
import torch
from lhotse import Fbank, MonoCut, MultiCut, SupervisionSegment

from asr.cli import features as command
from asr.config import FeaturesConfig
from asr.data.corpus import describe_recording, write_cuts
from asr.data.features import load_features, make_fbank
from asr.data.manifest import open_cuts
from asr.errors import InputError

FBANK = make_fbank(8)


def compute(cuts, output, storage, work=command.store_chunk, **options):
    """Run the command in this process; `work` does what a process would."""
    here = mock.Mock(map=lambda function, items: map(work, items))
    with mock.patch.object(command, "start_workers", return_value=contextlib.nullcontext(here)):
        command.main(FeaturesConfig(str(cuts), str(output), str(storage), 8, **options))
    return list(open_cuts([str(output)]))


def files(storage):
    """Every file below a directory, with its content."""
    return {str(path.relative_to(storage)): path.read_bytes() for path in storage.rglob("*") if path.is_file()}


def named(cuts, storage):
    """The files that cuts name, relative to the storage."""
    return {str((Path(cut.features.storage_path) / cut.features.storage_key).relative_to(storage)) for cut in cuts}


def test_the_same_again_costs_nothing_more(tiny_corpus, tmp_path):
    options = {"speed_factors": [0.9, 1.1]}
    first = compute(tiny_corpus.dev, tmp_path / "out.jsonl.gz", tmp_path / "feats", **options)
    before = files(tmp_path / "feats")
    assert len(before) == len(first) == 18
    again = compute(tiny_corpus.dev, tmp_path / "out.jsonl.gz", tmp_path / "feats", **options)
    assert files(tmp_path / "feats") == before
    assert named(again, tmp_path / "feats") == set(before)
    originals = {cut.id: cut for cut in open_cuts([str(tiny_corpus.dev)])}
    for cut in again[::3]:
        assert torch.equal(load_features(cut, FBANK), load_features(originals[cut.id], FBANK))


def test_features_of_several_channels_are_those_of_their_mean(tmp_path):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (16000, 2))
    soundfile.write(tmp_path / "stereo.wav", samples, 16000)
    recording = describe_recording("stereo", tmp_path / "stereo.wav")
    supervision = SupervisionSegment("stereo", "stereo", 0, 1, channel=[0, 1], text="x")
    cut = MultiCut("stereo", 0, 1, [0, 1], [supervision], recording=recording)
    write_cuts([cut], tmp_path / "cuts.jsonl.gz")
    for factors in ([], [0.9]):
        stored = compute(tmp_path / "cuts.jsonl.gz", tmp_path / "o.jsonl.gz", tmp_path / "f", speed_factors=factors)
        for one, alone in zip(stored, [cut, *(cut.perturb_speed(factor) for factor in factors)], strict=True):
            assert one.channel == [0, 1]
            assert torch.equal(load_features(one, FBANK), load_features(alone, FBANK))
    with_mean = Fbank.extract(FBANK, samples.mean(axis=1).astype(np.float32), 16000)
    np.testing.assert_allclose(load_features(stored[0], FBANK), with_mean, atol=1e-2)


def test_what_is_no_longer_in_the_manifest_goes(tiny_corpus, tmp_path):
    compute(tiny_corpus.dev, tmp_path / "out.jsonl.gz", tmp_path / "feats")
    write_cuts(list(open_cuts([str(tiny_corpus.dev)]))[:2], tmp_path / "fewer.jsonl.gz")
    fewer = compute(tmp_path / "fewer.jsonl.gz", tmp_path / "out.jsonl.gz", tmp_path / "feats")
    assert set(files(tmp_path / "feats")) == named(fewer, tmp_path / "feats")
    assert len(fewer) == 2


def test_manifests_with_the_same_ids_may_share_a_storage(tiny_corpus, tmp_path):
    (tmp_path / "a").mkdir()
    louder = tmp_path / "louder.wav"
    cut = next(iter(open_cuts([str(tiny_corpus.dev)])))
    soundfile.write(louder, 2 * cut.load_audio()[0], 16000, subtype="FLOAT")
    source = replace(cut.recording.sources[0], source=str(louder))
    write_cuts([replace(cut, recording=replace(cut.recording, sources=[source]))], tmp_path / "louder.jsonl.gz")
    quiet = compute(tiny_corpus.dev, tmp_path / "out.jsonl.gz", tmp_path / "feats")[0]
    loud = compute(tmp_path / "louder.jsonl.gz", tmp_path / "a" / "out.jsonl.gz", tmp_path / "feats")[0]
    assert loud.id == quiet.id
    difference = load_features(loud, FBANK) - load_features(quiet, FBANK)
    assert difference.mean() == pytest.approx(2 * np.log(2), abs=0.05)


def test_interrupted_it_leaves_what_was_there_and_the_next_run_leaves_no_more(tiny_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "CHUNK", 2)
    before = compute(tiny_corpus.dev, tmp_path / "out.jsonl.gz", tmp_path / "feats")
    kept = files(tmp_path / "feats")

    def dies(task):
        stored = command.store_chunk(task)
        if task.cuts[0].id == "dev-2":
            raise InputError("a worker process died")
        return stored

    with pytest.raises(InputError, match="died"):
        compute(tiny_corpus.dev, tmp_path / "out.jsonl.gz", tmp_path / "feats", dies)
    left = files(tmp_path / "feats")
    assert {name: left[name] for name in kept} == kept
    assert len(left) == len(kept) + 4
    assert [cut.features for cut in open_cuts([str(tmp_path / "out.jsonl.gz")])] == [cut.features for cut in before]
    compute(tiny_corpus.dev, tmp_path / "out.jsonl.gz", tmp_path / "feats")
    assert files(tmp_path / "feats") == kept


def test_an_odd_utterance_costs_no_other(tiny_corpus, tmp_path, capsys):
    good = list(open_cuts([str(tiny_corpus.dev)]))
    odd = MonoCut("odd", 0.0, 1.0, 0, [])
    write_cuts([*good[:3], odd, good[3].pad(duration=5.0, preserve_id=True), *good[4:]], tmp_path / "cuts.jsonl.gz")
    stored = compute(tmp_path / "cuts.jsonl.gz", tmp_path / "out.jsonl.gz", tmp_path / "feats", speed_factors=[0.9])
    assert [cut.id for cut in stored[::2]] == [good[n].id for n in (0, 1, 2, 4, 5)]
    said = capsys.readouterr()
    assert "skipped odd: the cut has no audio" in said.err
    assert f"skipped {good[3].id}: a MixedCut cannot hold stored features" in said.err
    assert said.out.endswith("10 utterances with features, 2 skipped\n")
    assert set(files(tmp_path / "feats")) == named(stored, tmp_path / "feats")
