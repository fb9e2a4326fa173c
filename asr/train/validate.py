"""Loss and word error rate on held-out utterances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from lhotse.supervision import AlignmentItem

from asr.data.batch import Batch
from asr.data.tokenizer import Tokenizer
from asr.decode.search import Search, recognised, search_all
from asr.score.delay import emission_delays
from asr.score.wer import Utterance, score
from asr.train.distributed import ALONE, Ranks
from asr.train.task import Task


@torch.inference_mode()
def validate(
    task: Task,
    batches: Iterable[Batch],
    search: Search,
    tokenizer: Tokenizer,
    device: torch.device,
    ranks: Ranks = ALONE,
    chunk: int | None = None,
) -> tuple[dict[str, float], list[Utterance]]:
    """Metrics "loss" (nats per label), "wer" (percent) and, of utterances with times of words, "delay" and
    "last_delay" (means, seconds; see `asr.score.delay`); and the hypotheses that were scored.

    batches: this process's share of them; all processes return the metrics of all shares.
    chunk: see `Conformer.forward`.
    Draws no random number, so that validating changes nothing in training.
    """
    was_training = task.training
    task.eval()
    loss, labels = 0.0, 0
    utterances: list[Utterance] = []
    words: dict[str, Sequence[AlignmentItem]] = {}
    for batch in batches:
        if not len(batch):
            continue
        batch = batch.to(device)
        loss += float(task(batch).per_utterance.double().sum())
        labels += int(batch.label_lengths.sum())
        hypotheses = search_all(search, *task.model.encode(batch.features, batch.feature_frames, chunk))
        utterances += (best for best, *_ in recognised(batch, hypotheses, tokenizer))
        words.update(zip(batch.ids, batch.words))
    task.train(was_training)
    losses, counts, shares, times = zip(*ranks.share((loss, labels, utterances, words)))
    loss, labels, utterances = sum(losses), sum(counts), [one for share in shares for one in share]
    words = {name: items for share in times for name, items in share.items()}
    if not utterances:
        return {}, []
    metrics = {"loss": loss / max(labels, 1), "wer": score(utterances).errors.rate}
    return metrics | emission_delays(utterances, words).metrics(), utterances
