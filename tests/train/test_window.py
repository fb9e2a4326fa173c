"""Means of what was summed up between two lines of the log."""

import math

from asr.train import window


def test_means_are_over_the_steps_that_were_taken():
    sums: dict[str, float] = {}
    window.add(sums, {"loss": 3.0, "nodes": 10, "steps": 1})
    window.add(sums, {"loss": 1.0, "nodes": 30, "steps": 1})
    window.add(sums, {"audio": 60.0, "waited": 1.0, "seconds": 4.0, "cpu_seconds": 3.0})
    clock = {"audio_seconds_per_second": 15.0, "waiting_share": 0.25, "step_seconds": 2.0, "step_cpu_seconds": 1.5}
    assert clock.keys() < {*window.UNREPEATABLE}
    assert window.means(sums) == {"loss": 2.0, "nodes": 20, "skipped": 0, **clock}


def test_there_is_no_loss_where_no_step_was_taken():
    assert math.isnan(window.means({"audio": 1.0, "waited": 0.0, "seconds": 1.0})["loss"])


def test_counts_are_not_averaged():
    window_of_three = {"steps": 3, "seconds": 1.0, "audio": 1.0, "waited": 0.0, "loss": 6.0, "skipped": 5}
    means = window.means(window_of_three)
    assert (means["loss"], means["skipped"]) == (2.0, 5)
