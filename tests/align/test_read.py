"""Times of words from every format, and files at fault: each fault named, the rest read."""

import gzip
import math

import pytest
from lhotse import CutSet, SupervisionSet
from lhotse.cut import MonoCut
from lhotse.supervision import AlignmentItem, SupervisionSegment

from asr.align.attach import without_silences
from asr.align.read import read_words
from asr.data.ctm import Aligned, write_ctm
from asr.errors import InputError

HELLO_WORLD = [AlignmentItem("hello", 0.5, 0.25), AlignmentItem("world", 1.0, 0.5)]

TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 2
        intervals: size = 5
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = ""
        intervals [2]:
            xmin = 0.5
            xmax = 0.75
            text = "hello"
        intervals [3]:
            xmin = 0.75
            xmax = 1.0
            text = "sp"
        intervals [4]:
            xmin = 1.0
            xmax = 1.5
            text = "world"
        intervals [5]:
            xmin = 1.5
            xmax = 2
            text = ""
    item [2]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 2
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 2
            text = "HH"
"""


def written(tmp_path, name, content):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def supervision(start=0.0, words=HELLO_WORLD):
    return SupervisionSegment("utt", "rec", start, 2.0, text="hello world", alignment={"word": words})


def lhotse_cuts(tmp_path):
    CutSet.from_cuts([MonoCut("utt", 3.0, 2.0, 0, [supervision()])]).to_file(tmp_path / "cuts.jsonl.gz")
    return tmp_path / "cuts.jsonl.gz"


def lhotse_supervisions(tmp_path):
    moved = [item.with_offset(3.0) for item in HELLO_WORLD]  # from the start of the recording
    SupervisionSet.from_segments([supervision(3.0, moved)]).to_file(tmp_path / "supervisions.jsonl")
    return tmp_path / "supervisions.jsonl"


@pytest.mark.parametrize(
    "make",
    [
        lambda path: written(
            path, "a.ctm", ";; comment\nutt 1 0.5 0.25 hello\nutt 1 0.8 0.1 <eps>\nutt 1 1 .5 world .9\n"
        ),
        lambda path: written(path, "a.ctm", b"\xef\xbb\xbfutt 1 0.5 0.25 hello\r\nutt A 1.0 0.5 world\r\n"),
        lambda path: written(path, "spk-chapter.alignment.txt", 'utt ",hello,,world," "0.5,0.75,1.0,1.5,2.0"\n'),
        lambda path: written(path, "utt.TextGrid", TEXTGRID),
        lambda path: written(path, "utt.TextGrid", TEXTGRID.replace('"words"', '"speaker - words"').encode("utf-16")),
        lambda path: written(path, "deep/er/utt.TextGrid", TEXTGRID).parents[2],
        lhotse_cuts,
        lhotse_supervisions,
    ],
    ids=["ctm", "ctm of Windows", "LibriSpeech", "TextGrid", "TextGrid UTF-16", "directory", "cuts", "supervisions"],
)
def test_every_format(tmp_path, make):
    times = read_words(make(tmp_path))
    assert times.faults == []
    assert len(times.by_id) == 1
    words = without_silences(["hello", "world"], times.by_id[times.names()["utt"]])
    assert [(item.symbol, item.start, item.duration) for item in words] == [
        ("hello", 0.5, 0.25),
        ("world", 1.0, 0.5),
    ]


def test_an_utterance_of_silence_is_known(tmp_path):
    found = read_words(written(tmp_path, "a.ctm", "utt 1 0 1 <eps>\n")).by_id
    assert found == {"utt": [AlignmentItem("<eps>", 0.0, 1.0)]}


@pytest.mark.parametrize(
    "line",
    [
        "utt 1 0.5 hello",
        "utt 1 x 0.25 hello",
        "utt 1 nan 0.25 hello",
        "utt 1 0.5 inf hello",
        b"utt 1 0.5 0.2 h\xe9",
        "?",
    ],
)
def test_a_line_at_fault_is_named_and_the_rest_is_read(tmp_path, line):
    content = b"first 1 0 1 a\n" + (line if isinstance(line, bytes) else line.encode()) + b"\nlast 1 0 1 b\n"
    times = read_words(written(tmp_path, "a.ctm", content))
    assert list(times.by_id) == ["first", "last"]
    (fault,) = times.faults
    assert fault.startswith(f"{tmp_path / 'a.ctm'}:2: not ")


@pytest.mark.parametrize("line", ['utt ",a" "0.5"', 'utt ",a" "0.5,x"', "utt", 'utt ",a" "0.5,1" more'])
def test_a_line_of_librispeech_at_fault_is_named(tmp_path, line):
    times = read_words(written(tmp_path, "a.alignment.txt", f'first ",a" "0.5,1.0"\n{line}\n'))
    assert list(times.by_id) == ["first"]
    assert "a.alignment.txt:2: not " in times.faults[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.ctm", b"", "no times of words there"),
        ("a.ctm", "utt 1 0 1 a\n".encode("utf-16"), "is UTF-16; convert it: iconv"),
        ("a.ctm", b"\0\1\2\xff\xfe\n", "a.ctm:1: not UTF-8"),
        ("utt.TextGrid", "no such thing", "not a readable TextGrid"),
        (
            "utt.TextGrid",
            TEXTGRID.replace('"words"', '"wrds"'),
            "no tier of intervals called words; it has wrds, phones",
        ),
        ("cuts.jsonl.gz", b"not gzip", "unreadable after 0 entries"),
        ("cuts.jsonl.gz", gzip.compress(b'{"type": "Gone"}\n', mtime=0), "unreadable after 0 entries"),
        ("words.txt", b"utt 1 0 1 a\n", "unknown kind of file; there are .ctm, .TextGrid"),
    ],
)
def test_a_file_of_which_nothing_can_be_read_is_refused(tmp_path, name, content, message):
    with pytest.raises(InputError, match="^[^\n]+$") as caught:
        read_words(written(tmp_path, name, content))
    assert message in str(caught.value)


def test_one_bad_file_of_many_is_named(tmp_path):
    written(tmp_path, "ali/utt.TextGrid", TEXTGRID)
    written(tmp_path, "ali/bad.TextGrid", "x")
    written(tmp_path, "ali/README", "x")
    times = read_words(tmp_path / "ali")
    assert list(times.by_id) == ["utt"]
    assert len(times.faults) == 1
    assert "bad.TextGrid" in times.faults[0]


def test_files_of_the_same_name_are_told_apart_by_their_folders(tmp_path):
    written(tmp_path, "ali/one/utt.TextGrid", TEXTGRID)
    written(tmp_path, "ali/two/utt.TextGrid", TEXTGRID)
    times = read_words(tmp_path / "ali")
    assert times.faults == []
    assert [len(without_silences(["hello", "world"], times.by_id[name])) for name in ("one/utt", "two/utt")] == [2, 2]
    assert times.names() == {"one/utt": "one/utt", "two/utt": "two/utt"}  # and `utt` is neither


def test_an_utterance_in_two_files_is_named(tmp_path):
    for name in ("one", "two"):
        written(tmp_path, f"ali/{name}.ctm", "utt 1 0 1 hello\n")
    times = read_words(tmp_path / "ali")
    assert [item.symbol for item in times.by_id["utt"]] == ["hello"]
    assert len(times.faults) == 1
    assert f"utt is in {tmp_path / 'ali/one.ctm'}, too" in times.faults[0]


def test_a_tier_of_points_is_not_one_of_words(tmp_path):
    points = TEXTGRID[: TEXTGRID.index('        class = "IntervalTier"')].replace("size = 2", "size = 1") + (
        '        class = "TextTier"\n        name = "words"\n        xmin = 0\n        xmax = 2\n'
        '        points: size = 1\n        points [1]:\n            number = 1\n            mark = "hello"\n'
    )
    with pytest.raises(InputError, match="no tier of intervals called words; it has words"):
        read_words(written(tmp_path, "utt.TextGrid", points))


def test_times_of_a_manifest_that_are_no_numbers_are_named(tmp_path):
    segment = supervision(words=[AlignmentItem("hello", math.nan, 0.25)])
    CutSet.from_cuts([MonoCut("utt", 3.0, 2.0, 0, [segment])]).to_file(tmp_path / "cuts.jsonl.gz")
    with pytest.raises(InputError, match="a time out of range"):
        read_words(tmp_path / "cuts.jsonl.gz")


def test_an_entry_at_fault_does_not_cost_the_rest_of_the_manifest(tmp_path):
    starts = {"u0": 0.5, "u1": 1e9, "u2": 0.5}
    supervisions = [
        SupervisionSegment(name, name, 0.0, 2.0, text="A", alignment={"word": [AlignmentItem("A", start, 0.4)]})
        for name, start in starts.items()
    ]
    SupervisionSet.from_segments(supervisions).to_file(tmp_path / "a.jsonl.gz")
    times = read_words(tmp_path / "a.jsonl.gz")
    assert list(times.by_id) == ["u0", "u2"]
    (fault,) = times.faults
    assert fault.endswith("u1: ValueError: a time out of range")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file or directory"):
        read_words(tmp_path / "gone.ctm")


def test_a_ctm_is_read_as_it_was_written(tmp_path):
    write_ctm(tmp_path / "a.ctm", [Aligned("utt", [*HELLO_WORLD, AlignmentItem("ü", 1.5, 0.123, 0.75)])])
    assert (tmp_path / "a.ctm").read_text().splitlines()[-1] == "utt 1 1.500 0.123 ü 0.750"
    found = read_words(tmp_path / "a.ctm").by_id["utt"]
    assert [(item.symbol, item.start, item.duration) for item in found][2] == ("ü", 1.5, 0.123)


def test_missing_praatio_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "praatio", None)
    with pytest.raises(InputError, match=r"utt.TextGrid: praatio is not installed: pip install '.\[align\]'"):
        read_words(written(tmp_path, "utt.TextGrid", TEXTGRID))
