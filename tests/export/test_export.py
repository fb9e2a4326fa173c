"""Exports run by the runtimes that they are for, against `asr decode`."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import sherpa_onnx
import soundfile
import torch
from lhotse import CutSet, Recording, SupervisionSegment
from random_models import random_model
from small_model import small_options

import asr
from asr.arcs.hat import hat_arcs
from asr.cli.main import main
from asr.config import ExportConfig, FullLossOptions, MultiBlankArcOptions, TdtArcOptions, TrainConfig
from asr.decode.stream import encode_in_chunks
from asr.errors import InputError
from asr.export.directory import Format, export
from asr.export.modules import Joiner, StreamingEncoder
from asr.export.sherpa import Form, empty_caches
from asr.models.transducer import Transducer
from asr.runs.trained import Trained, load_trained

RATE = 16000
SHIFT = 0.035  # seconds by which the runtime's times are those of a frame's beginning


@pytest.fixture(scope="module")
def exported(streaming_run, tiny_corpus, tmp_path_factory):
    """Exports the run of tones with further words; the directory."""

    def make(*words):
        output = tmp_path_factory.mktemp("exported") / "export"
        assert main(["export", f"run={streaming_run}", f"cuts={tiny_corpus.dev}", f"output={output}", *words]) == 0
        return output

    return make


@pytest.fixture(scope="module")
def offline(exported):
    return exported()


@pytest.fixture(scope="module")
def online(exported):
    return exported("--streaming")


@pytest.fixture(scope="module")
def decoded(streaming_run, tiny_corpus, tmp_path_factory):
    """Text and times of every utterance by `asr decode` with at most one label a frame, as the runtime has it."""
    output = tmp_path_factory.mktemp("decoded") / "dev"
    words = [f"run={streaming_run}", f"cuts={tiny_corpus.dev}", f"output={output}", "decode.max_symbols_per_frame=1"]
    assert main(["decode", *words]) == 0
    rows = map(json.loads, (output / "hypotheses.jsonl").read_text().splitlines())
    return {row["id"]: (row["hypothesis"], row["times"]) for row in rows}


def parts(directory, kind="", **options):
    """The keywords of a recogniser."""
    files = {name: str(directory / f"{name}{kind}.onnx") for name in ("encoder", "decoder", "joiner")}
    description = json.loads((directory / "export.json").read_text())
    return {**files, "tokens": str(directory / "tokens.txt"), "feature_dim": description["feature_dim"], **options}


def heard_offline(directory, cuts, **options):
    recognizer = sherpa_onnx.OfflineRecognizer.from_transducer(**parts(directory, **options))
    streams = [recognizer.create_stream() for _ in cuts]
    for stream, cut in zip(streams, cuts, strict=True):
        stream.accept_waveform(RATE, cut.load_audio()[0])
    recognizer.decode_streams(streams)  # all at once: a batch
    return {cut.id: (stream.result.text.strip(), stream.result.timestamps) for cut, stream in zip(cuts, streams)}


def heard_online(directory, cuts, **options):
    recognizer = sherpa_onnx.OnlineRecognizer.from_transducer(**parts(directory, **options))
    found = {}
    for cut in cuts:
        stream = recognizer.create_stream()
        for piece in np.array_split(cut.load_audio()[0], 7):
            stream.accept_waveform(RATE, piece)
            while recognizer.is_ready(stream):
                recognizer.decode_stream(stream)
        stream.accept_waveform(RATE, np.zeros(RATE // 2, np.float32))
        stream.input_finished()
        while recognizer.is_ready(stream):
            recognizer.decode_stream(stream)
        found[cut.id] = recognizer.get_result(stream).strip(), recognizer.timestamps(stream)
    return found


@pytest.mark.parametrize("kind", ["", ".int8"])
def test_sherpa_onnx_hears_what_asr_decode_does(offline, decoded, tiny_corpus, kind):
    cuts = list(CutSet.from_file(tiny_corpus.dev))
    found = heard_offline(offline, cuts, kind=kind)
    differing = [id_ for id_, (text, _) in found.items() if text != decoded[id_][0]]
    assert len(differing) <= (1 if kind else 0)  # int8 weights are others
    assert any(text for text, _ in found.values())
    if not kind:
        for id_, (_, times) in found.items():
            assert np.array(times) + SHIFT == pytest.approx(decoded[id_][1], abs=1e-4)


@pytest.mark.parametrize("kind", ["", ".int8"])
def test_sherpa_onnx_hears_in_a_stream_what_asr_decode_does(online, decoded, tiny_corpus, kind):
    cuts = list(CutSet.from_file(tiny_corpus.dev))
    found = heard_online(online, cuts, kind=kind)
    differing = [id_ for id_, (text, _) in found.items() if text != decoded[id_][0]]
    assert len(differing) <= (1 if kind else 0)
    if not kind:
        for id_, (_, times) in found.items():
            assert np.array(times) + SHIFT == pytest.approx(decoded[id_][1], abs=1e-4)


def test_hot_words_are_divided_as_the_tokenizer_does(offline, tiny_corpus, tmp_path):
    """A phrase that is boosted beyond measure is heard everywhere, which it would not be in other pieces."""
    hot_words = tmp_path / "hotwords.txt"
    hot_words.write_text("TOP LOW TOP LOW TOP LOW\n")
    cuts = list(CutSet.from_file(tiny_corpus.dev))
    beam = {"decoding_method": "modified_beam_search", "modeling_unit": "bpe", "bpe_vocab": str(offline / "bpe.vocab")}
    plain = heard_offline(offline, cuts, **beam)
    boosted = heard_offline(offline, cuts, **beam, hotwords_file=str(hot_words), hotwords_score=50.0)
    assert all("TOP LOW" in text for text, _ in boosted.values())
    assert not all("TOP LOW" in text for text, _ in plain.values())


def test_every_product_with_weights_is_one_of_integers_in_int8(offline):
    for path in offline.glob("*.int8.onnx"):
        graph = onnx.load(path).graph
        weights = {tensor.name for tensor in graph.initializer}
        products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")]
        assert [node.name for node in products if weights & set(node.input)] == []
    assert any(node.op_type == "MatMulInteger" for node in onnx.load(offline / "encoder.int8.onnx").graph.node)


def test_what_a_directory_of_an_export_holds(offline, online, streaming_run):
    description = json.loads((offline / "export.json").read_text())
    trained = load_trained(str(streaming_run), "auto", torch.device("cpu"))
    assert description["digest"] == trained.digest
    assert trained.digest in (offline / "README.md").read_text()
    assert "pip install sherpa-onnx soundfile" in (offline / "README.md").read_text()
    assert (offline / "tokens.txt").read_text().splitlines()[0] == "<blk> 0"
    assert json.loads((online / "export.json").read_text())["left_context"] == 8
    assert naming_this_machine(offline) + naming_this_machine(online) == []


def naming_this_machine(directory):
    """Files of a directory in which the program's own directory stands."""
    home = str(Path(asr.__file__).parent).encode()
    return [path.name for path in directory.rglob("*") if path.is_file() and home in path.read_bytes()]


def run_readme(directory, wav):
    """What the Python lines of an export's README print."""
    lines = (directory / "README.md").read_text().split("```python\n")[1].split("```")[0]
    printed = []
    exec(lines.replace("audio.wav", str(wav)), {"print": printed.append})
    return printed


@pytest.mark.parametrize("kind", ["offline", "online"])
def test_the_readme_of_an_export_runs(kind, request, decoded, tiny_corpus, monkeypatch):
    directory = request.getfixturevalue(kind)
    monkeypatch.chdir(directory)
    cut = next(iter(CutSet.from_file(tiny_corpus.dev)))
    printed = run_readme(directory, cut.recording.sources[0].source)
    assert [text.strip() for text in printed] == [decoded[cut.id][0]]


def test_programs_of_torch_export(exported, capsys):
    output = exported("format=torch")
    assert "labels in 0 utterances" in capsys.readouterr().out
    program = torch.export.load(output / "joiner.pt2").module()
    assert program(torch.zeros(5, 16), torch.zeros(5, 16)).shape[0] == 5
    assert naming_this_machine(output) == []


def refusal(capsys, *words):
    assert main(["export", *words]) == 2
    return capsys.readouterr().err.strip()


@pytest.fixture
def in_memory(monkeypatch):
    """Parts that are not converted, of files that are empty; their first weights are moved by `in_memory.by`."""
    written, moved = {}, SimpleNamespace(by=0.0)

    def write(part, path):
        path.touch()
        written[path] = part.module

    def write_int8(path, int8):
        int8.touch()
        written[int8] = written[path]

    def load(path):
        module = copy.deepcopy(written[path])
        with torch.no_grad():
            next(module.parameters()).add_(moved.by)

        def run(*inputs):
            with torch.no_grad():
                found = module(*inputs)
            return found if isinstance(found, tuple) else (found,)

        return run

    monkeypatch.setattr("asr.export.directory.format_called", lambda name: Format(".onnx", write, load))
    monkeypatch.setattr("asr.export.onnx_files.write_int8", write_int8)
    return moved


def test_an_export_that_is_not_the_model_is_not_left_behind(in_memory, streaming_run, tiny_corpus, tmp_path, capsys):
    in_memory.by = 1e-2
    words = [f"run={streaming_run}", f"cuts={tiny_corpus.dev}", f"output={tmp_path / 'export'}"]
    said = refusal(capsys, *words)
    assert "the export is not the model" in said
    assert "nothing was written" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("asked", [[], ["--int8"]])
def test_int8_weights_that_change_too_much_are_left_out_unless_asked_for(
    asked, in_memory, streaming_run, tiny_corpus, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("asr.export.directory.MOST_CHANGED", -1.0)  # even no change is too much
    output = tmp_path / "export"
    words = [f"run={streaming_run}", f"cuts={tiny_corpus.dev}", f"output={output}", "utterances=2", *asked]
    assert main(["export", *words]) == (2 if asked else 0)
    said = capsys.readouterr()
    if asked:
        assert "nothing was written; int8=null writes what passes" in said.err
        assert list(tmp_path.iterdir()) == []
        return
    line = next(line for line in said.out.splitlines() if line.startswith("int8: "))
    assert line.startswith("int8: left out, for int8 weights change 0 of ")
    assert line in (output / "README.md").read_text()
    assert sorted(path.name for path in output.glob("*.onnx")) == ["decoder.onnx", "encoder.onnx", "joiner.onnx"]


def test_a_format_without_int8_weights_is_refused_where_they_are_wanted(streaming_run, tiny_corpus, tmp_path, capsys):
    words = [f"run={streaming_run}", f"cuts={tiny_corpus.dev}", f"output={tmp_path / 'export'}"]
    assert "int8=true: format=torch has none" in refusal(capsys, *words, "--int8", "format=torch")


def test_audio_in_which_nothing_is_recognised_checks_nothing(in_memory, streaming_run, tmp_path, capsys):
    soundfile.write(tmp_path / "silence.wav", np.zeros(2 * RATE), RATE)
    cut = Recording.from_file(tmp_path / "silence.wav").to_cut()
    cut.supervisions = [SupervisionSegment("silence", "silence", start=0.0, duration=2.0, text="LOW")]
    CutSet.from_cuts([cut]).to_file(tmp_path / "cuts.jsonl")
    words = [f"run={streaming_run}", f"cuts={tmp_path / 'cuts.jsonl'}", f"output={tmp_path / 'export'}"]
    assert "the model recognises nothing in 1 utterances" in refusal(capsys, *words)
    assert not (tmp_path / "export").exists()


def test_another_directory_is_never_replaced(streaming_run, tiny_corpus, tmp_path, capsys):
    words = [f"run={streaming_run}", f"cuts={tiny_corpus.dev}"]
    (tmp_path / "thesis.txt").write_text("mine")
    assert "is there, and no export" in refusal(capsys, *words, f"output={tmp_path}")
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("model", "loss", "options", "said"),
    [
        ({}, {"arcs": TdtArcOptions()}, {}, "loss.arcs.name=tdt: sherpa-onnx has no search for these arcs"),
        ({}, {"arcs": MultiBlankArcOptions()}, {}, "loss.arcs.name=multi_blank"),
        ({}, {}, {"streaming": True}, "trained on whole utterances"),
        ({"causal": True, "chunk_frames": [4]}, {}, {"streaming": True}, "left_context=64 or so"),
    ],
)
def test_a_model_that_the_runtime_cannot_search_is_refused(model, loss, options, said, tmp_path):
    config = TrainConfig(model=small_options(**model), loss=FullLossOptions(**loss))
    trained = Trained(Transducer(config.model, 5), None, config, "last")
    output = tmp_path / "export"
    with pytest.raises(InputError, match=said):
        export(ExportConfig(output=str(output), **options), trained, [])
    assert not output.exists()


def test_arcs_of_hat_are_a_distribution_for_the_runtime():
    model = random_model(3).float()
    arcs = hat_arcs("modified", model.vocab_size)
    encoded, predicted = torch.randn(2, 6, 8).unbind(0)
    label = torch.arange(6) % (model.vocab_size - 1) + 1
    with torch.no_grad():
        wanted = arcs.weights(arcs.log_probs(model.joiner(encoded, predicted), label))
        found = Joiner(model, arcs)(encoded, predicted).log_softmax(1)
    torch.testing.assert_close(found[:, 0], wanted[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(found.gather(1, label[:, None])[:, 0], wanted[1], rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_streaming_encoder_reads_nothing_of_before_the_beginning():
    """The runtime keeps its caches when a stream begins anew."""
    options = small_options(causal=True, chunk_frames=[4], left_context=6, normalize="none")
    model = Transducer(options, 5).eval()
    form = Form(chunk=4, left=6, streaming=True, timing=model.timing)
    features = torch.randn(2, 4 * form.shift + 3, options.mel_bins)
    wanted = torch.cat([chunk for chunk, _ in encode_in_chunks(model, features, torch.full((2,), 67), 4)], dim=1)
    caches, found = [torch.full_like(cache, 1e3) for cache in empty_caches(options, form, 2)], []
    for begin in range(0, 4 * form.shift, form.shift):
        window = features[:, begin : begin + form.feature_frames]
        chunk, *caches = StreamingEncoder(model)(window, *caches, torch.full((2,), begin))
        found.append(chunk)
    torch.testing.assert_close(torch.cat(found, dim=1), wanted, rtol=0, atol=1e-5)
