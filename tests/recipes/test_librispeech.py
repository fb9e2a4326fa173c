"""The LibriSpeech preparation on part of the corpus, on damaged copies of it, and the stages of its run.sh."""

import os
import shutil
import subprocess
import tarfile

import pytest
from conftest import REPOSITORY
from lhotse import CutSet

from asr.cli.compose import compose
from asr.errors import InputError

RECIPE = REPOSITORY / "recipes" / "librispeech"
TRAIN, DEV = "train-clean-5/19/198", "dev-clean-2/1867/154075"


@pytest.fixture
def prepare(load_prepare):
    return load_prepare("librispeech")


@pytest.fixture
def small(shared_data, tmp_path):
    """Two chapters, of a training and a development speaker."""
    for chapter in (TRAIN, DEV):
        shutil.copytree(shared_data / "LibriSpeech" / chapter, tmp_path / "LibriSpeech" / chapter)
    return tmp_path / "LibriSpeech"


def run(prepare, corpus, output, chosen="mini"):
    prepare.main(["--corpus-dir", str(corpus), "--output", str(output), "--set", chosen])
    return {path.name[5:].split(".")[0]: list(CutSet.from_file(path)) for path in output.glob("cuts_*.jsonl.gz")}


def test_cuts_are_whole_utterances_with_the_text_of_the_corpus(prepare, small, tmp_path):
    cuts = run(prepare, small, tmp_path / "out")
    for split, chapter in (("train", TRAIN), ("dev", DEV)):
        lines = next((small / chapter).glob("*.trans.txt")).read_text().splitlines()
        assert {cut.id: cut.supervisions[0].text for cut in cuts[split]} == dict(line.split(" ", 1) for line in lines)
        assert {cut.supervisions[0].speaker for cut in cuts[split]} == {chapter.split("/")[1]}
        for cut in cuts[split]:
            assert cut.sampling_rate == 16000
            assert cut.load_audio().shape == (1, cut.num_samples)


def test_training_is_shuffled_the_same_way_each_time_and_what_is_done_is_left_alone(prepare, small, tmp_path):
    first, second = run(prepare, small, tmp_path / "a"), run(prepare, small, tmp_path / "b")
    assert first == second
    ids = [cut.id for cut in first["train"]]
    assert ids != sorted(ids)
    assert [cut.id for cut in first["dev"]] == sorted(cut.id for cut in first["dev"])
    before = (tmp_path / "a" / "cuts_train.jsonl.gz").stat().st_mtime_ns
    run(prepare, tmp_path / "gone", tmp_path / "a")
    assert (tmp_path / "a" / "cuts_train.jsonl.gz").stat().st_mtime_ns == before


def test_the_whole_of_a_copy_on_disk(prepare, shared_data, tmp_path, capsys):
    cuts = run(prepare, shared_data / "LibriSpeech", tmp_path)
    assert not {cut.supervisions[0].speaker for cut in cuts["train"]} & {
        cut.supervisions[0].speaker for cut in cuts["dev"]
    }
    assert (
        f"train-clean-5: {len(cuts['train'])} utterances of 25 speakers; 1519 are published" in capsys.readouterr().err
    )


def test_what_is_missing_is_named_and_the_rest_prepared(prepare, small, tmp_path, capsys):
    (small / "train-clean-5").rename(small / "train-clean-100")
    (small / "dev-clean-2").rename(small / "dev-other")
    gone = sorted((small / "train-clean-100").rglob("*.flac"))[1]
    gone.unlink()
    with pytest.raises(InputError, match="no utterance for test-clean: none in .*test-clean; --corpus-dir is"):
        run(prepare, small, tmp_path / "out", "960h")
    said = capsys.readouterr().err
    assert f"1 have a transcript but no audio, the first {gone.stem}" in said
    for part in ("train-clean-360", "train-other-500", "dev-clean", "test-clean"):
        assert f"{part}: not in {small}, goes without" in said
    assert (tmp_path / "out" / "cuts_train.jsonl.gz").exists()


def test_damaged_audio_is_named(prepare, small, tmp_path):
    damaged = sorted(small.rglob("*.flac"))[0]
    damaged.write_bytes(b"garbled")
    with pytest.raises(InputError, match=rf"{damaged.stem}.*restore it"):
        run(prepare, small, tmp_path / "out")


def test_an_empty_transcript_is_named(prepare, small, tmp_path):
    path = next((small / TRAIN).glob("*.trans.txt"))
    path.write_text(path.read_text() + "19-198-9999\n")
    with pytest.raises(InputError, match=r"19-198\.trans\.txt: no transcript in the line '19-198-9999'"):
        run(prepare, small, tmp_path / "out")


def count(part):
    """Utterances of a part of the corpus."""
    found = sum(1 for _ in part.rglob("*.flac"))
    assert found > 1
    return found


def test_a_download_is_unpacked_and_prepared_once(prepare, small, tmp_path, monkeypatch):
    server = tmp_path / "server"
    (server / "31").mkdir(parents=True)
    for part in ("train-clean-5", "dev-clean-2"):
        with tarfile.open(server / "31" / f"{part}.tar.gz", "w:gz") as tar:
            tar.add(small / part, f"LibriSpeech/{part}")
    monkeypatch.setattr(prepare, "DOWNLOAD_URL", server.as_uri())
    words = ["--download-dir", str(tmp_path / "download"), "--set", "mini", "--output"]
    prepare.main([*words, str(tmp_path / "out")])
    assert len(CutSet.from_file(tmp_path / "out" / "cuts_train.jsonl.gz")) == count(small / "train-clean-5")
    shutil.rmtree(server)
    prepare.main([*words, str(tmp_path / "again")])
    assert len(CutSet.from_file(tmp_path / "again" / "cuts_dev.jsonl.gz")) == count(small / "dev-clean-2")


def test_a_failed_download_says_what_to_do(prepare, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "DOWNLOAD_URL", (tmp_path / "nowhere").as_uri())
    with pytest.raises(InputError, match="download failed .*run again"):
        prepare.main(["--download-dir", str(tmp_path), "--output", str(tmp_path / "out"), "--set", "mini"])


def test_the_overfit_check_learns_what_it_is_scored_on():
    config = compose("train", ["run=x"], RECIPE / "conf", "overfit")
    assert config.data.train_cuts == config.data.valid_cuts == ["data/mini/cuts_20.jsonl.gz"]
    assert config.data.tokenizer == "data/mini/bpe_500"


@pytest.mark.parametrize("name", ["mini", "100h", "960h"])
def test_configs_compose(name):
    config = compose("train", ["run=x"], RECIPE / "conf", name)
    assert config.data.train_cuts == [f"data/{name}/cuts_train.jsonl.gz"]
    assert config.data.tokenizer == f"data/{name}/bpe_500"


@pytest.fixture
def stages(tmp_path):
    """A function that runs a copy of run.sh whose `asr` and `python` only write what is asked into a list."""
    for path in ("local/run.sh", "recipes/librispeech/run.sh", "conf/decode/greedy.yaml"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / path, tmp_path / path)
    shutil.copytree(RECIPE / "conf", tmp_path / "recipes/librispeech/conf")
    (tmp_path / "bin").mkdir()
    for program in ("asr", "python"):
        (tmp_path / "bin" / program).write_text(f'#!/bin/sh\necho {program} "$@" >>{tmp_path}/asked\n')
        (tmp_path / "bin" / program).chmod(0o755)

    def run_sh(*words):
        (tmp_path / "asked").write_text("")
        environment = {**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "ASR_SUPERVISED": "yes"}
        script = tmp_path / "recipes/librispeech/run.sh"
        done = subprocess.run(["bash", script, *words], env=environment, capture_output=True, text=True)
        return done, (tmp_path / "asked").read_text().splitlines()

    return run_sh


def commands(asked):
    return [" ".join(line.split()[:2]) for line in asked]


def test_every_stage_in_order(stages, tmp_path):
    done, asked = stages("--mini", "--corpus-dir", str(tmp_path), "--vocab-size", "99", "--", "model=tiny")
    assert done.returncode == 0, done.stderr
    prepared = ["python local/prepare.py"] * 2
    assert commands(asked) == [*prepared, "asr tokenizer", "asr train", "asr decode"]
    assert f"--corpus-dir {tmp_path}" in asked[0]
    assert asked[0].endswith("data/mini --set mini")
    assert asked[2] == (
        "asr tokenizer cuts=[data/mini/cuts_train.jsonl.gz] output=data/mini/bpe_99 kind=bpe vocab_size=99"
    )
    assert "--config-name mini" in asked[3]
    assert "data.valid_cuts=[data/mini/cuts_dev.jsonl.gz]" in asked[3]
    assert "noise" not in asked[3]
    assert asked[3].endswith("data.rooms.probability=0 model=tiny")
    assert "cuts=data/mini/cuts_dev.jsonl.gz output=exp/transducer/decode_dev_greedy" in asked[4]


def test_alignments_and_features_where_asked(stages):
    done, asked = stages("--align", "--features", "--stage", "1", "--stop-stage", "2")
    assert done.returncode == 0, done.stderr
    aligned = ["asr align", "asr attach"] * 4
    assert commands(asked) == ["asr tokenizer", *aligned, "asr features", "asr features", "asr train"]
    assert "cuts=data/100h/aligned/cuts_train.jsonl.gz output=data/100h/fbank/cuts_train.jsonl.gz" in asked[9]
    assert "data.train_cuts=[data/100h/fbank/cuts_train.jsonl.gz]" in asked[11]
    assert "data.speed_factors=[]" in asked[11]


def test_new_strings_of_words_where_asked_at_three_speeds_whatever_those_of_the_corpus(stages):
    words = ["--mini", "--align", "--stage", "1", "--stop-stage", "2"]
    done, asked = stages(*words, "--features", "--splice", "6000", "--speeds", "0.8,1.2")
    assert done.returncode == 0, done.stderr
    assert commands(asked)[5:] == ["asr splice", *["asr features"] * 3, "asr train"]
    assert "output=data/mini/aligned/cuts_spliced-6000.jsonl.gz" in asked[5]
    assert "count=6000" in asked[5]
    speeds = [line.partition("speed_factors=")[2].split(" ")[0] for line in asked[6:9]]
    assert speeds == ["[0.8,1.2]", "[0.9,1.1]", ""]
    assert "output=data/mini/fbank-0.8,1.2/cuts_spliced-6000.jsonl.gz" in asked[7]
    both = "data.train_cuts=[data/mini/{0}/cuts_train.jsonl.gz,data/mini/{0}/cuts_spliced-{1}.jsonl.gz]"
    assert both.format("fbank-0.8,1.2", 6000) in asked[9]
    assert "data.valid_cuts=[data/mini/fbank-0.8,1.2/cuts_dev.jsonl.gz]" in asked[9]
    _, asked = stages(*words, "--splice", "9")
    assert both.format("aligned", 9) in asked[-1]


def test_training_from_tar_files_where_asked(stages):
    done, asked = stages("--mini", "--shar", "--jobs", "3", "--stage", "1", "--stop-stage", "2")
    assert done.returncode == 0, done.stderr
    assert asked[1] == "asr shar cuts=data/mini/cuts_train.jsonl.gz output=data/mini/shar_train jobs=3 scheduler="
    assert "data.train_cuts=[data/mini/shar_train]" in asked[2]
    assert "data.lookahead=2000" in asked[2]


def test_preparation_by_the_workers_of_a_scheduler(stages):
    _, asked = stages(
        "--align", "--features", "--shar", "--scheduler", "tcp://h:1", "--stage", "1", "--stop-stage", "1"
    )
    work = [line for line in asked if line.split()[1] in ("align", "features", "shar")]
    assert len(work) == 4 + 2 + 1
    assert all(line.endswith("scheduler=tcp://h:1") or "scheduler=tcp://h:1 " in line for line in work)


def test_noise_and_rooms_where_asked(stages, tmp_path):
    done, asked = stages("--mini", "--musan", str(tmp_path), "--rooms", "0.3", "--stop-stage", "2")
    assert done.returncode == 0, done.stderr
    assert asked[2] == f"python {tmp_path}/local/musan.py --corpus-dir {tmp_path} --output data/musan"
    assert asked[4].endswith("data.noise.cuts=[data/musan/cuts_noise.jsonl.gz] data.rooms.probability=0.3")


def test_both_test_parts_are_decoded_with_each_search(stages, tmp_path):
    shutil.copy(tmp_path / "conf/decode/greedy.yaml", tmp_path / "conf/decode/beam.yaml")
    _, asked = stages("--set", "960h", "--stage", "3", "--name", "big")
    assert [line.split()[4] for line in asked] == [
        f"output=exp/big/decode_{split}_{search}"
        for search in ("greedy", "beam")
        for split in ("test-clean", "test-other")
    ]


def test_an_n_gram_and_the_words_of_the_transcripts_where_asked(stages):
    _, asked = stages("--mini", "--lm", "--vocab-size", "200")
    (made,) = [line for line in asked if line.startswith("asr lm ")]
    assert "cuts=[data/mini/cuts_train.jsonl.gz] tokenizer=data/mini/bpe_200 order=4" in made
    assert "word_list=data/mini/words.txt output=data/mini/bpe_200_4gram.arpa.gz" in made
    decoded = [line for line in asked if line.startswith("asr decode ")]
    assert "decode=beam decode.beam=8 decode.lm=data/mini/bpe_200_4gram.arpa.gz" in decoded[-1]
    assert "output=exp/transducer/decode_dev_lm" in decoded[-1]
    assert decoded[-1].endswith("decode.word_list=data/mini/words.txt")
    assert not any("lm=" in line for line in decoded[:-1])


def test_what_is_decoded_is_scored_again(stages, tmp_path):
    run = tmp_path / "recipes/librispeech/exp/transducer"
    (run / "checkpoints").mkdir(parents=True)
    os.utime(run / "checkpoints", (1, 1))
    (run / "decode_dev_greedy").mkdir()
    (run / "decode_dev_greedy" / "hypotheses.jsonl").touch()
    _, asked = stages("--mini", "--stage", "3")
    assert commands(asked) == ["asr score"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mino"], "unknown option --mino"),
        (["mini"], "unknown option mini"),
        (["--features", "--rooms", "0.3"], "--features cannot go with --musan and --rooms"),
        (["--splice", "9"], "--splice 9 needs the times of words: give --align, too"),
        (["--speeds", "0.8,1.2"], "--speeds 0.8,1.2 is what --features are computed at: give that, too"),
        (["--align", "--shar", "--splice", "9"], "--splice cannot go with --shar"),
        (["--musan", "/nowhere"], "--musan /nowhere: no such directory"),
        (["--set"], "--set needs a value"),
        (["--set", "10h"], "--set 10h: choose mini, 100h or 960h"),
        (["--corpus-dir", "/nowhere"], "--corpus-dir /nowhere: no such directory"),
        (["--stage", "one"], "--stage and --stop-stage take whole numbers"),
    ],
)
def test_wrong_options_are_refused(stages, words, message):
    done, asked = stages(*words)
    assert (done.returncode, asked) == (2, [])
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
