"""Tensors are found where their bytes are, in every place that a format has for them."""

from pathlib import Path

import flatbuffers
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeopt.deltas import ranges
from support.deltas import onnx_file


def contents(path: Path) -> dict[str, tuple[bytes, int]]:
    data = path.read_bytes()
    return {one.name: (data[one.offset : one.offset + one.length], one.itemsize) for one in ranges(path)}


@pytest.mark.parametrize("kind", ["int8", "uint8", "float16", "int32", "float32", "int64", "float64", "bool"])
def test_an_initialiser_is_found_by_name_with_the_width_of_its_numbers(tmp_path: Path, kind: str) -> None:
    values = np.arange(300).astype(kind).reshape(3, 100)
    assert contents(onnx_file(tmp_path / "m.onnx", {"w": values})) == {"w": (values.tobytes(), values.itemsize)}


def test_numbers_in_typed_fields_are_found_too(tmp_path: Path) -> None:
    floats = helper.make_tensor("floats", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    graph = helper.make_graph([], "g", [], [], initializer=[floats])
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    assert contents(tmp_path / "m.onnx") == {"floats": (np.array([1, 2, 3], "<f4").tobytes(), 4)}


def test_tensors_in_attributes_and_subgraphs_are_found_under_distinct_names(tmp_path: Path) -> None:
    values = [np.full(10, number, np.float32) for number in range(3)]
    inner = [
        helper.make_node("Constant", [], [f"c{number}"], value=numpy_helper.from_array(value))
        for number, value in enumerate(values[:2])
    ]
    branches = [
        helper.make_graph([node], f"b{index}", [], [helper.make_tensor_value_info(f"c{index}", 1, None)])
        for index, node in enumerate(inner)
    ]
    choice = helper.make_node("If", ["x"], ["y"], then_branch=branches[0], else_branch=branches[1])
    constant = helper.make_node("Constant", [], ["c2"], value=numpy_helper.from_array(values[2]))
    graph = helper.make_graph([choice, constant], "g", [], [])
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    found = contents(tmp_path / "m.onnx")
    assert sorted(content for content, _ in found.values()) == sorted(value.tobytes() for value in values)
    assert len(found) == 3


def test_tensors_that_lie_in_other_files_have_no_range(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "m.onnx", {"w": np.zeros(5000, np.float32)})
    onnx.save(onnx.load(path), tmp_path / "e.onnx", save_as_external_data=True, location="w.bin")
    assert ranges(tmp_path / "e.onnx") == []


def tflite_file(path: Path, buffers: dict[str, bytes]) -> Path:
    """A flatbuffer with as much of TFLite's schema as tensors need; all are INT8."""
    builder = flatbuffers.Builder(0)
    data = [builder.CreateByteVector(content) for content in (b"", *buffers.values())]
    tables = []
    for vector in data:
        builder.StartObject(3)
        builder.PrependUOffsetTRelativeSlot(0, vector, 0)
        tables.append(builder.EndObject())
    tensors = []
    for number, name in enumerate(buffers, start=1):
        text = builder.CreateString(name)
        builder.StartObject(4)
        builder.PrependInt8Slot(1, 9, 0)
        builder.PrependUint32Slot(2, number, 0)
        builder.PrependUOffsetTRelativeSlot(3, text, 0)
        tensors.append(builder.EndObject())
    tensor_vector = _vector(builder, tensors)
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, tensor_vector, 0)
    graphs, buffer_vector = _vector(builder, [builder.EndObject()]), _vector(builder, tables)
    builder.StartObject(5)
    builder.PrependUOffsetTRelativeSlot(2, graphs, 0)
    builder.PrependUOffsetTRelativeSlot(4, buffer_vector, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _vector(builder: flatbuffers.Builder, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def test_buffers_of_a_tflite_file_bear_the_names_of_their_tensors(tmp_path: Path) -> None:
    weights = {"conv/w": bytes(range(200)), "dense/w": b"\x7f" * 500}
    found = contents(tflite_file(tmp_path / "m.tflite", weights))
    assert found == {f"0/{name}": (content, 1) for name, content in weights.items()}


def test_real_tflite_files_have_their_weights_found() -> None:
    for path in sorted(Path("tests/data").glob("**/*.tflite")):
        found = ranges(path)
        assert found, path
        assert all(one.offset + one.length <= path.stat().st_size for one in found)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(1000), b"\xff" * 1000, b"\0\0\0\0TFL3" + b"\xff" * 100])
def test_other_bytes_have_no_tensors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert ranges(tmp_path / "file") == []


def test_a_cut_model_has_no_tensors_or_sound_ones(tmp_path: Path) -> None:
    whole = onnx_file(tmp_path / "m.onnx", {"a": np.zeros(50, np.int8), "b": np.ones(70, np.float32)}).read_bytes()
    for size in range(1, len(whole)):
        (tmp_path / "cut").write_bytes(whole[:size])
        assert all(one.offset + one.length <= size for one in ranges(tmp_path / "cut"))
