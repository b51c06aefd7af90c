"""Makes the models of this folder: one small network in every format that an engine reads.

    python tests/data/models/make.py [FOLDER]

Needs onnx, ai-edge-litert (for its schema), flatbuffers, MNN (for mnnconvert) and ExecuTorch's environment, which is
made if need be. The network has an input ``x``
[n, 1, 8, 8] and two outputs: ``maps`` [n, 4, 8, 8], a convolution with ReLU, and ``logits`` [n, 5], a matrix product on
the maps' means. The same bytes each time, but for MNN's, which has an identifier of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

from edgeopt.core.recipe import PassSpec
from edgeopt.passes._base import PassContext
from edgeopt.passes.registry import load_pass
from edgeopt_runner.protocol.samples import write_samples

_RANDOM = np.random.default_rng(7)
CONV = _RANDOM.normal(size=(4, 1, 3, 3)).astype(np.float32)
CONV_BIAS = _RANDOM.normal(size=4).astype(np.float32)
DENSE = _RANDOM.normal(size=(4, 5)).astype(np.float32)
DENSE_BIAS = _RANDOM.normal(size=5).astype(np.float32)

INT8_IN = (0.04, 3)
INT8_OUT = (0.1, -5)
"""Scale and zero point of the integer inputs and outputs."""


def ports(batch: int | None = None, **fields: Any) -> dict[str, Any]:
    """The signature that travels with a converted file; `fields` by port: tensor, layout, scale, zero_point."""
    shapes = {"x": [batch, 1, 8, 8], "maps": [batch, 4, 8, 8], "logits": [batch, 5]}
    made = {
        name: {"name": name, "dtype": "float32", "shape": shape, **fields.get(name, {})}
        for name, shape in shapes.items()
    }
    return {"inputs": [made["x"]], "outputs": [made["maps"], made["logits"]]}


def make_onnx(path: Path, *, free_batch: bool = True) -> None:
    """The original."""
    batch = "n" if free_batch else 1
    weights = {"w": CONV, "b": CONV_BIAS, "g": DENSE, "c": DENSE_BIAS}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["maps"]),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "g", "c"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 1, 8, 8])],
        [
            helper.make_tensor_value_info("maps", TensorProto.FLOAT, [batch, 4, 8, 8]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 5]),
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), str(path))


class TfliteFile:
    """A TFLite file in the making: tensors, operators and buffers of one subgraph."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version, self.model.buffers, self.model.operatorCodes = 3, [schema.BufferT()], []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def buffer(self, data: bytes) -> int:
        """Number of a new buffer."""
        one = schema.BufferT()
        one.data = np.frombuffer(data, np.uint8)
        self.model.buffers.append(one)
        return len(self.model.buffers) - 1

    def tensor(self, name: str, shape: list[int], **more: Any) -> int:
        """Number of a new tensor: `data`, `free_batch`, `quantised` (scale, zero point)."""
        one, data = schema.TensorT(), more.get("data")
        one.name, one.shape, one.type = name.encode(), shape, schema.TensorType.FLOAT32
        if data is not None:
            one.buffer = self.buffer(data.tobytes())
            one.type = {"f": schema.TensorType.FLOAT32, "i": schema.TensorType.INT32}[data.dtype.kind]
        if more.get("free_batch"):
            one.shapeSignature = [-1, *shape[1:]]
        if more.get("quantised"):
            scale, zero_point = more["quantised"]
            one.type, one.quantization = schema.TensorType.INT8, schema.QuantizationParametersT()
            one.quantization.scale, one.quantization.zeroPoint = [scale], [zero_point]
        self.graph.tensors.append(one)
        return len(self.graph.tensors) - 1

    def operator(self, name: str, inputs: list[int], output: int, options: Any = None) -> int:
        """A new operator; returns its output."""
        code, one = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode, code.version = getattr(schema.BuiltinOperator, name), 1
        code.deprecatedBuiltinCode = code.builtinCode
        self.model.operatorCodes.append(code)
        one.opcodeIndex, one.inputs, one.outputs = len(self.model.operatorCodes) - 1, inputs, [output]
        if options is not None:
            one.builtinOptions = options
            one.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
        self.graph.operators.append(one)
        return output

    def note(self, document: dict[str, Any]) -> None:
        """The metadata buffer named `edgeopt`."""
        entry = schema.MetadataT()
        entry.name, entry.buffer = b"edgeopt", self.buffer(json.dumps(document).encode())
        self.model.metadata = [entry]

    def sign(self, inputs: dict[str, int], outputs: dict[str, int]) -> None:
        """A signature `serving_default`, as converters write it."""
        one = schema.SignatureDefT()
        one.signatureKey, one.subgraphIndex = b"serving_default", 0
        one.inputs, one.outputs = _tensor_maps(inputs), _tensor_maps(outputs)
        self.model.signatureDefs = [one]

    def save(self, path: Path) -> None:
        """Write it."""
        builder = flatbuffers.Builder(4096)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))


def _tensor_maps(tensors: dict[str, int]) -> list[Any]:
    made = []
    for name, number in tensors.items():
        one = schema.TensorMapT()
        one.name, one.tensorIndex = name.encode(), number
        made.append(one)
    return made


def _layers(file: TfliteFile, image: int, free: bool) -> tuple[int, int]:
    """The network on an NHWC tensor: numbers of the maps and the logits."""
    conv, dense = schema.Conv2DOptionsT(), schema.FullyConnectedOptionsT()
    conv.strideW = conv.strideH = 1
    conv.fusedActivationFunction = schema.ActivationFunctionType.RELU
    mean = schema.ReducerOptionsT()
    mean.keepDims = False
    weights = file.tensor("w", [4, 3, 3, 1], data=np.ascontiguousarray(CONV.transpose(0, 2, 3, 1)))
    bias = file.tensor("b", [4], data=CONV_BIAS)
    axes = file.tensor("axes", [2], data=np.array([1, 2], np.int32))
    matrix = file.tensor("g", [5, 4], data=np.ascontiguousarray(DENSE.T))
    offset = file.tensor("c", [5], data=DENSE_BIAS)
    maps = file.tensor("conv_relu", [1, 8, 8, 4], free_batch=free)
    pooled = file.tensor("pooled", [1, 4], free_batch=free)
    logits = file.tensor("dense", [1, 5], free_batch=free)
    file.operator("CONV_2D", [image, weights, bias], maps, conv)
    file.operator("MEAN", [maps, axes], pooled, mean)
    file.operator("FULLY_CONNECTED", [pooled, matrix, offset], logits, dense)
    return maps, logits


def make_tflite(path: Path, *, foreign: bool = False) -> None:
    """In float with a free batch and our signature; a foreign one has a batch of 1 and a signature of its own."""
    file = TfliteFile()
    image = file.tensor("serving_default_x:0", [1, 8, 8, 1], free_batch=not foreign)
    maps, logits = _layers(file, image, not foreign)
    file.graph.inputs, file.graph.outputs = [image], [logits, maps]  # not in the original's order
    if foreign:
        file.sign({"image": image}, {"features": maps, "scores": logits})
    else:
        moved = {"layout": "NHWC"}
        file.note(
            ports(
                x={"tensor": "serving_default_x:0", **moved},
                maps={"tensor": "conv_relu", **moved},
                logits={"tensor": "dense"},
            )
        )
    file.save(path)


def make_tflite_int8(path: Path) -> None:
    """Integer inputs and outputs around the float network; users see float."""
    file = TfliteFile()
    given = file.tensor("x_int8", [1, 8, 8, 1], quantised=INT8_IN, free_batch=True)
    image = file.operator("DEQUANTIZE", [given], file.tensor("x_float", [1, 8, 8, 1], free_batch=True))
    maps, logits = _layers(file, image, True)
    outputs = [
        file.operator("QUANTIZE", [tensor], file.tensor(name, shape, quantised=INT8_OUT, free_batch=True))
        for tensor, name, shape in ((maps, "maps_int8", [1, 8, 8, 4]), (logits, "logits_int8", [1, 5]))
    ]
    file.graph.inputs, file.graph.outputs = [given], outputs
    steps_in, steps_out = (dict(zip(("scale", "zero_point"), pair, strict=True)) for pair in (INT8_IN, INT8_OUT))
    file.note(
        ports(
            x={"tensor": "x_int8", "layout": "NHWC", **steps_in},
            maps={"tensor": "maps_int8", "layout": "NHWC", **steps_out},
            logits={"tensor": "logits_int8", **steps_out},
        )
    )
    file.save(path)


def make_ncnn(path: Path) -> None:
    """Text and weights as ncnn's tools write them; 0 before the weights says that they are float32."""
    layers = [
        "Input in 0 1 x",
        "Convolution conv 1 1 x maps 0=4 1=3 4=1 5=1 6=36 9=1",
        "Split split 1 2 maps kept pooled_in",
        "Pooling pool 1 1 pooled_in pooled 0=1 4=1",
        "InnerProduct dense 1 1 pooled logits 0=5 1=1 2=20",
    ]
    blobs = 6
    param = "\n".join(["7767517", f"{len(layers)} {blobs}", *layers, ""])
    plain = b"\0\0\0\0"
    weights = plain + CONV.tobytes() + CONV_BIAS.tobytes()
    weights += plain + np.ascontiguousarray(DENSE.T).tobytes() + DENSE_BIAS.tobytes()
    meta = ports(batch=1, maps={"tensor": "kept"})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in (("model.param", param), ("model.bin", weights), ("meta.json", json.dumps(meta))):
            archive.writestr(zipfile.ZipInfo(name), data)


def make_mnn(path: Path, source: Path) -> None:
    """By MNN's converter, with the signature in `bizCode`.

    Not by the script `mnnconvert`: that one installs a logging client with pip and reports to its maker.
    """
    convert = "import sys, _tools; _tools.mnnconvert(sys.argv)"
    arguments = ["-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(path), "--bizCode", json.dumps(ports())]
    subprocess.run([sys.executable, "-c", convert, *arguments], check=True, stdout=subprocess.DEVNULL)


def make_pte(folder: Path, precision: str, name: str) -> None:
    """By `convert_executorch`, with random samples for 8 bits."""
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        samples = np.random.default_rng(3).normal(size=(32, 1, 1, 8, 8)).astype(np.float32)
        write_samples(str(work / "samples.npz"), {"input:x": samples})
        step = load_pass(PassSpec("convert_executorch", {"precision": precision}))
        context = PassContext(work, calibration=work / "samples.npz")
        step.apply(folder / "small.onnx", work / "small.pte", context)
        (folder / name).write_bytes((work / "small.pte").read_bytes())


def make(folder: Path) -> None:
    """All files."""
    make_onnx(folder / "small.onnx")
    make_tflite(folder / "small.tflite")
    make_tflite(folder / "foreign.tflite", foreign=True)
    make_tflite_int8(folder / "small_int8.tflite")
    make_ncnn(folder / "small.ncnn")
    make_mnn(folder / "small.mnn", folder / "small.onnx")
    make_pte(folder, "float", "small.pte")
    make_pte(folder, "int8", "small_int8.pte")


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
