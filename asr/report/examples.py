"""Utterances to look at closely, and to hear: the worst, the best and some others of each set that was decoded."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import torch
from lhotse.cut import Cut

from asr.config import ReportConfig
from asr.data.dataset import SpeechDataset
from asr.data.features import load_features, load_samples, make_fbank
from asr.data.words import WORD_START, aligned_words
from asr.decode.words import recognised_words
from asr.device import choose_device, enough_memory
from asr.errors import InputError
from asr.plot.lattice import LatticeView, view_lattice
from asr.report.decodings import Decoding
from asr.report.drawing import Drawing, Spoken, draw
from asr.report.manifests import read_cuts
from asr.report.pictures import flac, spectrogram
from asr.report.runs import Run
from asr.score.wer import ScoredUtterance, Utterance
from asr.train.task import Task, load_task

BAND = 5, 10, 5  # frames before and after, and labels a frame: the defaults of `asr plot lattice`
LONGEST = 60.0  # seconds that are drawn
SHOWN = 4  # decodings of a set, those with the lowest rates, that an example is shown of
BINS = 80  # of a spectrogram
MEGABYTE = 1e6

Found = Sequence[tuple[Decoding, ScoredUtterance]]  # an utterance, as each decoding of its set has it


@dataclass(frozen=True)
class Example:
    """An utterance. kind: worst, best or random. sound: a URI, "" where there is none.

    missing: what could not be shown, and why.
    """

    id: str
    kind: str
    found: Found
    sound: str = ""
    drawing: Drawing | None = None
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Model:
    """What lattices of a run are drawn with; or why there are none. digest: tells its weights from others."""

    name: str
    digest: str = ""
    task: Task | None = None
    data: SpeechDataset | None = None
    fault: str = ""


@dataclass
class Sources:
    """What examples are made of. models: by the place of their run. room: bytes that sound may still take."""

    models: Mapping[int, Model]
    device: torch.device
    room: float

    def sound(self, cut: Cut) -> str:
        """The sound of an utterance. Raises InputError where it cannot be read, or there is no room for it."""
        sound = flac(load_samples(cut))
        if len(sound) > self.room:
            raise InputError("audio_mb has no room for it")
        self.room -= len(sound)
        return sound


def examples_of(
    config: ReportConfig,
    runs: Sequence[Run],
    sets: Sequence[Sequence[Decoding]],
    manifests: Sequence[Sequence[str]],
    faults: list[str],
) -> Iterator[list[Example]]:
    """Examples of each set of utterances that was decoded, given the manifests in which each may be.

    Raises InputError for manifests at fault that `config` names; faults of others go to `faults`.
    """
    groups = [group[:SHOWN] for group in sets]
    chosen = [choose(group, config.examples) for group in groups]
    wanted = {name for one in chosen for name in one}
    held = {path: cuts_of(path, wanted, config, faults) for path in dict.fromkeys(chain(*manifests))}
    cuts = [{name: cut for path in paths for name, cut in held[path].items()} for paths in manifests]
    device = choose_device(config.device)
    shown = {place for group in groups for place in places(group)[: config.lattices]} if any(cuts) else {}
    models = {place: load_model(runs[place], config.checkpoint, device) for place in sorted(shown)}
    sources = Sources(models, device, config.audio_mb * MEGABYTE)
    for group, kinds, there in zip(groups, chosen, cuts):
        by_id = [{one.utterance.id: one for one in decoding.score.per_utterance} for decoding in group]
        names = label(group, runs)
        yield [
            example(Example(name, kind, [*zip(group, (one[name] for one in by_id))]), names, there.get(name), sources)
            for name, kind in kinds.items()
        ]


def cuts_of(path: str, wanted: Collection[str], config: ReportConfig, faults: list[str]) -> dict[str, Cut]:
    """The wanted cuts of a manifest. One that nobody asked for costs its sound alone where it is at fault."""
    try:
        return read_cuts(path, wanted)
    except InputError as error:
        if config.cuts:
            raise
        faults.append(f"Nothing can be heard of a manifest that decode.json names: {error}")
        return {}


def choose(group: Sequence[Decoding], count: int) -> dict[str, str]:
    """So many of each kind, by id: those with most errors in all decodings together; of those with fewest the longest;
    and others that are drawn at random, always the same."""
    errors, words = dict[str, int](), dict[str, int]()
    for one in (one for decoding in group for one in decoding.score.per_utterance):
        name = one.utterance.id
        errors[name], words[name] = errors.get(name, 0) + one.errors.total, one.errors.words
    worst = sorted((name for name in errors if errors[name]), key=lambda name: (-errors[name], words[name]))[:count]
    others = sorted(errors.keys() - {*worst}, key=lambda name: (errors[name], -words[name], name))
    best, rest = others[:count], sorted(others[count:])
    drawn = random.Random(0).sample(rest, min(count, len(rest)))
    kinds = {"worst": worst, "best": best, "random": drawn}
    return {name: kind for kind, names in kinds.items() for name in names}


def places(group: Sequence[Decoding]) -> list[int]:
    """The places of the runs that a set was decoded with, each once."""
    return [*dict.fromkeys(decoding.run for decoding in group)]


def label(group: Sequence[Decoding], runs: Sequence[Run]) -> list[str]:
    """What the decodings of a set are called beside each other: by their runs, where that tells them apart."""
    if len(group) == 1:
        return ["recognised"]
    whole = len(places(group)) < len(group)
    return [runs[one.run].name + f"/{one.name}" * whole for one in group]


def load_model(run: Run, checkpoint: str, device: torch.device) -> Model:
    """That of a run; one that cannot be loaded costs its lattices alone."""
    try:
        task, trained = load_task(str(run.path), checkpoint, device)
    except InputError as error:
        return Model(run.name, fault=str(error))
    data = SpeechDataset(trained.config.model.mel_bins, task.model.timing, trained.tokenizer)
    return Model(run.name, trained.digest, task, data)


def example(bare: Example, names: Sequence[str], cut: Cut | None, sources: Sources) -> Example:
    """An utterance with as much of its sound and drawing as can be had. names: of the decodings."""
    missing = list[str]()
    if cut is None:
        return replace(bare, missing=["no sound and no picture: it is in none of the manifests of cuts="])
    sound, drawing, found = "", None, bare.found
    try:
        sound = sources.sound(cut)
    except InputError as error:
        missing.append(f"no sound: {error}")
    try:
        views = [*views_of(cut, found, sources, missing)]
        drawing = drawing_of(cut, [*spoken(cut, found, names)], views)
    except InputError as error:
        missing.append(f"no picture: {error}")
    return replace(bare, sound=sound, drawing=drawing, missing=missing)


def drawing_of(cut: Cut, lanes: Sequence[Spoken], views: Sequence[tuple[str, LatticeView]]) -> Drawing:
    """The drawing of an utterance. Raises InputError where it is too long, or cannot be read."""
    if cut.duration > LONGEST:
        raise InputError(f"it lasts {cut.duration:.0f} s, and {LONGEST:.0f} are drawn at most")
    features = load_features(cut, make_fbank(cut.num_features if cut.has_features else BINS))
    return draw(cut.duration, spectrogram(features.numpy()), lanes, views)


def views_of(cut: Cut, found: Found, sources: Sources, missing: list[str]) -> Iterator[tuple[str, LatticeView]]:
    """The lattices of an utterance's reference under the models; those that cannot be had are told of in `missing`."""
    for place in places([decoding for decoding, _ in found]):
        model = sources.models.get(place)
        if model is None or cut.duration > LONGEST:
            continue
        try:
            yield f"Lattice of {model.name}{doubt(model, place, found)}", view_of(cut, model, sources.device)
        except InputError as error:
            missing.append(f"no lattice of {model.name}: {error}")


def doubt(model: Model, place: int, found: Found) -> str:
    """What is said of a model that is not the one which its run was decoded with, where there is a record of that."""
    weights = {one.record.weights for one, _ in found if one.run == place and one.record}
    return ", of other weights than it was decoded with" if weights and model.digest not in weights else ""


def view_of(cut: Cut, model: Model, device: torch.device) -> LatticeView:
    """The lattice of an utterance's reference. Raises InputError where there is none."""
    if model.task is None or model.data is None:
        raise InputError(model.fault)
    data, task = model.data, model.task
    features = data.load(cut, None)
    batch = data.collate([cut], [data.labels_of(cut, features, None)], [[features]], [], None)
    with enough_memory("", cut.duration):
        view = view_lattice(task.model, task.objective.transducer, batch.to(device), data.pieces, *BAND)
    if not math.isfinite(view.loss):
        raise InputError(f"no path has its {len(view.pieces)} labels in {len(view.occupation_TU)} frames")
    return view


def spoken(cut: Cut, found: Found, names: Sequence[str]) -> Iterator[Spoken]:
    """What was said, where its times are known, and what each decoding recognised."""
    if said := aligned_words(cut):
        yield Spoken("said", said)
    for name, (decoding, scored) in zip(names, found):
        heard = scored.utterance
        if not heard.times:  # as of other systems' hypotheses, or of nothing
            continue
        if decoding.rate.normalized:  # tokens spell the text as it was before
            heard = replace(heard, hypothesis="".join(heard.tokens).replace(WORD_START, " ").strip())
        yield Spoken(name, recognised_words(heard, cut.duration), [*tokens_of(heard)])


def tokens_of(utterance: Utterance) -> Iterator[tuple[str, float, float | None]]:
    """Tokens with their times and confidences."""
    sure = utterance.confidences or (None,) * len(utterance.tokens)
    yield from zip(utterance.tokens, utterance.times, sure)
