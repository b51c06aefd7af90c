"""Peaks of this process, limits of containers."""

import subprocess
import sys
from pathlib import Path

import pytest

from edgeopt_runner import memory
from edgeopt_runner.board import Board

DATA = Path(__file__).parents[1] / "data" / "probe"
MIB = 1 << 20


def files(folder, **contents):
    for path, text in contents.items():
        target = folder / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return Board(str(folder))


def in_child(script):
    source = str(Path(__file__).parents[2] / "runners")
    command = [sys.executable, "-c", "import sys; sys.path.insert(0, sys.argv[1])\n" + script, source]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()


def test_installed_and_available_memory_of_captured_boards():
    pi, vm = Board(str(DATA / "raspberry-pi-5")), Board(str(DATA / "epyc-vm"))
    assert (memory.installed_bytes(pi), memory.available_bytes(pi)) == (8255648 * 1024, 7400064 * 1024)
    assert memory.installed_bytes(vm) == 24684092 * 1024


def test_old_kernels_without_memavailable_count_free_and_cached(tmp_path):
    board = files(tmp_path, **{"/proc/meminfo": "MemTotal: 1000 kB\nMemFree: 200 kB\nCached: 300 kB\n"})
    assert memory.available_bytes(board) == 500 * 1024


@pytest.mark.parametrize(
    ("group", "limits", "expected"),
    [
        ("0::/a/b", {"/a/b/memory.max": "max", "/a/memory.max": "300000000", "/memory.max": "max"}, 300000000),
        ("0::/a/b", {"/a/b/memory.max": "200000000", "/a/memory.max": "300000000"}, 200000000),
        ("0::/", {"/memory.max": "150000000"}, 150000000),
        ("4:memory:/x\n0::/", {"/memory/x/memory.limit_in_bytes": "250000000"}, 250000000),
        ("4:cpu,memory:/gone", {"/memory/memory.limit_in_bytes": "120000000"}, 120000000),
        ("4:memory:/x", {"/memory/x/memory.limit_in_bytes": "9223372036854771712"}, 1000000 * 1024),
        ("", {}, 1000000 * 1024),
    ],
)
def test_a_containers_limit_is_the_memory_there_is(tmp_path, group, limits, expected):
    contents = {"/proc/meminfo": "MemTotal: 1000000 kB\n", "/proc/self/cgroup": group}
    contents.update({"/sys/fs/cgroup" + path: text for path, text in limits.items()})
    assert memory.installed_bytes(files(tmp_path, **contents)) == expected


def test_nothing_is_known_on_a_board_without_proc(tmp_path):
    board = Board(str(tmp_path))
    assert (memory.installed_bytes(board), memory.available_bytes(board)) == (0, None)


def test_a_peak_shows_and_a_reset_forgets_it():
    script = (
        "from edgeopt_runner import memory\n"
        "block = b'x' * (200 << 20); high = memory.peak_bytes(); del block\n"
        "done = memory.reset_peak(); print(high, memory.peak_bytes(), done)\n"
    )
    high, after, done = in_child(script)
    assert int(high) > 200 * MIB
    if done == "True":
        assert int(after) < int(high) - 150 * MIB


def test_own_share_and_swap_are_plausible():
    assert 0 < memory.proportional_bytes() <= memory.peak_bytes()
    assert memory.swapped_bytes() is not None
