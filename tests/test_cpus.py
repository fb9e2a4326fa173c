"""How many CPUs there are for a process, by made-up control groups of either version."""

import os
import re
import subprocess
import sys

import pytest

from asr import cpus

OPENMP = "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that makes a machine of 64 CPUs, of which affinity leaves some, with files of control groups."""

    def make(own, files=(), affinity=64):
        (tmp_path / "own").write_text(own)
        for name, text in dict(files).items():
            (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "groups" / name).write_text(text)
        monkeypatch.setattr(cpus, "_OWN", tmp_path / "own")
        monkeypatch.setattr(cpus, "_GROUPS", tmp_path / "groups")
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: 64)

    return make


def v1(quota, folder=""):
    return {f"cpu/{folder}cpu.cfs_quota_us": f"{quota}\n", f"cpu/{folder}cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(
    ("own", "files", "affinity", "expected"),
    [
        ("0::/\n", {}, 64, 64),
        ("0::/\n", {}, 3, 3),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 64, 64),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 64, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 64, 2),
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 64, 1),
        ("0::/\n", {"cpu.max": "800000 100000\n"}, 4, 4),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 64, 3),
        ("0::/of/the/host\n", {"cpu.max": "500000 100000\n"}, 64, 5),
        ("3:cpu,cpuacct:/job\n0::/\n", v1(400000, "job/"), 64, 4),
        ("3:cpuset:/\n1:cpu:/docker/x\n", v1(200000), 64, 2),
        ("1:cpu:/\n", v1(-1), 64, 64),
        ("garbled", {}, 64, 64),
    ],
)
def test_cpus_that_affinity_and_quotas_leave(machine, own, files, affinity, expected):
    machine(own, files, affinity)
    assert cpus.available_cpus() == expected


def test_a_machine_without_affinity_or_control_groups_has_all_its_cpus(machine, monkeypatch, tmp_path):
    machine("0::/\n")
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(cpus, "_OWN", tmp_path / "none")
    assert cpus.available_cpus() == 64


@pytest.fixture
def environment(monkeypatch):
    """None of what OpenMP reads is set, in a process that has not loaded torch."""
    for name in OPENMP:
        monkeypatch.setenv(name, "")  # to have it put back, or away, in the end
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "torch", raising=False)


@pytest.mark.parametrize(
    ("quota", "given", "loaded", "expected"),
    [
        ("200000", {}, False, {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "20000"}),
        ("max", {}, False, {"GOMP_SPINCOUNT": "20000"}),
        ("200000", {"OMP_NUM_THREADS": "7"}, False, {"OMP_NUM_THREADS": "7", "GOMP_SPINCOUNT": "20000"}),
        ("max", {"OMP_WAIT_POLICY": "active"}, False, {"OMP_WAIT_POLICY": "active"}),
        ("max", {"GOMP_SPINCOUNT": "9"}, False, {"GOMP_SPINCOUNT": "9"}),
        ("max", {"KMP_BLOCKTIME": "0"}, False, {"KMP_BLOCKTIME": "0"}),
        ("200000", {}, True, {}),
    ],
)
def test_threads_fit_a_quota_and_spin_briefly_unless_something_is_said_or_torch_is_there(
    machine, environment, monkeypatch, quota, given, loaded, expected
):
    machine("0::/\n", {"cpu.max": f"{quota} 100000\n"})
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    if loaded:
        monkeypatch.setitem(sys.modules, "torch", None)
    cpus.prepare_threads()
    assert {name: os.environ[name] for name in OPENMP if name in os.environ} == expected


def test_how_threads_wait_is_told(environment, monkeypatch):
    assert cpus.told_waiting() == "spinning"
    monkeypatch.setenv("GOMP_SPINCOUNT", "20000")
    assert cpus.told_waiting() == "asleep after a moment"
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert cpus.told_waiting() == "as GOMP_SPINCOUNT=20000 OMP_WAIT_POLICY=passive says"


def test_torch_and_numba_take_it_from_the_package():
    """OpenMP prints what it goes by when it is loaded: torch's own, and the one that numba finds."""
    kept = {name: value for name, value in os.environ.items() if name not in OPENMP}
    done = subprocess.run(
        [sys.executable, "-c", "import asr, torch, numba.np.ufunc.omppool"],
        env={**kept, "OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(re.findall("GOMP_SPINCOUNT = '(.*)'", done.stderr)) == {"20000"}


@pytest.mark.parametrize(
    ("on_gpu", "processes", "affinity", "expected"),
    [
        (True, 1, 64, 8),
        (True, 8, 64, 7),
        (True, 1, 4, 3),
        (True, 2, 1, 1),
        (False, 1, 64, 2),
        (False, 1, 1, 1),
        (False, 4, 2, 1),
    ],
)
def test_data_workers_are_those_that_the_cpus_have_room_for(machine, on_gpu, processes, affinity, expected):
    machine("0::/\n", affinity=affinity)
    assert cpus.data_workers(on_gpu, processes) == expected
