"""New utterances from the words of others: what is cut out, what is drawn, and what is joined."""

import numpy as np
import pytest
import soundfile
from lhotse import CutSet
from lhotse.audio import AudioSource
from lhotse.supervision import AlignmentItem
from lhotse.utils import fastcopy

from asr.cli.main import main
from asr.data.batch import Skipped
from asr.data.corpus import describe_recording, make_cut, write_cuts, write_flac
from asr.data.splice import FADE_SAMPLES, SpokenWord, by_speaker, cut_words, join, random_strings

TIMES = [("ONE", 0.5, 0.25), ("TWO", 1.0, 0.5), ("SIX", 1.5, 0.25)]


@pytest.fixture
def cut(tmp_path):
    """Two seconds of which sample n has the value n modulo 30000; three words, the last two without a pause."""
    write_flac(tmp_path / "a.flac", (np.arange(32000) % 30000).astype(np.int16), 16000)
    alignment = {"word": [AlignmentItem(*word) for word in TIMES]}
    return make_cut(describe_recording("a", tmp_path / "a.flac"), "ONE TWO SIX", "jo", "en", alignment)


def test_words_are_cut_out_in_the_middle_of_pauses(cut):
    words = cut_words(cut, 0.3)
    assert [word.text for word in words] == ["ONE", "TWO", "SIX"]
    bounds = [0.2, 0.875, 1.5, 2.0]  # 0.3 s are kept outside, as far as there are as many
    for word, begin, end, (_, start, duration) in zip(words, bounds, bounds[1:], TIMES):
        assert len(word.samples) == round((end - begin) * 16000)
        assert abs(int(word.samples[0]) - round(begin * 16000) % 30000) <= 1  # samples pass through float32
        assert (word.start, word.duration) == pytest.approx((start - begin, duration))


def test_the_outer_words_keep_as_much_as_asked_and_there_is(cut):
    assert len(cut_words(cut, 2.0)[0].samples) == 0.875 * 16000
    assert len(cut_words(cut, 0.0)[0].samples) == 0.375 * 16000


def test_an_utterance_without_times_gives_no_word(cut):
    cut.supervisions[0].alignment = None
    assert cut_words(cut, 0.3) == []
    skipped = []
    assert by_speaker([cut], 0.3, skipped) == {}
    assert skipped == [Skipped("a", "no times of words")]


def test_a_cut_of_two_speakers_and_one_without_audio_are_named(cut, tmp_path):
    other = fastcopy(cut, id="b", supervisions=[*cut.supervisions, fastcopy(cut.supervisions[0], speaker="al")])
    gone = fastcopy(cut, id="c", recording=fastcopy(cut.recording, sources=[AudioSource("file", [0], "gone.flac")]))
    skipped = []
    assert list(by_speaker([other, gone, cut], 0.3, skipped)) == ["jo"]
    assert [one.id for one in skipped] == ["b", "c"]
    assert skipped[0].reason == "has 2 speakers"
    assert skipped[1].reason.startswith("unreadable audio")


def speaker_words(texts):
    words = {}
    for text in texts:
        words.setdefault(text, []).append(SpokenWord(text, np.full(1600, len(words), np.int16), 0.01, 0.08))
    return words


def test_strings_are_of_one_speaker_and_every_word_is_equally_likely():
    speakers = {"jo": speaker_words(["NO"] * 9 + ["YES"]), "al": speaker_words(["MAY"])}
    strings = list(random_strings(speakers, 4000, 3, 8, 1, seed=0))
    assert strings == list(random_strings(speakers, 4000, 3, 8, 1, seed=0))
    assert {len(words) for _, words in strings} == set(range(3, 9))
    for speaker, words in strings:
        assert {word.text for word in words} <= set(speakers[speaker])
    first = [words[0].text for speaker, words in strings if speaker == "jo"]
    assert 0.45 < first.count("YES") / len(first) < 0.55
    assert 0.45 < len(first) / len(strings) < 0.55


def test_a_word_brings_those_along_that_follow_it(cut):
    utterance = cut_words(cut, 0.3)
    speakers = {"jo": {word.text: [word] for word in utterance}}
    strings = [words for _, words in random_strings(speakers, 600, 3, 3, 2, seed=0)]
    assert {len(words) for words in strings} == {3}
    brought = sum(words[1] is words[0].following for words in strings if words[0] is not utterance[-1]) / 400
    assert 0.58 < brought < 0.75  # in half of the cases, and by chance in a third of the others
    samples, items = join(utterance)
    assert np.array_equal(samples[FADE_SAMPLES:-FADE_SAMPLES], whole(utterance)[FADE_SAMPLES:-FADE_SAMPLES])
    assert [item.start for item in items] == pytest.approx([0.3, 0.8, 1.3])
    samples, _ = join([*utterance[1:], utterance[0]])
    clicking = whole([*utterance[1:], utterance[0]])
    joint = len(whole(utterance[1:]))
    differ = (samples != clicking).nonzero()[0]
    outer = FADE_SAMPLES, len(samples) - FADE_SAMPLES
    inner = [place for place in differ if outer[0] <= place < outer[1]]
    assert inner
    assert all(abs(place - joint) <= FADE_SAMPLES for place in inner)


def whole(words):
    return np.concatenate([word.samples for word in words])


def test_joined_words_keep_their_times_and_do_not_click():
    words = [
        SpokenWord("A", np.full(1600, 1000, np.int16), 0.01, 0.08),
        SpokenWord("B", np.full(800, 500, np.int16), 0, 0.05),
    ]
    samples, items = join(words)
    assert items == [AlignmentItem("A", 0.01, 0.08), AlignmentItem("B", 0.1, 0.05)]
    assert len(samples) == 2400
    assert samples[[0, 1599, 1600, 2399]].tolist() == [0, 0, 0, 0]
    assert (samples[FADE_SAMPLES : 1600 - FADE_SAMPLES] == 1000).all()
    assert np.abs(np.diff(samples.astype(int))).max() <= 1000 // FADE_SAMPLES + 1


def test_the_command_writes_cuts_whose_times_fit_their_audio(cut, tmp_path, capsys):
    write_cuts([cut], tmp_path / "cuts.jsonl.gz")
    output = tmp_path / "out" / "spliced.jsonl.gz"
    words = [f"cuts={tmp_path / 'cuts.jsonl.gz'}", f"output={output}", f"audio={tmp_path / 'audio'}", "count=5"]
    assert main(["splice", *words]) == 0
    assert capsys.readouterr().out == f"{output}: 5 utterances from 3 words of 1 speakers; 0 of 1 utterances not used\n"
    before = output.read_bytes()
    for new in CutSet.from_file(output):
        (supervision,) = new.supervisions
        items = supervision.alignment["word"]
        assert [item.symbol for item in items] == supervision.text.split()
        assert (supervision.speaker, supervision.language) == ("jo", "en")
        samples, rate = soundfile.read(new.recording.sources[0].source, dtype="int16")
        assert (len(samples), rate) == (new.num_samples, 16000)
        for item in items:
            middle = round((item.start + item.duration / 2) * rate)
            expected = next((start + duration / 2) * 16000 for text, start, duration in TIMES if text == item.symbol)
            assert abs(int(samples[middle]) - expected) <= 3
    assert main(["splice", *words]) == 0
    assert output.read_bytes() == before


def test_no_times_and_no_lengths_are_refused(cut, tmp_path, capsys):
    cut.supervisions[0].alignment = None
    write_cuts([cut], tmp_path / "cuts.jsonl.gz")
    words = [f"cuts={tmp_path / 'cuts.jsonl.gz'}", f"output={tmp_path / 'out'}", f"audio={tmp_path / 'audio'}"]
    for more, message in ((["shortest=5", "longest=4"], "longest=4 is less than"), ([], "no utterance has times")):
        assert main(["splice", *words, *more]) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_the_manifest_that_is_read_is_not_written_over(cut, tmp_path, capsys):
    manifest = tmp_path / "cuts.jsonl.gz"
    write_cuts([cut], manifest)
    assert main(["splice", f"cuts={manifest}", f"output={manifest}", f"audio={tmp_path}"]) == 2
    assert "is the manifest that is read" in capsys.readouterr().err
    assert [one.id for one in CutSet.from_file(manifest)] == [cut.id]


def test_an_interrupted_splice_leaves_no_manifest_of_the_audio_before(cut, tmp_path, monkeypatch):
    write_cuts([cut], tmp_path / "cuts.jsonl.gz")
    output = tmp_path / "spliced.jsonl.gz"
    words = [f"cuts={tmp_path / 'cuts.jsonl.gz'}", f"output={output}", f"audio={tmp_path / 'audio'}", "count=3"]
    assert main(["splice", *words]) == 0
    assert output.exists()

    def stop(path, *_):
        if path.name.endswith("1.flac"):
            raise KeyboardInterrupt

    monkeypatch.setattr("asr.cli.splice.write_flac", stop)
    monkeypatch.setattr("asr.cli.splice.describe_recording", lambda *_: describe_recording("a", tmp_path / "a.flac"))
    main(["splice", *words, "seed=1"])
    assert not output.exists()
