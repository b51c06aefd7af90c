import numpy as np
import onnx

from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt.passes.make import make_variant
from support.compressing import make_context
from support.networks import constant, save


def overflowing_onnx(path):
    """`square` reaches about 1e6, far above float16; `fc` and `out` do not."""
    rng = np.random.default_rng(0)
    weights = [constant("w", rng.standard_normal((16, 16))), constant("v", rng.standard_normal((16, 4)))]
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["h"], name="fc"),
        onnx.helper.make_node("Mul", ["h", "hundred"], ["large"], name="widen"),
        onnx.helper.make_node("Mul", ["large", "large"], ["squared"], name="square"),
        onnx.helper.make_node("Mul", ["squared", "tiny"], ["small"], name="narrow"),
        onnx.helper.make_node("MatMul", ["small", "v"], ["y"], name="out"),
    ]
    weights += [constant("hundred", [100.0]), constant("tiny", [1e-6])]
    return save(path, nodes, {"x": ("N", 16)}, {"y": ("N", 4)}, weights)


def test_layers_that_would_overflow_stay_in_float_and_are_named(tmp_path):
    network = overflowing_onnx(tmp_path / "n.onnx")
    recipe = Recipe("half", (PassSpec("cast_half"),))
    made = make_variant(network, recipe, make_context(tmp_path, network))
    assert set(made.kept_float) == {"square", "narrow"}
    assert any("square reaches" in note for note in made.notes)
    assert made.parity.cosine > 0.999


def test_inputs_and_outputs_stay_in_float32(tmp_path):
    network = overflowing_onnx(tmp_path / "n.onnx")
    made = make_variant(network, Recipe("half", (PassSpec("cast_half"),)), make_context(tmp_path, network))
    graph = onnx.load(made.path).graph
    kinds = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    assert kinds == {onnx.TensorProto.FLOAT}
