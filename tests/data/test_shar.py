"""Shar: the same utterances with the same features, resumed exactly, and written whole or not at all."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile
import torch
from conftest import REPOSITORY
from lhotse import CutSet, NumpyFilesWriter

from asr.cli import shar as command
from asr.config import DataOptions, SharConfig, SpecAugmentOptions
from asr.data.batch import Position
from asr.data.corpus import describe_recording, make_cut, write_cuts
from asr.data.dataset import Augmentation, SpeechDataset
from asr.data.features import SAMPLING_RATE, load_features, load_samples, make_fbank
from asr.data.loader import Loader
from asr.data.manifest import open_cuts
from asr.data.sampler import TrainingStream
from asr.data.shar import Shard, begin, read_shar, torn_tars_unheard, write_shard
from asr.errors import InputError
from asr.models.subsampling import frame_timing

FBANK = make_fbank(80)
FILES = ("cuts", "jsonl.gz"), ("recording", "tar")  # of a shard


def export(manifest, output, work=write_shard, **options):
    """What the command exports, in this process unless `jobs` are given; `work` writes a shard."""
    config = SharConfig(str(manifest), str(output), **{"shard_size": 7, **options})
    with contextlib.ExitStack() as stack:
        if "jobs" not in options:
            here = mock.Mock(map=lambda function, items: map(work, items))
            stack.enter_context(mock.patch.object(command, "start_workers", return_value=contextlib.nullcontext(here)))
        command.main(config)
    return open_cuts([str(output)])


def said(cuts):
    return [(cut.id, cut.supervisions[0].text, cut.supervisions[0].speaker, cut.duration) for cut in cuts]


@pytest.fixture(scope="module")
def packed(tiny_corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("shar") / "train"
    export(tiny_corpus.train, output)
    return output


def test_the_same_utterances_with_the_same_features(tiny_corpus, packed):
    before, after = list(open_cuts([str(tiny_corpus.train)])), list(open_cuts([str(packed)]))
    assert said(after) == said(before)
    for one, other in zip(before, after):
        assert torch.equal(load_features(one, FBANK), load_features(other, FBANK))
    assert sorted(path.name for path in packed.iterdir()) == sorted(
        [
            "cuts.shards.json",
            *(
                f"{name}.{number:06d}.{kind}"
                for number in range(4)
                for name, kind in (("cuts", "jsonl.gz"), ("recording", "tar"))
            ),
        ]
    )
    assert [cut.id for cut in CutSet.from_shar(in_dir=packed)] == [cut.id for cut in before]  # Lhotse's own reader


@pytest.mark.parametrize("gone", ["recording.000001.tar", "*.000001.*", "*.000003.*"])
def test_a_shard_that_is_not_there_is_missed(packed, tmp_path, gone):
    shutil.copytree(packed, tmp_path / "part")
    for path in (tmp_path / "part").glob(gone):
        path.unlink()
    missing = gone.replace("*.", "cuts.", 1).replace("*", "jsonl.gz")
    with pytest.raises(InputError, match=f"part: {missing} is missing; restore it, or prepare the corpus again"):
        open_cuts([str(tmp_path / "part")])


def test_it_needs_the_original_audio_no_more(tiny_corpus, tmp_path):
    cut = next(iter(open_cuts([str(tiny_corpus.train)])))
    samples = load_samples(cut)
    soundfile.write(tmp_path / "u.wav", samples, SAMPLING_RATE, subtype="PCM_16")
    write_cuts(
        [make_cut(describe_recording("u", tmp_path / "u.wav"), "LOW", "s", "English")], tmp_path / "cuts.jsonl.gz"
    )
    (packed,) = export(tmp_path / "cuts.jsonl.gz", tmp_path / "out")
    (tmp_path / "u.wav").unlink()
    assert np.array_equal(load_samples(packed), samples)


@pytest.mark.parametrize("audio", ["flac", "wav"])
def test_part_of_a_recording_at_another_rate(tmp_path, audio):
    samples = (0.1 * np.random.default_rng(0).standard_normal(16000)).astype(np.float32)
    soundfile.write(tmp_path / "u.wav", samples, 8000, subtype="PCM_16")
    whole = make_cut(describe_recording("u", tmp_path / "u.wav"), "LOW", "s", "English")
    part = whole.truncate(offset=0.5, duration=0.75, preserve_id=True)
    write_cuts([part], tmp_path / "cuts.jsonl.gz")
    (packed,) = export(tmp_path / "cuts.jsonl.gz", tmp_path / "out", audio=audio)
    assert (packed.duration, packed.sampling_rate) == (0.75, 8000)
    assert torch.equal(load_features(packed, FBANK), load_features(part, FBANK))


def test_stored_features_are_packed_as_they_are(tiny_corpus, tmp_path):
    with NumpyFilesWriter(str(tmp_path / "fbank")) as writer:
        stored = [
            replace(
                cut,
                features=FBANK.extract_from_samples_and_store(load_samples(cut)[None], writer, SAMPLING_RATE, 0.0, 0),
            )
            for cut in open_cuts([str(tiny_corpus.dev)])
        ]
    write_cuts(stored, tmp_path / "cuts.jsonl.gz")
    packed = list(export(tmp_path / "cuts.jsonl.gz", tmp_path / "out"))
    for one, other in zip(stored, packed):
        assert other.has_features
        assert torch.equal(load_features(one, FBANK), load_features(other, FBANK))


@pytest.mark.parametrize("workers", [0, 2])
def test_training_has_the_same_batches_and_resumes_with_the_same_bits(tiny_corpus, packed, workers):
    options = DataOptions(max_seconds=5.0, buckets=3, speed_factors=[0.9, 1.0, 1.1], lookahead=12)
    dataset = SpeechDataset(80, frame_timing(4), None, Augmentation(SpecAugmentOptions(), seed=0))

    def batches(source, start=Position(), count=12):  # noqa: B008
        stream = TrainingStream(open_cuts([str(source)]), options, 0, start)
        return list(islice(Loader(dataset, stream, workers), count))

    loose, whole = batches(tiny_corpus.train), batches(packed)
    assert whole[-1].position.epoch >= 1
    for one, other in zip(loose, whole):
        assert (one.ids, one.position) == (other.ids, other.position)
        assert torch.equal(one.features, other.features)
    for done in (1, 5, 9):
        for batch, expected in zip(batches(packed, whole[done - 1].position, 3), whole[done:]):
            assert (batch.ids, batch.position) == (expected.ids, expected.position)
            assert torch.equal(batch.features, expected.features)


def test_the_sampler_looks_no_further_ahead_than_asked(packed):
    read = []
    cuts = open_cuts([str(packed)]).filter(lambda cut: read.append(cut.id) or True)
    options = DataOptions(max_seconds=1.0, buckets=2, lookahead=5)
    next(iter(TrainingStream(cuts, options, 0)))
    assert len(read) <= options.lookahead


def test_several_processes_write_the_same(tiny_corpus, packed, tmp_path):
    export(tiny_corpus.train, tmp_path / "out", jobs=2)
    assert said(open_cuts([str(tmp_path / "out")])) == said(open_cuts([str(packed)]))


def test_what_cannot_be_read_is_named_and_left_out(tiny_corpus, tmp_path, capsys):
    cuts = list(open_cuts([str(tiny_corpus.dev)]))
    (tmp_path / "broken.flac").write_bytes(b"garbled")
    source = replace(cuts[1].recording.sources[0], source=str(tmp_path / "broken.flac"))
    cuts[1] = replace(cuts[1], recording=replace(cuts[1].recording, sources=[source]))
    write_cuts(cuts, tmp_path / "cuts.jsonl.gz")
    packed = export(tmp_path / "cuts.jsonl.gz", tmp_path / "out")
    assert [cut.id for cut in packed] == [cut.id for cut in (cuts[0], *cuts[2:])]
    printed = capsys.readouterr()
    assert f"skipped {cuts[1].id}: unreadable audio" in printed.err
    assert "5 of 6 utterances in 1 shards" in printed.out
    write_cuts(cuts[1:2], tmp_path / "cuts.jsonl.gz")
    with pytest.raises(InputError, match=r"unreadable audio.*and so are all 1 of its shard"):
        export(tmp_path / "cuts.jsonl.gz", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_an_interrupted_export_goes_on(tiny_corpus, packed, tmp_path):
    output, written = tmp_path / "out", []

    def failing(shard):
        if shard.number == 2:
            raise KeyboardInterrupt
        written.append(shard.number)
        return write_shard(shard)

    def going_on(shard):
        written.append(shard.number)
        return write_shard(shard)

    with pytest.raises(KeyboardInterrupt):
        export(tiny_corpus.train, output, failing)
    assert not output.exists()
    assert said(export(tiny_corpus.train, output, going_on)) == said(open_cuts([str(packed)]))
    assert written == [0, 1, 2, 3]


def test_another_manifest_or_size_begins_anew(tiny_corpus, tmp_path):
    directory = begin(tmp_path / "out", {"cuts": "a"})
    (directory / "cuts.000000.jsonl.gz").touch()
    assert begin(tmp_path / "out", {"cuts": "a"}) == directory
    assert (directory / "cuts.000000.jsonl.gz").exists()
    begin(tmp_path / "out", {"cuts": "b"})
    assert not (directory / "cuts.000000.jsonl.gz").exists()


def test_a_killed_export_leaves_no_half_shard(tiny_corpus, tmp_path):
    program = f"""
import os, signal
from pathlib import Path
from lhotse.shar import SharWriter
from asr.data.manifest import open_cuts
from asr.data.shar import Shard, write_shard
write, done = SharWriter.write, []
def die(self, cut):
    write(self, cut)
    done.append(cut)
    if len(done) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
SharWriter.write = die
write_shard(Shard(0, list(open_cuts([{str(tiny_corpus.dev)!r}])), Path({str(tmp_path)!r}), "flac"))
"""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    died = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True)
    assert died.returncode == -signal.SIGKILL
    assert not list(tmp_path.glob("*.tar"))
    assert not Shard(0, [], tmp_path, "flac").done


def test_an_export_replaces_an_older_one_but_nothing_else(tiny_corpus, tmp_path):
    export(tiny_corpus.train, tmp_path / "out")
    assert len(list(export(tiny_corpus.dev, tmp_path / "out"))) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (tmp_path / "out" / "thesis.txt").touch()
    with pytest.raises(InputError, match=r"holds thesis.txt, which is not Shar's: name another directory"):
        export(tiny_corpus.dev, tmp_path / "out")
    with pytest.raises(InputError, match="name another directory"):
        export(tiny_corpus.dev, tmp_path / "out" / "thesis.txt")


def test_a_manifest_cannot_be_made_of_it(packed, tmp_path):
    with pytest.raises(InputError, match="use the manifest that was packed"):
        write_cuts(open_cuts([str(packed)]), tmp_path / "cuts.jsonl.gz")
    assert not list(tmp_path.iterdir())


def test_a_shard_is_opened_when_its_turn_has_come(packed, monkeypatch):
    opened, path_open = [], Path.open
    monkeypatch.setattr(Path, "open", lambda path, *words: opened.append(path.name) or path_open(path, *words))
    for _ in islice(read_shar(packed, count()), 8):
        pass
    assert opened == [f"{name}.00000{number}.{kind}" for number in range(2) for name, kind in FILES]


@pytest.mark.parametrize("damage", ["short", "garbled", "missing", "empty"])
def test_damage_is_named(packed, tmp_path, damage):
    shutil.copytree(packed, tmp_path / "out")
    tar = tmp_path / "out" / "recording.000002.tar"
    content = tar.read_bytes()
    if damage == "missing":
        tar.unlink()
    else:
        tar.write_bytes({"short": content[: len(content) // 2], "garbled": b"x" * 2048, "empty": b"\0" * 10240}[damage])
    with pytest.raises(InputError, match=str(tmp_path / "out")):
        list(open_cuts([str(tmp_path / "out")]))


class Torn:
    """Ends as a tar file does whose disk is full."""

    def __del__(self):
        raise ValueError("write to closed file")


def write_torn():
    torn = Torn()
    raise OSError(f"cannot write {torn}")


def close_torn():
    try:
        write_torn()
    finally:
        raise OSError("cannot close")


def test_tar_files_that_could_not_be_written_end_unheard(monkeypatch):
    """Also those whose closing failed, after their writing had."""
    heard = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    with pytest.raises(OSError, match="cannot close"), torn_tars_unheard():
        close_torn()
    with contextlib.suppress(OSError):
        write_torn()
    assert [str(one.exc_value) for one in heard] == ["write to closed file"]  # the last, of another block
