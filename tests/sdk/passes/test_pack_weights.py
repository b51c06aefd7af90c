import gzip
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from edgeopt.errors import PassError
from edgeopt.passes._base import PassContext
from edgeopt.passes.graphs.prepare import opset_of, prepare
from edgeopt.passes.graphs.weights import constant_weights
from edgeopt.passes.quantising.grid import nearest
from edgeopt.testing.passes import CHECKS, Case
from support.networks import constant, save
from support.precision import applied, outputs, top1
from support.trained import trained

NAMES = ("residual", "depthwise", "transformer", "recurrent")


def rounded(files, bits, work):
    """The network with folded batch norms and every weight on a grid, all in float."""
    work.mkdir(parents=True, exist_ok=True)
    model = onnx.load(prepare(files.network, PassContext(work=work)))
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for weight in constant_weights(model):
        values = numpy_helper.to_array(tensors[weight.name])
        tensors[weight.name].CopyFrom(numpy_helper.from_array(nearest(values, bits, weight.axes).weight, weight.name))
    onnx.save(model, work / "rounded.onnx")
    return work / "rounded.onnx"


def operators(path, tmp_path):
    """What ONNX Runtime runs once it has folded constants."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)


@pytest.mark.parametrize("bits", [8, 4, 2, 1])
@pytest.mark.parametrize("name", NAMES)
def test_weights_on_a_grid_are_stored_in_its_bits_without_loss(name, bits, tmp_path):
    files = trained(name)
    source = rounded(files, bits, tmp_path)
    packed, report = applied("pack_weights", source, files, tmp_path)
    assert f" in {bits} bits" in report.notes[0]
    assert np.allclose(outputs(packed, files.evaluation), outputs(source, files.evaluation), atol=1e-5, rtol=1e-5)
    assert packed.stat().st_size < 0.55 * source.stat().st_size


def test_each_step_down_makes_the_file_smaller(tmp_path):
    files = trained("residual")
    sizes = [applied("pack_weights", files.network, files, tmp_path, bits=bits)[0].stat().st_size for bits in (8, 4, 2)]
    assert files.network.stat().st_size / sizes[0] > 3
    assert sizes[0] / sizes[1] > 1.4
    assert sizes[1] / sizes[2] > 1.4


def test_the_file_is_smaller_compressed_too(tmp_path):
    files = trained("residual")
    packed, _ = applied("pack_weights", files.network, files, tmp_path, bits=4)
    assert len(gzip.compress(packed.read_bytes())) < len(gzip.compress(files.network.read_bytes())) / 5


@pytest.mark.parametrize("name", NAMES)
def test_four_bits_without_training_lose_little(name, tmp_path):
    files = trained(name)
    packed, _ = applied("pack_weights", files.network, files, tmp_path, bits=4)
    assert top1(packed, files) >= files.top1 - 0.015


@pytest.mark.parametrize("name", ["residual", "recurrent"])
def test_unpacking_is_folded_as_the_file_is_loaded(name, tmp_path):
    files = trained(name)
    plain = prepare(files.network, PassContext(work=tmp_path))
    packed, _ = applied("pack_weights", files.network, files, tmp_path, bits=2)
    assert operators(packed, tmp_path) == operators(plain, tmp_path)


def test_unpacking_at_run_leaves_codes_of_4_bits_to_the_runtime(tmp_path):
    files = trained("residual")
    packed, report = applied("pack_weights", files.network, files, tmp_path, bits=4, unpack="run")
    model = onnx.load(packed)
    assert opset_of(model) >= 21
    assert model.ir_version <= 10
    assert operators(packed, tmp_path)["DequantizeLinear"] == 8
    assert "at each inference" in report.notes[1]
    loaded, _ = applied("pack_weights", files.network, files, tmp_path / "loaded", bits=4)
    assert np.allclose(outputs(packed, files.evaluation), outputs(loaded, files.evaluation), atol=1e-4)


def test_integer_weights_of_few_values_are_packed_and_still_run_in_integers(tmp_path):
    files = trained("residual")
    source = rounded(files, 2, tmp_path / "grid")
    quantised, _ = applied("quantise_static", source, files, tmp_path / "int8")
    packed, report = applied("pack_weights", quantised, files, tmp_path / "packed")
    assert "5 in 8-bit weights of few values" in report.notes[0]
    assert packed.stat().st_size < 0.7 * quantised.stat().st_size
    assert operators(packed, tmp_path) == operators(quantised, tmp_path)
    assert operators(packed, tmp_path)["QLinearConv"] == 7
    assert np.array_equal(outputs(packed, files.evaluation), outputs(quantised, files.evaluation))


def test_embeddings_are_packed_by_row(tmp_path):
    rng = np.random.default_rng(0)
    table = constant("table", rng.standard_normal((200, 16)))
    weight = constant("weight", rng.standard_normal((16, 4)))
    nodes = [
        onnx.helper.make_node("Gather", ["table", "ids"], ["rows"], name="embed"),
        onnx.helper.make_node("MatMul", ["rows", "weight"], ["y"], name="fc"),
    ]
    ids = onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, [1, 5])
    path = save(tmp_path / "n.onnx", nodes, {"ids": (1, 5)}, {"y": (1, 5, 4)}, [table, weight])
    model = onnx.load(path)
    model.graph.input[0].CopyFrom(ids)
    onnx.save(model, path)
    packed, _ = applied("pack_weights", path, trained("residual"), tmp_path / "work")
    feed = {"ids": np.array([[0, 3, 199, 7, 7]])}
    wanted, found = (onnxruntime.InferenceSession(str(file)).run(None, feed)[0] for file in (path, packed))
    assert np.abs(wanted - found).max() < 0.05
    assert packed.stat().st_size < path.stat().st_size / 2


def test_weights_on_no_grid_stay_in_float_where_that_is_wanted(tmp_path):
    files = trained("residual")
    with pytest.raises(PassError, match="no weights would get smaller"):
        applied("pack_weights", files.network, files, tmp_path, otherwise=0)


def test_kept_nodes_keep_their_weights(tmp_path):
    files = trained("residual")
    packed, report = applied("pack_weights", files.network, files, tmp_path, keep=("/head/Gemm",))
    assert "head.weight" in {tensor.name for tensor in onnx.load(packed).graph.initializer}
    assert report.kept_float == ("/head/Gemm",)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_conforms(check, tmp_path):
    files = trained("depthwise")
    check(Case("pack_weights", files.network, files.evaluation, tmp_path, {"bits": 4}))
