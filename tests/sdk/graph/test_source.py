from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edgeopt.core.tensor import TensorSpec
from edgeopt.errors import ModelError
from edgeopt.graph.inspect import inspect_onnx
from edgeopt.graph.onnx_file import prepare_onnx
from edgeopt.graph.source import load_model
from support.networks import constant, matmul_transformer_onnx, mlp_onnx, save, small_cnn_onnx, write_torch_file


def prepare(path: Path, shapes: dict[str, list[int]] | None = None) -> Path:
    destination = path.parent / "taken.onnx"
    prepare_onnx(str(path), str(destination), shapes or {})
    return destination


def test_an_onnx_file_is_taken_as_it_is(tmp_path: Path) -> None:
    path = small_cnn_onnx(tmp_path / "cnn.onnx")
    folder = tmp_path / "work"
    folder.mkdir()
    loaded = load_model(str(path), folder=folder)
    assert loaded.path.read_bytes() == path.read_bytes()
    assert loaded.path.parent == folder
    assert loaded.model.name == "cnn"
    assert loaded.model.exporter == "none"
    assert loaded.model.signature.inputs == (TensorSpec("image", "float32", (None, 1, 8, 8)),)
    assert (loaded.model.opset, loaded.model.ir_version) == (17, 8)


def test_the_users_file_in_the_work_folder_is_not_overwritten(tmp_path: Path) -> None:
    path = mlp_onnx(tmp_path / "mlp.onnx")
    assert load_model(str(path), folder=tmp_path).path != path


def test_external_data_is_taken_into_the_file(tmp_path: Path) -> None:
    model = onnx.load(mlp_onnx(tmp_path / "plain.onnx"))
    path = tmp_path / "outside.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert path.stat().st_size < 2000
    taken = prepare(path)
    (tmp_path / "weights.bin").unlink()
    assert inspect_onnx(taken).weight_bytes == inspect_onnx(tmp_path / "plain.onnx").weight_bytes
    with pytest.raises(ModelError, match=r"keeps its weights in weights.bin, which is not beside it"):
        prepare(path)


def test_dynamic_sizes_are_fixed_where_asked_and_the_batch_stays(tmp_path: Path) -> None:
    weights = [constant("w", [[1.0] * 4] * 4)]
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="mm")
    path = save(tmp_path / "d.onnx", [node], {"x": ("N", "T", 4)}, {"y": ("N", "T", 4)}, weights)
    signature = inspect_onnx(prepare(path, {"x": [1, 6, 4]})).signature
    assert signature.inputs[0].shape == (None, 6, 4)
    assert signature.outputs[0].shape == (None, 6, 4)
    assert inspect_onnx(prepare(path, {"x": [2, 6, 4]})).signature.inputs[0].shape == (2, 6, 4)
    with pytest.raises(ModelError, match=r"--input x=1,6,5 does not fit x: float32\[\?,\?,4\]"):
        prepare(path, {"x": [1, 6, 5]})
    with pytest.raises(ModelError, match=r"does not fit"):
        prepare(path, {"x": [6, 4]})
    with pytest.raises(ModelError, match=r"--input names z, but the model's inputs are x"):
        prepare(path, {"z": [1, 6, 4]})


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("model.pb", "tf2onnx"),
        ("model.h5", "there is no file"),
        ("model.keras", "there is no file"),
        ("model.tflite", "there is no file"),
        ("model.mnn", "network that it was made from"),
        ("weights.pth", "function that builds the network"),
        ("model.txt", "Give an .onnx, .pt2, .keras or .tflite file"),
        ("model", "no suffix"),
        ("gone.onnx", "there is no file"),
        ("gone.pt2", "there is no file"),
        ("gone.py:build", "there is no file"),
        ("nets.py", "say which function. It has: Cnn, TwoInputs, bare"),
        ("nets.py:nope", "has no function nope. It has: Cnn, TwoInputs, bare"),
    ],
)
def test_a_source_that_cannot_be_one_says_what_to_do(tmp_path: Path, name: str, says: str) -> None:
    write_torch_file(tmp_path / "nets.py")
    with pytest.raises(ModelError) as caught:
        load_model(str(tmp_path / name), folder=tmp_path)
    assert says in str(caught.value)


def test_a_file_that_is_not_there_names_its_neighbours(tmp_path: Path) -> None:
    mlp_onnx(tmp_path / "mlp.onnx")
    with pytest.raises(ModelError, match=r"There are: mlp.onnx"):
        load_model(str(tmp_path / "mpl.onnx"), folder=tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"not an onnx file at all, just text\n" * 9, "is not an ONNX file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    ],
)
def test_other_bytes_are_told_apart(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        prepare(path)
    assert says in str(caught.value)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = matmul_transformer_onnx(tmp_path / "t.onnx")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ModelError, match="not an ONNX file, or was cut short"):
        prepare(path)


def test_more_than_protobuf_can_hold_is_refused_with_the_way_round(tmp_path: Path) -> None:
    path = mlp_onnx(tmp_path / "huge.onnx")
    os.truncate(path, 2_200_000_000)  # sparse: takes no room
    with pytest.raises(ModelError, match=r"2\.2 GB .* Halve it first"):
        prepare(path)


def test_huge_external_data_is_refused_before_it_is_read(tmp_path: Path) -> None:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[30000, 30000])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="w.bin")
    (tmp_path / "w.bin").write_bytes(b"")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = save(tmp_path / "big.onnx", [node], {"x": ("N", 30000)}, {"y": ("N", 30000)}, [weight])
    with pytest.raises(ModelError, match=r"3\.6 GB with its weights"):
        prepare(path)


def test_graphs_that_cannot_be_run_on_numbers_are_refused(tmp_path: Path) -> None:
    identity = [helper.make_node("Identity", ["x"], ["y"])]
    strings = save(
        tmp_path / "s.onnx",
        identity,
        {"x": (1,)},
        {"y": (1,)},
        input_dtype=TensorProto.STRING,
        output_dtype=TensorProto.STRING,
    )
    with pytest.raises(ModelError, match="input `x` holds strings"):
        prepare(strings)
    with pytest.raises(ModelError, match="no outputs"):
        prepare(save(tmp_path / "o.onnx", identity, {"x": (1,)}, {}))
    fixed = [helper.make_node("Identity", ["c"], ["y"])]
    with pytest.raises(ModelError, match="no inputs"):
        prepare(save(tmp_path / "i.onnx", fixed, {}, {"y": (1,)}, [constant("c", [1.0])]))


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    node = helper.make_node("Magic", ["x"], ["y"], domain="acme")
    path = save(tmp_path / "c.onnx", [node], {"x": (1, 4)}, {"y": (1, 4)})
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("acme", 1))
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"operator acme:Magic, which onnxruntime .* does not have"):
        prepare(path)


def test_an_invalid_graph_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["nowhere"], ["y"])
    with pytest.raises(ModelError, match="is not valid ONNX"):
        prepare(save(tmp_path / "v.onnx", [node], {"x": (1, 4)}, {"y": (1, 4)}))


def test_an_ir_version_from_the_future_is_named(tmp_path: Path) -> None:
    model = onnx.load(mlp_onnx(tmp_path / "f.onnx"))
    model.ir_version = 99
    (tmp_path / "f.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"(?i)ir.version"):
        prepare(tmp_path / "f.onnx")


def test_inspection_counts_operators_and_weights(tmp_path: Path) -> None:
    inspection = inspect_onnx(mlp_onnx(tmp_path / "m.onnx", width=64))
    assert inspection.operators == {"Gemm": 2, "Relu": 1}
    assert inspection.parameters == 32 * 64 + 64 + 64 * 10 + 10
    assert inspection.weight_bytes == 4 * inspection.parameters
