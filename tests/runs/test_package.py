"""A package holds all of a model, the same bytes each time, and loads where its run was never seen."""

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from saved_runs import beginning, char_tokenizer, random_task, save_task, small_config

import asr
from asr.cli.main import main
from asr.config import DataOptions, LoraOptions, PackageConfig
from asr.errors import InputError
from asr.runs import package as packages
from asr.runs.pack import pack
from asr.runs.trained import load_trained, objective_weights
from asr.score.record import Record, write_record
from asr.train.begin import begin_from, load_initial

TOKENIZER = char_tokenizer("ABC ÄÖ")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of which two checkpoints are averaged, with decodings and exports."""
    directory = tmp_path_factory.mktemp("exp") / "base"
    config = small_config(data=DataOptions(train_cuts=["/secret/place/cuts_train.jsonl.gz"], tokenizer="/secret/char"))
    for step in (1, 2):
        save_task(directory, TOKENIZER, config, random_task(TOKENIZER, config, step), step)
    trained = load_trained(str(directory), "average", CPU)
    for name, digest in (("decode_test", trained.digest), ("decode_old", "another")):
        (directory / name).mkdir()
        (directory / name / "wer.txt").write_text("%WER 6.53 [ 37 / 567, 3 ins, 4 del, 30 sub ] test\n")
        write_record(directory / name, Record("1.0", "", "step-00000001", digest, "", False, "cpu", {}))
    for name, rates, record in (("decode_torn", b"\xff", "{}"), ("decode_unknown", b"%WER 1 [ 1 / 100 ] test\n", "{")):
        (directory / name).mkdir()
        (directory / name / "wer.txt").write_bytes(rates)
        (directory / name / "decode.json").write_text(record)
    (directory / "data.json").write_text(
        json.dumps({"data.train_cuts": {"utterances": 793, "sha256": "", "seconds": [1, 2, 3, 4, 5, 6, 7, 8]}})
    )
    for name, digest in (("onnx", trained.digest), ("old", "another")):
        (directory / name).mkdir()
        about = {"digest": digest, "format": "onnx", "streaming": False}
        (directory / name / "export.json").write_text(json.dumps(about))
        (directory / name / "encoder.onnx").write_bytes(b"weights")
        (directory / name / "mine.mp3").write_bytes(b"somebody's voice, with which the export was tried")
    return directory


def packed(run, output, **options):
    """The files that are named, and those left out, of a package of a run."""
    config = PackageConfig(run=str(run), output=str(output), checkpoint="average", **options)
    return pack(config, load_trained(config.run, config.checkpoint, CPU))


@pytest.fixture(scope="module", params=["directory", "zip"])
def package(request, run, tmp_path_factory):
    output = tmp_path_factory.mktemp("packed") / ("model.zip" if request.param == "zip" else "model")
    packed(run, output, licence="CC BY 4.0")
    return output


def files(path):
    """The files of a package by name."""
    if path.is_dir():
        return {one.relative_to(path).as_posix(): one.read_bytes() for one in path.rglob("*") if one.is_file()}
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_it_loads_elsewhere_as_the_run(run, package, tmp_path, monkeypatch):
    elsewhere = tmp_path / f"copied{package.suffix}"
    (shutil.copytree if package.is_dir() else shutil.copy)(package, elsewhere)
    monkeypatch.chdir(tmp_path)
    before, after = load_trained(str(run), "average", CPU), load_trained(elsewhere.name, "auto", CPU)
    assert (before.checkpoint, before.digest, before.lengths) == (after.checkpoint, after.digest, after.lengths)
    assert after.lengths.longest == 7
    assert after.tokenizer.pieces == TOKENIZER.pieces
    for one, other in (
        (before.model.state_dict(), after.model.state_dict()),
        (objective_weights(before), objective_weights(after)),
    ):
        assert set(one) == set(other)
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_is_in_it(run, package):
    found = files(package)
    names = {"README.md", "package.json", "config.yaml", "model.safetensors", "objective.safetensors", "SHA256SUMS"}
    names |= {f"tokenizer/{name}" for name in ("tokenizer.model", "tokens.txt", "tokenizer.json")}
    names |= {f"scores/decode_{name}/wer.txt" for name in ("test", "old")}
    names |= {"exports/onnx/export.json", "exports/onnx/encoder.onnx"}
    assert set(found) == names
    sums = dict(line.split("  ")[::-1] for line in found["SHA256SUMS"].decode().splitlines())
    assert sums == {name: hashlib.sha256(found[name]).hexdigest() for name in names - {"SHA256SUMS"}}
    whole = b"".join(found.values())
    assert b"cuts_train.jsonl.gz" in whole
    assert not any(place in whole for place in (b"/secret", str(run.parent).encode(), str(Path.home()).encode() + b"/"))
    card = found["README.md"].decode()
    for text in ("# base", "CC BY 4.0", "%WER 6.53 [ 37 / 567", "793 utterances", "asr.load", "OfflineRecognizer"):
        assert text in card
    told = [line for line in card.splitlines() if "of other weights" in line]
    assert [(line.split(":")[0], line.split("; ")[-1]) for line in told] == [
        ("decode_old", "of other weights than these: step-00000001")
    ]


def test_the_same_run_gives_the_same_bytes(run, package, tmp_path):
    again = tmp_path / f"again{package.suffix}"
    lines = packed(run, again, licence="CC BY 4.0")
    assert files(again) == files(package)
    if again.suffix == ".zip":
        assert again.read_bytes() == package.read_bytes()
    assert [line.split(": ")[0] for line in lines if line.startswith("left out")] == [
        f"left out {run / name}" for name in ("old", "decode_torn/wer.txt", "decode_unknown/decode.json")
    ]
    packed(run, again)  # in its place
    assert b"CC BY" not in files(again)["README.md"]
    assert [path.name for path in tmp_path.iterdir()] == [again.name]


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize("name", ["model.safetensors", "package.json", "config.yaml", "tokenizer/tokenizer.model"])
def test_a_flipped_bit_is_named(package, tmp_path, name):
    damaged = tmp_path / package.name
    if package.is_dir():
        shutil.copytree(package, damaged)
        (damaged / name).write_bytes(flipped((damaged / name).read_bytes(), 40))
    else:
        data, content = package.read_bytes(), files(package)[name]
        damaged.write_bytes(flipped(data, data.index(content) + 40))
    with pytest.raises(InputError, match=rf"^{damaged}: {name} is damaged"):
        load_trained(str(damaged), "auto", CPU)


def rewritten(package, path, **changes):
    """A zip file of a package's files, some of them changed, or left out where they are None; with right sums."""
    found = {name: content for name, content in {**files(package), **changes}.items() if content is not None}
    found["SHA256SUMS"] = "".join(
        f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in found.items() if name != "SHA256SUMS"
    ).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in found.items():
            archive.writestr(name, data)
    return path


def test_what_is_no_package_or_too_large_is_refused(run, package, tmp_path, monkeypatch):
    path = tmp_path / "x.zip"
    path.write_bytes(b"PK\3\4 and no more")
    cases = [(path, "neither a run directory nor a package of `asr package`")]
    cases += [(rewritten(package, tmp_path / "a.zip", **{"package.json": None}), "it holds no package.json")]
    cases += [(rewritten(package, tmp_path / "b.zip", **{"model.safetensors": None}), "model.safetensors is missing")]
    bomb = {"config.yaml": b"#" * 10_000_000}
    cases += [(rewritten(package, tmp_path / "c.zip", **bomb), "config.yaml has 10000000 bytes, more than")]
    later = {"package.json": b'{"form": 2}'}
    cases += [(rewritten(package, tmp_path / "d.zip", **later), "made by a later version of asr")]
    other = {"config.yaml": files(package)["config.yaml"].replace(b"layers: 2", b"layers: 3")}
    cases += [(rewritten(package, tmp_path / "e.zip", **other), "model.safetensors and config.yaml do not belong")]
    for path, message in cases:
        with pytest.raises(InputError, match=f"^{path}.*{message}"):
            load_trained(str(path), "auto", CPU)
    monkeypatch.setattr(packages, "MOST_TENSORS", 1000)
    with pytest.raises(InputError, match="model.safetensors has [0-9]+ bytes, more than 1000"):
        load_trained(str(package), "auto", CPU)
    with pytest.raises(InputError, match="checkpoint=best: .* is a package, of one model; leave it out"):
        load_trained(str(package), "best", CPU)


def test_a_zip_file_is_read_without_writing_anything(package, tmp_path):
    more = {"../outside.txt": b"x", "/tmp/outside-of-a-package.txt": b"x"}
    inside = tmp_path / "inside"
    inside.mkdir()
    path = rewritten(package, inside / "odd.zip", **more)
    load_trained(str(path), "auto", CPU)
    assert [one.name for one in tmp_path.rglob("*")] == ["inside", "odd.zip"]
    assert not Path("/tmp/outside-of-a-package.txt").exists()
    folder = {f"model-1/{name}": content for name, content in files(package).items()}
    with zipfile.ZipFile(inside / "folder.zip", "w") as archive:  # as `zip -r` makes it
        for name, content in folder.items():
            archive.writestr(name, content)
    assert load_trained(str(inside / "folder.zip"), "auto", CPU).tokenizer.pieces == TOKENIZER.pieces


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_nothing_half_written_and_nothing_of_others_is_replaced(run, tmp_path, monkeypatch, name):
    output = tmp_path / name
    monkeypatch.setattr("asr.runs.pack.objective_weights", lambda trained: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        packed(run, output)
    assert list(tmp_path.iterdir()) == []
    if output.suffix:
        output.write_text("mine")
    else:
        output.mkdir()
        (output / "mine").touch()
    with pytest.raises(InputError, match=f"^output={output}: is there, and no package; name a new"):
        packed(run, output)
    with pytest.raises(InputError, match="exports: .*old is no export of step-00000001 .*: export it again"):
        packed(run, tmp_path / "other", exports=[str(run / "old")])
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_lora_is_merged_into_it(run, tmp_path):
    config = small_config(train=beginning(run, lora=LoraOptions(rank=2)))
    save_task(tmp_path / "lora", TOKENIZER, config, random_task(TOKENIZER, config, 3))
    pack(
        PackageConfig(run=str(tmp_path / "lora"), output=str(tmp_path / "p.zip")),
        load_trained(str(tmp_path / "lora"), "auto", CPU),
    )
    before, after = (load_trained(str(tmp_path / name), "auto", CPU).model.state_dict() for name in ("lora", "p.zip"))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any("parametrizations" in name for name in after)


def test_a_training_begins_from_it(package):
    config = small_config(train=beginning(package))
    initial = load_initial(config)
    task = random_task(TOKENIZER, small_config(), seed=9)
    told = begin_from(initial, task, config, TOKENIZER)
    assert told.fresh == []
    saved = initial.model.state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in task.model.state_dict().items())
    assert torch.equal(task.objective.ctc.output.weight, objective_weights(initial)["ctc.output.weight"])


def test_a_package_is_no_place_to_train_in_nor_packed_again(run, tmp_path, capsys):
    output = tmp_path / "model"
    words = [f"run={run}", f"output={output}", "checkpoint=average", "corpus=AN4 (CMU), 1991", "name=tiny"]
    assert main(["package", *words]) == 0
    assert "model.safetensors" in capsys.readouterr().out
    assert "# tiny\n" in (card := (output / "README.md").read_text())
    assert "- Data: AN4 (CMU), 1991\n" in card
    before = files(output)
    assert main(["train", f"run={output}", "data.train_cuts=[a]", "data.valid_cuts=[b]", "data.tokenizer=c"]) == 2
    assert capsys.readouterr().err == (
        f"asr train: error: run={output}: is a package; begin from it, train.init={output} and another run=\n"
    )
    assert main(["package", f"run={output}", f"output={tmp_path / 'again'}"]) == 2
    assert capsys.readouterr().err == f"asr package: error: run={output}: is a package already\n"
    assert files(output) == before


def test_hypotheses_are_those_of_the_run(streaming_run, tiny_corpus, tmp_path):
    assert main(["package", f"run={streaming_run}", f"output={tmp_path / 'tones.zip'}"]) == 0
    found = []
    for name, model in (("run", streaming_run), ("package", tmp_path / "tones.zip")):
        assert main(["decode", f"run={model}", f"cuts={tiny_corpus.dev}", f"output={tmp_path / name}"]) == 0
        found.append((tmp_path / name / "hypotheses.jsonl").read_bytes())
    assert found[0] == found[1]
    assert b"LOW" in found[0]
    audio = tiny_corpus.directory / "dev-0.flac"
    texts = [asr.load(model).transcribe(audio).text for model in (streaming_run, tmp_path / "tones.zip")]
    assert texts[0] == texts[1] != ""
