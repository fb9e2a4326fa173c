"""`asr plot`: pictures of utterances under a trained model: the lattice of one, and the nodes of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import dropwhile, islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from lhotse.cut import Cut

from asr.config import PlotConfig
from asr.data.dataset import Draw, SpeechDataset
from asr.data.manifest import open_cuts
from asr.device import choose_device, enough_memory
from asr.errors import InputError
from asr.files import replacing
from asr.plot.batch import draw_batch
from asr.plot.lattice import LatticeView, draw_lattice, view_lattice
from asr.runs.trained import Trained
from asr.train.task import Task, load_task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = "lattice", "batch"
UTTERANCES = 6  # of a batch


def main(config: PlotConfig) -> None:
    """Draw and save. Raises InputError for input at fault."""
    if len(config.pictures) != 1 or config.pictures[0] not in PICTURES:
        named = " ".join(["asr plot", *config.pictures])
        raise InputError(f"{named}: name one picture; there are: {', '.join(PICTURES)}")
    (picture,) = config.pictures
    if picture == "lattice" and config.utterances is not None:
        raise InputError(f"utterances={config.utterances}: is of `asr plot batch`; the lattice is of one utterance")
    cuts = chosen(config, 1 if picture == "lattice" else config.utterances or UTTERANCES)
    device = choose_device(config.device)
    task, trained = load_task(config.run, config.checkpoint, device)
    views = [*views_of(cuts, config, task, trained, device)]
    output = Path(config.output)
    with replacing(output) as temporary:
        figure(picture, cuts, views, task, trained).savefig(temporary, dpi=110, format="png")
    print(output)


def chosen(config: PlotConfig, count: int) -> list[Cut]:
    """So many utterances of the manifest, from the one that is named on."""
    cuts = dropwhile(lambda cut: config.utterance not in ("", cut.id), open_cuts([config.cuts]))
    found = [*islice(cuts, count)]
    if not found:
        raise InputError(f"utterance={config.utterance}: not in {config.cuts}")
    return found


def views_of(
    cuts: list[Cut], config: PlotConfig, task: Task, trained: Trained, device: torch.device
) -> Iterator[LatticeView]:
    """The lattice of each utterance. Raises InputError where one has none."""
    data = SpeechDataset(trained.config.model.mel_bins, task.model.timing, trained.tokenizer)
    widths = config.left_frames, config.right_frames, config.prune_range
    view = partial(view_lattice, task.model, task.objective.transducer)
    for cut in cuts:
        batch = data[Draw([cut])]
        for skipped in batch.skipped:
            raise InputError(f"{skipped.id}: {skipped.reason}")
        with enough_memory(f"{cut.id}: ", cut.duration):
            yield view(batch.to(device), trained.tokenizer.pieces, *widths)


def figure(picture: str, cuts: list[Cut], views: list[LatticeView], task: Task, trained: Trained) -> Figure:
    """The picture."""
    if picture == "lattice":
        return draw_lattice(views[0], f"{cuts[0].id}, {trained.checkpoint}")
    outputs = task.model.joiner.output.out_features
    return draw_batch(views, outputs, f"{len(cuts)} utterances, {trained.checkpoint}")
