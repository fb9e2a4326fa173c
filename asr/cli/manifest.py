"""`asr manifest`: make a manifest of a corpus in the form that it lies in."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import median

from lhotse import MultiCut
from lhotse.cut.data import DataCut

from asr.config import ManifestConfig, SpecAugmentOptions
from asr.data.corpus import write_cuts
from asr.data.sources.cuts import make_cuts
from asr.data.sources.read import read_rows
from asr.data.sources.row import Fault, Source
from asr.data.sources.split import REST, divide, divisible, parse_split
from asr.data.sources.text import Spelling
from asr.errors import InputError, PartlyDone
from asr.files import require_writable, write_atomically
from asr.frames import FRAME_SECONDS

SHORT_SECONDS = 2.0  # that a word or two take, which a mask of SpecAugment may hide
SHOWN = 20  # faults that are printed; the report has them all
ENDING = ".jsonl.gz"


def main(config: ManifestConfig) -> None:
    """Write the manifest, or one a part, and the faults. Raises InputError where no utterance can be used."""
    output = Path(config.output)
    if not output.name.endswith(ENDING):
        raise InputError(f"output={output}: a manifest's name ends with {ENDING}")
    require_writable(output)
    shares = parse_split(config.split)
    source = source_of(config)
    rows = read_rows(source, config.form)
    cuts = list(make_cuts(rows, source, Spelling(config.case, config.punctuation), config.jobs))
    report_faults(source.faults, output)
    if not cuts:
        raise InputError(f"{config.input}: none of {len(rows)} rows can be used, {sorted(source.faults)[0]}")
    warn_of_channels(cuts)
    if shares:
        warn_of_parts(cuts, len(shares) + 1, source.unused)
    parts = divide(cuts, shares, config.seed) if shares else {"": cuts}
    for name, part in parts.items():
        path = output.with_name(output.name.removesuffix(ENDING) + f"_{name}" * bool(name) + ENDING)
        replaced = ", in place of what was there" * path.exists()
        write_cuts(part, path)
        print(f"{path}: {described(part)}{replaced}")
    print(characters(cuts))
    warn_of_characters(parts)
    advise(cuts)
    if len(source.faults) > len(cuts):
        raise PartlyDone(f"{len(source.faults)} rows at fault are more than the {len(cuts)} that could be used")


def source_of(config: ManifestConfig) -> Source:
    """The corpus that the options name."""
    given = {"audio": config.audio_column, "text": config.text_column, "speaker": config.speaker_column}
    columns = {kind: name for kind, name in given.items() if name}
    audio = Path(config.audio_dir).absolute() if config.audio_dir else None
    if audio is not None and not audio.is_dir():
        raise InputError(f"audio_dir={config.audio_dir}: no such directory")
    return Source(Path(config.input).absolute(), audio, columns)


def report_faults(faults: list[Fault], output: Path) -> None:
    """Print the first faults, and write all of them, in the order of their places, to OUTPUT.faults.txt."""
    report = output.with_name(output.name + ".faults.txt")
    report.unlink(missing_ok=True)
    if not faults:
        return
    lines = [str(fault) for fault in sorted(faults)]
    for line in islice(lines, SHOWN):
        print(line, file=sys.stderr)
    write_atomically(report, "".join(f"{line}\n" for line in lines).encode())
    print(f"{len(lines)} rows at fault are left out; all are named in {report}", file=sys.stderr)


def warn_of_channels(cuts: list[DataCut]) -> None:
    """Say which channels are taken where nobody chose."""
    several = sum(isinstance(cut, MultiCut) for cut in cuts)
    if several:
        what = "their mean is heard, as by `asr transcribe`"
        print(f"{several} utterances have several channels: {what}", file=sys.stderr)


def advise(cuts: list[DataCut]) -> None:
    """Say what training wants where half of the utterances have a word or two."""
    half, mask = median(cut.duration for cut in cuts), SpecAugmentOptions().time_mask_frames * FRAME_SECONDS
    if half < SHORT_SECONDS:
        what = f"half of the utterances are under {half:.1f} s, and a mask of SpecAugment, {mask:g} s, may hide a word"
        remedy = "train with data.spec_augment.time_masks=0 or data.spec_augment.time_mask_frames=10"
        print(f"{what}: {remedy}", file=sys.stderr)


def warn_of_characters(parts: Mapping[str, Sequence[DataCut]]) -> None:
    """Say which characters the part to train on lacks: a tokenizer made of it cannot spell those of the others."""
    found = {name: {one for cut in part for one in cut.supervisions[0].text} for name, part in parts.items()}
    trained = found.pop(REST, set())
    for name, letters in found.items():
        missing = " ".join(sorted(letters - trained))
        if missing and name:
            print(f"in {name}, and not in {REST}: {missing} (another seed= may divide better)", file=sys.stderr)


def warn_of_parts(cuts: list[DataCut], parts: int, unused: Sequence[str]) -> None:
    """Say where parts will have speakers in common."""
    unit = divisible(cuts, parts)
    unknown = sum(not cut.supervisions[0].speaker for cut in cuts)
    if unit != "speakers":
        what = f"too few speakers for {parts} parts: {unit}"
    else:
        what = f"{unknown} utterances have no speaker: their recordings"
    if unit != "speakers" or unknown:
        remedy = f"; if one of these columns is the speaker, speaker_column=NAME: {', '.join(unused)}" * bool(unused)
        print(f"{what} are divided instead, and a speaker may be in two parts{remedy}", file=sys.stderr)


def described(cuts: list[DataCut]) -> str:
    """How much there is in a manifest."""
    seconds = sorted(cut.duration for cut in cuts)
    speakers = {cut.supervisions[0].speaker for cut in cuts} - {None}
    return (
        f"{len(cuts)} utterances, {sum(seconds) / 3600:.2f} hours, {len(speakers) or 'unknown'} speakers, "
        f"{seconds[0]:.1f} to {seconds[-1]:.1f} s, half of them under {seconds[len(seconds) // 2]:.1f} s"
    )


def characters(cuts: list[DataCut]) -> str:
    """The characters of the transcripts: one that should not be there is seen at a glance."""
    found = sorted({one for cut in cuts for one in cut.supervisions[0].text} - {" "})
    return f"{len(found)} characters: {' '.join(found[:200])}{' …' * (len(found) > 200)}"
