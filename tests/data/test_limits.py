"""What is a mistake in one kind of row is one in all."""

import json

import pytest

from asr.align.read import word
from asr.data.audio_files import list_files
from asr.data.limits import AUDIO_ENDINGS, LATEST_SECONDS
from asr.data.manifest import why_not
from asr.data.rows import read_row
from asr.data.sources.folder import audio_below
from asr.data.sources.row import seconds
from asr.errors import InputError


def in_manifest(value):
    faults = read_row(json.dumps({"id": "u", "type": "MonoCut", "start": value, "duration": 1.0, "channel": 0})).faults
    if faults:
        raise InputError(", ".join(faults))


READERS = {
    "manifest": in_manifest,
    "corpus": lambda value: seconds(value, "start"),
    "alignment": lambda value: word("a", value, 0.1),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_the_latest_time_is_the_same_everywhere(read):
    read(LATEST_SECONDS)
    with pytest.raises((InputError, ValueError)):
        read(1.001 * LATEST_SECONDS)


@pytest.mark.parametrize("ending", [".wav", ".oga", ".RF64", ".webm"])
def test_a_file_that_is_audio_by_its_name_is_so_for_every_command(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    path.write_bytes(b"x")
    assert ending.lower() in AUDIO_ENDINGS
    assert list_files([str(tmp_path)]) == [str(path)]
    assert list(audio_below(tmp_path)) == [path]
    assert "not a manifest but audio" in why_not(path)
