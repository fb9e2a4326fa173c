"""What manifests hold, told apart by what is trained on and by nothing else."""

import gzip
import json
from dataclasses import replace

import pytest
from lhotse import CutSet, SupervisionSegment
from lhotse.cut import MixedCut, MixTrack
from lhotse.supervision import AlignmentItem

from asr.cli.main import main
from asr.data import contents as module
from asr.data.contents import Contents, read_contents
from asr.data.corpus import write_cuts
from asr.errors import InputError


@pytest.fixture
def cuts(tiny_corpus):
    return [*CutSet.from_file(tiny_corpus.dev)]


def contents(cuts, tmp_path, times_of_words=False):
    write_cuts(cuts, tmp_path / "cuts.jsonl.gz")
    return read_contents([str(tmp_path / "cuts.jsonl.gz")], times_of_words)


def with_supervision(cut, **changes):
    return replace(cut, supervisions=[replace(cut.supervisions[0], **changes)])


def moved(cut):
    source = replace(cut.recording.sources[0], source="/elsewhere/x.flac")
    return replace(cut, recording=replace(cut.recording, sources=[source]))


def aligned(cut):
    return with_supervision(cut, alignment={"word": [AlignmentItem("LOW", 0.0, 0.3)]})


CHANGES = {
    "text": lambda cuts: [with_supervision(cuts[0], text="LOW"), *cuts[1:]],
    "id": lambda cuts: [replace(cuts[0], id="other"), *cuts[1:]],
    "duration": lambda cuts: [replace(cuts[0], duration=cuts[0].duration - 0.1), *cuts[1:]],
    "fewer": lambda cuts: cuts[:-1],
    "more": lambda cuts: [*cuts, cuts[0]],
    "order": lambda cuts: cuts[::-1],
    "second supervision": lambda cuts: [
        replace(cuts[0], supervisions=[*cuts[0].supervisions, SupervisionSegment("s", "r", 0.1, 0.2, text="MID")]),
        *cuts[1:],
    ],
    "mixed": lambda cuts: [MixedCut(cuts[0].id, [MixTrack(cuts[0]), MixTrack(cuts[1], offset=0.1)]), *cuts[1:]],
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_trained_on_tells_contents_apart(cuts, tmp_path, change):
    assert contents(CHANGES[change](cuts), tmp_path) != contents(cuts, tmp_path)


def test_where_the_audio_is_does_not(cuts, tmp_path):
    assert contents([moved(cut) for cut in cuts], tmp_path) == contents(cuts, tmp_path)


def test_times_of_words_do_where_they_are_used(cuts, tmp_path):
    timed = [aligned(cut) for cut in cuts]
    assert contents(timed, tmp_path) == contents(cuts, tmp_path)
    assert contents(timed, tmp_path, True) != contents(cuts, tmp_path, True)


def test_one_manifest_is_the_same_as_its_parts_or_unzipped_or_as_shar(cuts, tmp_path, tiny_corpus):
    whole = read_contents([str(tiny_corpus.dev)])
    assert whole.utterances == 6
    write_cuts(cuts[:2], tmp_path / "one.jsonl.gz")
    (tmp_path / "two.jsonl").write_text("".join(json.dumps(cut.to_dict()) + "\n" for cut in cuts[2:]))
    assert read_contents([str(tmp_path / "one.jsonl.gz"), str(tmp_path / "two.jsonl")]) == whole
    assert main(["shar", f"cuts={tiny_corpus.dev}", f"output={tmp_path / 'shar'}", "shard_size=4", "jobs=1"]) == 0
    assert read_contents([str(tmp_path / "shar")]) == whole
    assert read_contents([]) == Contents(0, read_contents([]).sha256)


def test_lines_that_are_no_cuts_count_as_they_are(tmp_path):
    path = tmp_path / "cuts.jsonl"
    path.write_text('{"id": "a"}\n\n[1]\nno JSON\n')
    first = read_contents([str(path)])
    path.write_text('{"id": "a"}\n[1]\nNo JSON\n')
    assert first.utterances == read_contents([str(path)]).utterances == 3
    assert first != read_contents([str(path)])


@pytest.mark.parametrize(
    ("path", "message"),
    [("missing.jsonl.gz", "no such manifest; `asr manifest` makes"), (".", "a directory, not a manifest; make one")],
)
def test_what_is_no_manifest_is_an_input_error(path, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_contents([str(tmp_path / path)])


def test_a_manifest_that_ends_early_is_an_input_error(tmp_path, tiny_corpus):
    path = tmp_path / "cuts.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"id": "a"}\n' * 1000)[:-12])
    with pytest.raises(InputError, match="cannot be read"):
        read_contents([str(path)])


def test_quantiles_of_durations_are_known_but_tell_nothing_apart(cuts, tmp_path):
    durations = sorted(cut.duration for cut in cuts)
    found = contents(cuts, tmp_path)
    assert (found.seconds[0], found.seconds[-1]) == pytest.approx((durations[0], durations[-1]), abs=0.01)
    assert found.seconds == sorted(found.seconds)
    assert found == Contents(found.utterances, found.sha256)  # what a run kept before there were any
    assert contents([], tmp_path).seconds == []


def test_files_that_were_read_before_are_not_read_again(cuts, tmp_path, monkeypatch):
    path = tmp_path / "cuts.jsonl.gz"
    write_cuts(cuts, path)
    before = read_contents([str(path)])
    read = []
    monkeypatch.setattr(module, "as_json", lambda line: read.append(line) or json.loads(line))
    assert read_contents([str(path)], before=before) is before
    assert read == []
    assert read_contents([str(path)], before=replace(before, files="")) == before
    assert len(read) == 6
    timed = read_contents([str(path)], True, before)
    assert (timed.still(before), timed.still(None), before.still(before)) == (False, False, True)
    monkeypatch.setattr(module, "version", lambda: "another")
    assert not read_contents([str(path)], before=before).still(before)
    monkeypatch.undo()
    write_cuts(cuts[::-1], path)
    assert read_contents([str(path)], before=before) != before
