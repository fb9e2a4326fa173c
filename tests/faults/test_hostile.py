"""Files that somebody prepared: the short form of scripts/torture/hostile.py, in this process."""

import pytest
from conftest import torture

hostile = torture("hostile")

SLOW = {  # which the script does
    "manifest: gigabytes in a line",
    "shar: gigabytes that are compressed",
    "package: weights of gigabytes",
    "corpus: an id that leads outside",
    "config directory: a launcher in a group",
    "config directory: a launcher",
    "config directory: a sweeper",
    "config directory: _target_",
    "config: directions for Hydra",
    "config: the environment, in a path",
    "config: another model than its weights",
    "transcripts: one that clears the screen is trained on",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return hostile.make_base(tmp_path_factory.mktemp("hostile"))


@pytest.mark.parametrize("name", [name for name in hostile.CASES if name not in SLOW])
def test_it_is_refused_in_one_line_and_nothing_is_run_or_read_or_written_elsewhere(base, name):
    assert hostile.faults_of(name, base) == []


def test_what_is_sound_is_not_refused(base, tmp_path):
    world = hostile.World(tmp_path, tmp_path / "outside", base)
    for read in (
        lambda: hostile.opened(world, *world.rows()),
        lambda: hostile.loaded(world.run()),
        lambda: hostile.loaded(base / "package"),
        lambda: hostile.repacked(world, lambda files: None),
    ):
        with pytest.raises(hostile.NotRefused, match="was (read|loaded)"):
            read()
