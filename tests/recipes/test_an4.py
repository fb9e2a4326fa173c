"""The AN4 preparation on real data, and on damaged copies of a small part of it."""

import shutil

import numpy as np
import pytest
import soundfile
from lhotse import CutSet

from asr.errors import InputError

TRAIN = ("an4_clstk/fash/an251-fash-b", "an4_clstk/fsrb/an166-fsrb-b")
TEST = ("an4test_clstk/fkdo/an132-fkdo-b",)


@pytest.fixture
def prepare(load_prepare):
    return load_prepare("an4")


@pytest.fixture
def small(shared_data, tmp_path):
    """Three utterances laid out as the corpus is."""
    corpus = tmp_path / "an4"
    (corpus / "etc").mkdir(parents=True)
    for part, file_ids in (("train", TRAIN), ("test", TEST)):
        (corpus / "etc" / f"an4_{part}.fileids").write_text("\n".join(file_ids) + "\n")
        lines = [f"<s> GO </s> ({file_id.split('/')[-1]})\n" for file_id in file_ids]
        (corpus / "etc" / f"an4_{part}.transcription").write_text("".join(lines))
    for file_id in TRAIN + TEST:
        target = corpus / "wav" / f"{file_id}.sph"
        target.parent.mkdir(parents=True)
        shutil.copyfile(shared_data / "an4" / "wav" / f"{file_id}.sph", target)
    return corpus


def run_small(prepare, small):
    prepare.main(["--corpus-dir", str(small), "--output", str(small.parent / "out")])
    return small.parent / "out"


def test_splits_have_the_official_counts_and_no_speaker_in_two(prepare, shared_data):
    splits = prepare.split_utterances(shared_data / "an4")
    assert len(splits["train"]) + len(splits["dev"]) == 845
    assert len(splits["test"]) == 103
    assert len(splits["dev"]) == 52
    speakers = {split: {prepare.speaker_of(file_id) for file_id in splits[split]} for split in splits}
    assert speakers["dev"] == prepare.DEV_SPEAKERS
    assert not speakers["train"] & speakers["dev"]
    assert not (speakers["train"] | speakers["dev"]) & speakers["test"]


def test_audio_text_and_speaker(prepare, small):
    out = run_small(prepare, small)
    for split, file_id in (("train", TRAIN[0]), ("dev", TRAIN[1]), ("test", TEST[0])):
        (cut,) = CutSet.from_file(out / f"cuts_{split}.jsonl.gz")
        assert (cut.id, cut.supervisions[0].speaker) == (file_id.split("/")[2], file_id.split("/")[1])
        assert cut.supervisions[0].text == "GO"
        original, rate = soundfile.read(small / "wav" / f"{file_id}.sph", dtype="int16")
        assert rate == cut.sampling_rate == 16000
        assert np.array_equal(cut.load_audio()[0] * 2**15, original)


@pytest.mark.parametrize(("edit", "message"), [("flip", "sample_checksum"), ("truncate", "sample_count")])
def test_damaged_sphere_file_is_refused(prepare, small, edit, message):
    path = small / "wav" / f"{TRAIN[1]}.sph"
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data if edit == "flip" else path.read_bytes()[:-2])
    with pytest.raises(InputError, match=rf"fsrb-b\.sph: damaged \({message}"):
        run_small(prepare, small)


def test_file_that_is_no_audio_is_refused(prepare, small):
    (small / "wav" / f"{TEST[0]}.sph").write_bytes(b"<html>")
    with pytest.raises(InputError, match=r"fkdo-b\.sph: not a readable sphere file"):
        run_small(prepare, small)


def test_listed_file_without_audio_is_named(prepare, small):
    (small / "wav" / f"{TRAIN[0]}.sph").unlink()
    with pytest.raises(InputError, match=r"fash-b\.sph: cannot read it"):
        run_small(prepare, small)


@pytest.mark.parametrize("line", ["", "<s> </s> (an132-fkdo-b)\n"])
def test_listed_file_without_transcript_is_named(prepare, small, line):
    (small / "etc" / "an4_test.transcription").write_text(line)
    with pytest.raises(InputError, match=r"fkdo-b: an4_test\.transcription has no text for it"):
        run_small(prepare, small)


def test_missing_corpus_is_named(prepare, tmp_path):
    with pytest.raises(InputError, match=r"nowhere.*--corpus-dir"):
        prepare.main(["--corpus-dir", str(tmp_path / "nowhere"), "--output", str(tmp_path)])
