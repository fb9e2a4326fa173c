"""Corpora in the forms that they lie in: what becomes a cut, and what is named."""

import contextlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.supervision import AlignmentItem
from lhotse.testing.dummies import dummy_cut, dummy_recording

from asr.cli.manifest import main
from asr.config import ManifestConfig
from asr.data.audio import AudioFile
from asr.data.corpus import describe_recording
from asr.data.features import load_samples
from asr.data.manifest import open_cuts
from asr.data.sources.read import READERS, read_rows
from asr.data.sources.record import NAMES
from asr.data.sources.row import Source, seconds
from asr.data.sources.split import divide, parse_split
from asr.data.sources.text import Spelling
from asr.errors import InputError, PartlyDone

RATE = 8000


def write_audio(path, seconds=1.0, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (round(seconds * RATE), channels))
    soundfile.write(path, samples, RATE)
    return path


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def manifest(path, **options):
    """The cuts of a corpus by their ids, and what was wrong with the rest."""
    output = path.parent / "out" / "cuts.jsonl.gz"
    with contextlib.suppress(PartlyDone):
        main(ManifestConfig(input=str(path), output=str(output), **options))
    faults = output.with_name("cuts.jsonl.gz.faults.txt")
    return (
        {cut.id: cut for cut in open_cuts([str(output)])},
        faults.read_text().splitlines() if faults.exists() else [],
    )


def facts(cuts):
    """What a training will see of each cut."""
    return {
        id_: (cut.supervisions[0].text, cut.supervisions[0].speaker, round(cut.start, 3), round(cut.duration, 3))
        for id_, cut in cuts.items()
    }


# The forms


def a_folder(path):
    for name in ("ann/one", "ann/two", "bob/one"):
        write_audio(path / f"{name}.wav")
        written(path / f"{name}.txt", f"{name}\n".replace("/", " "))
    return path, {
        "ann/one": ("ann one", "ann", 0, 1),
        "ann/two": ("ann two", "ann", 0, 1),
        "bob/one": ("bob one", "bob", 0, 1),
    }


def common_voice(path):
    write_audio(path / "clips" / "c1.mp3", 2)
    write_audio(path / "clips" / "c2.mp3", 2)
    header = "client_id\tpath\tsentence\tup_votes\tage\tlocale\tsegment"
    rows = ['x\tc1.mp3\t"He said ""no"", twice."\t2\t\ten\t', "y\tc2.mp3\t5'6\" tall\t2\t\ten\t"]
    table = written(path / "train.tsv", "\n".join([header, *rows]) + "\n")
    return table, {
        "clips/c1": ('He said "no", twice.', "x", 0, soundfile.info(path / "clips" / "c1.mp3").duration),
        "clips/c2": ("5'6\" tall", "y", 0, soundfile.info(path / "clips" / "c2.mp3").duration),
    }


def a_csv_with_times(path):
    write_audio(path / "talk.flac", 5)
    rows = ["ID,Audio,Start,End,Text", 'a,talk.flac,0.5,2,"yes, indeed"', "b,talk,2,,rest"]
    table = written(path / "t.csv", b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    return table, {"a": ("yes, indeed", None, 0.5, 1.5), "b": ("rest", None, 2, 3)}


def a_table_with_bars(path):
    write_audio(path / "a.wav")
    return written(path / "t.txt", 'audio|speaker|text\na.wav|ann|5" tall\n'), {"a": ('5" tall', "ann", 0, 1)}


def nemo(path):
    write_audio(path / "a.wav", 3)
    rows = [
        {"audio_filepath": "a.wav", "duration": 1.0, "text": "first"},
        {"audio_filepath": str(path / "a.wav"), "offset": 1.0, "duration": 2.0, "text": "Zweitens", "speaker": 7},
    ]
    file = written(path / "train.json", "".join(json.dumps(row) + "\n" for row in rows))
    return file, {
        "a-0000000-0000100": ("first", None, 0, 1),
        "a-0000100-0000300": ("Zweitens", "7", 1, 2),
    }


def a_kaldi_directory(path):
    talk, other = write_audio(path / "talk.flac", 4), write_audio(path / "b c.wav", 1)
    written(path / "wav.scp", f"t flac -c -d -s {talk} |\no {other}\n")
    written(path / "segments", "ann-1 t 0.5 1.5\nann-2 t 2 -1\nbob-1 o 0 1\n")
    written(path / "text", "ann-1 one two\nann-2 three\nbob-1 four\n")
    written(path / "utt2spk", "ann-1 ann\nann-2 ann\nbob-1 bob\n")
    return path, {
        "ann-1": ("one two", "ann", 0.5, 1),
        "ann-2": ("three", "ann", 2, 2),
        "bob-1": ("four", "bob", 0, 1),
    }


def ljspeech(path):
    for name in ("LJ001-0001", "LJ001-0002"):
        write_audio(path / "wavs" / f"{name}.wav")
    written(path / "metadata.csv", "LJ001-0001|In 1455|In fourteen\nLJ001-0002|plain|plain\n")
    return path, {"LJ001-0001": ("In fourteen", None, 0, 1), "LJ001-0002": ("plain", None, 0, 1)}


def lhotse_manifests(path):
    recording = describe_recording("r", write_audio(path / "r.wav", 3))
    segments = [SupervisionSegment(f"s{n}", "r", n, 0.75, text=f"text {n}", speaker="ann") for n in range(2)]
    RecordingSet.from_recordings([recording]).to_file(path / "x_recordings_all.jsonl.gz")
    SupervisionSet.from_segments(segments).to_file(path / "x_supervisions_all.jsonl.gz")
    return path, {"s0": ("text 0", "ann", 0, 0.75), "s1": ("text 1", "ann", 1, 0.75)}


def an_stm(path):
    write_audio(path / "call.wav", 4, channels=2)
    lines = [
        ";; comment",
        "call A ann 0.25 1.25 <o,f0,female> hello there",
        "call B bob 1.50 3.00 general",
        "call B bob 3.00 3.50 <o> IGNORE_TIME_SEGMENT_IN_SCORING",
    ]
    return written(path / "call.stm", "\n".join(lines)), {
        "call-0000025-0000125": ("hello there", "ann", 0.25, 1),
        "call-0000150-0000300": ("general", "bob", 1.5, 1.5),
    }


def an_rttm(path):
    write_audio(path / "meet.wav", 4)
    written(path / "meet.txt", "hello there\ngeneral\n")
    lines = [f"SPEAKER meet 1 {t} 1.0 <NA> <NA> {who} <NA> <NA>" for t, who in ((0.5, "ann"), (2, "bob"))]
    return written(path / "meet.rttm", "SPKR-INFO meet 1 <NA>\n" + "\n".join(lines)), {
        "meet-0000050-0000150": ("hello there", "ann", 0.5, 1),
        "meet-0000200-0000300": ("general", "bob", 2, 1),
    }


def a_ctm(path):
    write_audio(path / "talk.wav", 4)
    lines = ["talk 1 0.5 0.25 hello", "talk 1 0.8 0.4 there", "talk 1 1.2 0.3 <eps>", "talk 1 2.0 0.5 general"]
    return written(path / "talk.ctm", "\n".join(lines)), {
        "talk-0000030-0000140": ("hello there", None, 0.3, 1.1),
        "talk-0000180-0000270": ("general", None, 1.8, 0.9),
    }


def srt(path):
    write_audio(path / "film.wav", 4)
    cues = [
        "1\n00:00:00,500 --> 00:00:01,500\n<i>Hello</i>\n{\\an8}there\n",
        "2\n00:00:01,600 --> 00:00:01,900\n\n\n3\n00:00:02,000 --> 00:00:03,000 X1:5\ngeneral",
    ]
    return written(path / "film.srt", "\n".join(cues)), {
        "film-0000050-0000150": ("Hello there", None, 0.5, 1),
        "film-0000200-0000300": ("general", None, 2, 1),
    }


def vtt(path):
    write_audio(path / "film.wav", 4)
    head = "WEBVTT - of a film\n\nNOTE nothing\nof this\n\n"
    cues = "00:00.500 --> 00:01.500 align:start\n<v Ann>今天\n天气\n\nlast\n00:00:02.000 --> 00:00:03.000\nfine\n"
    return written(path / "film.vtt", head + cues), {
        "film-0000050-0000150": ("今天天气", None, 0.5, 1),
        "film-0000200-0000300": ("fine", None, 2, 1),
    }


def a_label_track(path):
    write_audio(path / "talk.wav", 4)
    lines = ["0.500000\t1.500000\thello there", "\\\t100.0\t4000.0", "1.600000\t1.700000\t", "2.0\t3.0\tgeneral"]
    return written(path / "talk.txt", "\n".join(lines)), {
        "talk-0000050-0000150": ("hello there", None, 0.5, 1),
        "talk-0000200-0000300": ("general", None, 2, 1),
    }


def a_list(path):
    lines = ["; Prompts, in French", "# of one voice", "", "activated: Activé: oui", "digits/0: zéro", "letters/0: o"]
    for name in ("activated", "digits/0", "letters/0"):
        write_audio(path / "fr" / f"{name}.wav")
    return written(path / "core-sounds-fr.txt", "\n".join(lines)), {
        "activated": ("Activé: oui", None, 0, 1),
        "digits/0": ("zéro", None, 0, 1),
        "letters/0": ("o", None, 0, 1),
    }


FORMS = [
    *(a_folder, common_voice, a_csv_with_times, a_table_with_bars, nemo, a_kaldi_directory, ljspeech, lhotse_manifests),
    *(an_stm, an_rttm, a_ctm, srt, vtt, a_list, a_label_track),
]


@pytest.mark.parametrize("form", FORMS, ids=[form.__name__ for form in FORMS])
def test_every_form_is_found_and_becomes_cuts(tmp_path, form):
    path, expected = form(tmp_path / "corpus")
    cuts, faults = manifest(path)
    assert faults == []
    assert {id_: (*fact[:3], pytest.approx(fact[3], abs=1e-3)) for id_, fact in expected.items()} == facts(cuts)
    for cut in cuts.values():
        assert cut.load_audio().shape == (1, cut.num_samples)


def test_names_of_files_may_have_the_backslashes_of_windows(tmp_path):
    write_audio(tmp_path / "clips" / "a" / "one.wav")
    path = written(tmp_path / "in.csv", "path,text\nclips\\a\\one.wav,ONE\na\\one,ONE\n")
    rows = read_rows(Source(path))
    assert [row.audio for row in rows] == [tmp_path / "clips" / "a" / "one.wav"] * 2


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("a.txt", "spk/one hello there"),
        ("text", "one\thello there"),
        ("a.lst", "one.wav   hello there"),
        ("an4.transcription", "<s> hello there </s> (one)"),
        ("a.trans", "hello there (spk/one)"),
        ("a.txt", "one|hello there"),
        ("metadata.csv", "one|Hello, there|hello there"),
        ("a.txt", "one:hello there"),
    ],
)
@pytest.mark.parametrize("folder", ["", "deeper/spk/"])
def test_lists_name_audio_beside_them_or_below(tmp_path, file, line, folder):
    write_audio(tmp_path / "in" / (folder or ("spk/" if "spk" in line else "")) / "one.wav")
    cuts, faults = manifest(written(tmp_path / "in" / file, f"{line}\n"))
    assert ([cut.supervisions[0].text for cut in cuts.values()], faults) == (["hello there"], [])


def test_a_list_names_what_it_cannot_find_or_tell_apart(tmp_path):
    path, expected = a_list(tmp_path / "in")
    with path.open("a") as more:
        more.write("\n0: zero?\nbye: au revoir\nno colon\n" + "x" * 999 + ": long\n")
    cuts, faults = manifest(path)
    assert list(cuts) == list(expected)
    assert [line.partition("; ")[0][:95] for line in faults] == [
        "core-sounds-fr.txt:7: 0 may be fr/digits/0.wav and fr/letters/0.wav",
        f"core-sounds-fr.txt:8: {tmp_path / 'in' / 'bye'}: no such file"[:95],
        "core-sounds-fr.txt:9: not `name: text`",
        f"core-sounds-fr.txt:10: {tmp_path / 'in' / ('x' * 999)}: no such file"[:95],
    ]


def test_a_list_and_its_audio_may_lie_apart(tmp_path):
    path, expected = a_list(tmp_path / "in")
    with pytest.raises(InputError, match=r"no line names audio that is there \(.*`name: text`.*audio_dir="):
        manifest(written(tmp_path / "list" / path.name, path.read_text()), form="list")
    cuts, faults = manifest(tmp_path / "list" / path.name, audio_dir=str(tmp_path / "in"))
    assert (list(cuts), faults) == (list(expected), [])


def test_a_table_without_a_header_is_told_what_is_missing(tmp_path):
    write_audio(tmp_path / "in" / "a.wav")
    table = written(tmp_path / "in" / "t.csv", "a.wav,hello,ann\n")
    with pytest.raises(InputError) as raised:
        manifest(table)
    assert "the first line must name the columns, as `audio,text` does (a list of `name: text` needs no" in str(
        raised.value
    )


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        ("0:00:02.5", "0:00:04", (2.5, 4)),
        ("00:01", "00:02,500", (1, 2.5)),
        ("0.5", "0:01.25", (0.5, 1.25)),
        ("0,500", "1,25", (0.5, 1.25)),
    ],
)
def test_times_may_have_hours_and_minutes(tmp_path, begin, end, expected):
    write_audio(tmp_path / "in" / "a.wav", 5)
    row = f"audio\tstart\tend\ttext\na.wav\t{begin}\t{end}\thello\n"
    cuts, _ = manifest(written(tmp_path / "in" / "t.tsv", row))
    assert [(cut.start, cut.end) for cut in cuts.values()] == [expected]


def test_a_time_of_hours_is_counted_in_seconds():
    assert seconds("1:02:03.5", "start") == 3723.5


@pytest.mark.parametrize(("seconds", "said"), [(1.5, True), (3.0, False)])
def test_short_utterances_are_told_of_masks(tmp_path, capsys, seconds, said):
    for n in range(3):
        write_audio(tmp_path / "in" / f"{n}.wav", seconds)
        written(tmp_path / "in" / f"{n}.txt", "yes")
    manifest(tmp_path / "in")
    advice = "half of the utterances are under 1.5 s, and a mask of SpecAugment, 0.3 s, may hide a word: train with "
    assert (f"{advice}data.spec_augment.time_masks=0" in capsys.readouterr().err) is said


def test_a_ctm_of_characters_has_no_blanks(tmp_path):
    write_audio(tmp_path / "corpus" / "talk.wav", 4)
    words = [("今天", 0.5), ("天", 0.8), ("气", 1.0), ("OK", 1.2), ("bye", 1.4)]
    lines = "\n".join(f"talk 1 {start} 0.2 {word}" for word, start in words)
    cuts, _ = manifest(written(tmp_path / "corpus" / "talk.ctm", lines))
    assert [cut.supervisions[0].text for cut in cuts.values()] == ["今天天气OK bye"]


def test_a_manifest_is_brought_in_again_unchanged(tmp_path):
    path, _ = a_folder(tmp_path / "corpus")
    cuts, _ = manifest(path)
    written(tmp_path / "again" / "x", "")
    shutil.copy(tmp_path / "out" / "cuts.jsonl.gz", tmp_path / "again" / "mine.jsonl.gz")
    again, faults = manifest(tmp_path / "again" / "mine.jsonl.gz")
    assert (facts(again), faults) == (facts(cuts), [])


def test_a_channel_is_that_of_the_table(tmp_path):
    cuts, _ = manifest(an_stm(tmp_path / "corpus")[0])
    assert [cut.channel for cut in cuts.values()] == [0, 1]


def test_all_channels_are_heard_as_asr_transcribe_hears_them(tmp_path, capsys):
    path = write_audio(tmp_path / "in" / "call.wav", 1.0, channels=2)
    written(tmp_path / "in" / "call.txt", "hello")
    cuts, faults = manifest(tmp_path / "in")
    assert faults == []
    assert "1 utterances have several channels: their mean is heard" in capsys.readouterr().err
    samples = load_samples(cuts["call"])
    np.testing.assert_allclose(samples, np.concatenate([*AudioFile(path).seconds()]), atol=1e-4)
    assert np.abs(samples - load_samples(cuts["call"].with_channels(0))).max() > 0.1

    again, faults = manifest(tmp_path / "out" / "cuts.jsonl.gz")
    assert (facts(again), again["call"].channel, faults) == (facts(cuts), [0, 1], [])


def test_words_of_a_ctm_keep_their_times(tmp_path):
    cuts, _ = manifest(a_ctm(tmp_path / "corpus")[0])
    words = [cut.supervisions[0].alignment["word"] for cut in cuts.values()]
    assert words == [
        [AlignmentItem("hello", 0.2, 0.25), AlignmentItem("there", 0.5, 0.4)],
        [AlignmentItem("general", 0.2, 0.5)],
    ]


def test_columns_of_other_names_are_named(tmp_path):
    write_audio(tmp_path / "elsewhere" / "a.wav")
    table = written(tmp_path / "in" / "t.csv", "recording;what;who\na.wav;hello;ann\n")
    with pytest.raises(InputError, match=r"t.csv: no column for the audio \(columns: recording, what, who\); name it"):
        manifest(table)
    with pytest.raises(InputError, match=r"audio_column=recordin: .*did you mean recording\?"):
        manifest(table, audio_column="recordin", text_column="what")
    columns = {"audio_column": "recording", "text_column": "what", "speaker_column": "who"}
    cuts, _ = manifest(table, audio_dir=str(tmp_path / "elsewhere"), **columns)
    assert list(facts(cuts).values()) == [("hello", "ann", 0, 1)]


# Faults

GOOD = 985
FAULTY = [  # cells after the number of the row, and what is said of it
    (["none.wav", "a word", "ann", "", ""], "none.wav: no such file; add it, remove the row, or say where"),
    (
        ["garbage.wav", "a word", "ann", "", ""],
        "garbage.wav: not a readable audio file (Format not recognised); restore it",
    ),
    (["empty.wav", "a word", "ann", "", ""], "empty.wav: holds no samples; restore it"),
    (["", "a word", "ann", "", ""], "names no audio file; write its name, or remove the row"),
    (["folder", "a word", "ann", "", ""], "folder: "),
    (["good/0.wav", "a word", "ann", "", ""], "has the same audio as t.csv:2; remove one of them"),
    (["long.wav", " ", "ann", "", ""], "empty transcript: remove the utterance or give it text"),
    (["long.wav", "a\0b", "ann", "", ""], "in its transcript is no letter; restore the text"),
    (["long.wav", "caf\ufffd", "ann", "", ""], "'\\ufffd' in its transcript is no letter; restore the text"),
    (["long.wav", "a <blk> b", "ann", "", ""], "'<blk>' in '<blk>' is reserved: remove it from the transcript"),
    (["long.wav", "x" * 400, "ann", "", ""], "400 characters in 3.00 s of audio: not its transcript"),
    (["long.wav", "a word", "ann", "x", ""], "start 'x' is no number of seconds; write one such as 12.34"),
    (["long.wav", "a word", "ann", "2", "1"], "begins at 2 s and ends at 1 s; correct the times"),
    (["long.wav", "a word", "ann", "1", "9"], "ends at 9 s, but long has 3.00 s; correct the times"),
    (["long.wav", "a word", "ann"], "4 cells, but the header has 6 columns; mend the row"),
    (["long.wav", '"a word', "ann", "", ""], "close the quote, or write it in one line"),
    (["long.wav", b"caf\xe9", "ann", "", ""], "not UTF-8, convert it"),
    (["long.wav", "a word", "ann", "nan", ""], "start 'nan' is no number of seconds"),
    (["x" * 999, "a word", "ann", "", ""], "xxx: no such file; add it"),
]


def test_a_thousand_rows_and_every_kind_of_fault_in_one_pass(tmp_path):
    home = tmp_path / "corpus"
    for n in range(GOOD):
        write_audio(home / "good" / f"{n}.wav", 0.2)
    write_audio(home / "long.wav", 3)
    write_audio(home / "empty.wav", 0)
    written(home / "garbage.wav", b"RIFF, not really")
    (home / "folder").mkdir()
    rows = [["utterance", "audio", "text", "speaker", "start", "end"]]
    rows += [[f"g{n}", f"good/{n}.wav", "a word", "ann", "", ""] for n in range(GOOD)]
    expected = {}
    for n, (cells, message) in enumerate(FAULTY):
        place = 2 + 50 * n
        rows.insert(place - 1 + (place == 2), [f"f{n}", *cells])
        expected[place + (place == 2)] = message
    cell_bytes = [[cell if isinstance(cell, bytes) else cell.encode() for cell in row] for row in rows]
    table = written(home / "t.csv", b"\n".join(b",".join(row) for row in cell_bytes) + b"\n")

    cuts, faults = manifest(table)
    assert set(cuts) == {f"g{n}" for n in range(GOOD)}
    found = {int(line.split(":")[1]): line for line in faults}
    assert list(found) == sorted(expected)  # a line for each, in order, and no others
    for place, message in expected.items():
        assert found[place].startswith(f"t.csv:{place}: ")
        assert message in found[place]


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda p: written(p / "x.txt", "text"), "x.txt: there is no audio file called x beside it; add it"),
        (lambda p: write_audio(p / "x.wav"), "x.wav: has no x.txt beside it; write its transcript there"),
        (lambda p: write_audio(p / "ann" / "one.flac"), "has the same transcript as"),
        (lambda p: [write_audio(p / "x.wav"), written(p / "x.txt", b"\xff")], "x.txt:1: not UTF-8"),
        (lambda p: [write_audio(p / "x.wav"), written(p / "x.txt", "a".encode("utf-16"))], "x.txt: is UTF-16"),
    ],
)
def test_a_folder_names_what_has_no_partner(tmp_path, make, fault):
    path, expected = a_folder(tmp_path / "corpus")
    make(path)
    cuts, faults = manifest(path)
    assert len(cuts) == len(expected)
    assert len(faults) == 1
    assert fault in faults[0]


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda p: written(p / "x.txt", "text"), "x.txt: there is no audio file called x beside it"),
        (lambda p: write_audio(p / "x.wav"), "x.wav: has no x.txt beside it"),
        (lambda p: [write_audio(p / "x.wav"), written(p / "x.txt", b"\xff")], "x.txt:1: not UTF-8"),
        (lambda p: [write_audio(p / "x.wav"), written(p / "x.txt", "a".encode("utf-16"))], "x.txt: is UTF-16"),
        (lambda p: [write_audio(p / "x.wav"), written(p / "x.txt", "")], "x.txt: empty transcript"),
        (lambda p: [write_audio(p / "x.wav", 0.1), written(p / "x.txt", "x" * 99)], "x.txt: 99 characters in 0.10 s"),
        (lambda p: [write_audio(p / "x.wav"), written(p / "x.txt", "x"), write_audio(p / "x.ogg")], "has the same"),
    ],
)
def test_files_of_the_same_name_are_told_apart_by_their_folders(tmp_path, make, fault):
    path, _ = a_folder(tmp_path / "corpus")
    for speaker in ("two/a", "two/b"):
        make(path / speaker)
    _, faults = manifest(path)
    assert [line.partition("/x.")[0] for line in faults] == ["two/a", "two/b"]
    assert all(fault in line for line in faults)


def test_audio_of_the_same_name_is_told_apart_by_its_folder(tmp_path):
    rows = []
    for speaker in ("a", "b"):
        write_audio(tmp_path / "in" / speaker / "001.wav")
        rows.append(f"{speaker}/001.wav\tx\t\t9\n")
    rows.append("c/001.wav\tx\t\t\n")
    write_audio(tmp_path / "in" / "good.wav")
    rows.append("good.wav\tx\t\t\n")
    _, faults = manifest(written(tmp_path / "in" / "t.tsv", "path\ttext\tstart\tend\n" + "".join(rows)))
    assert [line.partition("; ")[0] for line in faults] == [
        "t.tsv:2: ends at 9 s, but a/001 has 1.00 s",
        "t.tsv:3: ends at 9 s, but b/001 has 1.00 s",
        f"t.tsv:4: {tmp_path / 'in' / 'c' / '001.wav'}: no such file",
    ]


@pytest.mark.parametrize(
    ("file", "line", "fault"),
    [
        ("text", "zoe-1 a word", "text:4: zoe-1 is not in segments; add it there, or remove the line"),
        ("text", "ann-1 again", "text:4: ann-1 is in line 1, too; remove one of them"),
        ("segments", "ann-3 t 1 2", "segments:4: ann-3 is not in text; add its transcript there"),
        ("segments", "bob-1 o 1 2", "segments:4: bob-1 is in line 3, too"),
    ],
)
def test_a_kaldi_directory_names_what_does_not_agree(tmp_path, file, line, fault):
    path, expected = a_kaldi_directory(tmp_path / "corpus")
    with (path / file).open("a") as more:
        more.write(f"{line}\n")
    cuts, faults = manifest(path)
    assert len(cuts) == len(expected)
    assert [one[: len(fault)] for one in faults] == [fault]


@pytest.mark.parametrize(
    ("scp", "segments", "fault"),
    [
        ("t sox in.wav -t wav - speed 1.1 |\n", "", "text:1: its audio comes from a pipe, `sox in.wav"),
        ("t talk.flac\n", "ann-1 t x 1\n", "text:1: start 'x' is no number of seconds"),
        ("t talk.flac\n", "ann-1 t 1\n", "text:1: its line in segments is not `utterance recording start end`"),
        ("t talk.flac\n", "ann-1 z 0 1\n", "text:1: recording z is not in wav.scp"),
    ],
)
def test_a_kaldi_line_at_fault_is_named(tmp_path, scp, segments, fault):
    path, _ = a_kaldi_directory(tmp_path / "corpus")
    written(path / "wav.scp", f"o {path / 'b c.wav'}\n{scp}")
    written(path / "segments", "bob-1 o 0 1\nann-2 o 0 0.5\n" + (segments or "ann-1 t 0 1\n"))
    cuts, faults = manifest(path)
    assert list(cuts) == ["ann-2", "bob-1"]
    assert [one[: len(fault)] for one in faults] == [fault]


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("m.jsonl", '{"audio_filepath": "a.wav"', "m.jsonl:2: not JSON"),
        ("m.jsonl", "[1]", "m.jsonl:2: a list, not an object with fields"),
        ("m.jsonl", '{"audio_filepath": "a.wav"}', "m.jsonl:2: no column for the text"),
        ("m.jsonl", '{"audio_filepath": {"path": "a.wav"}, "text": "b"}', "m.jsonl:2: its audio is"),
        ("m.jsonl", '{"audio_filepath": "a.wav", "text": "b", "duration": "1:99"}', "m.jsonl:2: duration '1:99'"),
        (
            "m.jsonl",
            '{"audio_filepath": "a.wav", "text": "b", "duration": "1,250"}',
            "m.jsonl:2: duration '1,250' is no",
        ),
        ("m.jsonl", '{"audio_filepath": "a.wav", "text": "b", "duration": true}', "m.jsonl:2: duration 'True' is no"),
        ("m.jsonl", '{"audio_filepath": "a.wav", "text": "b", "end": 1}', "m.jsonl:2: has a field for its end, end"),
        ("m.stm", "a 1 ann 0", "m.stm:2: not `recording channel speaker start end"),
        ("m.stm", "a C ann 0 1 b", "m.stm:2: is in channel 3 of audio with 1"),
        ("m.stm", "a ? ann 0 1 b", "m.stm:2: channel '?' is none"),
        ("m.ctm", "a 1 0 b", "m.ctm:2: not `recording channel start duration word`"),
    ],
)
def test_a_line_at_fault_is_named_and_the_rest_is_read(tmp_path, name, content, fault):
    first = {
        "m.jsonl": '{"audio_filepath": "a.wav", "text": "first", "duration": 1}',
        "m.stm": "a 1 ann 0 1 first",
        "m.ctm": "a 1 0 1 first",
    }
    write_audio(tmp_path / "in" / "a.wav", 2)
    cuts, faults = manifest(written(tmp_path / "in" / name, f"{first[name]}\n{content}\n"))
    assert [cut.supervisions[0].text for cut in cuts.values()] == ["first"]
    assert [one[: len(fault)] for one in faults] == [fault]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "none", "none: no such file or directory"),
        (lambda p: written(p / "a" / "x", "").parent, "neither audio files nor a form of corpus that is known"),
        (lambda p: write_audio(p / "a" / "x.wav").parent, "1 audio files, but no transcripts: write that of NAME.wav"),
        (lambda p: common_voice(p / "cv")[0].parent, r"is a directory with train.tsv; name the one to read, input="),
        (lambda p: written(p / "a.xyz", "text"), "a.xyz: its form cannot be told"),
        (lambda p: written(p / "a.tsv", "path\tsentence\n"), r"no row can be read \(form=table\): nothing in it"),
        (lambda p: written(p / "a.tsv", "path\tsentence\nx.mp3\tyes\n"), r"none of 1 rows can be used, a.tsv:2: "),
    ],
)
def test_an_input_that_is_none_is_one_line_with_the_remedy(tmp_path, make, message):
    with pytest.raises(InputError, match=message) as raised:
        manifest(make(tmp_path / "in"))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "in" / "out" / "cuts.jsonl.gz").exists()


def test_the_document_names_every_form_and_every_column():
    text = (Path(__file__).resolve().parents[2] / "docs" / "corpus.md").read_text()
    named = set(re.findall(r"`([^`\n]+)`", text))
    assert set(READERS) <= named
    assert {name for names in NAMES.values() for name in names} <= named


# Transcripts


@pytest.mark.parametrize(
    ("options", "text", "spelt"),
    [
        ({}, " Two\twords ", "Two words"),
        ({}, "cafe\u0301", "caf\u00e9"),
        ({"case": "upper"}, "stra\u00dfe", "STRASSE"),
        (
            {"case": "lower", "punctuation": "remove"},
            "\u201cDon't!\u201d \u2014 she said: well-known.",
            "don't she said well-known",
        ),
        ({"punctuation": "remove"}, "'tis 5\u20ac - a\u0301", "tis 5 \u00e1"),
        ({"punctuation": "remove"}, "“今天，天气很好。”她说：OK，really！！no", "今天天气很好她说OK really no"),
    ],
)
def test_spelling(options, text, spelt):
    assert Spelling(**options)(text) == spelt


@pytest.mark.parametrize("text", ["[risas]", " <noise> ", "(laughter)"])
def test_a_note_in_brackets_becomes_no_word(text):
    with pytest.raises(InputError, match="is a note, nothing that was said"):
        Spelling(punctuation="remove")(text)
    assert Spelling()(text) == text.strip()
    assert Spelling(punctuation="remove")(f"{text} yes (no)").endswith("yes no")


# Parts


def corpus_of(speakers, seconds=1.0):
    """Cuts by the number that each speaker has."""
    cuts = []
    for speaker, count in speakers.items():
        for n in range(count):
            supervision = SupervisionSegment(f"{speaker}-{n}", "r", 0, seconds, text="x", speaker=speaker or None)
            cuts.append(dummy_cut(n, 0.0, seconds, recording=dummy_recording(n), supervisions=[supervision]))
    return cuts


def test_no_speaker_is_in_two_parts_and_shares_are_kept():
    cuts = corpus_of({f"s{n:02d}": 1 + n % 7 for n in range(60)})
    shares = {"dev": 0.1, "test": 0.2}
    parts = divide(cuts, shares, seed=0)
    speakers = [{cut.supervisions[0].speaker for cut in part} for part in parts.values()]
    assert sum(map(len, speakers)) == 60
    assert sum(map(len, parts.values())) == len(cuts)
    for name, share in shares.items():
        assert share - 0.03 < len(parts[name]) / len(cuts) <= share


def test_the_same_seed_gives_the_same_parts_in_any_order_of_rows():
    cuts = corpus_of({f"s{n}": 3 for n in range(20)})
    divided = {seed: {cut.supervisions[0].id for cut in divide(cuts, {"dev": 0.2}, seed)["dev"]} for seed in (0, 1)}
    assert {cut.supervisions[0].id for cut in divide(cuts[::-1], {"dev": 0.2}, 0)["dev"]} == divided[0]
    assert divided[0] != divided[1]


def test_a_part_smaller_than_every_speaker_gets_the_smallest():
    parts = divide(corpus_of({"a": 5, "b": 3, "c": 9}), {"dev": 0.01}, seed=0)
    assert {cut.supervisions[0].speaker for cut in parts["dev"]} == {"b"}


@pytest.mark.parametrize(
    "shares", [{"dev": 0.7, "test": 0.2}, {"dev": 0.75, "test": 0.1, "more": 0.1}, {"dev": 0.01, "test": 0.98}]
)
def test_no_part_is_empty(shares):
    parts = divide(corpus_of({f"s{n}": 1 for n in range(len(shares) + 1)}), shares, seed=0)
    assert [len(part) for part in parts.values()] == [1] * (len(shares) + 1)


@pytest.mark.parametrize(("speakers", "shares"), [({"a": 10}, {"dev": 0.2}), ({"a": 8, "b": 2}, {"d": 0.2, "t": 0.2})])
def test_recordings_are_divided_where_there_are_fewer_speakers_than_parts(speakers, shares):
    parts = divide(corpus_of(speakers), shares, seed=0)
    recordings = {name: {cut.recording.id for cut in part} for name, part in parts.items()}
    assert sum(map(len, recordings.values())) == len(set().union(*recordings.values()))
    assert {name: len(part) for name, part in parts.items() if name != "train"} == dict.fromkeys(shares, 2)


def test_fewer_utterances_than_parts_are_refused():
    with pytest.raises(InputError, match="split: 2 utterances cannot be divided into 3 parts; name fewer parts"):
        divide(corpus_of({"a": 1, "b": 1}), {"dev": 0.1, "test": 0.1}, seed=0)


@pytest.mark.parametrize(
    "text", ["dev", "dev:", "dev:x", "dev:0", "dev:1", "dev:0.5,test:0.5", "train:0.1", "a:.1,a:.1"]
)
def test_shares_that_are_none_are_refused(text):
    with pytest.raises(InputError, match="split="):
        parse_split(text)


def test_split_writes_a_manifest_for_each_part(tmp_path, capsys):
    home = tmp_path / "corpus"
    for n in range(10):
        write_audio(home / f"s{n}" / "x.wav")
        written(home / f"s{n}" / "x.txt", "hello")
    output = tmp_path / "cuts.jsonl.gz"
    main(ManifestConfig(input=str(home), output=str(output), split="dev:0.2,test:0.1"))
    counts = {
        name: len(list(open_cuts([str(tmp_path / f"cuts_{name}.jsonl.gz")]))) for name in ("train", "dev", "test")
    }
    assert counts == {"train": 7, "dev": 2, "test": 1}
    assert "cuts_dev.jsonl.gz: 2 utterances, 0.00 hours, 2 speakers, 1.0 to 1.0 s" in capsys.readouterr().out
    assert not output.exists()


def one_speaker_in_a_folder(path):
    for n in range(4):
        write_audio(path / "anna" / f"{n}.wav")
        written(path / "anna" / f"{n}.txt", "hello")
    return path


def one_speaker_in_a_column(path):
    rows = [f"{write_audio(path / f'{n}.wav').name}\thello\tanna\n" for n in range(4)]
    return written(path / "t.tsv", "path\ttext\tspeaker\n" + "".join(rows))


def one_recording_with_times(path):
    write_audio(path / "talk.wav", 4)
    return written(path / "talk.stm", "".join(f"talk 1 anna {n} {n + 1} hello\n" for n in range(4)))


@pytest.mark.parametrize(
    ("form", "unit"),
    [
        (one_speaker_in_a_folder, "recordings"),
        (one_speaker_in_a_column, "recordings"),
        (one_recording_with_times, "utterances"),
    ],
)
def test_a_corpus_of_one_speaker_is_divided_and_the_user_is_told(tmp_path, capsys, form, unit):
    output = tmp_path / "cuts.jsonl.gz"
    main(ManifestConfig(input=str(form(tmp_path / "corpus")), output=str(output), split="dev:0.3"))
    parts = [{cut.id for cut in open_cuts([str(tmp_path / f"cuts_{name}.jsonl.gz")])} for name in ("train", "dev")]
    assert ([len(part) for part in parts], len(set().union(*parts))) == ([3, 1], 4)
    warning = f"too few speakers for 2 parts: {unit} are divided instead, and a speaker may be in two parts"
    assert warning in capsys.readouterr().err


def test_utterances_of_unknown_speakers_are_divided_by_recording(tmp_path, capsys):
    path, _ = ljspeech(tmp_path / "corpus")
    main(ManifestConfig(input=str(path), output=str(tmp_path / "cuts.jsonl.gz"), split="dev:0.5"))
    assert "2 utterances have no speaker: their recordings are divided instead" in capsys.readouterr().err


def test_the_report_of_an_earlier_attempt_goes(tmp_path):
    path, _ = a_folder(tmp_path / "corpus")
    written(path / "x.txt", "text")
    assert len(manifest(path)[1]) == 1
    (path / "x.txt").unlink()
    assert manifest(path)[1] == []


@pytest.mark.parametrize(
    ("encoding", "said"),
    [("cp932", r"its first line is not UTF-8, convert it.*\(iconv"), ("utf-16", "is UTF-16; conv")],
)
@pytest.mark.parametrize("options", [{}, {"form": "table"}, {"form": "list"}, {"columns": {"audio": "ファイル"}}])
def test_a_file_in_another_encoding_is_said_to_be(tmp_path, encoding, said, options):
    write_audio(tmp_path / "音.wav")
    path = written(tmp_path / "発話.csv", "ファイル,発話内容\n音.wav,今日\n".encode(encoding))
    form = options.pop("form", "auto")
    with pytest.raises(InputError, match=said):
        read_rows(Source(path, **options), form)


@pytest.mark.parametrize(("wrong", "refused"), [(5, True), (4, False)])
def test_lines_of_ascii_in_a_file_of_another_encoding_are_no_corpus(tmp_path, wrong, refused):
    write_audio(tmp_path / "a.wav", 30)
    rows = [f"a.wav;{text};{n};{n + 1}" for n, text in enumerate(["luz"] * 20 + ["salón"] * wrong)]
    path = written(tmp_path / "a.csv", "\n".join(["path;text;start;end", *rows]).encode("cp1252"))
    if refused:
        with pytest.raises(InputError, match=r"5 lines are not UTF-8, so all .*: iconv -f cp1252 -t UTF-8 OLD > NEW"):
            manifest(path)
    else:
        assert [len(found) for found in manifest(path)] == [20, 4]


def test_comments_may_precede_a_table(tmp_path):
    write_audio(tmp_path / "a.wav")
    path = written(tmp_path / "a.csv", "# exported in November; 2026\n\n# by us\npath;text\na.wav;#1\n")
    assert [cut.supervisions[0].text for cut in manifest(path)[0].values()] == ["#1"]


def test_columns_that_nothing_is_made_of_are_told_where_speakers_are_missing(tmp_path, capsys):
    write_audio(tmp_path / "a.wav", 3)
    rows = [f"a.wav,luz,ana,{n},{n + 1}" for n in range(3)]
    path = written(tmp_path / "a.csv", "\n".join(["path,text,locutora,start,end", *rows]))
    options = {"input": str(path), "output": str(tmp_path / "cuts.jsonl.gz"), "split": "dev:0.4"}
    main(ManifestConfig(**options))
    assert "if one of these columns is the speaker, speaker_column=NAME: locutora" in capsys.readouterr().err
    main(ManifestConfig(**options, speaker_column="locutora"))
    assert "locutora" not in capsys.readouterr().err


def test_letters_that_the_training_part_lacks_are_told(tmp_path, capsys):
    for speaker, text in (("ann", "no"), ("bob", "non"), ("eve", "qué")):
        write_audio(tmp_path / "in" / speaker / "a.wav")
        written(tmp_path / "in" / speaker / "a.txt", text)
    said = []
    for seed in range(9):
        output = str(tmp_path / "cuts.jsonl.gz")
        main(ManifestConfig(input=str(tmp_path / "in"), output=output, split="dev:0.3", seed=seed))
        said.append(capsys.readouterr().err)
    assert any("in dev, and not in train: q u é (another seed= may divide better)" in one for one in said)
    assert any("not in train" not in one for one in said)


def test_where_most_rows_are_at_fault_the_status_says_so_and_what_was_there_is_replaced(tmp_path, capsys):
    write_audio(tmp_path / "a.wav")
    path = written(tmp_path / "a.csv", "path,text\na.wav,luz\nb.wav,luz\nc.wav,luz\n")
    config = ManifestConfig(input=str(path), output=str(tmp_path / "cuts.jsonl.gz"))
    for replaced in (False, True):
        with pytest.raises(PartlyDone, match="2 rows at fault are more than the 1 that could be used"):
            main(config)
        assert ("in place of what was there" in capsys.readouterr().out) == replaced
    path.write_text("path,text\na.wav,luz\nb.wav,luz\n")
    main(config)


def test_audio_is_no_table(tmp_path):
    write_audio(tmp_path / "a.wav")
    with pytest.raises(InputError, match=r"a.wav: is audio; name what has its transcript"):
        manifest(tmp_path / "a.wav")


def test_a_label_track_is_no_transcript(tmp_path):
    path, expected = a_label_track(tmp_path)
    assert facts(manifest(tmp_path)[0]) == facts(manifest(path)[0])
    path.write_text(path.read_text() + "\nand more")
    cuts, faults = manifest(path)
    assert (len(cuts), [str(fault).partition(": ")[0] for fault in faults]) == (len(expected), ["talk.txt:5"])


def test_a_label_track_in_a_folder_of_transcripts_is_named(tmp_path):
    for name, text in (("a/one", "ONE"), ("b/two", "0.5\t0.8\ttwo")):
        write_audio(tmp_path / "in" / f"{name}.wav")
        written(tmp_path / "in" / f"{name}.txt", text)
    cuts, faults = manifest(tmp_path / "in")
    assert {cut.supervisions[0].text for cut in cuts.values()} == {"ONE"}
    assert [str(fault).partition(":")[0] for fault in faults] == ["b/two.txt"]


def test_a_cue_without_times_is_named(tmp_path):
    path, expected = srt(tmp_path)
    path.write_text(path.read_text() + "\n\nand more\n")
    cuts, faults = manifest(path)
    assert len(cuts) == len(expected)
    assert [str(fault).partition(":")[0] for fault in faults] == ["film.srt"]
    assert "not a cue" in str(faults[0])
