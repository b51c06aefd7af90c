from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeopt.errors import PassError
from edgeopt.passes._base import PassContext
from edgeopt.passes._files import file_digest
from edgeopt.passes.adopt import Adopt, Options
from edgeopt.testing.passes import CHECKS, Case
from support.networks import mlp_onnx, small_cnn_onnx
from support.trained import trained


def adopted(options: dict[str, Any], source: Path, folder: Path) -> Path:
    Adopt(Options(**options)).apply(source, folder / "out.onnx", PassContext(work=folder))
    return folder / "out.onnx"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_conforms(check: Callable[[Case], None], tmp_path: Path) -> None:
    files = trained("residual")
    mine = shutil.copy(files.network, tmp_path / "mine.onnx")
    check(Case("adopt", files.network, files.calibration, tmp_path / "work", {"path": str(mine)}))


def test_the_file_comes_out_as_it_was(tmp_path: Path) -> None:
    source, mine = small_cnn_onnx(tmp_path / "a.onnx"), small_cnn_onnx(tmp_path / "b.onnx", seed=3)
    made = adopted({"path": str(mine), "digest": file_digest(mine)}, source, tmp_path)
    assert made.read_bytes() == mine.read_bytes()


def test_what_cannot_compete_is_refused_by_name(tmp_path: Path) -> None:
    source, other = small_cnn_onnx(tmp_path / "a.onnx"), mlp_onnx(tmp_path / "b.onnx")
    with pytest.raises(PassError, match=r"takes x and gives y; the network takes image and gives logits"):
        adopted({"path": str(other)}, source, tmp_path)
    with pytest.raises(PassError, match="changed while it was worked with"):
        adopted({"path": str(source), "digest": "0" * 64}, source, tmp_path)
    with pytest.raises(PassError, match="there is no file"):
        adopted({"path": str(tmp_path / "none.onnx")}, source, tmp_path)
    (tmp_path / "bad.onnx").write_bytes(b"no protobuf")
    with pytest.raises(PassError, match="cannot be read as ONNX"):
        adopted({"path": str(tmp_path / "bad.onnx")}, source, tmp_path)
