"""Utterances of a batch."""

import pytest
import torch

from asr.data.batch import Batch, Skipped


@pytest.mark.parametrize("rows", [[], [1], [2, 0]])
@pytest.mark.parametrize("aligned", [True, False])
def test_utterances_are_selected_with_all_that_is_theirs(rows, aligned):
    batch = Batch(
        ids=["a", "b", "c"],
        texts=["A", "B", "C"],
        features=torch.arange(24.0).view(3, 4, 2),
        feature_frames=torch.tensor([4, 3, 2]),
        labels=torch.tensor([[1, 2], [3, 0], [4, 5]]),
        label_lengths=torch.tensor([2, 1, 2]),
        seconds=1.0,
        alignment=torch.tensor([[1, 2], [0, 0], [2, 3]]) if aligned else None,
        words=[["x"], [], ["y"]],
        skipped=[Skipped("d", "no audio")],
    )
    chosen = batch.select(rows)
    assert len(chosen) == len(rows)
    assert (chosen.ids, chosen.texts) == ([batch.ids[row] for row in rows], [batch.texts[row] for row in rows])
    assert chosen.words == [batch.words[row] for row in rows]
    for name in ("features", "feature_frames", "labels", "label_lengths", *["alignment"] * aligned):
        assert torch.equal(getattr(chosen, name), getattr(batch, name)[rows])
    assert (chosen.alignment is None) == (not aligned)
