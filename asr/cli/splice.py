"""`asr splice`: make new utterances from the words of others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from lhotse.cut import Cut

from asr.config import SpliceConfig
from asr.data.batch import Skipped
from asr.data.corpus import describe_recording, make_cut, write_cuts, write_flac
from asr.data.features import SAMPLING_RATE
from asr.data.manifest import open_cuts
from asr.data.scripts import joined
from asr.data.splice import Vocabulary, by_speaker, join, random_strings
from asr.errors import InputError
from asr.files import require_writable
from asr.progress import progress


def main(config: SpliceConfig) -> None:
    """Write the audio, then the manifest. Raises InputError where no word has a time, or output is input."""
    if config.longest < config.shortest:
        raise InputError(f"longest={config.longest} is less than shortest={config.shortest}")
    if Path(config.output).absolute() == Path(config.cuts).absolute():
        raise InputError(f"output={config.output} is the manifest that is read: name another")
    require_writable(Path(config.output))
    cuts, skipped = list(open_cuts([config.cuts])), list[Skipped]()
    speakers = by_speaker(progress(cuts, len(cuts), "reading", "utterances"), config.edge_seconds, skipped)
    for utterance in skipped:
        print(f"not used: {utterance.id}: {utterance.reason}", file=sys.stderr)
    if not speakers:
        raise InputError(f"{config.cuts}: no utterance has times of its words; see `asr align` and `asr attach`")
    languages = {supervision.language or "" for cut in cuts for supervision in cut.supervisions}
    new = spliced_cuts(config, speakers, languages.pop() if len(languages) == 1 else "")
    Path(config.output).unlink(missing_ok=True)  # or one of an earlier set would describe the audio of this one
    write_cuts(progress(new, config.count, "splicing", "utterances"), Path(config.output))
    words = sum(len(spoken) for vocabulary in speakers.values() for spoken in vocabulary.values())
    print(
        f"{config.output}: {config.count} utterances from {words} words of {len(speakers)} speakers; "
        f"{len(skipped)} of {len(cuts)} utterances not used"
    )


def spliced_cuts(config: SpliceConfig, speakers: dict[str, Vocabulary], language: str) -> Iterator[Cut]:
    """The new cuts, one by one, their audio written."""
    name = Path(config.output).name.split(".")[0].removeprefix("cuts_")  # or two sets would share audio and ids
    strings = random_strings(speakers, config.count, config.shortest, config.longest, config.together, config.seed)
    for number, (speaker, words) in enumerate(strings):
        samples, items = join(words)
        path = Path(config.audio).absolute() / f"{name}-{number:05d}.flac"
        write_flac(path, samples, SAMPLING_RATE)
        text = joined([item.symbol for item in items])
        yield make_cut(describe_recording(path.stem, path), text, speaker, language, {"word": items})
