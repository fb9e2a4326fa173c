"""Error rates of what `asr transcribe` writes, against plain text."""

import json

import pytest

from asr.cli.main import main


def score(capsys, tmp_path, hypotheses, reference):
    words = [f"hypotheses={hypotheses}", f"reference={reference}", f"output={tmp_path / 'report'}", "name=x"]
    status = main(["score", *words])
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.fixture
def references(tmp_path):
    folder = tmp_path / "references"
    folder.mkdir()
    (folder / "a.txt").write_text("ONE TWO\nTHREE\n")
    (folder / "b.txt").write_text("FOUR\n")
    return folder


def test_a_file_is_scored_against_a_whole_text(references, tmp_path, capsys):
    (tmp_path / "found.txt").write_text("ONE TWO TREE\n")
    status, out, _ = score(capsys, tmp_path, tmp_path / "found.txt", references / "a.txt")
    assert (status, out) == (0, "%WER 33.33 [ 1 / 3, 0 ins, 0 del, 1 sub ] x\n")


@pytest.mark.parametrize("form", ["folder of text", "folder of json", "lines of json"])
def test_files_are_scored_against_the_texts_of_their_names(form, references, tmp_path, capsys):
    found = {"a": "ONE TWO THREE", "b": "FIVE", "c": "NOBODY KNOWS"}
    lines = {name: json.dumps({"file": f"in/{name}.wav", "text": text, "words": []}) for name, text in found.items()}
    folder = tmp_path / "found"
    folder.mkdir()
    for name in found if form != "lines of json" else ():
        path, text = (f"{name}.txt", found[name]) if form == "folder of text" else (f"{name}.json", lines[name])
        (folder / path).write_text(f"{text}\n")
    if form == "lines of json":
        folder = tmp_path / "found.jsonl"
        folder.write_text("".join(f"{line}\n" for line in lines.values()))
    status, out, _ = score(capsys, tmp_path, folder, references)
    assert (status, out) == (0, "%WER 25.00 [ 1 / 4, 0 ins, 0 del, 1 sub ] x\n")


def test_what_is_printed_for_several_files_is_not_taken_for_one_text(references, tmp_path, capsys):
    (tmp_path / "found.txt").write_text("in/a.wav\tONE TWO\nin/b.FLAC\t\n")
    status, _, err = score(capsys, tmp_path, tmp_path / "found.txt", references)
    assert status == 2
    assert "found.txt: has the names of several files" in err


def test_references_without_a_transcript_are_named(references, tmp_path, capsys):
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "a.txt").write_text("ONE TWO THREE\n")
    status, out, err = score(capsys, tmp_path, tmp_path / "found", references)
    assert (status, out) == (1, "%WER 0.00 [ 0 / 3, 0 ins, 0 del, 0 sub ] x\n")
    assert err == "asr score: 1 of 2 utterances were skipped and are not scored: there is no transcript of b\n"
    (tmp_path / "found" / "a.txt").rename(tmp_path / "found" / "z.txt")
    assert "no files of one name (z here, a, b there)" in score(capsys, tmp_path, tmp_path / "found", references)[2]


def test_a_folder_is_not_scored_against_itself(references, tmp_path, capsys):
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "a.txt").symlink_to(references / "a.txt")
    for hypotheses, reference in (
        (references, references),
        (references / "a.txt", references / "a.txt"),
        (references / "a.txt", references),
        (tmp_path / "linked", references),
    ):
        status, out, err = score(capsys, tmp_path, hypotheses, reference)
        assert (status, out) == (2, "")
        assert f"reference={reference}: is what hypotheses= names, too; name what was said" in err
