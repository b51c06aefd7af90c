"""The public names of `import edgeopt`, and what importing it and the quick commands must not load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import edgeopt
from support.networks import mlp_onnx

HEAVY = {"torch", "onnx", "onnxruntime", "paramiko", "numpy", "sqlalchemy"}
_RUN = """
import json, sys
from edgeopt.cli.main import main
try:
    main({words!r})
except SystemExit as end:
    assert not end.code, end.code
sys.stderr.write(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}} | set(sys.modules))))
"""


def _modules_after(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr))


def test_importing_edgeopt_loads_no_other_package() -> None:
    code = "import sys, json, edgeopt; sys.stderr.write(json.dumps(sorted(sys.modules)))"
    assert not _modules_after(code) & {*HEAVY, "pydantic", "rich", "typer", "yaml"}


def test_help_loads_neither_heavy_libraries_nor_the_checker_of_documents() -> None:
    assert not _modules_after(_RUN.format(words=["--help"])) & {*HEAVY, "pydantic", "rich", "yaml"}


def test_listing_profiles_loads_no_heavy_library_and_no_tables() -> None:
    loaded = _modules_after(_RUN.format(words=["profiles"]))
    assert "edgeopt_targets.profile_files" in loaded
    assert not loaded & {*HEAVY, "rich", "edgeopt.report", "edgeopt.core.selection"}


@pytest.mark.parametrize("name", sorted(edgeopt._PUBLIC))
def test_every_public_name_loads_and_is_listed(name: str) -> None:
    assert getattr(edgeopt, name).__module__.startswith("edgeopt.")
    assert name in dir(edgeopt)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'depoly'"):
        _ = edgeopt.depoly


def test_the_python_interface_makes_variants_and_refuses_like_the_command_line(tmp_path: Path) -> None:
    network = mlp_onnx(tmp_path / "net.onnx")
    with edgeopt.Workspace.open() as workspace:
        made = edgeopt.optimize(
            tmp_path / "out", edgeopt.Request(model=str(network), recipes=("optimised",)), workspace
        )
        with pytest.raises(edgeopt.EdgeoptError, match="there is no file"):
            edgeopt.deploy(edgeopt.Request(model=str(tmp_path / "absent.onnx")), workspace)
    assert [variant.name for variant in made.variants] == ["original", "optimised"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["optimised.onnx", "original.onnx"]
