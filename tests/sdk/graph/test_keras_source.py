"""Keras and TensorFlow networks become ONNX in the environment that users get; made once for all tests of a computer.

Making it takes minutes, hence `long`; what needs no TensorFlow is tested on recorded files.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime import InferenceSession

from edgeopt.child import run_child
from edgeopt.environments import interpreter
from edgeopt.errors import EdgeoptError, ModelError
from edgeopt.graph.source import LoadedModel, load_model
from edgeopt.graph.source_kind import kind_of
from edgeopt.graph.tensorflow_source import TOOLS
from edgeopt.graph.torch_import import import_onnx
from support import keras_networks
from support.keras_networks import RECORDED

needs_tensorflow = [pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.fixture(scope="session")
def kept() -> Path:
    """Where environments are kept, for `EDGEOPT_ENVIRONMENTS`."""
    return Path(
        os.environ.get("EDGEOPT_ENVIRONMENTS", Path(tempfile.gettempdir(), f"edgeopt-environments-{os.getuid()}"))
    )


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keras_networks.digits(tmp_path_factory.mktemp("digits") / "digits.npz")


@pytest.fixture(scope="session")
def made(kept: Path, samples: Path) -> Path:
    """The networks, trained once for each form of the file that trains them."""
    digest = hashlib.sha256(Path(keras_networks.__file__).read_bytes()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir(), f"edgeopt-keras-networks-{os.getuid()}-{digest}")
    if folder.exists():
        return folder
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(dir=folder.parent) as work:
        patch.setenv("EDGEOPT_ENVIRONMENTS", str(kept))
        whole = Path(work, "whole")
        whole.mkdir()
        run_child(
            "support.keras_networks:make",
            {"folder": str(whole), "digits": str(samples)},
            deadline_seconds=900,
            what="training Keras networks",
            python=interpreter(TOOLS),
        )
        whole.rename(folder)
    return folder


@pytest.fixture
def here(made: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEOPT_ENVIRONMENTS", str(kept))
    monkeypatch.chdir(made)
    return made


def taken(source: str, folder: Path, **options: object) -> LoadedModel:
    return load_model(source, folder=folder, **options)  # type: ignore[arg-type]


def top1(path: Path, samples: Path, *, shape: tuple[int, ...]) -> float:
    """On the digits that nothing was trained on, all in one batch."""
    with np.load(samples) as data:
        images, labels = (data[name][keras_networks.TRAINING :] for name in ("images", "labels"))
    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: images.reshape(-1, *shape)})[0]
    return float((outputs.argmax(1) == labels).mean())


def operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


def shown(loaded: LoadedModel) -> str:
    signature = loaded.model.signature
    return "; ".join(str(spec) for spec in (*signature.inputs, *signature.outputs))


class TestWithTensorflow:
    pytestmark = needs_tensorflow

    def test_a_keras_file_keeps_names_batch_layout_and_accuracy(
        self, here: Path, samples: Path, tmp_path: Path
    ) -> None:
        loaded = taken("picture.keras", tmp_path)
        assert shown(loaded) == "image: float32[?,8,8,1]; digit: float32[?,10]"
        assert top1(loaded.path, samples, shape=(8, 8, 1)) > 0.85
        assert (loaded.model.name, loaded.model.opset, loaded.model.artifact.format) == ("picture", 18, "onnx")
        assert loaded.model.exporter.startswith("tf2onnx ")
        assert "doc_string" not in str(onnx.load(loaded.path))

    def test_the_same_file_gives_the_same_bytes(self, here: Path, tmp_path: Path) -> None:
        digests = set()
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            digests.add(taken("picture.keras", tmp_path / name).model.artifact.digest)
        assert len(digests) == 1

    def test_recurrent_layers_stay_whole_or_are_written_out(self, here: Path, samples: Path, tmp_path: Path) -> None:
        loaded = taken("rows.keras", tmp_path)
        assert shown(loaded) == "rows: float32[?,8,8]; digit: float32[?,10]; state: float32[?,16]"
        assert top1(loaded.path, samples, shape=(8, 8)) > 0.85
        assert "LSTM" in operators(loaded.path)
        assert "Loop" not in operators(loaded.path)
        assert "forward_gru" in " ".join(loaded.model.notes)
        import_onnx(loaded.path)

    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            ("picture.h5", "image: float32[?,8,8,1]; digit: float32[?,10]"),
            ("saved", "image: float32[?,8,8,1]; output_0: float32[?,10]"),
            ("two:scale", "factor: int32[?]; x: float32[?,2]; score: float32[?,2]; total: float32[?]"),
            ("nets.py:build(width=5)", "image: float32[?,8,8,1]; score: float32[?,5]"),
            ("nets.py:load", "image: float32[?,8,8,1]; score: float32[?,4]"),
        ],
    )
    def test_other_sources_keep_their_names(self, here: Path, tmp_path: Path, source: str, expected: str) -> None:
        assert shown(taken(source, tmp_path)) == expected

    def test_a_subclass_gets_its_inputs_from_the_user(self, here: Path, tmp_path: Path) -> None:
        loaded = taken("nets.py:subclass", tmp_path, input_shapes={"x": (1, 6)})
        assert shown(loaded) == "x: float32[?,6]; double: float32[?,3]; single: float32[?,3]"

    @pytest.mark.parametrize(
        ("source", "says", "remedy"),
        [
            ("custom.keras", "Twice", "nets.py:load"),
            ("two", "2 signatures (classify, scale)", "two:classify"),
            ("two:sort", "no signature 'sort'", "classify, scale"),
            ("none", "without signatures", "signatures=function"),
            ("nets.py:subclass", "does not say what it takes", "--input x="),
            ("nets.py:inverting", "MatrixInverse", "leave it out"),
            ("nets.py:number", "returned 3 (int), not a keras.Model", "example_inputs"),
            ("nets.py:dependent", "needs sklearn", "pip install tensorflow tf2onnx"),
        ],
    )
    def test_what_cannot_be_taken_says_why_and_what_to_do(
        self, here: Path, tmp_path: Path, source: str, says: str, remedy: str
    ) -> None:
        with pytest.raises(ModelError) as caught:
            taken(source, tmp_path)
        assert says in caught.value.message
        assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("import torch\n", "torch"),
        ("import numpy\n", "torch"),
        ("from keras import layers\n", "tensorflow"),
        ("def build():\n    import tensorflow as tf\n", "tensorflow"),
        ("import layers_of_ours\n", "tensorflow"),
        ("import torch, keras\n", "torch"),
    ],
)
def test_a_function_is_taken_by_what_its_file_imports(tmp_path: Path, text: str, kind: str) -> None:
    (tmp_path / "layers_of_ours.py").write_text("import keras\nimport nets\n")
    (tmp_path / "nets.py").write_text(text)
    assert kind_of(f"{tmp_path}/nets.py:build") == kind


def test_a_folder_with_a_colon_is_a_saved_model_with_a_signature(tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    assert kind_of(f"{tmp_path}/saved:serve") == "torch"
    (tmp_path / "saved" / "saved_model.pb").touch()
    assert kind_of(f"{tmp_path}/saved:serve") == "tensorflow"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.keras", b"", "is empty"),
        ("a.keras", b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        ("a.keras", b"PK\x03\x04 cut short", "is not a Keras file"),
        ("a.h5", b"\x89HDF\r\n\x1a\n weights", "holds weights alone"),
        ("a.h5", b"something else", "is not an HDF5 file"),
        ("a.tflite", b"\x1c\x00\x00\x00ONNX....", "is not a TFLite file"),
        ("a.pb", b"", "Give the folder of a SavedModel"),
    ],
)
def test_a_file_that_is_not_what_its_suffix_says_is_refused_before_an_environment_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, says: str
) -> None:
    monkeypatch.setenv("EDGEOPT_ENVIRONMENTS", str(tmp_path / "environments"))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=says):
        taken(str(tmp_path / name), tmp_path)
    assert not (tmp_path / "environments").exists()


def test_a_folder_that_is_no_saved_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is a folder without saved_model.pb"):
        taken(str(tmp_path), tmp_path)


def test_without_network_the_environment_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if TOOLS.needed and _has_tensorflow():
        pytest.skip("TensorFlow is installed beside edgeopt")
    (tmp_path / "wheels").mkdir()
    monkeypatch.setenv("EDGEOPT_WHEELHOUSE", str(tmp_path / "wheels"))
    monkeypatch.setenv("EDGEOPT_ENVIRONMENTS", str(tmp_path / "environments"))
    (tmp_path / "nets.py").write_text("import keras\ndef build(): pass\n")
    with pytest.raises(EdgeoptError, match=r"the environment 'tensorflow' cannot be made") as caught:
        taken(f"{tmp_path}/nets.py:build", tmp_path)
    assert "EDGEOPT_WHEELHOUSE" in caught.value.remedy


def _has_tensorflow() -> bool:
    import importlib.util

    return importlib.util.find_spec("tensorflow") is not None


def test_an_exported_network_can_be_trained_further_in_torch(samples: Path) -> None:
    network = import_onnx(RECORDED / "picture.onnx")
    kinds = [type(module).__name__ for module in network.modules()]
    assert (kinds.count("Conv2d"), kinds.count("Linear")) == (4, 1)
    assert top1(RECORDED / "picture.onnx", samples, shape=(8, 8, 1)) > 0.85
