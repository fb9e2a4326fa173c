"""Relative attention against the formula, one element at a time."""

import math

import pytest
import torch

from asr.models.attention import RelativeSelfAttention, relative_positions, shift_to_keys
from asr.models.mask import attention_mask, unless_all, valid_frames

CPU = torch.device("cpu")


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (2, 2), (3, 3), (8, 8), (1, 5), (3, 4), (4, 9)])
def test_shift_picks_the_score_of_the_distance(queries, keys):
    distances = queries + keys - 1
    scores = torch.arange(2 * 3 * queries * distances).view(2, 3, queries, distances).float()
    shifted = shift_to_keys(scores)
    assert shifted.shape == (2, 3, queries, keys)
    for i in range(queries):
        for j in range(keys):
            column = keys - 1 - (keys - queries + i - j)  # columns hold the distances S−1, …, −(T−1)
            assert torch.equal(shifted[..., i, j], scores[..., i, column])


@pytest.mark.parametrize(("queries", "keys", "dim"), [(1, 1, 4), (5, 5, 6), (4, 4, 5), (2, 7, 4)])
def test_positions_are_sinusoids_of_the_distance(queries, keys, dim):
    positions = relative_positions(queries, keys, dim, CPU)
    assert positions.shape == (queries + keys - 1, dim)
    for row, distance in enumerate(range(keys - 1, -queries, -1)):
        for column in range(dim):
            angle = distance / 10000 ** (2 * (column // 2) / dim)
            expected = math.cos(angle) if column % 2 else math.sin(angle)
            assert float(positions[row, column]) == pytest.approx(expected, abs=1e-5)


def naive_attention(attention, x_TD, mask_TT):
    """(q + u)·k + (q + v)·r(i − j), softmax over the keys of the mask, for one utterance."""
    frames, dim = x_TD.shape
    query, key, value = attention.query_key_value(x_TD).split(dim, dim=-1)
    position = attention.position(relative_positions(frames, frames, dim, CPU).double())
    rows = []
    for i in range(frames):
        heads = []
        for h in range(attention.heads):
            part = slice(h * attention.head_dim, (h + 1) * attention.head_dim)
            keys = [j for j in range(frames) if mask_TT[i, j]]
            scores = [
                (query[i, part] + attention.content_bias[h, 0]) @ key[j, part]
                + (query[i, part] + attention.position_bias[h, 0]) @ position[frames - 1 - (i - j), part]
                for j in keys
            ]
            weights = torch.softmax(torch.stack(scores) / math.sqrt(attention.head_dim), dim=0)
            heads.append(sum(w * value[j, part] for w, j in zip(weights, keys)))
        rows.append(torch.cat(heads))
    return attention.output(torch.stack(rows))


@pytest.mark.parametrize("context", [(-1, -1), (1, 0), (2, 1)])
@torch.no_grad()
def test_attention_is_the_formula(context):
    torch.manual_seed(0)
    attention = RelativeSelfAttention(dim=6, heads=2, dropout=0.0).double()
    for parameter in attention.parameters():
        parameter.normal_()
    lengths = torch.tensor([5, 3])
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    mask = attention_mask(lengths, 5, *context)
    out = attention(x, x, relative_positions(5, 5, 6, CPU).double(), mask)
    for b, length in enumerate(lengths):
        expected = naive_attention(attention, x[b], mask[b])
        torch.testing.assert_close(out[b, :length], expected[:length], rtol=0, atol=1e-12)


@pytest.mark.parametrize("left", [-1, 0, 2])
@pytest.mark.parametrize("right", [-1, 0, 1])
def test_mask_is_the_valid_keys_within_the_context(left, right):
    lengths, frames = [6, 4, 1], 6
    mask = attention_mask(torch.tensor(lengths), frames, left, right)
    for b, length in enumerate(lengths):
        for i in range(frames):
            for j in range(frames):
                near = (left < 0 or j >= i - left) and (right < 0 or j <= i + right)
                expected = j < length and (near or i >= length)
                assert bool(mask[b, i, j]) == expected
    assert mask.any(dim=-1).all()


def test_valid_frames_are_the_first():
    assert valid_frames(torch.tensor([0, 2, 3]), 3).int().tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 1]]


@torch.no_grad()
def test_a_mask_that_hides_nothing_is_none_and_changes_nothing():
    torch.manual_seed(0)
    attention, x = RelativeSelfAttention(dim=6, heads=2, dropout=0.0), torch.randn(1, 5, 6)
    mask = attention_mask(torch.tensor([5]), 5)
    assert unless_all(mask) is None
    assert unless_all(attention_mask(torch.tensor([4]), 5)) is not None
    positions = relative_positions(5, 5, 6, CPU)
    assert torch.equal(attention(x, x, positions, None), attention(x, x, positions, mask))
