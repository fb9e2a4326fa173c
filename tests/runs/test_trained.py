"""Which checkpoints a name stands for."""

import pytest

from asr.errors import InputError
from asr.runs.trained import select


@pytest.fixture
def directory(tmp_path):
    """A function that makes checkpoints of these steps."""

    def make(*steps):
        for step in steps:
            (tmp_path / f"step-{step:08d}").mkdir()
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("steps", "last", "averaged"),
    [
        ((250, 500), 5, [500]),  # halfway through a training weights are others altogether
        ((500, 1000, 1500, 2000), 5, [2000]),
        ((800, 850, 900, 950, 1000), 5, [800, 850, 900, 950, 1000]),
        ((750, 800, 900, 1000), 5, [800, 900, 1000]),
        ((800, 850, 900, 950, 1000), 2, [950, 1000]),
        ((5,), 5, [5]),
    ],
)
def test_checkpoints_of_the_last_fifth_are_averaged(directory, steps, last, averaged):
    chosen = select(directory(*steps), "average", last)
    assert [int(path.name.removeprefix("step-")) for path in chosen] == averaged


def test_a_name_that_is_none_lists_those_there_are(directory):
    with pytest.raises(
        InputError, match="checkpoint=step-9: .*choose best, last, average, ema or one of step-00000005"
    ):
        select(directory(5), "step-9", 5)
