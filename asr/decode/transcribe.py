"""From recordings of any length to transcripts: cut at pauses, decoded in batches, and put together again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from pathlib import Path

from lhotse import CutSet
from lhotse.cut import Cut

from asr.config import TranscribeConfig
from asr.data.audio import Heard
from asr.data.batch import Skipped
from asr.data.pauses import Lengths, cut_at_pauses
from asr.decode.decoder import Decoder
from asr.decode.formats import file_name
from asr.decode.results import decode_to, results_journal, search_settings
from asr.decode.transcript import Reading, Transcript, as_word, in_one
from asr.decode.words import recognised_words
from asr.errors import InputError
from asr.files import require_directory
from asr.journal import Journal, content_of
from asr.progress import progress
from asr.score.wer import Utterance

JOURNAL = ".transcribe.journal"  # in the output directory


def piece_lengths(decoder: Decoder, longest: float | None) -> Lengths:
    """How long the pieces of long recordings are to be. longest: seconds; None: as what the model was trained on."""
    lengths = decoder.trained.lengths
    longest = longest or lengths.longest
    return replace(lengths, longest=longest).within(min(longest, decoder.options.max_seconds))


def refuse_replacing(config: TranscribeConfig, names: Mapping[str, str]) -> None:
    """Raise InputError where a transcript would take the place of one that lies beside its audio: it may be the user's.

    names: what transcripts are called, by file. Those of a run that was interrupted there may be replaced.
    """
    output = Path(config.output)
    if not config.output or (output / JOURNAL).exists():
        return
    for file, name in names.items():
        path = output / file_name(name, config.format)
        if path.exists() and path.parent.resolve() == Path(file).parent.resolve():
            raise InputError(f"{path}: is there, beside its audio, and may be somebody's own: name another output=")


def transcripts_journal(config: TranscribeConfig, decoder: Decoder, files: Sequence[str]) -> Journal[list[Utterance]]:
    """What an interrupted run into the same directory has found, by all that the texts depend on."""
    settings = {
        "files": content_of(*(file for file in files if Path(file).exists())),
        "pieces": [*astuple(piece_lengths(decoder, config.piece_seconds))],
        **search_settings(config, decoder.trained),
    }
    journal = results_journal(Path(config.output) / JOURNAL, settings)
    require_directory(Path(config.output))
    journal.open()
    return journal


def transcripts(
    decoder: Decoder,
    heard: Iterable[Heard | Skipped],
    lengths: Lengths,
    journal: Journal[list[Utterance]] | None = None,
    show: bool = False,
) -> Iterator[Transcript | Skipped]:
    """What comes of each recording, in order; as many are decoded together as make a batch.

    journal: keeps what is done. show: how many pieces of each batch are.
    """
    for group in in_groups(heard, decoder.options.max_seconds):
        yield from transcribe_group(decoder, group, lengths, journal, show)


def in_groups(heard: Iterable[Heard | Skipped], seconds: float) -> Iterator[list[Heard | Skipped]]:
    """Recordings that are transcribed together: as many as make a batch."""
    group: list[Heard | Skipped] = []
    for one in heard:
        group.append(one)
        if sum(one.recording.duration for one in group if isinstance(one, Heard)) >= seconds:
            yield group
            group = []
    if group:
        yield group


def transcribe_group(
    decoder: Decoder,
    group: Sequence[Heard | Skipped],
    lengths: Lengths,
    journal: Journal[list[Utterance]] | None,
    show: bool,
) -> Iterator[Transcript | Skipped]:
    """What comes of some recordings."""
    pieces = {
        one.recording.id: cut_at_pauses(one.recording.to_cut().with_id(one.recording.id), one.loudness_N, lengths)
        for one in group
        if isinstance(one, Heard)
    }
    cuts = CutSet.from_cuts(cut for parts in pieces.values() for _, cut in parts)
    found = journal.done if journal else {}
    reasons = {}
    results = decode_to(journal, decoder, cuts) if journal else decoder(cuts)
    for result in progress(results, len(cuts), "transcribing", "pieces") if show else results:
        if isinstance(result, Skipped):
            reasons[result.id] = result.reason
        else:
            found[result[0].id] = result
    for one in group:
        yield one if isinstance(one, Skipped) else transcript(one, pieces[one.recording.id], found, reasons)


def transcript(
    heard: Heard, pieces: Sequence[tuple[float, Cut]], found: Mapping[str, list[Utterance]], reasons: Mapping[str, str]
) -> Transcript | Skipped:
    """What was found in the pieces of a recording. Pieces in which nothing could be are named, with their times."""
    name = heard.recording.id
    missing = [(begin, cut) for begin, cut in pieces if cut.id not in found]
    if len(missing) == len(pieces):
        return Skipped(name, f"{name}: {reasons[pieces[0][1].id]}")
    faults = [f"{begin:.1f} to {begin + cut.duration:.1f} s: {reasons[cut.id]}" for begin, cut in missing]
    skipped = None if heard.lost is None else heard.lost + sum(cut.duration for _, cut in missing)
    read = [readings(found[cut.id], begin, cut.duration) for begin, cut in pieces if cut.id in found]
    return Transcript(name, in_one(read), heard.recording.duration, skipped, [*heard.faults, *faults])


def readings(hypotheses: Sequence[Utterance], begin: float, duration: float) -> list[Reading]:
    """The hypotheses of a piece that begins at `begin` and lasts `duration`, seconds."""
    return [
        Reading(one.hypothesis, [as_word(item, begin) for item in recognised_words(one, duration)], one.score or 0.0)
        for one in hypotheses
    ]
