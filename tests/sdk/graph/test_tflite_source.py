"""A TFLite file is the original as it is: its own signature, outputs and accuracy on this computer."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from edgeopt.core.tensor import TensorSpec
from edgeopt.errors import ModelError
from edgeopt.graph.data import load_samples
from edgeopt.graph.sample_options import SampleOptions
from edgeopt.graph.source import load_model
from edgeopt.workflow.merging import merge_models
from edgeopt.workflow.request import Request
from edgeopt.workflow.splitting import list_cuts
from edgeopt_runner.protocol.samples import SampleFile
from support.keras_networks import RECORDED, digits

PICTURE, FLEX = RECORDED / "picture.tflite", RECORDED / "flex.tflite"
INT8 = Path(__file__).parents[2] / "data" / "models" / "small_int8.tflite"


def test_a_tflite_file_is_taken_as_it_is(tmp_path: Path) -> None:
    loaded = load_model(str(PICTURE), folder=tmp_path)
    assert loaded.path.read_bytes() == PICTURE.read_bytes()
    assert loaded.model.artifact.format == "tflite"
    assert loaded.model.signature.inputs == (TensorSpec("image", "float32", (None, 8, 8, 1)),)
    assert loaded.model.signature.outputs == (TensorSpec("output_0", "float32", (None, 10)),)


def test_the_users_file_in_the_work_folder_is_not_overwritten(tmp_path: Path) -> None:
    path = shutil.copy(PICTURE, tmp_path / "picture.tflite")
    assert load_model(str(path), folder=tmp_path).path != path


def test_samples_accuracy_and_reference_outputs_come_from_the_file(tmp_path: Path) -> None:
    loaded = load_model(str(PICTURE), folder=tmp_path)
    with np.load(digits(tmp_path / "digits.npz")) as data:
        np.savez(tmp_path / "samples.npz", image=data["images"][1400:], labels=data["labels"][1400:])
    samples = load_samples(
        str(tmp_path / "samples.npz"),
        loaded.path,
        loaded.model.signature,
        options=SampleOptions(calibration=16, evaluation=200),
        folder=tmp_path,
    )
    assert (samples.summary.metric, samples.baseline > 0.85) == ("top1", True)
    assert next(iter(SampleFile(str(samples.golden)))).reference["output_0"].shape == (1, 10)


def test_a_file_with_a_record_shows_what_its_original_took(tmp_path: Path) -> None:
    """Integers inside and channels last, but users feed what they fed the original."""
    signature = load_model(str(INT8), folder=tmp_path).model.signature
    assert {spec.dtype for spec in (*signature.inputs, *signature.outputs)} == {"float32"}


def test_operators_of_tensorflow_itself_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"flex.tflite needs operators of TensorFlow itself \(FlexMatrixInverse\)"):
        load_model(str(FLEX), folder=tmp_path)


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.tflite"
    path.write_bytes(PICTURE.read_bytes()[:2000])
    with pytest.raises(ModelError):
        load_model(str(path), folder=tmp_path)


def test_sizes_cannot_be_set(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"--input image does not go with .*picture.tflite"):
        load_model(str(PICTURE), folder=tmp_path, input_shapes={"image": (1, 8, 8, 1)})


def test_what_works_on_the_graph_says_that_it_cannot(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"splitting works on ONNX, and .*picture.tflite is a TFLite file"):
        list_cuts(Request(model=str(PICTURE)))
    with pytest.raises(ModelError, match=r"merging works on ONNX"):
        merge_models([str(PICTURE), str(PICTURE)], tmp_path / "merged.onnx")
