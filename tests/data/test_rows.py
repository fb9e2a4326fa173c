"""Rows of a manifest that are not what they must be: each is named by line and id before any work."""

import gzip
import json
import math

import pytest

from asr.cli import align, attach, decode, features, lm, plot, score, shar, splice, tokenizer
from asr.config import (
    AlignConfig,
    AttachConfig,
    DataOptions,
    DecodeConfig,
    FeaturesConfig,
    LmConfig,
    NoiseOptions,
    PlotConfig,
    ScoreConfig,
    SharConfig,
    SpliceConfig,
    TokenizerConfig,
    TrainConfig,
)
from asr.data import manifest
from asr.data.manifest import open_cuts
from asr.data.rows import read_row
from asr.data.tokenizer import load_tokenizer, train_tokenizer
from asr.errors import InputError
from asr.train.data import TrainingData


def with_(**fields):
    """A change of a row: other values of its fields."""
    return lambda row: row | fields


def without(name):
    """A change of a row: a field less."""
    return lambda row: {key: value for key, value in row.items() if key != name}


def inside(part, change):
    """A change of a recording, or of the first supervision."""

    def apply(row):
        first = row[part][0] if isinstance(row[part], list) else row[part]
        return row | {part: [change(first)] if isinstance(row[part], list) else change(first)}

    return apply


def said(**fields):
    return inside("supervisions", with_(**fields))


def recorded(**fields):
    return inside("recording", with_(**fields))


def timed(*item):
    return said(alignment={"word": [["LOW", 0.1, 0.2], list(item)]})


def stored(**fields):
    """A change of a row: features, of which some fields are other than they must be."""
    described = {
        "type": "kaldi-fbank",
        "num_frames": 100,
        "num_features": 80,
        "frame_shift": 0.01,
        "sampling_rate": 16000,
        "start": 0.0,
        "duration": 1.0,
        "storage_type": "numpy_files",
        "storage_path": "feats",
        "storage_key": "a.npy",
    }
    return with_(features=described | fields)


def mixed(**fields):
    """A change of a row: a track of a mixed cut."""
    return lambda row: {
        "id": row["id"],
        "type": "MixedCut",
        "tracks": [{"cut": row, "type": "MonoCut", "offset": 0.0} | fields],
    }


MALFORMED = {
    "a list": (lambda row: [1, 2], "no object"),
    "a number": (lambda row: 7, "no object"),
    "no type": (without("type"), "no cut: its type is null"),
    "an unknown type": (with_(type="Speech"), 'no cut: its type is "Speech"'),
    "a recording": (lambda row: row["recording"], "no cut"),
    "no id": (without("id"), "no id"),
    "an id that is a number": (with_(id=3), "id is 3, not a name"),
    "an empty id": (with_(id=""), 'id is "", not a name'),
    "an id of two lines": (with_(id="a\nb"), "id is .*, not a name that can be printed"),
    "half a character in the id": (with_(id="\ud83d"), "id is .*, not a name that can be printed"),
    "no start": (without("start"), "no start"),
    "a start before 0": (with_(start=-0.5), "start is -0.5, not seconds, 0 or more"),
    "a start that is text": (with_(start="0"), 'start is "0", not seconds'),
    "no duration": (without("duration"), "no duration"),
    "a duration that is text": (with_(duration="2.9"), 'duration is "2.9", not seconds'),
    "a duration of NaN": (with_(duration=math.nan), "duration is NaN, not seconds"),
    "an infinite duration": (with_(duration=math.inf), "duration is Infinity, not seconds"),
    "no time at all": (with_(duration=0), "duration is 0, not seconds, more than 0"),
    "a duration below 0": (with_(duration=-1.0), "duration is -1.0, not seconds, more than 0"),
    "a duration of millennia": (with_(duration=10**400), "duration is 10*…, not seconds"),
    "a duration that is null": (with_(duration=None), "duration is null, not seconds"),
    "a duration that is true": (with_(duration=True), "duration is true, not seconds"),
    "a channel that is text": (with_(channel="0"), 'channel is "0", not a channel'),
    "supervisions that are null": (with_(supervisions=None), "supervisions is null, not a list of objects"),
    "supervisions that are texts": (with_(supervisions=["LOW"]), r"supervisions is \[\"LOW\"\], not a list of objects"),
    "text that is a number": (said(text=42), r"supervisions\[0\].text is 42, not text"),
    "text of NaN, as pandas has it": (said(text=math.nan), r"supervisions\[0\].text is NaN, not text"),
    "text that is a list": (said(text=["LOW"]), r"supervisions\[0\].text is \[\"LOW\"\], not text"),
    "half a character in the text": (said(text="\ud83d"), r"supervisions\[0\].text is .*, not text"),
    "a speaker that is a number": (said(speaker=1034), r"supervisions\[0\].speaker is 1034, not text"),
    "a supervision's id that is a number": (said(id=3), r"supervisions\[0\].id is 3, not a name"),
    "a supervision without a start": (
        inside("supervisions", without("start")),
        r"no supervisions\[0\].start",
    ),
    "a supervision's duration that is text": (said(duration="1"), r'supervisions\[0\].duration is "1", not seconds'),
    "a supervision that ends before it starts": (said(duration=-1), r"supervisions\[0\].duration is -1, not seconds"),
    "a field that Lhotse does not have": (said(transcript="LOW"), r"supervisions\[0\].transcript is no field"),
    "a word's time that is text": (timed("TOP", "0.3", 0.2), 'a time of "TOP" in .*alignment.word is no number'),
    "a word's time of NaN": (timed("TOP", 0.3, math.nan), 'a time of "TOP" in .*alignment.word is no number'),
    "a word that is a number": (timed(7, 0.3, 0.2), r"an item of .*alignment.word is \[7, 0.3, 0.2\], not \[symbol"),
    "a word without a time": (timed("TOP"), r"an item of .*alignment.word is \[\"TOP\"\], not \[symbol"),
    "words that are no list": (said(alignment={"word": "LOW"}), 'alignment.word is "LOW", not a list'),
    "a recording that is null": (with_(recording=None), "recording is null, not an object"),
    "a recording that is a path": (with_(recording="a.wav"), 'recording is "a.wav", not an object'),
    "a recording without audio": (inside("recording", without("sources")), "no recording.sources"),
    "a source that is a path": (recorded(sources=["a.wav"]), r"recording.sources is \[\"a.wav\"\], not a list of obj"),
    "a path that is a number": (
        recorded(sources=[{"type": "file", "channels": [0], "source": 7}]),
        r"recording.sources\[0\].source is 7, not text",
    ),
    "a sampling rate that is text": (recorded(sampling_rate="16000"), 'recording.sampling_rate is "16000", not a whol'),
    "a sampling rate of 0": (recorded(sampling_rate=0), "recording.sampling_rate is 0, not a whole number"),
    "half a sample": (recorded(num_samples=0.5), "recording.num_samples is 0.5, not a whole number"),
    "a recording's duration that is not that of its samples": (
        recorded(num_samples=160000),
        "recording.duration is .* s, but num_samples / sampling_rate 10 s",
    ),
    "features that are a path": (with_(features="a.npy"), 'features is "a.npy", not an object'),
    "bins that are text": (stored(num_features="80"), 'features.num_features is "80", not a whole number'),
    "a frame shift of 0": (stored(frame_shift=0), "features.frame_shift is 0, not seconds, more than 0"),
    "a track that is null": (mixed(cut=None), r"tracks\[0\].cut is null, not an object"),
    "a track's text that is a number": (
        lambda row: mixed()(said(text=42)(row)),
        r"tracks\[0\].cut.supervisions\[0\].text is 42, not text",
    ),
    "a track before the beginning": (mixed(offset=-1), r"tracks\[0\].offset is -1, not seconds, 0 or more"),
}


@pytest.fixture(scope="module")
def rows(tiny_corpus):
    """The rows of a manifest, as JSON has them."""
    return [json.loads(line) for line in gzip.decompress(tiny_corpus.dev.read_bytes()).splitlines()]


def write(path, rows):
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return str(path)


@pytest.fixture
def with_one_bad_row(rows, tmp_path):
    """A manifest whose second row has text that is a number."""
    return write(tmp_path / "cuts.jsonl.gz", [rows[0], said(text=42)(rows[1]), *rows[2:]])


def test_right_rows_have_no_faults(rows):
    for row in rows:
        for change in (
            dict,
            mixed(),
            said(text=None, custom=None, alignment={"word": [["LOW", 0.1, 0.2, None], ["", 0.3, 0]]}),
            said(start=-3, language="Ελληνικά", text="e\u0301 𝄞"),
            stored(channels=0),
            without("supervisions"),
            without("recording"),
            with_(type="MultiCut", channel=[0, 1]),
        ):
            assert read_row(json.dumps(change(row))).faults == []


@pytest.mark.parametrize(("change", "fault"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_row_is_named_before_any_work(rows, tmp_path, change, fault):
    changed = change(rows[1])
    path = write(tmp_path / "cuts.jsonl.gz", [rows[0], changed, *rows[2:]])
    name = changed.get("id") if isinstance(changed, dict) else None
    named = name if name == rows[1]["id"] else json.dumps(name)
    place = "cuts.jsonl.gz: line 2" if name is None else f"cuts.jsonl.gz: line 2 ({named})"
    with pytest.raises(InputError, match=fault) as raised:
        open_cuts([path])
    assert f"{place}: " in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("line", ["{", '{"id": ', "\x00", "[" * 100_000, "1" * 10_000])
def test_a_line_that_is_not_json_is_named(rows, tmp_path, line):
    path = tmp_path / "cuts.jsonl"
    path.write_text(json.dumps(rows[0]) + "\n\n" + line + "\n")
    with pytest.raises(InputError, match=r"cuts.jsonl: line 3: (not JSON|no object)"):
        open_cuts([str(path)])


def test_all_rows_at_fault_are_named_in_one_pass_up_to_twenty(rows, tmp_path):
    bad = [said(text=n)(rows[n % 6]) | {"id": f"bad-{n}"} for n in range(25)]
    first = write(tmp_path / "first.jsonl.gz", [*rows, *bad[:15]])
    second = write(tmp_path / "second.jsonl.gz", bad[15:])
    with pytest.raises(InputError, match="5 more rows are at fault") as raised:
        open_cuts([first, second])
    message = str(raised.value)
    assert all(f"line {7 + n} (bad-{n}): supervisions[0].text is {n}, not text" in message for n in range(15))
    assert f"{second}: line 1 (bad-15)" in message
    assert "line 5 (bad-19)" in message
    assert "bad-20" not in message


@pytest.mark.parametrize("same", [True, False], ids=["one manifest", "two manifests"])
def test_an_id_that_occurs_again_is_named_with_both_places(rows, tmp_path, same):
    first = write(tmp_path / "first.jsonl.gz", [*rows[:3], rows[1]] if same else rows[:3])
    second = write(tmp_path / "second.jsonl.gz", [rows[4]] if same else [rows[4], rows[1]])
    again = f"{first}: line 4" if same else f"{second}: line 2"
    with pytest.raises(InputError) as raised:
        open_cuts([first, second])
    assert f"{again} (dev-1): has the id of {first}, line 2 (dev-1); give each utterance its own" in str(raised.value)


def test_ids_whose_hashes_agree_are_not_the_same(rows, tmp_path, monkeypatch):
    path = write(tmp_path / "cuts.jsonl.gz", rows)
    monkeypatch.setattr(manifest, "hash", lambda id_: 7, raising=False)
    assert len(list(open_cuts([path]))) == len(rows)


def test_rows_of_shar_are_looked_at_without_their_audio(rows, tmp_path):
    for number, chunk in enumerate((rows[:2], [rows[2], said(text=42)(rows[3])])):
        write(tmp_path / f"cuts.{number:06d}.jsonl.gz", chunk)
        (tmp_path / f"recording.{number:06d}.tar").write_bytes(b"is not opened")
    with pytest.raises(InputError, match=r"cuts.000001.jsonl.gz line 2 \(dev-3\): supervisions\[0\].text is 42"):
        open_cuts([str(tmp_path)])


def score_against(cuts, out):
    (out / "hypotheses.jsonl").write_text('{"id": "dev-0", "reference": "LOW", "hypothesis": "LOW"}\n')
    score.main(ScoreConfig(hypotheses=str(out / "hypotheses.jsonl"), cuts=cuts, output=str(out)))


def train_lm(cuts, out):
    train_tokenizer(["LOW"], "char").save(out / "tokenizer")
    lm.main(LmConfig(cuts=[cuts], tokenizer=str(out / "tokenizer"), output=str(out / "lm.arpa")))


COMMANDS = {
    "tokenizer": lambda cuts, out: tokenizer.main(TokenizerConfig(cuts=[cuts], output=f"{out}/new")),
    "lm": train_lm,
    "align": lambda cuts, out: align.main(AlignConfig(aligner="ctc", cuts=cuts, output=f"{out}/new")),
    "attach": lambda cuts, out: attach.main(AttachConfig(words=cuts, cuts=cuts, output=f"{out}/new")),
    "splice": lambda cuts, out: splice.main(SpliceConfig(cuts=cuts, output=f"{out}/new", audio=f"{out}/audio")),
    "features": lambda cuts, out: features.main(FeaturesConfig(cuts=cuts, output=f"{out}/new", storage=f"{out}/new")),
    "shar": lambda cuts, out: shar.main(SharConfig(cuts=cuts, output=f"{out}/new")),
    "decode": lambda cuts, out: decode.main(DecodeConfig(run=str(out), cuts=cuts, output=f"{out}/new")),
    "plot": lambda cuts, out: plot.main(PlotConfig(run=str(out), cuts=cuts, output=f"{out}/new", pictures=["lattice"])),
    "score": score_against,
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_command_refuses_a_malformed_row_and_writes_nothing(with_one_bad_row, tmp_path, command):
    with pytest.raises(InputError, match=r"cuts.jsonl.gz: line 2 \(dev-1\): supervisions\[0\].text is 42, not text"):
        command(with_one_bad_row, tmp_path)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["train_cuts", "valid_cuts", "noise"])
def test_training_refuses_a_malformed_row(with_one_bad_row, tiny_corpus, name):
    good = [str(tiny_corpus.train)]
    given = {"noise": NoiseOptions(cuts=[with_one_bad_row])} if name == "noise" else {name: [with_one_bad_row]}
    data = DataOptions(**{"train_cuts": good, "valid_cuts": good} | given)
    with pytest.raises(InputError, match=r"line 2 \(dev-1\): supervisions\[0\].text is 42, not text"):
        TrainingData(TrainConfig(run="unused", data=data), load_tokenizer(tiny_corpus.tokenizer))
