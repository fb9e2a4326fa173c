"""SpecAugment masks no more than it may, and everything random follows from its key."""

import pytest
import torch

from asr.config import SpecAugmentOptions
from asr.data.augment import draw_band, draw_speed, keyed_random, seed_torch, spec_augment, time_mask_count

FRAMES, BINS = 700, 80
TIME_ONLY = SpecAugmentOptions(
    time_masks=3, time_mask_frames=25, time_mask_share=1.0, frequency_masks=0, frequency_mask_bins=0
)
FREQUENCY_ONLY = SpecAugmentOptions(time_masks=0, frequency_masks=2, frequency_mask_bins=20)


def features(frames=FRAMES):
    return torch.randn(frames, BINS, generator=torch.Generator().manual_seed(1))


def masked_frames(options, seed, frames=FRAMES):
    """How many frames are wholly masked."""
    before = features(frames)
    return int((spec_augment(before, options, keyed_random(seed)) != before).all(dim=1).sum())


def test_keyed_random_is_the_same_on_every_machine():
    assert keyed_random("speed", 0, 1, "utterance").getrandbits(64) == 12428950077751743548


def test_keyed_random_depends_on_every_part_of_the_key():
    keys = [
        ("speed", 0, 1, "u"),
        ("other", 0, 1, "u"),
        ("speed", 1, 1, "u"),
        ("speed", 0, 2, "u"),
        ("speed", 0, 1, "v"),
    ]
    assert len({keyed_random(*key).random() for key in keys}) == len(keys)


def test_the_input_is_left_alone():
    before = features()
    untouched = before.clone()
    assert not torch.equal(spec_augment(before, SpecAugmentOptions(), keyed_random(0)), before)
    assert torch.equal(before, untouched)


def test_no_masks_change_nothing():
    options = SpecAugmentOptions(time_masks=0, frequency_masks=0)
    assert torch.equal(spec_augment(features(), options, keyed_random(0)), features())


def test_the_same_key_masks_the_same_and_another_key_does_not():
    first, again, other = (spec_augment(features(), SpecAugmentOptions(), keyed_random(key)) for key in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_masked_values_are_the_mean_of_the_utterance():
    before = features()
    after = spec_augment(before, SpecAugmentOptions(), keyed_random(0))
    changed = after[after != before]
    assert len(changed) > 0
    assert (changed == before.mean()).all()


def test_frequency_masks_are_bands_of_whole_bins_up_to_the_width_allowed():
    counts = []
    for seed in range(300):
        changed = spec_augment(features(50), FREQUENCY_ONLY, keyed_random(seed)) != features(50)
        assert torch.equal(changed.any(dim=0), changed.all(dim=0))
        bins = changed.any(dim=0).int()
        assert int((bins.diff(prepend=torch.zeros(1, dtype=torch.int32)) == 1).sum()) <= FREQUENCY_ONLY.frequency_masks
        counts.append(int(bins.sum()))
    most = FREQUENCY_ONLY.frequency_masks * FREQUENCY_ONLY.frequency_mask_bins
    assert max(counts) <= most
    assert max(counts) > 0.9 * most  # all that is allowed is also used
    assert abs(sum(counts) / len(counts) - 0.45 * most) < 0.08 * most  # half of it on average, less what overlaps


def test_time_masks_grow_with_the_utterance_and_stay_within_their_number_and_width():
    for frames in (100, 700):
        counts = [masked_frames(TIME_ONLY, seed, frames) for seed in range(100)]
        most = time_mask_count(TIME_ONLY.time_masks, frames) * TIME_ONLY.time_mask_frames
        assert 0.7 * most < max(counts) <= most


def test_a_time_mask_is_no_longer_than_its_share_of_the_utterance():
    options = SpecAugmentOptions(time_masks=1, time_mask_frames=1000, time_mask_share=0.2, frequency_masks=0)
    counts = [masked_frames(options, seed, 100) for seed in range(200)]
    assert max(counts) == 20


def test_number_of_time_masks():
    assert time_mask_count(2, 1000) == 2
    assert time_mask_count(2, 3000) == 6
    assert time_mask_count(2, 10) == 1
    assert time_mask_count(0, 3000) == 0


def test_bands_are_inside_and_reach_both_ends():
    rng = keyed_random("bands")
    bands = [draw_band(10, 4, rng) for _ in range(2000)]
    assert all(0 <= start <= stop <= 10 and stop - start <= 4 for start, stop in bands)
    assert {stop - start for start, stop in bands} == {0, 1, 2, 3, 4}
    assert {start for start, _ in bands} == set(range(11))


@pytest.mark.parametrize("frames", [1, 7])
def test_a_very_short_utterance_can_be_augmented(frames):
    for seed in range(50):
        assert spec_augment(features(frames), SpecAugmentOptions(), keyed_random(seed)).shape == (frames, BINS)


def test_all_speeds_are_drawn_alike():
    drawn = [draw_speed([0.9, 1.0, 1.1], keyed_random("speed", i)) for i in range(3000)]
    assert all(900 < drawn.count(factor) < 1100 for factor in (0.9, 1.0, 1.1))


def test_seed_torch_makes_dropout_depend_on_the_key_alone():
    def draw(*key):
        seed_torch(*key)
        return torch.rand(8)

    first = draw("step", 0, 5)
    assert torch.equal(draw("step", 0, 5), first)
    assert not torch.equal(draw("step", 0, 6), first)
    assert not torch.equal(draw("step", 1, 5), first)
