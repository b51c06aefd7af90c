"""The arithmetic that the docstring of `quantise_static` states, done in NumPy, gives ONNX Runtime's own integers."""

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from edgeopt_runner.protocol.samples import SampleFile
from support.precision import SATURATING, applied
from support.trained import trained


def test_a_layer_computed_in_integers_is_the_layer_that_runs(tmp_path):
    files = trained("residual")
    path, _ = applied("quantise_static", files.network, files, tmp_path, isa=SATURATING)
    model = onnx.load(path)
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
    read, weight, bias = (makers[name] for name in gemm.input)
    written = next(node for node in model.graph.node if gemm.output[0] in node.input)
    (_, scale_x, zero_x), (codes_w, scale_w, zero_w), (codes_b, scale_b, zero_b), (_, scale_y, zero_y) = (
        [known.get(name) for name in node.input] for node in (read, weight, bias, written)
    )

    assert (codes_w.dtype, codes_b.dtype, zero_x.dtype, zero_y.dtype) == (np.int8, np.int32, np.uint8, np.uint8)
    assert not zero_w.any()
    assert not zero_b.any()
    np.testing.assert_allclose(scale_b, scale_w * scale_x, rtol=1e-6)

    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in (read.input[0], written.output[0]))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for sample in SampleFile(str(files.evaluation)).read(50):
        _, codes_x, codes_y = session.run(None, sample.inputs)
        total = (codes_x.astype(np.int32) - np.int32(zero_x)) @ codes_w.T.astype(np.int32) + codes_b
        multiplier = scale_w * scale_x / scale_y
        found = np.clip(np.int32(zero_y) + np.rint(multiplier * total), 0, 255)
        assert np.abs(found - codes_y).max() <= 1  # a number half-way may be rounded to either side
        assert (found == codes_y).mean() > 0.8
