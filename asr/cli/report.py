"""`asr report RUN...`: one page about runs, to be opened by any browser."""

from __future__ import annotations

import sys
from pathlib import Path

from asr.config import ReportConfig
from asr.errors import InputError
from asr.files import require_writable, write_atomically
from asr.report.content import gather
from asr.report.page import write


def main(config: ReportConfig) -> None:
    """Gather and write; what the page lacks is told. Raises InputError for input at fault."""
    if not config.runs:
        raise InputError("no run given: name run directories of `asr train`, as in `asr report exp/*`")
    output = Path(config.output)
    require_writable(output)
    content = gather(config)
    page = write(content)
    write_atomically(output, page)
    for path in content.taken:
        print(f"{path}: sound and pictures are of it, as decode.json names it; cuts=[…] names others", file=sys.stderr)
    for note in content.notes:
        print(note)
    print(f"{output}: {len(page) / 1e6:.1f} MB, of {len(content.runs)} runs and {len(content.decodings)} decodings")
