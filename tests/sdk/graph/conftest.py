from __future__ import annotations

from pathlib import Path

import pytest

from support.networks import small_cnn_onnx


@pytest.fixture
def cnn(tmp_path: Path) -> Path:
    return small_cnn_onnx(tmp_path / "cnn.onnx")
