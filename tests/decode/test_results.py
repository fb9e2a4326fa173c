"""What an interrupted decoding goes on by: hypotheses of another search are not taken for those of this one."""

import dataclasses
import os
from types import SimpleNamespace

import pytest

from asr.config import BeamOptions, DecodeConfig, GreedyOptions
from asr.decode.results import search_settings

FILES = [
    (kind, one.name)
    for kind in (BeamOptions, GreedyOptions)
    for one in dataclasses.fields(kind)
    if one.metadata.get("path")
]


def test_there_are_options_that_name_files():
    assert {name for _, name in FILES} == {"lm", "word_lm", "word_list", "phrases"}


@pytest.mark.parametrize(("kind", "name"), FILES)
def test_another_file_of_the_same_name_is_another_search(tmp_path, kind, name):
    file = tmp_path / "file.txt"
    file.write_text("A\n")
    trained = SimpleNamespace(checkpoint="step-1", digest="1")
    config = DecodeConfig(run="exp/a", cuts="c", output="o", decode=kind(**{name: str(file)}), device="cpu")
    before = search_settings(config, trained)
    assert search_settings(config, trained) == before
    file.write_text("A\nB\n")
    os.utime(file, ns=(1, 1))
    assert search_settings(config, trained) != before
    assert search_settings(dataclasses.replace(config, decode=kind()), trained) != before
