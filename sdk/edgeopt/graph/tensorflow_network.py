"""Loads a Keras or TensorFlow network as one function of named inputs (in a child process that has TensorFlow)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.errors import ModelError
from edgeopt.graph.user_code import is_function, load_function, user_problem

DEFAULT_SIGNATURE = "serving_default"
LONGEST_UNROLLED = 64
"""Steps of a recurrent layer that are written out; more make files large and exports slow."""

_UNKNOWN_CLASS = re.compile(r"Could not locate (?:class|function) '([^']+)'|Unknown (?:layer|object)[^']*'([^']+)'")


@dataclass(frozen=True)
class Network:
    """A network as a function.

    Attributes:
        call: Takes tensors in the order of `inputs`; gives tensors by name.
        inputs: `tf.TensorSpec` with names; ``None`` for free sizes.
        owner: Of the variables, which go when it goes.
        notes: What the user should know.
    """

    call: Callable[..., dict[str, Any]]
    inputs: tuple[Any, ...]
    owner: Any
    notes: tuple[str, ...] = ()


def load_network(source: str, signature: str, shapes: Mapping[str, list[int]]) -> Network:
    """Load what the user named.

    Args:
        source: Keras file, folder of a SavedModel, or ``file.py:function``.
        signature: Of the SavedModel; empty: its only one, or the default.
        shapes: Sizes by input, for a network that does not know its own.

    Raises:
        ModelError: It cannot be read, is no network, or does not say what it takes.
    """
    if Path(source).is_dir():
        return _of_saved_model(source, signature)
    if is_function(source):
        model, example = _called(source)
        return _of_keras(model, example, shapes, source)
    return _of_keras(_read_keras(source), None, shapes, source)


def _read_keras(source: str) -> Any:
    import keras

    try:
        return keras.saving.load_model(source, compile=False)
    except Exception as error:  # Keras raises ValueError, TypeError, and those of HDF5 and zip
        raise _keras_problem(source, str(error)) from None


def _keras_problem(source: str, text: str) -> ModelError:
    import keras

    load = (
        "Give a function that loads it where {} is defined, as in nets.py:load, with keras.saving.load_model(path{})."
    )
    if found := _UNKNOWN_CLASS.search(text):
        name = found[1] or found[2]
        custom = f", custom_objects={{'{name}': {name}}}"
        return ModelError(
            f"{source} holds {name}, which is not one of Keras's own classes.", remedy=load.format(custom, name)
        )
    if "Lambda" in text and "safe_mode" in text:
        return ModelError(
            f"{source} holds a Lambda layer, whose code would run unchecked.",
            remedy=load.format(", safe_mode=False", "its code"),
        )
    reason = " ".join(text.split())[:250].rstrip(".")
    return ModelError(
        f"Keras {keras.__version__} cannot read {source}: {reason}.",
        remedy="Load it with the version that wrote it and save it again, or give a function that builds it.",
    )


def _called(source: str) -> tuple[Any, Any]:
    """What the user's function returns: the network, and its example inputs or ``None``."""
    import keras

    try:
        result = load_function(source, ModelError)()
    except Exception as error:
        raise _foreign_module(error, source) or user_problem(f"calling {source}", error, ModelError) from None
    model, example = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if not isinstance(model, keras.Model):
        raise ModelError(
            f"{source} returned {model!r:.60} ({type(model).__name__}), not a keras.Model.",
            remedy="Return the network, or (network, example_inputs).",
        )
    return model, example


def _foreign_module(error: BaseException, source: str) -> ModelError | None:
    """The user's file needs a package that is beside us, but not in TensorFlow's environment."""
    missing = re.search(r"there is no module ([\w.]+)", str(error)) if isinstance(error, ModelError) else None
    name = error.name if isinstance(error, ModuleNotFoundError) else missing and missing[1]
    if not name:
        return None
    return ModelError(
        f"{source} needs {name}, which is not where TensorFlow is.",
        remedy="Install TensorFlow beside your packages (pip install tensorflow tf2onnx), or give model.keras.",
    )


def _of_keras(model: Any, example: Any, shapes: Mapping[str, list[int]], source: str) -> Network:
    import tensorflow as tf

    specs, notes = _specs(model, example, shapes, source), _unroll(model)
    structure = getattr(model, "_inputs_struct", None)  # a functional network may take a dict

    def plain(*tensors: Any) -> Any:
        if structure is not None:
            return model(tf.nest.pack_sequence_as(structure, list(tensors)), training=False)
        return model(*tensors, training=False)

    try:
        result = plain(*(_numbers(spec) for spec in specs))
    except Exception as error:  # layers raise whatever they raise
        told = ", ".join(f"{spec.name}: {spec.dtype.name}{list(spec.shape)}" for spec in specs)
        raise user_problem(f"running {source} on {told}", error, ModelError) from None
    names = _output_names(model, result)

    def call(*tensors: Any) -> dict[str, Any]:
        return dict(zip(names, tf.nest.flatten(plain(*tensors)), strict=True))

    return Network(call, specs, model, notes)


def _numbers(spec: Any) -> Any:
    """The smallest input: normal numbers where it is real, as zeros may have no inverse; zeros elsewhere."""
    import tensorflow as tf

    sizes = [size or 1 for size in spec.shape]
    return (
        tf.random.stateless_normal(sizes, (0, 0), dtype=spec.dtype)
        if spec.dtype.is_floating
        else tf.zeros(sizes, spec.dtype)
    )


def _unroll(model: Any) -> tuple[str, ...]:
    """Write out the steps of GRUs and simple RNNs where they are few: tf2onnx makes loops of them, not so of LSTMs."""
    import keras

    names = []
    for layer in _layers_of(model):
        if not isinstance(layer, keras.layers.RNN) or isinstance(layer, keras.layers.LSTM) or layer.unroll:
            continue
        steps = ((layer.get_build_config() or {}).get("input_shape") or (None, None))[1]
        if steps is not None and steps <= LONGEST_UNROLLED and not layer.stateful:
            layer.unroll = True
            names.append(layer.name)
    return (f"Steps of {', '.join(names)} were written out one after the other.",) if names else ()


def _layers_of(model: Any) -> Iterator[Any]:
    """All layers, those inside of others (`Bidirectional`, `TimeDistributed`, networks) too."""
    for layer in getattr(model, "layers", ()):
        yield layer
        inside = [getattr(layer, name, None) for name in ("forward_layer", "backward_layer", "layer")]
        yield from (one for one in inside if one is not None)
        yield from _layers_of(layer)


def _specs(model: Any, example: Any, shapes: Mapping[str, list[int]], source: str) -> tuple[Any, ...]:
    """Names, types and sizes of the inputs: the network's own, else the example's, else those of ``--input``."""
    import numpy as np
    import tensorflow as tf

    if getattr(model, "inputs", None):
        return tuple(tf.TensorSpec(one.shape, one.dtype, name=_plain(one.name)) for one in model.inputs)
    if example is None and not shapes:
        raise ModelError(
            f"{source} does not say what it takes: it is a subclass of keras.Model that was never called.",
            remedy="Say --input x=1,28,28,1 (with your sizes), or let the function return (model, example_inputs).",
        )
    if example is None:
        example = {name: np.zeros(sizes, np.float32) for name, sizes in shapes.items()}
    values = example if isinstance(example, Mapping) else dict(zip(_parameters(model), _listed(example), strict=False))
    arrays = {name: np.asarray(value) for name, value in values.items()}
    return tuple(tf.TensorSpec((None, *one.shape[1:]), _narrow(one.dtype), name=name) for name, one in arrays.items())


def _parameters(model: Any) -> list[str]:
    found = [name for name in inspect.signature(model.call).parameters if name not in ("training", "mask", "self")]
    return found or ["x"]


def _listed(example: Any) -> Sequence[Any]:
    return list(example) if isinstance(example, (list, tuple)) else [example]


def _narrow(dtype: Any) -> str:
    return "float32" if str(dtype) == "float64" else str(dtype)


def _plain(name: str) -> str:
    """Without TensorFlow's output number: ``image:0``."""
    return name.partition(":")[0]


def _output_names(model: Any, result: Any) -> list[str]:
    """The keys where it gives a dict, the layers' names of a functional or sequential network, else numbers."""
    import keras
    import tensorflow as tf

    count = len(tf.nest.flatten(result))
    if isinstance(result, Mapping):
        return [str(name) for name in sorted(result)] if len(result) == count else _numbered(count)
    sequence = [model.layers[-1].name] if isinstance(model, keras.Sequential) else ()
    names = [_plain(name) for name in getattr(model, "output_names", None) or sequence]
    return names if len(names) == count and len(set(names)) == count else _numbered(count)


def _numbered(count: int) -> list[str]:
    return ["output"] if count == 1 else [f"output_{number}" for number in range(count)]


def _of_saved_model(source: str, signature: str) -> Network:
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(source)
    except Exception as error:  # OSError, and what unknown operators and damaged files raise
        reason = " ".join(str(error).split())[:250].rstrip(".")
        raise ModelError(f"{source} cannot be read as a SavedModel: {reason}.", remedy="Export it again.") from None
    function = loaded.signatures[_chosen(source, signature, sorted(loaded.signatures))]
    inputs = function.structured_input_signature[1]
    names = sorted(inputs)

    def call(*tensors: Any) -> dict[str, Any]:
        return dict(function(**dict(zip(names, tensors, strict=True))))

    specs = tuple(tf.TensorSpec(inputs[name].shape, inputs[name].dtype, name=name) for name in names)
    return Network(call, specs, owner=loaded)


def _chosen(source: str, asked: str, there: Sequence[str]) -> str:
    """The signature to take.

    Raises:
        ModelError: There is none, not the one that was asked for, or several and none is the default.
    """
    if not there:
        raise ModelError(
            f"{source} is a SavedModel without signatures: nothing says what it takes and gives.",
            remedy="Save it with tf.saved_model.save(model, folder, signatures=function), or model.export of Keras.",
        )
    if asked and asked not in there:
        raise ModelError(f"{source} has no signature {asked!r}.", remedy=f"It has: {', '.join(there)}.")
    wanted = asked or (there[0] if len(there) == 1 else DEFAULT_SIGNATURE)
    if wanted not in there:
        raise ModelError(
            f"{source} has {len(there)} signatures ({', '.join(there)}).", remedy=f"Name one: {source}:{there[0]}."
        )
    return wanted
