"""Exports a Keras or TensorFlow network by tf2onnx and proves that both compute the same (in a child process).

Keras's own `export(format="onnx")` calls tf2onnx as well, but renames outputs and wants the network called before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeopt.errors import ModelError
from edgeopt.graph.export import DYNAMO_OPSET, demand_equal, reason_of, without_traces
from edgeopt.graph.inspect import all_nodes
from edgeopt.graph.session import open_session, run_feed
from edgeopt.graph.tensorflow_network import Network, load_network

_FREE_SIZE = 64
"""Of dimensions besides the batch that nobody fixes, in the check."""

_NUMBERED = re.compile(r"__\d+$")


def export_source(
    source: str, signature: str, destination: str, input_shapes: Mapping[str, list[int]]
) -> dict[str, Any]:
    """Export a Keras file, a SavedModel, or what a function returns.

    Args:
        source: The file, the folder, or ``file.py:function``.
        signature: Of a SavedModel; empty: its only one, or the default.
        destination: The ONNX file to make; names of inputs and outputs are the network's.
        input_shapes: Sizes of inputs that the network leaves open.

    Returns:
        ``exporter`` with its version, and ``notes``.

    Raises:
        ModelError: It cannot be read, or exported (names the operator), or computes something else afterwards.
    """
    os.environ.update({"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow"})
    import keras
    import tensorflow as tf
    import tf2onnx

    tf.config.threading.set_intra_op_parallelism_threads(2)
    keras.utils.set_random_seed(0)
    network = load_network(source, signature, input_shapes)
    model = _converted(network, source)
    Path(destination).write_bytes(model.SerializeToString(deterministic=True))
    _check_parity(network, Path(destination), input_shapes, source)
    return {
        "exporter": f"tf2onnx {tf2onnx.__version__} (tensorflow {tf.__version__})",
        "notes": [*network.notes, *_notes(model)],
    }


def _converted(network: Network, source: str) -> Any:
    import tensorflow as tf
    import tf2onnx

    try:
        function = tf.function(network.call, input_signature=network.inputs)
        model, _ = tf2onnx.convert.from_function(function, input_signature=network.inputs, opset=DYNAMO_OPSET)
    except Exception as error:  # tf2onnx raises of all kinds
        raise _refused(source, reason_of(error)) from None
    if unknown := _unknown_operators(model):
        raise _refused(source, f"it uses {', '.join(unknown)}, which ONNX does not have")
    without_traces(model)
    _sort_constants(model.graph)
    return model


def _sort_constants(graph: Any) -> None:
    """Constants in the order of their use, and named by it: tf2onnx goes through sets, in another order every time."""
    held = {tensor.name: tensor for tensor in graph.initializer}
    used = [name for node in all_nodes(graph) for name in node.input] + [value.name for value in graph.output]
    ordered = [name for name in dict.fromkeys(used) if name in held]
    kept = {value.name for value in graph.output}
    names = {
        name: f"constant_{number}" for number, name in enumerate(ordered) if _NUMBERED.search(name) and name not in kept
    }
    tensors = [type(held[name]).FromString(held[name].SerializeToString()) for name in ordered]
    for tensor in tensors:
        tensor.name = names.get(tensor.name, tensor.name)
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    for node in all_nodes(graph):
        node.input[:] = [names.get(name, name) for name in node.input]


def _unknown_operators(model: Any) -> list[str]:
    """Operators of TensorFlow that tf2onnx left as they are."""
    import onnx

    return sorted({node.op_type for node in all_nodes(model.graph) if not onnx.defs.has(node.op_type, node.domain)})


def _refused(source: str, reason: str) -> ModelError:
    return ModelError(
        f"{source} could not be exported: {reason}.",
        remedy="Change the named operation in the network, or leave it out and do it in your application.",
    )


def _check_parity(network: Network, path: Path, shapes: Mapping[str, list[int]], source: str) -> None:
    """Compare at batch 1 and 3, or at the network's own batch, with several draws."""
    session = open_session(path)
    taken = {value.name for value in session.get_inputs()}
    for where, feed in _probes(network, shapes):
        try:
            outputs = {name: value.numpy() for name, value in network.call(*feed.values()).items()}
            found = run_feed(session, {name: value for name, value in feed.items() if name in taken})
        except ModelError:
            raise
        except Exception as error:  # layers raise whatever they raise
            sizes = ", ".join(f"{name}={','.join(map(str, value.shape))}" for name, value in feed.items())
            raise ModelError(
                f"{source} does not run on inputs {sizes}: {reason_of(error)}.",
                remedy=f"Say sizes that it takes: --input {next(iter(feed))}=SIZES.",
            ) from None
        try:
            demand_equal(outputs, found, where, of="TensorFlow's")
        except ModelError as error:
            raise ModelError(
                f"{source} could not be exported: {error.message}.", remedy="Please report it with the network."
            ) from None


def _probes(network: Network, shapes: Mapping[str, list[int]]) -> Iterator[tuple[str, dict[str, Any]]]:
    dynamic = all(spec.shape.rank and spec.shape[0] is None for spec in network.inputs)
    for seed, batch in enumerate((1, 3, 1) if dynamic else (1, 1)):
        where = f"at batch {batch}" if dynamic else "at its own sizes"
        yield where, {spec.name: _drawn(spec, batch, shapes.get(spec.name), seed) for spec in network.inputs}


def _drawn(spec: Any, batch: int, asked: list[int] | None, seed: int) -> Any:
    """Normal numbers where the input is real, zeros and ones elsewhere."""
    import numpy as np

    open_sizes = asked or [batch] + [_FREE_SIZE] * (len(spec.shape) - 1)
    sizes = [free if size is None else size for size, free in zip(spec.shape, open_sizes, strict=False)]
    if sizes and spec.shape[0] is None:
        sizes[0] = batch
    dtype, generator = spec.dtype.as_numpy_dtype, np.random.default_rng(seed)
    if np.issubdtype(dtype, np.floating):
        return generator.standard_normal(sizes).astype(dtype)
    return generator.integers(0, 2, sizes).astype(dtype)


def _notes(model: Any) -> list[str]:
    loops = sum(node.op_type in ("Loop", "Scan") for node in all_nodes(model.graph))
    if not loops:
        return []
    return [
        f"{loops} recurrent layers became loops, which no pass compresses and few runtimes but ONNX Runtime take: "
        "build them with unroll=True where the sequence is short and fixed."
    ]
