import numpy as np
import onnx
import pytest

from edgeopt.passes.quantising.packing import Packer, digit_table, digits_in_a_byte, pack_digits


@pytest.mark.parametrize(
    ("levels", "digits"), [(2, 8), (3, 5), (4, 4), (5, 3), (6, 3), (7, 2), (16, 2), (17, 1), (256, 1)]
)
def test_a_byte_holds_as_many_digits_as_fit(levels, digits):
    assert digits_in_a_byte(levels) == digits
    assert levels**digits <= 256 < levels ** (digits + 1)


@pytest.mark.parametrize("levels", [2, 3, 6, 15, 16, 200, 256])
@pytest.mark.parametrize("count", [1, 5, 41, 120])
def test_unpacking_by_the_table_gives_the_digits_back(levels, count):
    digits = np.random.default_rng(levels).integers(0, levels, count).astype(np.uint8)
    packed = pack_digits(digits, levels)
    assert len(packed) == -(-count // digits_in_a_byte(levels))
    assert np.array_equal(digit_table(levels)[packed].ravel()[:count], digits)


def model_of(weight):
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")
    values = [onnx.helper.make_tensor_value_info(name, 1, None) for name in ("x", "y")]
    tensor = onnx.numpy_helper.from_array(weight, "w")
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:], [tensor])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 11)], ir_version=8)


def test_what_would_not_get_smaller_stays():
    model = model_of(np.eye(4, dtype=np.float32))
    assert not Packer(model).levels("w", np.eye(4, dtype=np.uint8), np.array([0, 1], np.float32))
    assert len(model.graph.node) == 1


def test_weights_of_the_same_base_share_a_table():
    rng = np.random.default_rng(0)
    model = model_of(rng.standard_normal((64, 64)).astype(np.float32))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "v"))
    packer = Packer(model)
    for name in ("w", "v"):
        assert packer.levels(name, rng.integers(0, 3, (64, 64)).astype(np.uint8), np.array([-1, 0, 1], np.float32))
    assert sum(list(tensor.dims) == [256, 5] for tensor in model.graph.initializer) == 1
