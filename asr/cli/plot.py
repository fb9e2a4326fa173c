"""`asr plot lattice`: a picture of one utterance's lattice under a trained model."""

from __future__ import annotations

from pathlib import Path

from asr.config import PlotConfig
from asr.data.dataset import Draw, SpeechDataset
from asr.data.manifest import open_cuts
from asr.device import choose_device, enough_memory
from asr.errors import InputError
from asr.files import replacing
from asr.plot.lattice import draw_lattice, view_lattice
from asr.train.task import load_task


def main(config: PlotConfig) -> None:
    """Draw and save. Raises InputError for input at fault."""
    if config.pictures != ["lattice"]:
        raise InputError(f"asr plot {' '.join(config.pictures)}: name one picture; there is: lattice")
    cut = next((cut for cut in open_cuts([config.cuts]) if config.utterance in ("", cut.id)), None)
    if cut is None:
        raise InputError(f"utterance={config.utterance}: not in {config.cuts}")
    device = choose_device(config.device)
    task, trained = load_task(config.run, config.checkpoint, device)
    batch = SpeechDataset(trained.config.model.mel_bins, task.model.timing, trained.tokenizer)[Draw([cut])]
    for skipped in batch.skipped:
        raise InputError(f"{skipped.id}: {skipped.reason}")
    widths = config.left_frames, config.right_frames, config.prune_range
    with enough_memory(f"{cut.id}: ", cut.duration):
        view = view_lattice(task.model, task.objective.transducer, batch.to(device), trained.tokenizer.pieces, *widths)
    output = Path(config.output)
    with replacing(output) as temporary:
        draw_lattice(view, f"{cut.id}, {trained.checkpoint}").savefig(temporary, dpi=110, format="png")
    print(output)
