"""What the recipes' preparations share: fetching a corpus, and writing audio and Lhotse cuts.

Every file is written under a temporary name and renamed when complete.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import http.client
import io
import json
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from asr.console import visible
from asr.errors import InputError
from asr.files import replacing, writing
from asr.options import with_home
from asr.progress import progress

if TYPE_CHECKING:
    import lhotse
    import numpy as np
    from lhotse.cut import Cut
    from lhotse.supervision import AlignmentItem

_BLOCK = 1 << 20
_TIMEOUT_SECONDS = 60
_MD5_DIGITS = 32


def run(main: Callable[[], None]) -> None:
    """Run a command's ``main``; an `InputError` is printed in one line and ends it with status 2."""
    try:
        main()
    except InputError as error:
        print(visible(f"error: {error}"), file=sys.stderr)
        sys.exit(2)


def add_corpus_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--corpus-dir`` or ``--download-dir`` (exactly one) and ``--output`` to ``parser``."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--corpus-dir", type=home_path, help="a copy of the corpus on disk")
    source.add_argument("--download-dir", type=home_path, help="download and unpack the corpus into this folder")
    parser.add_argument("--output", type=home_path, required=True, help="folder to write the cuts into")


def home_path(text: str) -> Path:
    """A path of the command line, in which `~` is the home directory: shells leave it in `--output=~/data`."""
    return Path(with_home(text))


def fetch(url: str, directory: Path, checksum: str | None) -> Path:
    """Download the tar archive at ``url`` into ``directory`` and unpack it there, unless done before.

    Returns the folder of its contents, which bears the archive's name without ".tar.gz".
    """
    archive = directory / url.rsplit("/", 1)[-1]
    contents = directory / archive.name.removesuffix(".gz").removesuffix(".tar")
    if not contents.is_dir():
        extract(download(url, archive, checksum), contents)
    return contents


def download(url: str, path: Path, checksum: str | None) -> Path:
    """Download ``url`` to ``path`` unless it is there, and verify its SHA-256 or, of 32 digits, MD5.

    None: no sum is known.

    An interrupted download goes on from ``path`` + ".part". Raises `InputError` where the server cannot
    be reached, stops early, or the sum is wrong; a file with a wrong sum is removed.
    """
    if path.exists():
        _verify(path, checksum)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    _download_rest(url, part)
    _verify(part, checksum)
    return part.replace(path)


def extract(archive: Path, directory: Path) -> Path:
    """Unpack the tar file ``archive`` as ``directory``, which must not exist and appears only complete.

    Raises `InputError` for a damaged archive, or one with members that would land outside.
    """
    if directory.exists():
        raise InputError(f"{directory} already exists: remove it to unpack {archive.name} again")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".extract-") as temporary:
        contents = Path(temporary) / "contents"
        try:
            with tarfile.open(archive) as tar, writing(directory):
                tar.extractall(contents, filter="data")
        except (tarfile.TarError, EOFError, OSError) as error:
            raise InputError(f"{archive}: cannot unpack it ({error}); remove it and run again") from error
        contents.rename(directory)
    return directory


def describe_recording(recording_id: str, path: Path) -> lhotse.Recording:
    """The Lhotse recording of the audio file at ``path``, which keeps ``path`` as given.

    It is as long as what can be read. Raises `InputError` where the file is missing, unreadable, empty or damaged.
    """
    from lhotse import Recording
    from lhotse.audio import AudioSource

    from asr.data.rows import is_text
    from asr.data.sound import Sound

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if not is_text(str(path)):
        raise InputError(f"{path}: its name is not UTF-8, and cannot stand in a manifest; rename it")
    try:
        sound = Sound.open(path)
    except (InputError, OSError) as error:
        raise InputError(
            f"{path}: not a readable audio file ({error}); restore it, or convert it to WAV or FLAC"
        ) from error
    if sound.frames == 0:
        raise InputError(f"{path}: holds no samples; restore it")
    if sound.fault:
        raise InputError(f"{path}: {sound.fault}; restore it")
    source = AudioSource(type="file", channels=list(range(sound.channels)), source=str(path))
    return Recording(recording_id, [source], sound.rate, sound.frames, sound.frames / sound.rate)


def make_cut(
    recording: lhotse.Recording,
    text: str,
    speaker: str,
    language: str,
    alignment: Mapping[str, list[AlignmentItem]] | None = None,
) -> lhotse.MonoCut:
    """The cut of a whole ``recording`` with one supervision; cut and supervision bear its id.

    ``alignment`` maps a kind of unit ("word") to its times. Raises `InputError` for an empty ``text``.
    """
    from lhotse import MonoCut, SupervisionSegment

    if not text.strip():
        raise InputError(f"{recording.id}: its transcript is empty; correct it or remove the utterance")
    supervision = SupervisionSegment(
        id=recording.id,
        recording_id=recording.id,
        start=0.0,
        duration=recording.duration,
        text=text,
        language=language,
        speaker=speaker,
        alignment=alignment,
    )
    return MonoCut(recording.id, 0.0, recording.duration, 0, [supervision], recording=recording)


def write_cuts(cuts: Iterable[Cut], path: Path) -> None:
    """Write ``cuts`` to ``path`` (jsonl.gz), as `lhotse.CutSet.from_file` reads them.

    Equal cuts give equal bytes: the gzip header has neither a time nor a name. Raises `InputError` for a cut of Shar,
    which has its audio or features with it.
    """
    with (
        replacing(path) as temporary,
        temporary.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
    ):
        for cut in cuts:
            packed.write(_line(cut))


def _line(cut: Cut) -> bytes:
    try:
        return (json.dumps(cut.to_dict(), ensure_ascii=False) + "\n").encode()
    except TypeError as error:
        remedy = "use the manifest that was packed, not the directory of Shar"
        raise InputError(f"{cut.id}: has its data with it, which a manifest cannot hold; {remedy}") from error


def write_flac(path: Path, samples: np.ndarray, sampling_rate: int) -> None:
    """Write int16 ``samples`` of shape (n,) as 16-bit FLAC."""
    import soundfile

    packed = io.BytesIO()  # libsndfile has no words for a disk that is full
    soundfile.write(packed, samples, sampling_rate, format="FLAC", subtype="PCM_16")
    with replacing(path, len(packed.getbuffer())) as temporary:
        temporary.write_bytes(packed.getbuffer())


def _download_rest(url: str, part: Path) -> None:
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
            _append(response, part, done if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0)
    except urllib.error.HTTPError as error:
        # Asked for bytes past the end: nothing is missing, and the sum tells whether the rest is right.
        if not (done and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
            raise _cannot_download(url, error) from error
    except (OSError, http.client.HTTPException) as error:
        raise _cannot_download(url, error) from error


def _append(response: http.client.HTTPResponse, part: Path, done: int) -> None:
    length = response.headers.get("Content-Length")
    total = done + int(length) if length else None
    blocks = iter(lambda: response.read(_BLOCK), b"")
    with part.open("r+b" if done else "wb") as file:
        file.seek(done)
        for block in progress(blocks, int(length or 0) // _BLOCK, part.stem, "MiB"):
            with writing(part, total):
                file.write(block)
    if total is not None and part.stat().st_size < total:
        raise ConnectionError(f"it ended after {part.stat().st_size} of {total} bytes")


def _cannot_download(url: str, error: Exception) -> InputError:
    return InputError(f"{url}: download failed ({error}); run again, or name a copy with --corpus-dir")


def _verify(path: Path, checksum: str | None) -> None:
    if checksum is None:
        return
    name = "MD5" if len(checksum) == _MD5_DIGITS else "SHA-256"
    found = _digest(path, name)
    if found != checksum:
        path.unlink()
        raise InputError(f"{path}: {name} is {found}, expected {checksum}; removed it: run again")


def _digest(path: Path, name: str) -> str:
    digest = hashlib.new(name.replace("-", ""), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
