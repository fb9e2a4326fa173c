"""Decoding that can be interrupted: what was found is kept in a journal, batch by batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lhotse import CutSet

from asr.config import DecodeConfig, TranscribeConfig
from asr.data.batch import Skipped
from asr.decode.decoder import Decoded, Decoder
from asr.device import choose_device
from asr.journal import Journal, content_of
from asr.runs.trained import Trained
from asr.score.record import Record
from asr.score.wer import Utterance
from asr.version import version


def results_journal(path: Path, settings: dict[str, object]) -> Journal[list[Utterance]]:
    """A journal of the hypotheses of utterances, best first. What was skipped is tried again."""
    return Journal(path, settings, to_row, from_row)


def decode_to(journal: Journal[list[Utterance]], decoder: Decoder, cuts: CutSet) -> Iterator[Decoded]:
    """Decode what the journal does not have yet; results come once they are in it."""
    for results in decoder.by_batch(cuts, journal.done.copy()):
        journal.add({result[0].id: result for result in results if not isinstance(result, Skipped)})
        yield from results


def search_settings(config: DecodeConfig | TranscribeConfig, trained: Trained) -> dict[str, object]:
    """What hypotheses depend on, but for the audio: the weights, the search and its files, and where it runs."""
    search = config.decode
    files = [getattr(search, one.name) for one in dataclasses.fields(search) if one.metadata.get("path")]
    return {
        "weights": [config.run, trained.checkpoint, trained.digest],
        "decode": dataclasses.asdict(search),
        "files of the search": content_of(*files),
        "streaming": config.streaming,
        "device": choose_device(config.device).type,
    }


def record_of(config: DecodeConfig, trained: Trained) -> Record:
    """What is kept beside the error rate of hypotheses that were found like this."""
    return Record(
        version(),
        config.run,
        trained.checkpoint,
        trained.digest,
        config.cuts,
        config.streaming,
        choose_device(config.device).type,
        dataclasses.asdict(config.decode),
    )


def to_row(hypotheses: list[Utterance]) -> dict[str, Any]:
    """The hypotheses of an utterance as JSON values."""
    return {"hypotheses": [dataclasses.asdict(one) for one in hypotheses]}


def from_row(row: dict[str, Any]) -> list[Utterance]:
    """The inverse of `to_row`."""
    return [Utterance(**{name: as_tuple(value) for name, value in one.items()}) for one in row["hypotheses"]]


def as_tuple(value: Any) -> Any:
    """A list as a tuple, anything else as it is."""
    return tuple(value) if isinstance(value, list) else value
