"""The whole path on a tiny corpus: tokenizer, features, training, decoding, scoring, transcribing."""

import gzip
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from unittest import mock

import pytest
import torch
import yaml

from asr.cli import plot
from asr.cli.main import main
from asr.config import TrainOptions
from asr.runs.directory import RunDirectory
from asr.runs.trained import load_config, load_trained
from asr.score.record import read_record
from asr.train import precision
from asr.version import version


def asr(capsys, *words: object) -> tuple[int, str, str]:
    """Run a command in this process: exit status, standard output, standard error."""
    status = main([str(word) for word in words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture(scope="module")
def trained(tiny_corpus, tmp_path_factory) -> Path:
    """A run of a few steps."""
    run = tmp_path_factory.mktemp("exp") / "run"
    words = ["train", *training_options(tiny_corpus, run)]
    assert main(words) == 0
    return run


def training_options(corpus, run: Path) -> list[str]:
    return [
        f"run={run}",
        "model=debug",
        "data=debug",
        "train=debug",
        "optim=debug",
        "train.device=cpu",
        f"data.train_cuts=[{corpus.train}]",
        f"data.valid_cuts=[{corpus.dev}]",
        f"data.tokenizer={corpus.tokenizer}",
    ]


def test_run_directory_is_complete(trained):
    names = {path.name for path in trained.iterdir()}
    files = {"config.yaml", "config.sha256", "data.json", "metrics.jsonl", "train.log"}
    assert names == {*files, "tokenizer", "checkpoints", "tensorboard"}
    steps = [json.loads(line)["step"] for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert max(steps) == 10
    assert not list(trained.rglob("*.pt"))


@pytest.mark.parametrize("loss", ["full", "optimized", "ar", "pruned"])
def test_every_loss_trains_in_half_precision(tiny_corpus, tmp_path, monkeypatch, loss):
    """Here because it is the faster one, which the log and the run's config say."""
    monkeypatch.setattr(precision, "speed", lambda size, dtype: 300.0 if dtype == torch.bfloat16 else 120.0)
    words = [*training_options(tiny_corpus, tmp_path / loss), f"loss={loss}", "loss.topology=modified"]
    assert main(["train", *words, "train.precision=auto", "train.steps=2"]) == 0
    lines = [json.loads(line) for line in (tmp_path / loss / "metrics.jsonl").read_text().splitlines()]
    assert all(0 < line["train/loss"] < 100 for line in lines if "train/loss" in line)
    assert load_config(RunDirectory(tmp_path / loss)).train.precision == "bfloat16"
    why = "since a product of 2048³ runs at 300 GFLOP/s in bfloat16, 120 in float32"
    log = (tmp_path / loss / "train.log").read_text(encoding="utf-8")
    assert f"computing in bfloat16, {why} (train.precision=auto)" in log
    assert re.search(r"\d+ threads that wait \w+.*, 0 data workers$", log, re.MULTILINE)


VIEWS = ["model.subsampling=2", "loss.consistency=0.2", "train.ctc_consistency=0.2"]


@pytest.mark.parametrize(("arcs", "options"), [("tdt", ["loss.arcs.omega=0.5"]), ("multi_blank", []), ("hat", VIEWS)])
def test_a_model_of_other_arcs_is_trained_and_decoded_as_what_it_is(tiny_corpus, tmp_path, capsys, arcs, options):
    run = tmp_path / "run"
    words = [*training_options(tiny_corpus, run), "loss=pruned", f"loss/arcs={arcs}", *options, "train.steps=2"]
    assert main(["train", *words, "train.validate_every=2"]) == 0
    metrics = (run / "metrics.jsonl").read_text()
    assert "validation/wer" in metrics
    assert [name in metrics for name in ("train/consistency", "train/ctc_consistency")] == [options == VIEWS] * 2
    assert ("of 2 views of each utterance" in (run / "train.log").read_text()) == (options == VIEWS)
    given = [f"run={run}", f"cuts={tiny_corpus.dev}", "device=cpu"]
    status, out, _ = asr(capsys, "decode", *given, f"output={tmp_path / 'greedy'}")
    assert status == 0
    assert ("frames joined per frame" in out) == (arcs != "hat")
    assert asr(capsys, "decode", *given, f"output={tmp_path / 'beam'}", "decode=beam", "--nbest=2")[0] == 0
    status, _, err = asr(capsys, "decode", *given, f"output={tmp_path / 'k2'}", "decode=k2_fast_beam")
    assert status == 2
    assert f"k2 knows the standard arcs alone, and the model was trained with loss.arcs.name={arcs}" in err
    assert len(err.strip().splitlines()) == 1
    assert asr(capsys, "plot", "lattice", *given, f"output={tmp_path / 'lattice.png'}")[0] == 0
    aligned = [f"run={run}", f"cuts={tiny_corpus.dev}", f"output={tmp_path / 'words.ctm'}", "aligner=transducer"]
    assert asr(capsys, "align", *aligned, "device=cpu", "jobs=1")[0] == 0


def test_a_finished_run_is_left_alone(trained, tiny_corpus, capsys):
    before = (trained / "metrics.jsonl").read_bytes()
    status, _, err = asr(capsys, "train", *training_options(tiny_corpus, trained))
    assert status == 0
    assert "step 10 of 10" in err
    assert (trained / "metrics.jsonl").read_bytes() == before


def test_other_options_in_the_same_directory_are_refused(trained, tiny_corpus, capsys):
    words = [*training_options(tiny_corpus, trained), "optim.lr=0.5"]
    status, _, err = asr(capsys, "train", *words)
    assert status == 2
    assert re.search(r"begun with optim.lr=0.001, not 0.5: give another run=", err)


def test_another_tokenizer_in_the_same_directory_is_refused(trained, tiny_corpus, tmp_path, capsys):
    from asr.data.tokenizer import train_tokenizer

    train_tokenizer(["OTHER LETTERS"], "char").save(tiny_corpus.tokenizer.parent / "other")
    text = (trained / "config.yaml").read_text()
    moved = tmp_path / "moved"
    shutil.copytree(trained, moved)
    other = str(tiny_corpus.tokenizer.parent / "other")
    (moved / "config.yaml").write_text(text.replace(str(tiny_corpus.tokenizer), other))
    (moved / "config.sha256").unlink()
    words = [word for word in training_options(tiny_corpus, moved) if not word.startswith("data.tokenizer")]
    status, _, err = asr(capsys, "train", *words, f"data.tokenizer={other}")
    assert status == 2
    assert "is not the tokenizer that" in err
    assert len(err.strip().splitlines()) == 1
    own = re.search(r"data\.tokenizer=\S+(?= is the run's own)", err)[0]
    assert own == f"data.tokenizer={moved / 'tokenizer'}"


def test_stopped_training_says_so_and_is_not_averaged(tiny_corpus, tmp_path):
    run = tmp_path / "run"
    words = [*training_options(tiny_corpus, run), "train.steps=2000", "train.save_every=1000", "data.workers=2"]
    command = [sys.executable, "-m", "asr.cli.main", "train", *words, "train.validate_every=1000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (run / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "run the same command again to go on" in err
    (stopped,) = (run / "checkpoints").iterdir()
    assert stopped.name.startswith("stop-")


@pytest.mark.parametrize("checkpoint", ["auto", "best", "last", "average", "step-00000005"])
def test_decode_prints_the_wer_line_last(trained, tiny_corpus, tmp_path, capsys, checkpoint):
    words = [f"run={trained}", f"cuts={tiny_corpus.dev}", f"output={tmp_path}", f"checkpoint={checkpoint}"]
    status, out, _ = asr(capsys, "decode", *words, "device=cpu")
    assert status == 0
    assert re.fullmatch(r"%WER \d+\.\d\d \[ \d+ / \d+, \d+ ins, \d+ del, \d+ sub \] dev", out.splitlines()[-1])
    lines = (tmp_path / "hypotheses.jsonl").read_text().splitlines()
    assert len(lines) == 6
    rows = [json.loads(line) for line in lines]
    assert all(list(row)[:3] == ["id", "reference", "hypothesis"] for row in rows)
    assert all(len(row.get("tokens", [])) == len(row.get("times", [])) for row in rows)
    assert any(row.get("tokens") for row in rows)
    assert (tmp_path / "wer.txt").read_text() == out.splitlines()[-1] + "\n"
    assert (tmp_path / "alignments.txt").exists()
    assert (tmp_path / "errs.txt").exists()
    record = read_record(tmp_path)
    model = load_trained(str(trained), checkpoint, torch.device("cpu"))
    assert (record.checkpoint, record.weights) == (model.checkpoint, model.digest)
    assert (record.run, record.cuts, record.device) == (str(trained), str(tiny_corpus.dev), "cpu")
    assert (record.asr, record.streaming, record.decode["name"]) == (version(), False, "greedy")
    assert (tmp_path / "recogs.txt").read_text().count("ref=") == 6
    assert len((tmp_path / "hypotheses.ctm").read_text().split()) % 6 == 0
    assert not (tmp_path / "nbest.jsonl").exists()


def test_the_default_is_what_did_best_in_validation(trained, tiny_corpus, tmp_path, capsys):
    record = json.loads((trained / "checkpoints" / "averages.json").read_text())
    errors = {}
    for checkpoint in ("best", "average"):
        words = [f"run={trained}", f"cuts={tiny_corpus.dev}", f"output={tmp_path / checkpoint}", "device=cpu"]
        _, out, _ = asr(capsys, "decode", *words, f"checkpoint={checkpoint}")
        errors[checkpoint] = int(re.search(r"\[ (\d+) /", out.splitlines()[-1]).group(1))
    assert record["average"]["metrics"]["errors"] == errors["average"]
    (line,) = re.findall("checkpoint=auto, the default of decoding, is (.*)", (trained / "train.log").read_text())
    assert errors[line] == min(errors.values())
    asr(capsys, "decode", *words[:2], f"output={tmp_path / 'default'}", "device=cpu")
    found = [(tmp_path / name / "hypotheses.jsonl").read_bytes() for name in (line, "default")]
    assert found[0] == found[1]


def test_a_finished_run_without_them_gets_its_averages(trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    record = run / "checkpoints" / "averages.json"
    before = record.read_bytes()
    record.unlink()
    assert main(["train", f"run={run}"]) == 0
    assert record.read_bytes() == before


def test_beam_search_and_its_n_best(trained, tiny_corpus, tmp_path, capsys):
    words = [
        f"run={trained}",
        f"cuts={tiny_corpus.dev}",
        f"output={tmp_path}",
        "decode=beam",
        "--nbest=3",
        "device=cpu",
    ]
    status, _, err = asr(capsys, "decode", *words)
    assert status == 0, err
    rows = [json.loads(line) for line in (tmp_path / "nbest.jsonl").read_text().splitlines()]
    best = [json.loads(line) for line in (tmp_path / "hypotheses.jsonl").read_text().splitlines()]
    assert [{"rank": 1, **row} for row in best] == [row for row in rows if row["rank"] == 1]
    assert [row["rank"] for row in rows] == [1, 2, 3] * 6
    assert all(first["score"] >= second["score"] for first, second in pairwise(rows) if second["rank"] > 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nbest=2"], "nbest=2: the search follows 1 hypotheses; use decode=beam decode.beam=2"),
        (["decode=beam", "--nbest=5"], "nbest=5: the search follows 4 hypotheses; use decode=beam decode.beam=5"),
        (["decode=beam", "decode.beam=0"], "decode.beam=0: must be 1 to 1000"),
        (["decode=beam", "decode.lm=nothing.arpa"], "nothing.arpa"),
        (["decode=k2_fast_beam"], "k2 is not installed"),
        (
            ["decode.beam=3"],
            "decode.beam=3: unknown option; there is one of decode=beam or k2_fast_beam",
        ),
        (["--streaming"], "streaming: the model was trained on whole utterances; train with model.causal=true"),
        (["decode.chunk_seconds=0.32"], "decode.chunk_seconds=0.32: the model was trained on whole utterances"),
        (["--streaming=maybe"], "streaming=maybe: needs a value of type bool"),
    ],
)
def test_decoding_that_cannot_be_is_refused(trained, tiny_corpus, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.setitem(sys.modules, "k2", None)  # wherever it is installed
    output = tmp_path / "decode"
    given = [f"run={trained}", f"cuts={tiny_corpus.dev}", f"output={output}", "device=cpu", *words]
    status, _, err = asr(capsys, "decode", *given)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1
    assert not output.exists()


def test_the_moving_average_can_be_decoded_with(tiny_corpus, tmp_path):
    import torch

    from asr.runs import state
    from asr.runs.trained import load_trained

    assert main(["train", *training_options(tiny_corpus, tmp_path), "train.ema=0.9", "train.save_every=1"]) == 0
    trained = load_trained(str(tmp_path), "ema", torch.device("cpu"))
    assert trained.checkpoint == "ema of step-00000010"
    (last,) = state.checkpoints(tmp_path / "checkpoints")[-1:]
    weights = state.load(last, ["ema"]).parts["ema"]["weights"]
    assert all(torch.equal(value, weights[name]) for name, value in trained.model.state_dict().items())
    raw = load_trained(str(tmp_path), "last", torch.device("cpu"))
    assert not torch.equal(raw.model.joiner.output.weight, trained.model.joiner.output.weight)


def test_score_repeats_the_decoder_s_line(trained, tiny_corpus, tmp_path, capsys):
    words = [f"run={trained}", f"cuts={tiny_corpus.dev}", f"output={tmp_path / 'decode'}", "device=cpu"]
    _, out, _ = asr(capsys, "decode", *words)
    hypotheses = tmp_path / "decode" / "hypotheses.jsonl"
    _, again, _ = asr(capsys, "score", f"hypotheses={hypotheses}", f"output={tmp_path / 'score'}", "name=dev")
    assert again.splitlines()[-1] == out.splitlines()[-1]


def test_transcribe_prints_a_line_a_file(trained, tiny_corpus, capsys):
    files = sorted(tiny_corpus.directory.rglob("*.flac"))[:2] or sorted(tiny_corpus.directory.rglob("*.wav"))[:2]
    status, out, _ = asr(capsys, "transcribe", *files, f"run={trained}", "device=cpu")
    assert status == 0
    assert [line.split("\t")[0] for line in out.splitlines()] == [str(file) for file in files]


def test_stored_features_give_the_same_hypotheses(trained, tiny_corpus, tmp_path, capsys):
    stored = tmp_path / "fbank.jsonl.gz"
    words = [f"cuts={tiny_corpus.dev}", f"output={stored}", f"storage={tmp_path / 'fbank'}", "jobs=1"]
    assert asr(capsys, "features", *words)[0] == 0
    texts = []
    for number, cuts in enumerate((tiny_corpus.dev, stored)):
        output = tmp_path / str(number)
        asr(capsys, "decode", f"run={trained}", f"cuts={cuts}", f"output={output}", "device=cpu", "name=dev")
        texts.append((output / "hypotheses.jsonl").read_bytes())
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["decode", "run={missing}", "cuts={dev}", "output={out}"], "not a run directory"),
        (["decode", "run={run}", "cuts={missing}", "output={out}"], "no such manifest"),
        (["decode", "run={run}", "cuts={dev}", "output={out}", "checkpoint=step-9"], "choose best, last, average, ema"),
        (["decode", "run={run}", "cuts={dev}", "output={out}", "checkpoint=ema"], "train with train.ema=0.999"),
        (["transcribe", "{missing}", "run={run}"], "no such file"),
        (["transcribe", "{text}", "run={run}"], "not a readable audio file"),
        (["transcribe", "run={run}"], "no audio file given"),
        (["score", "hypotheses={missing}", "output={out}"], "missing"),
        (["tokenizer", "cuts=[{missing}]", "output={out}"], "no such manifest"),
        (["features", "cuts={missing}", "output={out}", "storage={out}"], "no such manifest"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(trained, tiny_corpus, tmp_path, capsys, words, message):
    text = tmp_path / "text.wav"
    text.write_text("this is not audio")
    places = {
        "missing": tmp_path / "missing",
        "out": tmp_path / "out",
        "run": trained,
        "dev": tiny_corpus.dev,
        "text": text,
    }
    status, _, err = asr(capsys, *[word.format(**places) for word in words])
    assert status == 2
    assert len(err.strip().splitlines()) == 1
    assert message in err
    assert not places["out"].exists()


def test_a_corpus_of_faults_is_named_and_the_rest_decoded(trained, tiny_corpus, tmp_path, capsys):
    from lhotse import CutSet

    from asr.data.corpus import write_cuts

    cuts = [cut.to_eager() if hasattr(cut, "to_eager") else cut for cut in CutSet.from_file(tiny_corpus.dev)]
    broken = tmp_path / "broken.flac"
    broken.write_bytes(b"fLaC but nothing more")
    cuts[0].recording.sources[0].source = str(broken)
    manifest = tmp_path / "cuts_faulty.jsonl.gz"
    write_cuts(cuts, manifest)
    words = [f"run={trained}", f"cuts={manifest}", f"output={tmp_path / 'out'}", "device=cpu"]
    status, out, err = asr(capsys, "decode", *words)
    assert status == 1  # there is a rate, but not of all
    assert f"skipped {cuts[0].id}: unreadable audio" in err
    assert err.splitlines()[-1] == "asr decode: 1 of 6 utterances were skipped and are not scored: see above"
    assert out.splitlines()[-1].endswith("faulty")


@pytest.mark.parametrize(
    ("what", "drawn", "title"),
    [(["lattice"], "draw_lattice", "dev-2, "), (["batch", "utterances=2"], "draw_batch", "2 utterances, ")],
)
def test_what_is_asked_for_is_plotted(trained, tiny_corpus, tmp_path, capsys, what, drawn, title):
    picture = tmp_path / "picture.png"
    words = [f"run={trained}", f"cuts={tiny_corpus.dev}", f"output={picture}", "utterance=dev-2"]
    status, out, _ = asr(capsys, "plot", *what, *words)
    assert (status, out.strip()) == (0, str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
    with mock.patch.object(plot, drawn, return_value=mock.Mock(savefig=lambda path, **_: path.touch())) as draw:
        assert asr(capsys, "plot", *what, *words)[0] == 0
    assert any(str(word).startswith(title) for word in draw.call_args.args)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lattice", "utterance=dev-99"], "utterance=dev-99: not in "),
        (["latice"], "asr plot latice: name one picture; there are: lattice, batch"),
        ([], "name one picture; there are: lattice, batch"),
        (["lattice", "utterances=2"], "utterances=2: is of `asr plot batch`"),
    ],
)
def test_a_plot_that_cannot_be_is_refused(trained, tiny_corpus, tmp_path, capsys, words, message):
    options = [f"run={trained}", f"cuts={tiny_corpus.dev}", f"output={tmp_path / 'x.png'}"]
    status, _, err = asr(capsys, "plot", *words, *options)
    assert status == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "x.png").exists()


def test_tensorboard_shows_curves_in_groups_examples_and_options(trained, tiny_corpus):
    from lhotse import CutSet
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = EventAccumulator(str(trained / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert "examples/lattice" in tags["images"]
    first = {name for name in tags["scalars"] if name.startswith("1 ")}
    assert first == {f"1 overview/{name}" for name in ("train loss", "validation loss", "validation wer")}
    assert {"4 lattice/train nodes", "6 optimiser/train lr"} <= {*tags["scalars"]}
    heard = [name.partition("/")[2] for name in tags["audio"]]
    assert len(heard) == 5
    assert {*heard} <= {cut.id for cut in CutSet.from_file(tiny_corpus.dev)}
    told = events.PluginTagToContent("hparams")
    assert {*told} == {f"_hparams_/{name}" for name in ("experiment", "session_start_info", "session_end_info")}
    parsed = HParamsPluginData.FromString(told["_hparams_/session_start_info"])
    options = {
        name: value.number_value or value.string_value for name, value in parsed.session_start_info.hparams.items()
    }
    saved = yaml.safe_load((trained / "config.yaml").read_text())
    assert options["loss.name"] == saved["loss"]["name"]
    assert options["optim.lr"] == pytest.approx(saved["optim"]["lr"])
    assert options["model.encoder_dim"] == saved["model"]["encoder_dim"]
    assert options["train.validate_every"] == saved["train"]["validate_every"] != TrainOptions().validate_every
    assert "optim.name" in options
    assert not {"run", "data.tokenizer", "train.init"} & {*options}
    assert "optim.clip_norm" not in options


@pytest.fixture(scope="module", params=["ctc", "transducer"])
def aligned(trained, tiny_corpus, tmp_path_factory, request) -> Path:
    """The validation cuts with times of words from the trained model."""
    directory = tmp_path_factory.mktemp("aligned")
    words = [f"cuts={tiny_corpus.dev}", f"output={directory / 'words.ctm'}", f"run={trained}", "device=cpu", "jobs=1"]
    assert main(["align", f"aligner={request.param}", *words]) == 0
    output = directory / "cuts_dev.jsonl.gz"
    assert main(["attach", f"words={directory / 'words.ctm'}", f"cuts={tiny_corpus.dev}", f"output={output}"]) == 0
    return output


def test_alignments_are_made_and_attached(aligned, tiny_corpus):
    from lhotse import CutSet

    from asr.data.words import aligned_words

    assert not list(aligned.parent.glob(".*"))
    for cut, before in zip(CutSet.from_file(aligned), CutSet.from_file(tiny_corpus.dev), strict=True):
        words = aligned_words(cut)
        assert [item.symbol for item in words] == before.supervisions[0].text.split()
        assert all(0 <= item.start <= item.end <= cut.duration + 0.002 for item in words)
    report = (aligned.parent / "cuts_dev.jsonl.gz.coverage.txt").read_text()
    assert report == "6 of 6 utterances aligned (100.0 %)\n"


@pytest.mark.parametrize(
    "loss", [["loss=ar", "loss.left_frames=2", "loss.right_frames=2"], ["loss=pruned", "loss.bounds=alignment"]]
)
def test_alignments_restrict_the_loss(aligned, tiny_corpus, tmp_path, loss):
    nodes = {}
    for name, cuts, unaligned in (("with", aligned, False), ("without", tiny_corpus.dev, True)):
        words = [*training_options(tiny_corpus, tmp_path / name), *loss, f"data.train_cuts=[{cuts}]"]
        words += [f"data.valid_cuts=[{cuts}]", "train.steps=4", "train.validate_every=4", "train.log_every=1"]
        assert main(["train", *words]) == 0
        rows = map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines())
        lines = [row for row in rows if "train/loss" in row]
        assert all((line["train/unaligned"] > 0) == unaligned for line in lines)
        assert ("times of words" in (tmp_path / name / "train.log").read_text()) == unaligned
        nodes[name] = sum(line["train/nodes"] for line in lines)
    assert 0 < nodes["with"] < nodes["without"]


@pytest.mark.parametrize("wanting", ["loss=ar", "train.frame_weight=0.3"])
def test_a_corpus_without_alignments_is_pointed_out(tiny_corpus, tmp_path, wanting):
    words = [*training_options(tiny_corpus, tmp_path / "run"), wanting, "train.steps=2"]
    assert main(["train", *words]) == 0
    log = (tmp_path / "run" / "train.log").read_text()
    assert "24 of the first 24 training utterances have no times of words, and make no use of any" in log


def test_decoding_and_scoring_report_the_delay_before_the_wer(aligned, tiny_corpus, tmp_path, capsys):
    with gzip.open(aligned, "rt") as file:
        reference = {cut["id"]: cut for cut in map(json.loads, file)}
    rows = []
    for utterance, cut in reference.items():
        items = cut["supervisions"][0]["alignment"]["word"]
        ends = [start + duration + 0.1 for _, start, duration, *_ in items]
        text = " ".join(symbol for symbol, *_ in items)
        tokens = ["\u2581" + symbol for symbol, *_ in items]
        rows.append({"id": utterance, "reference": text, "hypothesis": text, "tokens": tokens, "times": ends})
    (tmp_path / "hypotheses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [f"hypotheses={tmp_path / 'hypotheses.jsonl'}", f"output={tmp_path / 'out'}", f"cuts={aligned}"]
    status, out, _ = asr(capsys, "score", *words)
    assert status == 0
    delay, wer = out.splitlines()
    assert delay.startswith("delay: mean 0.100, median 0.100, 90 % 0.100, last token 0.100 s [ ")
    assert wer.startswith("%WER 0.00")
    assert (tmp_path / "out" / "delay.txt").read_text() == f"{delay}\n"


def test_a_journal_of_other_weights_is_not_continued(trained, tiny_corpus, tmp_path):
    from asr.cli.align import load_model, settings
    from asr.config import AlignConfig

    again = tmp_path / "again"
    shutil.copytree(trained, again)
    config = AlignConfig(aligner="ctc", cuts=str(tiny_corpus.dev), output="words.ctm", run=str(again))
    before = settings(config, load_model(config))
    assert settings(config, load_model(config)) == before
    shutil.rmtree(again)
    assert main(["train", *training_options(tiny_corpus, again), "train.seed=7"]) == 0
    after = settings(config, load_model(config))
    assert before["weights"][:2] == after["weights"][:2]  # of the same names
    assert before["weights"][2] != after["weights"][2]
    assert {**before, "weights": None} == {**after, "weights": None}


def test_ids_that_are_twice_or_no_word_are_refused(trained, tiny_corpus, tmp_path, capsys):
    from lhotse import CutSet

    from asr.data.corpus import write_cuts

    cuts = list(CutSet.from_file(tiny_corpus.dev))
    write_cuts([cuts[0], cuts[0]], tmp_path / "twice.jsonl.gz")
    write_cuts([cuts[0].with_id("a b")], tmp_path / "space.jsonl.gz")
    twice = tmp_path / "twice.jsonl.gz"
    again = f"{twice}: line 2 (dev-0): has the id of {twice}, line 1 (dev-0)"
    for name, message in (("twice", again), ("space", "a cut is called 'a b', but a CTM")):
        words = [f"cuts={tmp_path / name}.jsonl.gz", f"run={trained}", f"output={tmp_path / 'x.ctm'}"]
        assert asr(capsys, "align", "aligner=ctc", *words)[2].strip().startswith(f"asr align: error: {message}")
        assert message in asr(capsys, "decode", "device=cpu", *words)[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["align", "aligner=ctc", "cuts={dev}", "output={out}"], "aligner=ctc needs run="),
        (["align", "aligner=mfa", "cuts={dev}", "output={out}"], "choices: pocketsphinx, ctc, transducer"),
        (["align", "aligner=transducer", "cuts={dev}", "output={out}", "run={out}"], "not a run directory"),
        (["attach", "words={missing}", "cuts={dev}", "output={out}"], "no such file or directory"),
        (["score", "hypotheses={hyp}", "cuts={dev}", "output={out}"], "has no times of words of these utterances"),
        (["attach", "words={ctm}", "cuts={dev}", "output={out}"], "0 of 6 utterances aligned (0.0 %), 6 missing"),
    ],
)
def test_bad_alignments_are_one_line(trained, tiny_corpus, tmp_path, capsys, words, message):
    (tmp_path / "other.ctm").write_text("other 1 0 1 a\n")
    (tmp_path / "hyp.jsonl").write_text('{"id": "dev-0", "reference": "A", "hypothesis": "A"}\n')
    places = {"dev": tiny_corpus.dev, "out": tmp_path / "out", "missing": tmp_path / "gone", "run": trained}
    status, _, err = asr(
        capsys, *[word.format(**places, ctm=tmp_path / "other.ctm", hyp=tmp_path / "hyp.jsonl") for word in words]
    )
    assert status == 2
    assert message in err.strip().splitlines()[-1]
    assert not places["out"].exists()


def tokens_of(directory):
    rows = map(json.loads, (directory / "hypotheses.jsonl").read_text().splitlines())
    return {row["id"]: (row["hypothesis"], row.get("tokens"), row.get("times")) for row in rows}


@pytest.mark.parametrize("search", ["greedy", "beam"])
def test_streaming_finds_what_the_whole_gives(streaming_run, tiny_corpus, tmp_path, capsys, search):
    words = [f"run={streaming_run}", f"cuts={tiny_corpus.dev}", f"decode={search}", "device=cpu"]
    assert asr(capsys, "decode", *words, f"output={tmp_path / 'whole'}")[0] == 0
    status, out, _ = asr(capsys, "decode", *words, f"output={tmp_path / 'stream'}", "--streaming")
    assert status == 0
    assert "first word: " in out
    assert tokens_of(tmp_path / "whole") == tokens_of(tmp_path / "stream")
    assert any(tokens for _, tokens, _ in tokens_of(tmp_path / "whole").values())


def test_transcribing_as_a_stream_in_pieces_and_in_every_format(streaming_run, tiny_corpus, tmp_path, capsys):
    audio = tiny_corpus.directory / "dev-0.flac"
    words = [str(audio), f"run={streaming_run}", "device=cpu"]
    whole = asr(capsys, "transcribe", *words)[1].split()
    streamed = asr(capsys, "transcribe", *words, "--streaming")[1].split()
    assert streamed == whole
    described = json.loads(asr(capsys, "transcribe", *words, "format=json", "piece_seconds=1")[1])
    starts = [word["start"] for word in described["words"]]
    assert starts == sorted(starts)
    assert described["text"].split() == [word["word"] for word in described["words"]]
    for form, first in (("srt", "1\n"), ("vtt", "WEBVTT"), ("ctm", "dev-0 1 "), ("text", "")):
        assert asr(capsys, "transcribe", *words, f"format={form}", f"output={tmp_path}")[0] == 0
        suffix = "txt" if form == "text" else form
        written = (tmp_path / f"dev-0.{suffix}").read_text()
        assert written.startswith(first) or not whole


def test_outputs_that_would_run_into_each_other_are_refused(trained, tiny_corpus, capsys):
    files = [str(tiny_corpus.directory / f"dev-{n}.flac") for n in (0, 1)]
    for words, message in ((["format=srt"], "give output=DIRECTORY"), (["--streaming", "format=ctm"], "leave out")):
        status, _, err = asr(capsys, "transcribe", *files, f"run={trained}", *words)
        assert status == 2
        assert message in err


def test_a_search_that_lacks_something_is_refused_before_training(tiny_corpus, tmp_path, capsys):
    words = [*training_options(tiny_corpus, tmp_path / "run"), "decode=beam", "decode.lm=missing.arpa"]
    status, _, err = asr(capsys, "train", *words)
    assert status == 2
    assert "missing.arpa" in err
    assert not (tmp_path / "run").exists()
