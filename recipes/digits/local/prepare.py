#!/usr/bin/env python3
"""Make the digits corpus: connected English digits spoken by espeak-ng, with exact word times.

Each utterance is 3 to 7 of the words ZERO to NINE in one of several hundred synthetic voices, at its own
speed, pitch, silence around it, level (peak -20 to -1 dBFS) and noise (white, pink and brown mixed, SNR 10
to 40 dB), as 16 kHz 16-bit FLAC. The cuts' supervisions hold the text, the voice as speaker, and the times
of the words as alignment "word".

A voice is an accent (how words are pronounced) plus a variant (the vocal tract and voice source). All
accents are in all splits. No variant of dev or test is in another split, nor is one that espeak-ng
derives from the same settings (f2 and f5, say, are both in test). Variants made as effects (whisper,
echo, robot) are left out of all splits, as is any whose words a small classifier trained on the other
variants got right in less than 97 % of cases.

No digit string occurs twice in the corpus. Training strings repeat words more often than chance does,
because "six six" is what a transducer learns last; dev and test strings are drawn evenly.

With ``--numerals`` the same speech is transcribed in Chinese numerals without blanks: THREE FIVE ZERO is 三五〇.

The same seed and output path give the same bytes, whatever the number of jobs.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from espeak import version
from render import Utterance, WordTime, render_task

from asr.data.corpus import describe_recording, home_path, make_cut, run, write_cuts
from asr.data.scripts import joined
from asr.errors import InputError
from asr.files import replacing
from asr.progress import progress

if TYPE_CHECKING:
    import lhotse

WORDS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
NUMERALS = dict(zip(WORDS, "〇一二三四五六七八九"))
LENGTHS = (3, 4, 5, 6, 7)
REPEATS = {"train": 0.2, "dev": 0.0, "test": 0.0}  # how often a word is said again, on top of chance
ACCENTS = (
    "en",  # as in Great Britain
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-gb-x-rp",
    "en-us",
    "en-us-nyc",
    "en-029",
)
VARIANTS = {
    "train": (
        *("m1", "m3", "m4", "m6", "m8", "f1", "f3", "f4", "Alex", "Andy", "Denis", "Diogo", "Gene", "Gene2"),
        *("Henrique", "Hugo", "Mario", "Michael", "Mike", "Nguyen", "Storm", "Tweaky", "adam", "anika"),
        *("aunty", "belinda", "benjamin", "boris", "david", "ed", "edward", "edward2", "grandma", "grandpa"),
        *("gustave", "iven3", "iven4", "john", "klatt2", "klatt3", "klatt4", "linda", "marcelo", "max"),
        *("michel", "miguel", "mike2", "norbert", "paul", "pedro", "rob", "sandro", "steph", "steph2"),
        *("steph3", "travis", "victor"),
    ),
    "dev": ("m5", "Annie", "Reed", "pablo"),
    "test": ("m2", "m7", "f2", "f5", "Andrea", "antonio", "quincy", "robert"),
}
# Strings are drawn in this order, so that test and dev stay the same when only train grows.
SPLITS = ("test", "dev", "train")
MANIFESTS = {split: f"cuts_{split}.jsonl.gz" for split in SPLITS}
MOST_UTTERANCES = 1_000_000
FORMAT = 1


def main(arguments: list[str] | None = None) -> None:
    """Write ``cuts_{train,dev,test}.jsonl.gz`` and ``audio/`` into ``--output``, unless already there."""
    options = _parse(arguments)
    sizes = {split: getattr(options, split) for split in SPLITS}
    _check(sizes, options.jobs)
    stamp, settings = options.output / "prepare.json", _settings(options.output, options.seed, sizes, options.numerals)
    if _is_complete(stamp, settings):
        print(f"{options.output}: already prepared")
        return
    _clear(stamp)
    _prepare(plan(options.seed, sizes), options.output, options.jobs, NUMERALS if options.numerals else {})
    with replacing(stamp) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n")


def plan(seed: int, sizes: dict[str, int]) -> dict[str, list[Utterance]]:
    """Draw the utterances of each split: strings all different, the split's voices in turn."""
    taken: set[tuple[str, ...]] = set()
    return {split: list(_plan_split(split, seed, sizes[split], taken)) for split in SPLITS}


def voices(split: str) -> list[str]:
    """The names, as espeak-ng knows them, of the voices of a split."""
    return [f"{accent}+{variant}" for accent in ACCENTS for variant in VARIANTS[split]]


def _plan_split(split: str, seed: int, size: int, taken: set[tuple[str, ...]]) -> Iterator[Utterance]:
    draw = random.Random(f"{seed}/{split}")
    names = draw.sample(voices(split), len(voices(split)))
    for index in range(size):
        words = _new_string(draw, REPEATS[split], taken)
        yield Utterance(f"{split}-{index:05d}", words, names[index % len(names)], seed)


def _new_string(draw: random.Random, repeats: float, taken: set[tuple[str, ...]]) -> tuple[str, ...]:
    while (words := _string(draw, repeats)) in taken:
        pass
    taken.add(words)
    return words


def _string(draw: random.Random, repeats: float) -> tuple[str, ...]:
    words = [draw.choice(WORDS)]
    for _ in range(draw.choice(LENGTHS) - 1):
        words.append(words[-1] if draw.random() < repeats else draw.choice(WORDS))
    return tuple(words)


def _prepare(planned: dict[str, list[Utterance]], output: Path, jobs: int, symbols: dict[str, str]) -> None:
    utterances = [utterance for split in SPLITS for utterance in planned[split]]
    tasks = [(utterance, _audio_path(output, utterance)) for utterance in utterances]
    times = dict(progress(_render_all(tasks, jobs), len(tasks), "digits", "utterances"))
    for split in SPLITS:
        cuts = (_cut(utterance, output, times[utterance.id], symbols) for utterance in planned[split])
        write_cuts(cuts, output / MANIFESTS[split])


def _render_all(tasks: list[tuple[Utterance, Path]], jobs: int) -> Iterator[tuple[str, list[WordTime]]]:
    ids = [utterance.id for utterance, _ in tasks]
    if jobs == 1:
        yield from zip(ids, map(render_task, tasks), strict=True)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from zip(ids, pool.imap(render_task, tasks, chunksize=8), strict=True)


def _cut(utterance: Utterance, output: Path, times: list[WordTime], symbols: dict[str, str]) -> "lhotse.MonoCut":
    """The cut of an utterance; `symbols`: how words are written in transcripts, where not as they are."""
    from lhotse.supervision import AlignmentItem

    written = [symbols.get(time.word, time.word) for time in times]
    words = [AlignmentItem(word, t.start, round(t.end - t.start, 4)) for word, t in zip(written, times)]
    recording = describe_recording(utterance.id, _audio_path(output, utterance))
    language = utterance.voice.split("+")[0]
    return make_cut(recording, joined(written), utterance.voice, language, {"word": words})


def _audio_path(output: Path, utterance: Utterance) -> Path:
    return output / "audio" / f"{utterance.id}.flac"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Make the digits corpus with espeak-ng.")
    parser.add_argument("--output", type=home_path, required=True, help="folder to write audio and cuts into")
    parser.add_argument("--numerals", action="store_true", help="transcripts in Chinese numerals, without blanks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=int, default=2000, metavar="N", help="utterances (default 2000)")
    parser.add_argument("--dev", type=int, default=100, metavar="N", help="utterances (default 100)")
    parser.add_argument("--test", type=int, default=200, metavar="N", help="utterances (default 200)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: CPUs)")
    return parser.parse_args(arguments)


def _check(sizes: dict[str, int], jobs: int) -> None:
    for split, size in sizes.items():
        if size < 1:
            raise InputError(f"--{split} {size}: each split needs at least 1 utterance")
    if sum(sizes.values()) > MOST_UTTERANCES:
        raise InputError(f"{sum(sizes.values())} utterances: ask for at most {MOST_UTTERANCES} in all")
    if jobs < 1:
        raise InputError(f"--jobs {jobs}: needs at least 1 process")


def _settings(output: Path, seed: int, sizes: dict[str, int], numerals: bool) -> dict[str, object]:
    written = {"numerals": True} if numerals else {}
    return {"format": FORMAT, "output": str(output), "seed": seed, **sizes, **written, "espeakng-loader": version()}


def _is_complete(stamp: Path, settings: dict[str, object]) -> bool:
    if not all((stamp.parent / name).exists() for name in (stamp.name, *MANIFESTS.values())):
        return False
    try:
        return bool(json.loads(stamp.read_text(encoding="utf-8")) == settings)
    except ValueError:
        return False


def _clear(stamp: Path) -> None:
    # Only where the stamp says that the files are this recipe's own, not someone else's "audio" folder.
    if stamp.exists():
        stamp.unlink()
        shutil.rmtree(stamp.parent / "audio", ignore_errors=True)
        for name in MANIFESTS.values():
            (stamp.parent / name).unlink(missing_ok=True)


if __name__ == "__main__":
    run(main)
