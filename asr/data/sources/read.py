"""Which form a corpus is in, and the reader of that form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from asr.config.commands import TIMED_FORMS
from asr.data.limits import AUDIO_ENDINGS
from asr.data.shar import is_shar
from asr.data.sources.folder import audio_below, read_folder
from asr.data.sources.kaldi import read_kaldi
from asr.data.sources.lhotse import ENDINGS, manifests, read_lhotse
from asr.data.sources.lists import read_list, read_ljspeech, shape_of
from asr.data.sources.row import Row, Source
from asr.data.sources.segments import LABEL, read_ctm, read_labels, read_rttm, read_stm
from asr.data.sources.subtitles import read_srt, read_vtt
from asr.data.sources.table import is_header, json_record, read_json_lines, read_table
from asr.errors import InputError
from asr.files import NOT_UTF_8, sound_lines
from asr.options import choose

READERS: dict[str, Callable[[Source], Iterator[Row]]] = {
    "folder": read_folder,
    "table": read_table,
    "jsonl": read_json_lines,
    "kaldi": read_kaldi,
    "ljspeech": read_ljspeech,
    "list": read_list,
    "lhotse": read_lhotse,
    "stm": read_stm,
    "ctm": read_ctm,
    "rttm": read_rttm,
    "srt": read_srt,
    "vtt": read_vtt,
    "audacity": read_labels,
}
FEWEST_WRONG_LINES, SHARE_OF_WRONG_LINES = 5, 0.05  # that are not UTF-8, where all are taken to be something else
TABLE_ENDINGS = (".tsv", ".csv", ".txt", ".tsv.gz", ".csv.gz")
LHOTSE_FIELDS = {"recording", "supervisions", "sources", "recording_id"}  # of cuts, recordings, supervisions


def read_rows(source: Source, form: str = "auto") -> list[Row]:
    """All rows of a corpus; those at fault are named in `source.faults`.

    form: a key of READERS, or `auto`. Raises InputError where there is no such file, or its form cannot be told or is
    another.
    """
    if not source.path.exists():
        raise InputError(f"{source.path}: no such file or directory")
    if source.path.is_file():
        require_text(source.path)
    found = form_of(source) if form == "auto" else form
    if found in ("folder", "kaldi") and not source.path.is_dir():
        raise InputError(f"{source.path}: form={found} is a directory, and this is a file")
    if found in ("table", "jsonl", "list") and source.path.is_dir():
        raise InputError(f"{source.path}: form={found} is a file, and this is a directory")
    rows = list(READERS[found](source))
    require_encoding(source, len(rows))
    if not rows:
        reason = f"{source.faults[0]}" if source.faults else "nothing in it describes an utterance"
        raise InputError(f"{source.path}: no row can be read (form={found}): {reason}")
    return rows


def form_of(source: Source) -> str:
    """The form of what the user named, by what is in it. Raises InputError where that cannot be told."""
    return form_of_directory(source) if source.path.is_dir() else form_of_file(source)


def form_of_directory(source: Source) -> str:
    """See `form_of`."""
    path = source.path
    if is_shar(path):
        raise InputError(f"{path}: is a directory of Shar, from which `asr train` reads as it is")
    if (path / "wav.scp").is_file():
        return "kaldi"
    if (path / "metadata.csv").is_file() and has_bars(first_line(path / "metadata.csv")):
        return "ljspeech"
    if manifests(source, "recordings") and manifests(source, "supervisions"):
        return "lhotse"
    for form in TIMED_FORMS:
        if any(path.glob(f"*.{form}")):
            return form
    audio = list(audio_below(path))
    texts = (text for text in (one.with_suffix(".txt") for one in audio) if text.is_file())
    text = next(texts, None)
    if text is not None:
        return "audacity" if text.parent == path and LABEL.match(first_line(text)) else "folder"
    raise InputError(f"{path}: {hint(path, len(audio))}")


def hint(path: Path, audio: int) -> str:
    """What the user of a directory of no known form may have meant."""
    tables = sorted(one.name for one in path.iterdir() if one.name.endswith((*TABLE_ENDINGS, *ENDINGS)))
    if tables:
        return f"is a directory with {', '.join(tables[:8])}; name the one to read, input={path / tables[0]}"
    if audio:
        return f"{audio} audio files, but no transcripts: write that of NAME.wav to NAME.txt beside it, or make a list"
    return "neither audio files nor a form of corpus that is known; see docs/corpus.md"


def form_of_file(source: Source) -> str:
    """See `form_of`."""
    path = source.path
    name = path.name.lower()
    ending = name.removesuffix(".gz").rpartition(".")[2]
    if ending in TIMED_FORMS:
        return ending
    first = first_line(path)
    if LABEL.match(first) and not source.columns:
        return "audacity"
    if first.lstrip().startswith("{"):
        return "lhotse" if LHOTSE_FIELDS & set(json_fields(path, first)) else "jsonl"
    if has_bars(first):
        return "ljspeech"
    if not source.columns and not is_header(first) and shape_of(source):
        return "list"
    if name.endswith(TABLE_ENDINGS):
        return "table"
    raise InputError(f"{path}: its form cannot be told; {choose('', READERS)}: say form=…")


def require_encoding(source: Source, rows: int) -> None:
    """Raise InputError where so many lines are not UTF-8 that all must be in another encoding.

    Its lines of ASCII can be read, and would be a corpus without any letter that has an accent.
    """
    wrong = sum(fault.reason.startswith(NOT_UTF_8) for fault in source.faults)
    if wrong >= FEWEST_WRONG_LINES and wrong > SHARE_OF_WRONG_LINES * (wrong + rows):
        what = f"{wrong} lines are not UTF-8, so all of it is in another encoding; convert it"
        remedy = "iconv -f cp1252 -t UTF-8 OLD > NEW (Turkish: cp1254, Polish: cp1250, …), and look at the letters then"
        raise InputError(f"{source.path}: {what}: {remedy}")


def require_text(path: Path) -> None:
    """Raise InputError where a file is audio, or not UTF-8 from its first line on: then nothing in it can be found."""
    if path.suffix.lower() in AUDIO_ENDINGS:
        raise InputError(f"{path}: is audio; name what has its transcript: a folder, a table or a list")
    faults: list[str] = []
    next(sound_lines(path, lambda _, reason: faults.append(reason)), None)
    if faults:
        convert = "iconv -f ENCODING -t UTF-8, with cp932, latin1, gb18030, …; or save it anew as UTF-8"
        raise InputError(f"{path}: its first line is {faults[0].removeprefix('is ')} ({convert})")


def first_line(path: Path) -> str:
    """The first line of a file that is not blank; "" where there is none."""
    return next((line for _, line in sound_lines(path, lambda *_: None) if line.strip()), "")


def has_bars(line: str) -> bool:
    """Whether a line is one of LJSpeech's, and no header of a table."""
    return "|" in line and "\t" not in line and not is_header(line)


def json_fields(path: Path, line: str) -> list[str]:
    """The names of the fields of a line of JSON."""
    try:
        return list(json_record(line))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
