"""Recipes that train, of the user's own, and files of other tools, through the main job's making of variants."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeopt
from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt.core.variant import Variant
from edgeopt.errors import PassError
from edgeopt.selection.netadapt import Group, LayerTimes
from edgeopt.workflow import latency_table, layer_times
from edgeopt.workflow.measuring import Bench
from edgeopt.workflow.measuring_layers import Small
from edgeopt_runner.protocol.samples import SampleFile
from support.networks import small_cnn_onnx
from support.trained import trained
from support.workflow import SHORT, Heard

MINE = """
- name: narrow
  when: for this test
  passes:
    - {name: prune_channels, options: {macs: 0.6, round_to: 4}}
    - refit
    - {name: fine_tune, options: {epochs: 2, learning_rate: 5e-3}}
    - simplify
- name: narrow-int8
  precision: int8
  passes:
    - {name: prune_channels, options: {macs: 0.6, round_to: 4}}
    - refit
    - {name: fine_tune, options: {epochs: 2, learning_rate: 5e-3}}
    - simplify
    - {name: quantise_static}
"""


def arrays_of(samples: Path, path: Path) -> Path:
    """A sample file as users give samples: arrays by input name, and labels."""
    found = list(SampleFile(str(samples)))
    images = np.concatenate([sample.inputs["image"] for sample in found])
    np.savez(path, image=images, labels=np.concatenate([sample.label for sample in found]))
    return path


@pytest.fixture
def request_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., edgeopt.Request]:
    monkeypatch.setenv("HOME", str(tmp_path))
    files = trained("residual")
    model = shutil.copy(files.network, tmp_path / "net.onnx")
    held = str(arrays_of(files.evaluation, tmp_path / "held.npz"))
    taught = str(arrays_of(files.training, tmp_path / "train.npz"))

    def build(training: str = taught, training_samples: int = 1200, **changes: Any) -> edgeopt.Request:
        sizes: dict[str, Any] = {"calibration_samples": 32, "evaluation_samples": 300}
        data = edgeopt.DataRequest(source=held, training=training or None, training_samples=training_samples, **sizes)
        return replace(edgeopt.Request(str(model), data=data, profile="x86-avx2", threads=(1,)), **changes)

    return build


def made(request: edgeopt.Request, folder: Path, heard: Heard | None = None) -> dict[str, Variant]:
    with edgeopt.Workspace.open() as workspace:
        found = edgeopt.optimize(folder, request, workspace, listener=heard)
    return {variant.name: variant for variant in found.variants}


def test_a_file_of_recipes_prunes_trains_and_quantises_in_one_go(
    request_of: Callable[..., edgeopt.Request], tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text(MINE)
    names = ("narrow", "narrow-int8")
    request = request_of(recipe_file=str(tmp_path / "mine.yaml"), recipes=names)
    variants = made(request, tmp_path / "out")
    original, narrow, narrow8 = (variants[name] for name in ("original", *names))
    assert narrow.metric is not None
    assert original.metric is not None
    assert narrow.metric > original.metric - 0.03
    assert narrow8.artifact.size_bytes < narrow.artifact.size_bytes < original.artifact.size_bytes
    assert any("MACs" in note for note in narrow.notes)
    assert narrow.provenance.training_digest
    assert not original.provenance.training_digest


def test_other_training_samples_make_another_variant_and_the_same_ones_none(
    request_of: Callable[..., edgeopt.Request], tmp_path: Path
) -> None:
    tuned = Recipe("tuned", (PassSpec("fine_tune", {"epochs": 1}),))
    request = request_of(recipes=(tuned,), training_samples=200)
    first = made(request, tmp_path / "out")["tuned"]
    assert made(request, tmp_path / "out")["tuned"] == first
    fewer = request_of(recipes=(tuned,), training_samples=100)
    assert made(fewer, tmp_path / "out")["tuned"].provenance != first.provenance


def test_training_samples_that_are_evaluation_samples_too_are_told(
    request_of: Callable[..., edgeopt.Request], tmp_path: Path
) -> None:
    heard = Heard()
    made(request_of(recipes=("optimised",), training=str(tmp_path / "held.npz")), tmp_path / "out", heard)
    assert "training samples are evaluation samples too" in heard.text


def test_a_file_of_another_tool_competes_under_its_own_name(
    request_of: Callable[..., edgeopt.Request], tmp_path: Path
) -> None:
    theirs = made(request_of(recipes=("int8-static",), training=""), tmp_path / "out")["int8-static"]
    path = shutil.copy(tmp_path / "out" / "int8-static.onnx", tmp_path / "theirs.onnx")
    adopted = made(request_of(recipes=("optimised",), candidates=(str(path),), training=""), tmp_path / "out2")[
        "theirs"
    ]
    assert adopted.artifact.digest == theirs.artifact.digest
    assert adopted.metric == theirs.metric


def test_widths_are_solved_from_times_that_the_device_measured(
    request_of: Callable[..., edgeopt.Request], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_times, "PLAN", replace(SHORT, evaluate=False, min_seconds=0.02))
    monkeypatch.setattr(layer_times, "SHARES", (0.5,))
    measured = layer_times.least_medians

    def in_proportion_to_size(bench: Bench, networks: list[Small], *rest: Any) -> list[float]:
        """Measured indeed, but layers this small are lost in the noise of a busy machine."""
        assert all(time > 0 for time in measured(bench, networks, *rest))
        return [float(network.artifact.size_bytes) for network in networks]

    monkeypatch.setattr(layer_times, "least_medians", in_proportion_to_size)
    keep = Recipe("keep", (PassSpec("prune_channels", {"latency": 0.8, "round_to": 4}),))
    heard = Heard()
    with edgeopt.Workspace.open() as workspace:
        model = str(small_cnn_onnx(tmp_path / "small.onnx"))
        budget = edgeopt.Budget(max_drop=None)
        request = replace(request_of(recipes=(keep,), budget=budget, training=""), model=model)
        found = edgeopt.optimize(tmp_path / "out", request, workspace, listener=heard)
        before = kinds_of_jobs(tmp_path)
        halved = Recipe("halved", (PassSpec("prune_channels", {"latency": 0.7, "round_to": 4}),))
        edgeopt.optimize(tmp_path / "out", replace(request, recipes=(halved,)), workspace)
    assert before == ["layers", "layers"]  # all widths in one, and once more the other way round
    assert kinds_of_jobs(tmp_path) == before  # another budget measures nothing again
    assert "layer widths measured on the device; channels in steps of 4" in heard.text
    kept = {variant.name: variant for variant in found.variants}["keep"]
    (spec,) = kept.provenance.recipe.passes
    assert "latency" not in spec.options
    assert set(spec.options["widths"]) <= {layer.name for layer in found.layers if layer.milliseconds}
    assert all(width % 4 == 0 for width in spec.options["widths"].values())
    assert kept.artifact.size_bytes < found.variants[0].artifact.size_bytes


def kinds_of_jobs(home: Path) -> list[str]:
    """Of all jobs that the device ``local`` was given."""
    return [json.loads(path.read_text())["kind"] for path in home.glob(".edgeopt/jobs/*/job.json")]


def test_a_share_that_the_narrowest_network_misses_is_refused_with_what_it_would_take() -> None:
    groups = [Group("conv", 8, {"conv": 8}, {}, {8: 0.0, 4: 1.0})]
    times = {"conv": LayerTimes(4, 8, {4: 2.0}, {8: 2.0, 4: 1.0})}
    spec = PassSpec("prune_channels", {"latency": 0.001})
    with pytest.raises(PassError, match=r"narrow: .*the narrowest network would take 75%") as refused:
        latency_table._solve(groups, times, 4.0, spec, "narrow")
    assert refused.value.remedy == "Ask for a larger share."
    assert latency_table._solve(groups, times, 4.0, replace(spec, options={"latency": 0.8}), "narrow") == {"conv": 4}
