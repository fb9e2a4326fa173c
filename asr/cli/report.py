"""`asr report RUN...`: one page about runs, to be opened by any browser."""

from __future__ import annotations

import sys
from pathlib import Path

from asr.config import ReportConfig
from asr.errors import InputError, PartlyDone
from asr.files import require_writable, write_atomically
from asr.report.content import gather
from asr.report.page import write

MARK = b'<meta name="generator" content="asr '  # near the beginning of what was written before
LOOKED_AT_BYTES = 4096


def main(config: ReportConfig) -> None:
    """Gather and write; what the page lacks is told.

    Raises InputError for input at fault, PartlyDone where decodings could not be read and are not on the page.
    """
    if not config.runs:
        raise InputError("no run given: name run directories of `asr train`, as in `asr report exp/*`")
    output = Path(config.output)
    require_writable(output)
    require_no_other(output)
    content = gather(config)
    page = write(content)
    write_atomically(output, page)
    for path in content.taken:
        print(f"{path}: sound and pictures are of it, as decode.json names it; cuts=[…] names others", file=sys.stderr)
    for note in content.notes:
        print(note)
    print(f"{output}: {len(page) / 1e6:.1f} MB, of {len(content.runs)} runs and {len(content.decodings)} decodings")
    for reason in content.left_out:
        print(reason, file=sys.stderr)
    if content.left_out:
        count = len(content.left_out)
        raise PartlyDone(f"decodings that could not be read and are not on the page: {count}; see above")


def require_no_other(output: Path) -> None:
    """Raise InputError where a file is there that is no report: a run's own, say."""
    if not output.is_file():
        return
    with output.open("rb") as file:
        begin = file.read(LOOKED_AT_BYTES)
    if begin and MARK not in begin:
        raise InputError(f"output={output}: is there, and no report; name another file")
