"""The main job on a TFLite file: the runtimes that read it compete, and passes are told off by rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeopt.core.budget import Budget
from edgeopt.errors import RunnerError
from edgeopt.workflow.benching import bench
from edgeopt.workflow.deploying import deploy
from edgeopt.workflow.preparing import look_at
from edgeopt.workflow.request import DataRequest, Request
from edgeopt.workflow.workspace import Workspace
from support.keras_networks import RECORDED, digits
from support.workflow import SHORT, Computer

PICTURE = RECORDED / "picture.tflite"


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    with np.load(digits(tmp_path / "digits.npz")) as data:
        np.savez(tmp_path / "samples.npz", image=data["images"][1400:], labels=data["labels"][1400:])
    return Request(
        model=str(PICTURE),
        data=DataRequest(source=str(tmp_path / "samples.npz"), evaluation_samples=100, calibration_samples=16),
        budget=Budget(max_drop=0.05),
        recipes=("optimised", "int8-minmax"),
        runtimes=("onnxruntime", "litert"),
        threads=(1,),
        effort="quick",
        launches=1,
    )


def test_it_is_deployed_as_it_is_on_what_reads_it(computer: Computer, workspace: Workspace, request_: Request) -> None:
    record = deploy(request_, workspace)
    assert record.selection is not None
    assert record.selection.winner is not None
    best = record.selection.assessment(record.selection.winner).candidate
    assert {one.candidate.settings.runtime for one in record.selection.assessments} == {"litert"}
    assert best.variant.artifact == record.model.artifact
    assert best.variant.artifact.format == "tflite"
    assert best.measurements[0].accuracy is not None
    assert best.measurements[0].accuracy.value == pytest.approx(best.variant.metric, abs=1e-6)
    assert [(one.name, one.stage) for one in record.rejections] == [("optimised", "rule"), ("int8-minmax", "rule")]
    assert all("picture" in str(record.model.name) and "taken as it is" in one.reason for one in record.rejections)
    assert record.deployment is not None
    assert (workspace.run_folder(record.run_id) / "best.tflite").read_bytes() == PICTURE.read_bytes()
    assert (
        "opset" not in (workspace.run_folder(record.run_id) / "report.html").read_text().partition("digest")[0][-800:]
    )


def test_bench_measures_it_with_what_reads_it(computer: Computer, workspace: Workspace, request_: Request) -> None:
    measurements = bench(request_, SHORT, workspace)
    assert [(one.status, one.settings.runtime) for one in measurements] == [("ok", "litert")]


def test_bench_measures_anew_every_time(computer: Computer, workspace: Workspace, request_: Request) -> None:
    first, second = (bench(request_, SHORT, workspace)[0].latency for _ in range(2))
    assert first is not None
    assert first != second


def test_where_nothing_reads_it_one_sentence_says_so(
    computer: Computer, workspace: Workspace, request_: Request
) -> None:
    from dataclasses import replace

    alone = replace(request_, runtimes=("onnxruntime",))
    for job in (lambda: bench(alone, SHORT, workspace), lambda: deploy(alone, workspace)):
        with pytest.raises(RunnerError, match=r"no runtime that may be used on local runs this .tflite file"):
            job()


def test_a_look_tells_its_signature() -> None:
    model = look_at(str(PICTURE), {})
    assert [str(spec) for spec in model.signature.inputs] == ["image: float32[?,8,8,1]"]
