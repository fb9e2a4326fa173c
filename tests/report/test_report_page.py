"""The page of `asr report`: what is on it, and that nothing that comes from data is obeyed there."""

import base64
import hashlib
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from lhotse import CutSet
from saved_runs import char_tokenizer, save_run

from asr.cli import report
from asr.cli.main import main
from asr.config import ReportConfig
from asr.data.features import as_int16, load_samples
from asr.errors import InputError
from asr.report import examples
from asr.report.manifests import found_manifests
from asr.runs.trained import checkpoint_digest
from asr.score.record import Record, write_record
from asr.score.report import write_report
from asr.score.wer import Utterance, score

HOSTILE = "</script><script>alert(1)</script>"
WORD = '<img/src=x/onerror="alert(1)">'  # without a blank, as words are
TOKEN = "<script>alert(1)</script>"
LINK = "'\"><a/href='https://example.com'> {{7*7}}"  # two words
VOID = {"meta", "input", "image", "path", "rect"}


class Page(HTMLParser):
    """Elements with their attributes, the text of those that have some, and all text."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.content = content
        self.feed(content)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def text_of(self, tag):
        return [text for name, text in self.texts if name == tag]

    @property
    def data(self):
        return json.loads(re.search(r'id="data">(.*?)</script>', self.content, re.DOTALL)[1])


def reported(*runs: Path, output: Path, **options) -> Page:
    report.main(ReportConfig(runs=[*map(str, runs)], output=str(output), **options))
    return Page(output.read_text(encoding="utf-8"))


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def heard(name: str, said: str, found: str) -> Utterance:
    tokens = tuple(found.split())
    return Utterance(name, said, found, tokens, tuple(0.1 * n for n, _ in enumerate(tokens)), (0.5,) * len(tokens))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A run with a model, and nothing else."""
    return save_run(tmp_path_factory.mktemp("model") / "run", char_tokenizer("LOW MID HIGH TOP"))


@pytest.fixture(scope="module")
def make_run(model):
    """Makes runs of that model, with these metrics and what was decoded."""

    def make(path: Path, metrics: list[dict], **decodings: list[Utterance]) -> Path:
        path.mkdir()
        for name in ("config.yaml", "tokenizer", "checkpoints"):
            (path / name).symlink_to(model / name)
        (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
        for name, utterances in decodings.items():
            write_report(path / name, utterances, name)
        return path

    return make


METRICS = [
    *({"step": n, "train/loss": 4.0 / n, "train/kept_nodes": 10.0 * n, "train/widened": 0.0} for n in (1, 2, 3)),
    {"step": 3, "validation/wer": 12.5, "validation/delay": float("nan")},
]


@pytest.fixture(scope="module")
def hostile(tiny_corpus, make_run, tmp_path_factory):
    """A page of a run in which everything that data can say is an attack."""
    path = tmp_path_factory.mktemp("hostile")
    run = make_run(path / f"run {LINK.replace('/', '.')}", [{"step": 1, f"train/{HOSTILE}": 1.0, "train/loss": 1.0}])
    found = [heard(HOSTILE, f"{WORD} a\u202eb", LINK), heard("half \ud800", "x", f"x {HOSTILE}"), heard("c", "y", "y")]
    (run / "decode_test").mkdir()
    lines = (json.dumps(vars(one)) for one in found)
    (run / "decode_test" / "hypotheses.jsonl").write_text("\n".join(lines))
    (run / "decode_test" / "wer.txt").write_text(f"{score(found, 'word').line(HOSTILE)}\n")
    record = Record(*[HOSTILE] * 5, streaming=False, device=HOSTILE, decode={"name": HOSTILE})
    write_record(run / "decode_test", record)
    (run / "decode_test" / "delay.txt").write_text(
        f"delay: mean {TOKEN}, median 1, 90 % {TOKEN}, last token {TOKEN} s\n"
    )
    log = (
        f"2026-11-26 11:20:12,617 INFO x: 1 parameters, loss x ({HOSTILE.replace('(1)', '')}), step 0 of 9 on {LINK}\n"
    )
    (run / "train.log").write_text(log)
    cut = CutSet.from_file(tiny_corpus.dev)[0].with_id(HOSTILE)
    cut.supervisions[0].text = f"{WORD} a\u202eb"
    CutSet.from_cuts([cut]).to_file(path / "cuts.jsonl.gz")
    return reported(run, output=path / "report.html", cuts=[str(path / "cuts.jsonl.gz")])


def test_nothing_that_comes_from_data_is_obeyed(hostile):
    page = hostile
    assert len(page.all("script")) == 3  # the data, the library, and the page's own
    assert len([one for one in page.all("svg") if one.get("class") == "drawing"]) == 1  # the one with a cut
    assert not {"img", "iframe", "object", "embed", "base", "link"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href", "action", "formaction", "data", "poster", "srcset", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,", "data:audio/flac;base64,"))
    assert "<img" not in page.content
    assert "{{7*7}}" in "".join(page.text_of("h1"))
    told = page.text_of("td")
    assert f"{HOSTILE}; {HOSTILE} search" in told  # of decode.json
    assert f"{TOKEN} s" not in told  # of delay.txt, where it is no number
    assert {HOSTILE.replace("(1)", ""), LINK} <= {*told}  # of train.log


def test_the_policy_allows_what_is_in_the_page_and_no_more(hostile):
    page = hostile
    (policy,) = [one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    scripts = re.findall(r"<script>(.*?)</script>", page.content, re.DOTALL)
    assert set(rules["script-src"].split()) == {*map(digest, scripts)}
    (style,) = re.findall(r"<style>(.*?)</style>", page.content, re.DOTALL)
    assert rules["style-src"] == digest(style)
    assert rules["default-src"] == "'none'"
    assert {rules[name] for name in ("img-src", "media-src")} == {"data:"}


def test_what_data_says_is_there_as_text(hostile):
    page = hostile
    (decoding,) = page.data["decodings"]
    assert [row[0] for row in decoding["rows"]] == [HOSTILE, "half \\ud800", "c"]
    assert decoding["rows"][0][1:4] == [f"{WORD} a\\u202eb", "SS", LINK]
    assert decoding["rows"][1][1:4] == ["x", "=I", HOSTILE]
    assert page.text_of("h5")[0] == HOSTILE
    assert [one["data-ref"] for one in page.all("button") if one.get("data-ref")] == [WORD, "a\\u202eb"]


def test_the_numbers_are_those_of_the_score(make_run, tmp_path):
    first = [heard("a", "LOW MID", "LOW TOP"), heard("b", "HIGH", "HIGH"), heard("c", "TOP LOW", "TOP")]
    second = [heard("a", "LOW MID", "LOW MID"), heard("b", "HIGH", "HIGH"), heard("c", "TOP LOW", "TOP LOW LOW")]
    runs = (
        make_run(tmp_path / "one", METRICS, decode_test=first),
        make_run(tmp_path / "two", METRICS, decode_test=second),
    )
    page = reported(*runs, output=tmp_path / "report.html")
    cells = page.text_of("td")
    assert [text for text in cells if text.endswith("WER")] == ["20.00 % WER", "40.00 % WER"]  # the best first
    assert "+20.00" in cells  # one against two, the better one
    assert page.data["runs"] == ["one", "two"]
    assert [one["set"] for one in page.data["decodings"]] == [0, 0]
    assert page.data["decodings"][0]["rows"][2][:4] == ["c", "TOP LOW", "==I", "LOW"]
    assert page.data["decodings"][1]["rows"][2][:4] == ["c", "TOP LOW", "=D", ""]
    counted = {(one["data-ref"], one["data-hyp"]) for one in page.all("button") if "data-ref" in one}
    assert counted == {("MID", "TOP"), ("LOW", ""), ("", "LOW")}


def test_what_is_the_same_of_all_runs_is_told_once(make_run, tmp_path):
    runs = [make_run(tmp_path / name, METRICS) for name in ("one", "two")]
    log = "2026-11-26 11:20:12,617 INFO exp/a: 3,183,410 parameters, loss pruned (chunked joiner), step 0 of 9 on cpu\n"
    (runs[0] / "train.log").write_text(log + "2026-11-26 12:04:06,357 INFO done at step 3000\n")
    page = reported(*runs, output=tmp_path / "report.html")
    assert {"Trained on", "Parameters", "Computed by", "When"} <= {*page.text_of("th")}
    cells = page.text_of("td")
    assert cells.count("nothing") == 2  # trained and validated on: neither run names a manifest
    assert {"3,183,410", "chunked joiner", "cpu", "2026-11-26 11:20 to 12:04"} <= {*cells}


def test_curves_of_all_runs_are_in_one_chart(make_run, tmp_path):
    runs = [make_run(tmp_path / name, METRICS) for name in ("one", "two")]
    page = reported(*runs, output=tmp_path / "report.html")
    charts = {chart["metric"]: chart for group in page.data["groups"] for chart in group["charts"]}
    assert [curve["run"] for curve in charts["train/loss"]["curves"]] == [0, 1]
    assert charts["train/loss"]["curves"][0] == {"run": 0, "steps": [1, 2, 3], "values": [4.0, 2.0, 1.3333], "ends": []}
    assert "validation/delay" not in charts  # NaN alone
    assert "train/widened" not in charts  # 0 throughout
    assert "0 throughout: bands that were widened." in page.text_of("p")
    assert [one["data-metric"] for one in page.all("figure")] == [*charts]


def test_a_run_without_decodings_shows_its_training_and_says_so(make_run, tmp_path, capsys):
    run = make_run(tmp_path / "run", METRICS)
    page = reported(run, output=tmp_path / "report.html")
    notes = [text for text in page.text_of("p") if "nothing was decoded" in text]
    assert notes == [
        f"run: nothing was decoded into this run, so there are no error rates of it: asr decode run={run} "
        f"cuts=CUTS.jsonl.gz output={run}/decode_NAME"
    ]
    assert notes[0] in capsys.readouterr().out
    assert page.data["decodings"] == []
    assert page.data["groups"] != []


def test_of_too_many_utterances_a_sample_is_listed_and_that_is_said(make_run, tmp_path, capsys):
    utterances = [heard(f"u{n:03d}", "LOW MID", "LOW TOP" if n % 10 == 0 else "LOW MID") for n in range(100)]
    run = make_run(tmp_path / "run", METRICS, decode_test=utterances)
    page = reported(run, output=tmp_path / "report.html", utterances=20)
    (decoding,) = page.data["decodings"]
    assert decoding["total"] == 100
    assert len(decoding["rows"]) == 20
    assert {row[0] for row in decoding["rows"]} >= {one.id for one in utterances[::10]}  # all that are wrong
    assert "5.00 % WER" in page.text_of("td")  # of all
    assert "of 100 utterances 20 are listed, the 10 with most errors" in capsys.readouterr().out


@pytest.fixture(scope="module")
def with_examples(tiny_corpus, make_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("examples")
    cuts = CutSet.from_file(tiny_corpus.dev)
    said = {cut.id: cut.supervisions[0].text for cut in cuts}
    first = next(iter(said))
    utterances = [heard(name, text, "LOW" if name == first else text) for name, text in said.items()]
    run = make_run(path / "run", METRICS, decode_test=utterances)
    page = reported(run, output=path / "report.html", cuts=[str(tiny_corpus.dev)], examples=1)
    return page, run, {cut.id: cut for cut in cuts}


def test_examples_can_be_heard_and_seen(with_examples):
    page, _, cuts = with_examples
    assert len(page.all("article")) == 3
    sounds = {one["aria-label"]: one["src"] for one in page.all("audio")}
    assert len(sounds) == 3
    for name, source in sounds.items():
        samples, rate = soundfile.read(BytesIO(base64.b64decode(source.partition(",")[2])), dtype="int16")
        assert rate == 16000
        np.testing.assert_array_equal(samples, as_int16(load_samples(cuts[name])))
    drawings = [one for one in page.all("svg") if one.get("class") == "drawing"]
    assert len(drawings) == 3
    assert all("Lattice of run: " in one["aria-label"] for one in drawings)
    assert "worst" not in page.content  # what they are called here is told in words
    assert page.text_of("h4")[-3:] == ["Most errors", "Fewest errors, longest first", "Drawn at random from the others"]


@pytest.mark.parametrize(
    ("said", "loss", "reason"),
    [
        ("LOW 三", 1.0, "character '三' of '三' is not in the tokenizer's vocabulary: normalise the text"),
        ("LOW", math.inf, "no path has its 4 labels in"),
    ],
)
def test_what_has_no_lattice_says_why(said, loss, reason, make_run, tiny_corpus, tmp_path, monkeypatch):
    seen = examples.view_lattice
    monkeypatch.setattr(examples, "view_lattice", lambda *given: replace(seen(*given), loss=loss))
    cut = CutSet.from_file(tiny_corpus.dev)[0]
    cut.supervisions[0].text = said
    CutSet.from_cuts([cut]).to_file(tmp_path / "cuts.jsonl.gz")
    run = make_run(tmp_path / "run", METRICS, test=[Utterance(cut.id, said, "LOW")])  # without times
    page = reported(run, output=tmp_path / "report.html", cuts=[str(tmp_path / "cuts.jsonl.gz")])
    (told,) = [text for text in page.text_of("p") if text.startswith("no lattice of run: ")]
    assert reason in told
    assert "recognised" not in page.text_of("text")  # a lane with nothing in it


def test_what_was_decoded_is_found_by_its_record(with_examples, model, make_run, tiny_corpus, tmp_path):
    _, _, cuts = with_examples
    place = tmp_path / "recipe"
    (place / "exp").mkdir(parents=True)
    (place / "data").symlink_to(tiny_corpus.directory)
    utterances = [heard(name, cut.supervisions[0].text, "LOW") for name, cut in cuts.items()]
    run = make_run(place / "exp" / "run", METRICS, test=utterances)
    weights, search = checkpoint_digest(str(model), "auto"), {"name": "greedy"}
    for digest in (weights, "others"):
        record = Record(
            "0.1.0", "exp/run", "step-1 + step-2", digest, f"data/{tiny_corpus.dev.name}", True, "cpu", search
        )
        write_record(run / "test", record)
        page = reported(run, output=tmp_path / "report.html", examples=1)
        assert "mean of 2 checkpoints to step-2; greedy search, streaming" in page.text_of("td")
        drawings = [one["aria-label"] for one in page.all("svg") if one.get("class") == "drawing"]
        assert ["of other weights than it was decoded with" in one for one in drawings] == [digest == "others"] * 3


def test_sets_of_the_same_ids_have_each_its_own_sound(make_run, tiny_corpus, tmp_path, capsys):
    cut = CutSet.from_file(tiny_corpus.dev)[0].with_id("u")
    sounds = {"clean": cut, "noisy": cut.truncate(duration=cut.duration / 2, preserve_id=True)}
    run = make_run(tmp_path / "run", METRICS, **{name: [heard("u", "LOW", "LOW")] for name in sounds})
    for name, one in sounds.items():
        CutSet.from_cuts([one]).to_file(tmp_path / f"{name}.jsonl")
        write_record(run / name, Record("", "run", "", "", f"{name}.jsonl", False, "cpu", {}))
    given = [str(tmp_path / f"{name}.jsonl") for name in sounds]
    for cuts in ([], given, given[::-1]):
        page = reported(run, output=tmp_path / "report.html", examples=1, lattices=0, cuts=cuts)
        found = [
            soundfile.read(BytesIO(base64.b64decode(one["src"].partition(",")[2])))[0] for one in page.all("audio")
        ]
        assert [len(samples) for samples in found] == [one.num_samples for one in sounds.values()]
        assert page.data["heard"] == [{"u": 0}, {"u": 1}]
        assert [path in capsys.readouterr().err for path in given[:1]] == [not cuts]


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("data/cuts.jsonl", True),
        ("{place}/data/cuts.jsonl", False),  # of somebody else's run that could be any file
        ("../place/data/cuts.jsonl", False),
        ("place/data/cuts.jsonl", False),  # below a directory in which it was not decoded
        ("", False),
        ("x" * 5000, False),
    ],
)
def test_a_record_leads_nowhere_else(name, taken, tmp_path):
    (tmp_path / "place" / "data").mkdir(parents=True)
    (tmp_path / "place" / "data" / "cuts.jsonl").touch()
    run = tmp_path / "place" / "exp" / "run"
    record = Record("", "exp/run", "", "", name.format(place=tmp_path / "place"), False, "cpu", {})
    decoding = SimpleNamespace(run=0, record=record)
    found = found_manifests([decoding], [SimpleNamespace(path=run)])
    assert found == [str(tmp_path / "place" / "data" / "cuts.jsonl")] * taken


def test_a_manifest_that_nobody_named_costs_its_sound_alone(make_run, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    (tmp_path / "damaged.jsonl").write_text("{")
    run = make_run(tmp_path / "run", METRICS, a=[heard("a", "LOW", "LOW")], b=[heard("b", "LOW", "LOW")])
    for name, cuts in (("a", "folder"), ("b", "damaged.jsonl")):
        write_record(run / name, Record("", "run", "", "", cuts, False, "cpu", {}))
    (run / "a" / "delay.txt").write_bytes(b"\xff")
    page = reported(run, output=tmp_path / "report.html", examples=1)
    notes = [text for text in page.text_of("p") if "that decode.json names" in text]
    assert ["folder" in notes[0], "damaged.jsonl" in notes[1]] == [True, True]
    with pytest.raises(InputError, match="damaged.jsonl"):
        reported(run, output=tmp_path / "report.html", examples=1, cuts=[str(tmp_path / "damaged.jsonl")])


def test_sound_takes_no_more_room_than_it_may(with_examples, tiny_corpus, tmp_path):
    page, run, _ = with_examples
    sizes = [len(one["src"]) for one in page.all("audio")]
    limit = (sizes[0] + min(sizes[1:]) / 2) / 1e6
    options = {"cuts": [str(tiny_corpus.dev)], "examples": 1, "lattices": 0}
    fewer = reported(run, output=tmp_path / "report.html", audio_mb=limit, **options)
    assert len(fewer.all("audio")) == 1
    assert fewer.text_of("p").count("no sound: audio_mb has no room for it") == 2


def test_what_lattices_need_may_be_gone(with_examples, tiny_corpus, tmp_path):
    _, run, _ = with_examples
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.yaml", "tokenizer", "metrics.jsonl", "decode_test"):
        (bare / name).symlink_to(run / name)
    page = reported(bare, output=tmp_path / "report.html", cuts=[str(tiny_corpus.dev)], examples=1)
    assert len(page.all("audio")) == 3
    assert sum("no lattice of bare: " in text and "no checkpoint yet" in text for text in page.text_of("p")) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: [], "no run given: name run directories"),
        (lambda path: [path / "none"], "none: no such directory"),
        (lambda path: [path], "not a run directory of `asr train`: it has no config.yaml"),
        (lambda path: [path / "run" / "decode_test"], "decode_test: a decoding, not a run"),
        (lambda path: [path / "run", path / "." / "run"], "run: is named twice"),
        (lambda path: [path / "run", "cuts=[gone.jsonl.gz]"], "gone.jsonl.gz: no such manifest"),
    ],
)
def test_bad_input_is_one_clear_line(make, message, make_run, tmp_path, capsys):
    utterances = [heard("a", "LOW", "LOW")]
    make_run(tmp_path / "run", METRICS, decode_test=utterances)
    assert main(["report", *map(str, make(tmp_path)), f"output={tmp_path / 'report.html'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("asr report: error: ")
    assert message in line
    assert not (tmp_path / "report.html").exists()


DAMAGES = {  # of the files of a decoding, and what is said of each
    "decode.json": ("[1]", "decode.json: is no record of a decoding"),
    "hypotheses.jsonl": ('{"id": "a"}', "hypotheses.jsonl:1: "),
    "wer.txt": ("none", "wer.txt: not a WER line"),
    "gone": (None, "gone: its hypotheses.jsonl is gone; decode again, or delete the directory"),
}


def test_a_damaged_decoding_costs_itself_alone(make_run, tmp_path, capsys):
    utterances = [heard("a", "LOW", "LOW")]
    sound = make_run(tmp_path / "sound", METRICS, decode_test=utterances)
    run = make_run(tmp_path / "run", METRICS, **dict.fromkeys(DAMAGES, utterances))
    for name, (content, _) in DAMAGES.items():
        file = run / name / (name if content else "hypotheses.jsonl")
        file.write_text(content) if content else file.unlink()
    assert main(["report", str(sound), str(run), f"output={tmp_path / 'report.html'}"]) == 1
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    *told, last = capsys.readouterr().err.splitlines()
    assert len(told) == len(DAMAGES)
    for name, (_, message) in DAMAGES.items():
        (reason,) = [text for text in page.text_of("p") if text.startswith(f"run/{name} is left out: ")]
        assert message in reason
        assert reason in told
    assert last == "asr report: decodings that could not be read and are not on the page: 4; see above"
    assert [one["label"] for one in page.data["decodings"]] == ["sound/decode_test"]
    assert not [text for text in page.text_of("p") if "nothing was decoded" in text]
    assert page.data["runs"] == ["sound", "run"]


def test_a_report_takes_the_place_of_a_report_and_of_nothing_else(make_run, tmp_path, capsys):
    make_run(tmp_path / "run", METRICS, decode_test=[heard("a", "LOW", "LOW")])
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    assert main(["report", str(tmp_path / "run"), f"output={tmp_path / 'run' / 'metrics.jsonl'}"]) == 2
    assert capsys.readouterr().err.endswith("metrics.jsonl: is there, and no report; name another file\n")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
    for _ in range(2):
        assert main(["report", str(tmp_path / "run"), f"output={tmp_path / 'report.html'}"]) == 0
