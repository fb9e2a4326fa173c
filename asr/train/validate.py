"""Loss and word error rate on held-out utterances."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from asr.data.batch import Batch
from asr.data.tokenizer import Tokenizer
from asr.decode.search import Search
from asr.score.wer import Utterance, score
from asr.train.task import Task


@torch.inference_mode()
def validate(
    task: Task, batches: Iterable[Batch], search: Search, tokenizer: Tokenizer, device: torch.device
) -> tuple[dict[str, float], list[Utterance]]:
    """Metrics "loss" (nats per label) and "wer" (percent), and the hypotheses that were scored.

    Draws no random number, so that validating changes nothing in training.
    """
    was_training = task.training
    task.eval()
    loss, labels, utterances = 0.0, 0, []
    for batch in batches:
        if not len(batch):
            continue
        batch = batch.to(device)
        loss += float(task(batch).per_utterance.double().sum())
        labels += int(batch.label_lengths.sum())
        hypotheses = search(*task.model.encode(batch.features, batch.feature_frames))
        texts = (tokenizer.decode(hypothesis.tokens) for hypothesis in hypotheses)
        utterances += [Utterance(*row) for row in zip(batch.ids, batch.texts, texts)]
    task.train(was_training)
    if not utterances:
        return {}, []
    return {"loss": loss / max(labels, 1), "wer": score(utterances).errors.rate}, utterances
