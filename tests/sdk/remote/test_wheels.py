"""Wheels for boards, resolved with the real pip from the configured index, and an environment made of them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeopt.core.device import DeviceFacts
from edgeopt.errors import ProvisionError, UsageError
from edgeopt.remote import wheels
from edgeopt.remote.wheels import platform_tags, resolve_wheels, wheels_for
from edgeopt_runner import environment
from support.wheels import make_wheel

PYTHON_3_11 = Path.home() / ".pyenv/versions/3.11.7/bin/python"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wheels")


@pytest.fixture(scope="module")
def x86_wheels(cache: Path) -> tuple[wheels.Wheel, ...]:
    return resolve_wheels("3.11.2", "glibc 2.36", "x86_64", ["onnxruntime"], cache)


def version_of(name: str, found: tuple[wheels.Wheel, ...]) -> str:
    return next(wheel.version for wheel in found if wheel.name == name)


def facts(machine: str, bits: int) -> DeviceFacts:
    return DeviceFacts(
        model="", machine=machine, bits=bits, cpu="", isa=(), cores_logical=4, cores_physical=4, memory_bytes=1 << 30,
        memory_available_bytes=1 << 30, disk_free_bytes=1 << 30, os="", kernel="", libc="glibc 2.36", python="3.11.2",
        governor="", power_mode="", temperature_celsius=None, boot_id="", runtimes=(), fingerprint="",
    )  # fmt: skip


def test_tags_run_from_the_boards_glibc_downwards_with_the_older_names() -> None:
    tags = platform_tags("glibc 2.19", "x86_64")
    assert tags[:4] == (
        "manylinux_2_19_x86_64",
        "manylinux_2_18_x86_64",
        "manylinux_2_17_x86_64",
        "manylinux2014_x86_64",
    )
    assert "manylinux2010_x86_64" in tags
    assert "manylinux1_x86_64" in tags
    assert tags[-1] == "linux_x86_64"
    arm = platform_tags("glibc 2.31", "aarch64")
    assert arm[0] == "manylinux_2_31_aarch64"
    assert not any("manylinux1" in tag.split("_")[0].replace("manylinux2014", "") for tag in arm)


@pytest.mark.parametrize("libc", ["musl 1.2.4", "", "glibc 3.0", "glibc 2.36; rm"])
def test_other_libcs_are_told_plainly(libc: str) -> None:
    with pytest.raises(ProvisionError, match=r"there are no wheels for that.*glibc"):
        platform_tags(libc, "x86_64")


def test_newest_runtime_of_a_current_board(x86_wheels: tuple[wheels.Wheel, ...], cache: Path) -> None:
    assert {"onnxruntime", "numpy"} <= {wheel.name for wheel in x86_wheels}
    assert int(version_of("onnxruntime", x86_wheels).split(".")[1]) >= 32
    for wheel in x86_wheels:
        assert wheel.path.parent == cache
        assert wheel.digest == hashlib.sha256(wheel.path.read_bytes()).hexdigest()


def test_older_board_gets_the_newest_that_still_has_a_wheel_for_it(cache: Path) -> None:
    found = resolve_wheels("3.8.10", "glibc 2.31", "aarch64", ["onnxruntime"], cache)
    assert version_of("onnxruntime", found) == "1.19.2"
    assert version_of("numpy", found) == "1.24.4"
    assert all("aarch64" in wheel.path.name or wheel.path.name.endswith("-none-any.whl") for wheel in found)


def test_32_bit_arm_says_what_it_has_instead(cache: Path) -> None:
    with pytest.raises(ProvisionError) as caught:
        resolve_wheels("3.11.2", "glibc 2.36", "armv7l", ["onnxruntime"], cache)
    text = str(caught.value)
    for words in ("onnxruntime", "Python 3.11.2", "glibc 2.36", "armv7l", "tflite-runtime", "ncnn"):
        assert words in text


def test_32_bit_userland_on_a_64_bit_kernel_counts_as_32_bit(cache: Path) -> None:
    with pytest.raises(ProvisionError, match="armv7l"):
        wheels_for(facts("aarch64", 32), ["onnxruntime"], cache)
    assert version_of("packaging", wheels_for(facts("aarch64", 64), ["packaging==24.0"], cache)) == "24.0"


def test_package_that_does_not_exist_is_named(cache: Path) -> None:
    with pytest.raises(ProvisionError, match=r"no wheel of packaging==0\.0\.1 for Python 3\.11\.2, glibc"):
        resolve_wheels("3.11.2", "glibc 2.36", "x86_64", ["packaging==0.0.1"], cache)


@pytest.mark.parametrize("python", ["2.7.18", "", "three"])
def test_interpreters_that_are_too_old_are_told(cache: Path, python: str) -> None:
    with pytest.raises(ProvisionError, match=r"interpreter is Python .* 3\.6 or later"):
        resolve_wheels(python, "glibc 2.36", "x86_64", ["packaging"], cache)


def test_options_are_not_taken_for_packages(cache: Path) -> None:
    with pytest.raises(UsageError, match="'--index-url=x' is not a package"):
        resolve_wheels("3.11.2", "glibc 2.36", "x86_64", ["--index-url=x"], cache)


def test_wheelhouse_serves_without_an_index(tmp_path: Path, cache: Path) -> None:
    make_wheel(tmp_path / "house", "notpublished", {"notpublished.py": b""})
    arguments = ("3.11.2", "glibc 2.36", "armv7l", ["notpublished"], cache)
    found = resolve_wheels(*arguments, wheelhouse=tmp_path / "house")
    assert [(wheel.name, wheel.version) for wheel in found] == [("notpublished", "1.0")]
    with pytest.raises(UsageError, match="is not a folder"):
        resolve_wheels(*arguments, wheelhouse=tmp_path / "nothing")


def test_unreachable_index_is_told_apart_from_a_missing_wheel(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PIP_CONFIG_FILE": "/dev/null", "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "", "PIP_RETRIES": "1", "PIP_DEFAULT_TIMEOUT": "2", "NO_PROXY": "127.0.0.1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with pytest.raises(ProvisionError, match=r"index cannot be reached.*--wheelhouse"):
        resolve_wheels("3.11.2", "glibc 2.36", "x86_64", ["packaging"], cache)


def test_deadline_ends_the_child(cache: Path) -> None:
    with pytest.raises(ProvisionError, match=r"not there after 0\.01 s"):
        resolve_wheels("3.11.2", "glibc 2.36", "x86_64", ["packaging"], cache, deadline_seconds=0.01)


def test_failures_leave_nothing_but_wheels_in_the_cache(cache: Path, x86_wheels: tuple[wheels.Wheel, ...]) -> None:
    assert {path.suffix for path in cache.iterdir()} == {".whl"}


@pytest.fixture
def board_root(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "objects").mkdir()
    yield tmp_path
    shutil.rmtree(tmp_path / "env", ignore_errors=True)


@pytest.mark.skipif(not PYTHON_3_11.exists(), reason=f"no {PYTHON_3_11}")
def test_wheels_become_an_environment_that_runs_the_runtime(
    x86_wheels: tuple[wheels.Wheel, ...], board_root: Path
) -> None:
    entries = [{"name": wheel.path.name, "sha256": wheel.digest} for wheel in x86_wheels]
    for wheel in x86_wheels:
        shutil.copy(wheel.path, board_root / "objects" / wheel.digest)
    job = {"key": "key", "wheels": entries, "system_site_packages": False}
    code = f"import sys; sys.path.insert(0, {str(Path(environment.__file__).parents[1])!r})\n"
    code += f"from edgeopt_runner import environment; print(environment.install({str(board_root)!r}, {job!r}))"
    done = subprocess.run([PYTHON_3_11, "-I", "-c", code], capture_output=True, text=True, check=True)
    expected = {"name": "onnxruntime", "version": version_of("onnxruntime", x86_wheels)}
    assert f"'runtimes': [{expected}]" in done.stdout
    python = board_root / "env/current/bin/python"
    script = "import onnxruntime, numpy, sys; print(onnxruntime.get_available_providers(), numpy.__file__)"
    printed = subprocess.run([python, "-I", "-c", script], capture_output=True, text=True, check=True).stdout
    assert "CPUExecutionProvider" in printed
    assert str(board_root) in printed


def test_resolving_imports_nothing_heavy() -> None:
    code = "import sys, edgeopt.remote.wheels; print({'numpy', 'onnx', 'pip', 'paramiko'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
