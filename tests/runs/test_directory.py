"""What a run's directory logs, and that a resumed run leaves one clean history."""

import json
import logging
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from asr.runs.directory import RunDirectory


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path / "exp" / "run")
    yield run
    run.close()
    for handler in logging.getLogger("asr").handlers[:]:
        logging.getLogger("asr").removeHandler(handler)
        handler.close()


def lines(run):
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def write(run, *steps):
    for step in steps:
        run.write_metrics(step, {"loss": step / 8}, "train")


def test_metrics_are_lines_of_json_and_curves(run):
    run.open_logs(0)
    run.write_metrics(3, {"loss": 0.1, "wer": 50.0}, "validation")
    run.close()
    assert lines(run) == [{"step": 3, "validation/loss": 0.1, "validation/wer": 50.0}]
    curves = EventAccumulator(str(run.tensorboard)).Reload()
    [point] = curves.Scalars("1 overview/validation wer")
    assert (point.step, point.value) == (3, 50.0)


@pytest.mark.parametrize("torn", [b"", b'{"step": 5, "train/lo', b'{"step": 1', b"\xff\xfe", b"5", b"[1]", b"{}"])
def test_metrics_after_the_resumed_step_and_a_torn_last_line_are_dropped(run, torn):
    run.open_logs(0)
    write(run, 1, 2, 3, 4)
    run.close()
    with run.metrics.open("ab") as file:
        file.write(torn)
    run.open_logs(2)
    assert [line["step"] for line in lines(run)] == [1, 2]
    write(run, 3)
    assert [line["step"] for line in lines(run)] == [1, 2, 3]
    assert run.metrics.read_bytes().endswith(b"\n")


def test_curves_after_the_resumed_step_are_dropped(run):
    run.open_logs(0)
    write(run, 1, 2, 3, 4)
    run.close()
    time.sleep(1.1)  # TensorBoard reads files by name: the second, then a counter that sorts 100 before 99
    run.open_logs(2)
    run.write_metrics(3, {"loss": 9.0}, "train")
    run.close()
    points = EventAccumulator(str(run.tensorboard)).Reload().Scalars("1 overview/train loss")
    assert [(point.step, point.value) for point in points] == [(1, 0.125), (2, 0.25), (3, 9.0)]


def test_a_fresh_start_drops_everything_logged_before(run):
    run.open_logs(0)
    write(run, 1, 2)
    run.open_logs(0)
    assert lines(run) == []


def test_the_logger_writes_to_the_console_and_to_the_file(run, capsys):
    logger = run.open_logs(0)
    logger.info("step %d", 7)
    assert capsys.readouterr().err == "step 7\n"
    assert run.log.read_text().endswith("INFO step 7\n")


def test_the_file_has_what_the_console_shows_in_another_way(run, capsys):
    run.open_logs(0).debug("step 7")
    assert capsys.readouterr().err == ""
    assert run.log.read_text().endswith("DEBUG step 7\n")


def test_opening_the_logs_again_goes_on_in_the_same_file_without_doubling(run, capsys):
    run.open_logs(0).info("before")
    run.open_logs(0).warning("after")
    assert capsys.readouterr().err == "before\nafter\n"
    assert [line.split(maxsplit=2)[2] for line in run.log.read_text().splitlines()] == ["INFO before", "WARNING after"]
