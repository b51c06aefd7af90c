"""The TensorRT engine's logic against stand-ins of the package, in the versions of JetPack 4 to 7, and of CUDA.

It shows that the right calls are made for each version, not that TensorRT answers as documented: that takes a GPU.
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeopt.testing.engines import ENGINE_CHECKS, EngineCase
from edgeopt_runner.engines import LoadFailed, RunFailed, _cuda, engine

STAND_INS = Path(__file__).parents[2] / "support" / "stand_ins"
VERSIONS = ["8.2.1", "8.5.2", "10.3.0", "11.4.0"]


@pytest.fixture(scope="session")
def cudart(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here, which the stand-in of CUDA's runtime needs")
    library = tmp_path_factory.mktemp("cudart") / "libcudart.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, STAND_INS / "cudart.c"], check=True)
    return str(library)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, cudart: str):
    """A function that "installs" a version."""

    def install(version: str):
        monkeypatch.setenv("STAND_IN_TENSORRT", version)
        monkeypatch.syspath_prepend(str(STAND_INS))
        monkeypatch.setattr(_cuda, "LIBRARIES", [cudart])
        sys.modules.pop("tensorrt", None)
        importlib.invalidate_caches()
        return engine("tensorrt")

    yield install
    sys.modules.pop("tensorrt", None)


def model(path: Path, **spec: object) -> Path:
    document = {"inputs": {"x": [-1, 3]}, "outputs": {"y": [-1, 3]}, **spec}
    path.write_bytes(b"\x08\x07" + json.dumps(document).encode())
    return path


def built(path: Path) -> dict:
    (found,) = path.parent.glob(path.name + ".*.engine")
    return json.loads(found.read_bytes())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose engine is built once for all checks."""
    return model(tmp_path_factory.mktemp("conformance") / "m")


X = np.arange(3, dtype=np.float32)[None]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("check", ENGINE_CHECKS, ids=lambda check: check.__name__)
def test_conforms(check, version: str, installed, models: Path):
    check(EngineCase(installed(version), models, {"x": X}))


@pytest.mark.parametrize(("version", "typed"), [("8.2.1", False), ("8.5.2", False), ("10.3.0", True), ("11.4.0", True)])
def test_a_float_network_is_built_in_float_and_not_in_tf32(version: str, typed: bool, installed, tmp_path: Path):
    path = model(tmp_path / "m")
    session = installed(version).load(str(path), {"batch": 4})
    np.testing.assert_array_equal(session.run({"x": X})["y"], X * 2)
    assert session.placement() == {"GPU": 2}
    found = built(path)
    assert (found["flags"], found["typed"]) == ([], typed)
    assert found["profile"] == {"x": [[1, 3], [4, 3], [4, 3]]}
    assert found["workspace"] >= 1 << 26


@pytest.mark.parametrize(
    ("version", "flags"), [("8.2.1", ["INT8"]), ("8.5.2", ["INT8"]), ("10.3.0", []), ("11.4.0", [])]
)
def test_a_network_with_qdq_gets_the_flag_where_types_are_not_those_of_the_file(
    version: str, flags: list, installed, tmp_path: Path
):
    path = model(tmp_path / "m", quantised=True)
    installed(version).load(str(path), {})
    assert built(path)["flags"] == flags


def test_a_network_in_half_gets_its_flag_in_older_versions(installed, tmp_path: Path):
    path = model(tmp_path / "m", half=True)
    installed("8.5.2").load(str(path), {})
    assert built(path)["flags"] == ["FP16"]


@pytest.mark.parametrize(
    ("version", "precision", "flags"),
    [("8.5.2", "float16", ["FP16", "TF32"]), ("10.3.0", "bfloat16", ["BF16", "TF32"]), ("10.3.0", "tf32", ["TF32"])],
)
def test_a_precision_is_asked_for_by_its_flag(version: str, precision: str, flags: list, installed, tmp_path: Path):
    path = model(tmp_path / "m")
    installed(version).load(str(path), {"precision": precision})
    assert built(path)["flags"] == flags


@pytest.mark.parametrize(("version", "precision"), [("11.4.0", "float16"), ("8.5.2", "bfloat16")])
def test_a_precision_that_the_version_lacks_is_refused(version: str, precision: str, installed, tmp_path: Path):
    with pytest.raises(LoadFailed, match=f"TensorRT {version} takes no precision {precision}.*cast_half"):
        installed(version).load(str(model(tmp_path / "m")), {"precision": precision})


def test_a_dla_takes_half_and_leaves_the_rest_to_the_gpu(installed, tmp_path: Path):
    path, found = model(tmp_path / "m"), installed("10.3.0")
    with pytest.raises(LoadFailed, match="dla1 computes in float16"):
        found.load(str(path), {"provider": "dla1"})
    session = found.load(str(path), {"provider": "dla1", "precision": "float16"})
    assert (built(path)["dla"], built(path)["flags"]) == (1, ["FP16", "GPU_FALLBACK", "TF32"])
    assert session.placement() == {"GPU": 1, "DLA": 1}


def test_an_engine_is_built_once_and_again_after_an_upgrade_or_for_other_settings(installed, tmp_path: Path):
    path = model(tmp_path / "m")

    def engines() -> dict[str, int]:
        return {one.name: one.stat().st_ino for one in tmp_path.glob("*.engine")}

    installed("10.3.0").load(str(path), {})
    first = engines()
    installed("10.3.0").load(str(path), {})
    assert engines() == first
    installed("10.3.0").load(str(path), {"batch": 8})
    assert len(engines()) == 2
    installed("11.4.0").load(str(path), {})
    assert len(engines()) == 3
    timings = sorted(one.read_bytes() for one in tmp_path.glob("*.timing"))
    assert timings == [b"timed ", b"timed timed "]  # one a version; the second build began with the first's


def test_a_spoilt_engine_is_built_anew(installed, tmp_path: Path):
    path = model(tmp_path / "m")
    installed("10.3.0").load(str(path), {})
    (kept,) = tmp_path.glob("*.engine")
    kept.write_bytes(b"spoilt")
    session = installed("10.3.0").load(str(path), {})
    np.testing.assert_array_equal(session.run({"x": X})["y"], X * 2)


def test_more_rows_than_the_engine_takes_go_one_after_the_other(installed, tmp_path: Path):
    session = installed("10.3.0").load(str(model(tmp_path / "m")), {"batch": 4})
    rows = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    assert session.rows == 0
    np.testing.assert_array_equal(session.run({"x": rows})["y"], rows * 2)


def test_what_tensorrt_says_of_a_model_is_passed_on(installed, tmp_path: Path):
    with pytest.raises(LoadFailed, match="No importer registered for op: Einsum9"):
        installed("10.3.0").load(str(model(tmp_path / "a", unknown="Einsum9")), {})
    with pytest.raises(LoadFailed, match=r"input x has free dimensions \[-1, -1\]"):
        installed("10.3.0").load(str(model(tmp_path / "b", inputs={"x": [-1, -1]})), {})
    with pytest.raises(LoadFailed, match="builder ended with SIGABRT"):
        installed("10.3.0").load(str(model(tmp_path / "c", ends=True)), {})


def test_cudas_errors_name_the_call(installed, tmp_path: Path):
    session = installed("10.3.0").load(
        str(model(tmp_path / "m", inputs={"x": [1, 3]}, outputs={"y": [1, 1 << 29]})), {}
    )
    with pytest.raises(RunFailed, match="cudaMalloc failed with code 2: out of memory"):
        session.run({"x": X})
    assert _cuda.Cuda().device() == "sm87-16"


def test_without_cuda_tensorrt_is_absent(installed, monkeypatch: pytest.MonkeyPatch):
    found = installed("10.3.0")
    assert found.available() == {"version": "10.3.0", "providers": ["gpu"]}
    monkeypatch.setattr(_cuda, "LIBRARIES", ["libno-such-cudart.so"])
    assert found.available() is None
