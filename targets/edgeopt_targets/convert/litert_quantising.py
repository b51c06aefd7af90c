"""The part of `convert_litert` that quantises a TFLite file, where ai-edge-quantizer is installed.

The arithmetic is that of Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam, Kalenichenko: Quantization and Training of
Neural Networks for Efficient Integer-Arithmetic-Only Inference, 2018. Recipes are plain data of ai-edge-quantizer; what
it leaves in float it does not say, so every layer is looked at afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeopt.child import report_progress
from edgeopt.errors import PassError
from edgeopt_runner.protocol.samples import SampleFile
from edgeopt_targets.convert import tflite_model
from edgeopt_targets.convert.tflite_model import Layer

_UNIFORM, _CASTING, _NOTHING = "min_max_uniform_quantize", "float_casting", "no_quantize"
_STORED = {
    "half": ("FLOAT16",),
    "dynamic": ("INT8",),
    "int8": ("INT8",),
    "int8_io": ("INT8",),
    "weights4": ("INT4", "INT8"),
}
_STATIC = ("int8", "int8_io")


def _weights(bits: int, granularity: str, dtype: str = "INT") -> dict[str, Any]:
    return {"num_bits": bits, "symmetric": True, "granularity": granularity, "dtype": dtype}


def _rule(operation: str, bits: int, granularity: str, regex: str = ".*") -> dict[str, Any]:
    config = {
        "weight_tensor_config": _weights(bits, granularity),
        "compute_precision": "INTEGER",
        "explicit_dequantize": False,
    }
    return {"regex": regex, "operation": operation, "algorithm_key": _UNIFORM, "op_config": config}


def _untouched(operation: str, regex: str = ".*") -> dict[str, Any]:
    return {"regex": regex, "operation": operation, "algorithm_key": _NOTHING, "op_config": {}}


def recipe(precision: str) -> list[dict[str, Any]]:
    """Rules of ai-edge-quantizer for a precision; later rules win.

    Products and look-ups have one scale in ``dynamic``: with one for each channel, as convolutions have, tflite_runtime
    2.14 computes nonsense without a word, and LiteRT is neither faster nor nearer to the original.
    """
    if precision == "half":
        config = {
            "weight_tensor_config": _weights(16, "TENSORWISE", "FLOAT"),
            "compute_precision": "FLOAT",
            "explicit_dequantize": True,
        }
        return [{"regex": ".*", "operation": "*", "algorithm_key": _CASTING, "op_config": config}]
    if precision in _STATIC:
        rule = _rule("*", 8, "CHANNELWISE")
        rule["op_config"]["activation_tensor_config"] = {**_weights(8, "TENSORWISE"), "symmetric": False}
        return [rule] if precision == "int8_io" else [rule, _untouched("INPUT"), _untouched("OUTPUT")]
    one_scale = [_rule(kind, 8, "TENSORWISE") for kind in ("FULLY_CONNECTED", "EMBEDDING_LOOKUP")]
    if precision == "dynamic":
        return [_rule("*", 8, "CHANNELWISE"), *one_scale]
    narrow = [_rule(kind, 4, "CHANNELWISE") for kind in ("CONV_2D", "FULLY_CONNECTED", "EMBEDDING_LOOKUP")]
    return [_rule("*", 8, "CHANNELWISE"), *narrow]


def quantise(
    source: str, destination: str, precision: str, samples: str, limit: int, keep_float: Sequence[str]
) -> dict[str, Any]:
    """Quantise a float TFLite file that `litert_step` made.

    Args:
        source: The float file.
        destination: The file to make.
        precision: Of `onnx_to_litert.Options`, not ``float``.
        samples: Sample file for the ranges of activations; empty where the precision needs none.
        limit: Largest number of samples.
        keep_float: ONNX nodes that stay in float.

    Returns:
        ``notes`` and ``kept_float``, as in `PassReport`.

    Raises:
        PassError: The quantiser failed, a node is unknown, or layers stayed in float that should not have.
    """
    model = tflite_model.load(Path(source))
    ports = tflite_model.attached(model)
    kept = _scopes(ports["layers"], keep_float)
    rules = recipe(precision) + [_untouched("*", rf"(^|;){re.escape(scope)}(;|$)") for scope in kept]
    raw = Path(f"{destination}.raw")
    _run(source, raw, rules, _feeds(samples, limit, ports))
    made = tflite_model.load(raw)
    _connect(made, ports)
    tflite_model.attach(made, ports)
    notes = _census(list(tflite_model.layers(made)), precision, kept)
    tflite_model.save(made, Path(destination))
    return {"notes": notes, "kept_float": list(keep_float)}


def _scopes(known: dict[str, str], names: Sequence[str]) -> list[str]:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise PassError(f"keep_float names {unknown[0]!r}, which is not a layer with weights of the network.")
    return [known[name] for name in names]


def _feeds(samples: str, limit: int, ports: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Samples as the file's tensors: renamed, channels moved, 64-bit integers narrowed."""
    import numpy as np

    from edgeopt_runner.engines._signature import Port

    inputs = [Port(port) for port in ports["inputs"]]
    for sample in SampleFile(samples).read(limit) if samples else ():
        arrays = {port.name: sample.inputs[port.name] for port in inputs}
        narrow = {name: np.int32 if array.dtype.kind in "iu" else np.float32 for name, array in arrays.items()}
        yield {port.name: port.into(arrays[port.name], narrow[port.name]) for port in inputs}


def _run(source: str, destination: Path, rules: list[dict[str, Any]], feeds: Iterator[dict[str, Any]]) -> None:
    from ai_edge_quantizer import quantizer

    report_progress("quantising the TFLite file", 0.5)
    try:
        work = quantizer.Quantizer(source)
        work.load_quantization_recipe(rules)
        ranges = None
        if work.need_calibration:
            ranges = work.calibrate({"serving_default": list(feeds)})
        work.quantize(ranges).export_model(str(destination), overwrite=True)
    except Exception as error:  # ValueError, RuntimeError and whatever the interpreter raises
        raise PassError(
            f"ai-edge-quantizer failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        ) from None


def _connect(model: Any, ports: dict[str, Any]) -> None:
    """Tell the record which tensors are inputs and outputs now: quantising puts others in their place."""
    signature, graph = model.signatureDefs[0], model.subgraphs[0]
    for kind, entries in (("inputs", signature.inputs), ("outputs", signature.outputs)):
        tensors = {tflite_model.text(entry.name): graph.tensors[entry.tensorIndex] for entry in entries}
        for port in ports[kind]:
            port["tensor"] = tflite_model.text(tensors[port["name"]].name)


def _census(layers: list[Layer], precision: str, kept: Sequence[str]) -> list[str]:
    """What became of the layers, in words.

    Raises:
        PassError: There are none, some stayed in float, or one did not that was to stay.
    """
    if not layers:
        raise PassError("the network has no layer with weights that could be quantised.")
    float_ones = {scope for layer in layers if layer.weights == "FLOAT32" for scope in layer.name.split(";")}
    if lost := [scope for scope in kept if scope not in float_ones]:
        raise PassError(f"layer {lost[0]} was to stay in float, but is no layer of its own in the TFLite file.")
    asked = [layer for layer in layers if not any(scope in layer.name.split(";") for scope in kept)]
    wide = [layer for layer in asked if layer.weights not in _STORED[precision]]
    wide += [layer for layer in asked if precision in _STATIC and layer not in wide and layer.activations != "INT8"]
    if wide:
        told = ", ".join(f"{layer.name} ({layer.kind})" for layer in wide[:8])
        raise PassError(f"{len(wide)} of {len(layers)} layers stayed in float: {told}{', ...' if wide[8:] else ''}.")
    if precision != "weights4":
        return []
    narrow = [layer for layer in layers if layer.weights == "INT4"]
    if not narrow:
        raise PassError("no layer can have 4-bit weights: only convolutions that are not depthwise and products can.")
    share = sum(layer.elements for layer in narrow) / sum(layer.elements for layer in layers)
    return [f"4 bits cover {share:.0%} of the weights, 8 bits the rest"]
