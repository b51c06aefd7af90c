"""The main job on networks of many kinds, small forms of them, from export to activation."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeopt.core.run import RunRecord
from edgeopt.workflow.deploying import deploy
from edgeopt.workflow.request import DataRequest, Request
from support import architectures
from support.workflow import make_computer, shorten_plans

RECIPES = ("optimised", "int8-minmax", "int8-dynamic", "weights-4", "float16")
SMALL: dict[str, tuple[Callable[[], architectures.Built], set[str]]] = {
    "encoder": (functools.partial(architectures.encoder, 64, 1), {"int8-minmax", "int8-dynamic", "float16"}),
    "unet": (functools.partial(architectures.unet, 32, 8), {"int8-minmax", "float16"}),
    "two_outputs": (functools.partial(architectures.two_outputs, 32), {"int8-minmax", "float16"}),
    "two_inputs": (functools.partial(architectures.two_inputs, 32), {"int8-minmax", "float16"}),
    "vit": (functools.partial(architectures.vit, 64, 64, 2), {"int8-dynamic", "float16"}),
    "lstm": (functools.partial(architectures.lstm, 64), {"int8-dynamic", "float16"}),
    "gru": (functools.partial(architectures.gru, 64), {"float16"}),
    "efficientnet": (functools.partial(architectures.efficientnet, 64), {"float16"}),
    "sensor": (functools.partial(architectures.sensor, 16), {"int8-minmax", "float16"}),
    "table": (functools.partial(architectures.table, 64), {"int8-minmax", "int8-dynamic", "float16"}),
}
"""Each with the forms that must come out; others may."""

QUICK = ("encoder",)
"""Tried each time, with the forms that must come out alone."""


def build(name: str) -> architectures.Built:
    """What `network.py:build` of the test returns."""
    return SMALL[name][0]()


def of_name(name: str) -> Any:
    return pytest.param(name, marks=() if name in QUICK else pytest.mark.long)


def deployed(
    model: str,
    inputs: dict[str, torch.Tensor],
    folder: Path,
    patch: pytest.MonkeyPatch,
    recipes: tuple[str, ...] = RECIPES,
) -> RunRecord:
    """The whole job with made samples and short plans."""
    shorten_plans(patch)
    np.savez(folder / "samples.npz", **architectures.samples_of(inputs, 24))
    request = Request(
        model=model,
        data=DataRequest(source=str(folder / "samples.npz")),
        recipes=recipes,
        threads=(1,),
        effort="quick",
        launches=1,
    )
    with make_computer(folder, patch).workspace() as workspace:
        return deploy(request, workspace)


def source_of(name: str, folder: Path) -> str:
    """A user's file with the network."""
    file = folder / "network.py"
    file.write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        f"from support import architectures\n\ndef build():\n    return architectures.{call(name)}\n"
    )
    return f"{file}:build"


def call(name: str) -> str:
    made = SMALL[name][0]
    assert isinstance(made, functools.partial)
    return f"{name}({', '.join(map(str, made.args))})"


@pytest.mark.parametrize("name", [of_name(name) for name in SMALL])
def test_the_main_job_takes_the_network_with_its_batch_and_keeps_its_answers(name, tmp_path, monkeypatch):
    _, inputs = build(name)
    recipes = tuple(sorted(SMALL[name][1])) if name in QUICK else RECIPES

    record = deployed(source_of(name, tmp_path), inputs, tmp_path, monkeypatch, recipes)

    signature = record.model.signature
    assert [spec.name for spec in signature.inputs] == list(inputs)
    assert all(spec.shape[0] is None for spec in (*signature.inputs, *signature.outputs))
    assert {variant.name for variant in record.variants} >= {"original", *SMALL[name][1]}, record.rejections
    assert record.selection is not None
    for assessed in record.selection.assessments:
        assert assessed.verdict != "failed", assessed.reason
    winner = record.selection.assessment(record.selection.winner or "")
    assert winner.metric is not None
    assert winner.metric > 0.99
    assert record.deployment is not None


@pytest.mark.long
@pytest.mark.parametrize("opset", [11, 12, 13])
def test_files_of_the_older_exporter_with_old_operators_are_taken(opset, tmp_path, monkeypatch):
    network, inputs = build("unet")
    path = tmp_path / "unet.onnx"
    torch.onnx.export(
        network,
        tuple(inputs.values()),
        str(path),
        input_names=list(inputs),
        opset_version=opset,
        dynamic_axes={"image": {0: "batch"}},
        dynamo=False,
    )

    record = deployed(str(path), inputs, tmp_path, monkeypatch)

    assert record.model.opset == opset
    assert {"original", "optimised", "int8-minmax"} <= {variant.name for variant in record.variants}, record.rejections
    assert record.deployment is not None


@pytest.mark.long
def test_a_saved_program_keeps_its_dynamic_batch(tmp_path, monkeypatch):
    network, inputs = build("encoder")
    several = {name: value.repeat(2, 1) for name, value in inputs.items()}
    shapes = {name: {0: torch.export.Dim("batch", min=1, max=64)} for name in inputs}
    torch.export.save(torch.export.export(network, (), several, dynamic_shapes=shapes), tmp_path / "program.pt2")

    record = deployed(str(tmp_path / "program.pt2"), inputs, tmp_path, monkeypatch)

    assert record.model.signature.inputs[0].shape == (None, 64)
    assert {"original", "int8-dynamic"} <= {variant.name for variant in record.variants}, record.rejections
    assert record.deployment is not None
