"""Of recipes that differ in calibration alone and miss the budget, one is recovered; the others are told why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgeopt
from support.networks import small_cnn_onnx

FAMILY = ("int8-minmax", "int8-entropy", "int8-percentile")


@pytest.fixture
def request_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    model = tmp_path / "model.onnx"
    small_cnn_onnx(model)
    images = np.random.default_rng(0).standard_normal((60, 1, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", image=images)

    def build(max_drop: float) -> edgeopt.Request:
        data = edgeopt.DataRequest(source=str(tmp_path / "samples.npz"))
        budget = edgeopt.Budget(max_drop=max_drop)
        return edgeopt.Request(str(model), data=data, budget=budget, profile="x86-avx2", recipes=FAMILY)

    return build


def test_a_pool_of_processes_makes_the_same_files_under_the_same_names(request_of, tmp_path):
    request = replace(request_of(0.05), recipes=("int8-minmax", "optimised"))
    here = made(request, tmp_path / "here")
    with edgeopt.Workspace.open(tmp_path / "another") as workspace:
        there = edgeopt.optimize(tmp_path / "pool", replace(request, executor="pool:2"), workspace)
    assert [(one.name, one.artifact, one.metric) for one in there.variants] == [
        (one.name, one.artifact, one.metric) for one in here.variants
    ]
    assert there.rejections == here.rejections


def made(request: edgeopt.Request, folder: Path):
    with edgeopt.Workspace.open() as workspace:
        return edgeopt.optimize(folder, request, workspace)


def test_the_best_of_a_family_that_misses_the_budget_is_recovered_and_the_others_name_it(request_of, tmp_path):
    found = made(request_of(1e-7), tmp_path / "out")
    recovered = [variant for variant in found.variants if variant.name in FAMILY]
    assert len(recovered) <= 1
    told = {rejection.name: rejection.reason for rejection in found.rejections}
    assert sum("differs in calibration alone" in reason for reason in told.values()) == 2
    assert sum(layer.share for layer in found.layers if layer.share) == pytest.approx(1.0)
    for variant in recovered:
        assert set(variant.kept_float) <= {layer.name for layer in found.layers}
        assert variant.kept_float
        assert "float" in " ".join(variant.notes)


def test_within_the_budget_nothing_is_given_back_to_float(request_of, tmp_path):
    found = made(request_of(0.05), tmp_path / "out")
    kept = [variant.kept_float for variant in found.variants if variant.name in FAMILY]
    assert kept == [()]
    assert found.layers == ()  # nothing had to be ranked
    assert all("the same" in rejection.reason for rejection in found.rejections)  # layers, or even file
