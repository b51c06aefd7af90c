"""Keras networks really trained on digits, SavedModels and TFLite files: made where TensorFlow is, in a child process.

`tests/data/keras` holds what of them can be tested without TensorFlow: the TFLite files, and `picture.onnx`, which
`load_model` made of `picture.keras`.
"""

from __future__ import annotations

import os
from pathlib import Path

EPOCHS = 20
TRAINING = 1400
RECORDED = Path(__file__).parent.parent / "data" / "keras"

FUNCTIONS = """
import keras
from keras import layers


@keras.saving.register_keras_serializable("tests")
class Twice(layers.Layer):
    def call(self, x):
        return 2 * x


def build(width=4):
    image = keras.Input((8, 8, 1), name="image")
    return keras.Model(image, layers.Dense(width, name="score")(layers.Flatten()(Twice()(image))))


def load():
    return keras.saving.load_model("custom.keras")


class Subclass(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x, training=False):
        return {"double": self.dense(2 * x), "single": self.dense(x)}


def subclass():
    return Subclass()


def inverting():
    square = keras.Input((4, 4), name="square")
    return keras.Model(square, keras.ops.linalg.inv(square))


def number():
    return 3


def dependent():
    import sklearn
"""


def make(folder: str, digits: str) -> None:
    """Write every network into `folder`.

    Args:
        folder: Exists.
        digits: `.npz` with ``images`` [N, 8, 8, 1] and ``labels`` [N].
    """
    os.environ.update({"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow"})
    import keras
    import numpy as np

    with np.load(digits) as data:
        images, labels = data["images"][:TRAINING], data["labels"][:TRAINING]
    os.chdir(folder)
    keras.utils.set_random_seed(0)
    Path("nets.py").write_text(FUNCTIONS)
    picture = _trained(_convolutional(), images, labels)
    picture.save("picture.keras")
    picture.save("picture.h5")
    picture.save_weights("picture.weights.h5")
    picture.export("saved", verbose=False)
    _trained(_recurrent(), images[..., 0], labels).save("rows.keras")
    _write_tflite(picture)
    _write_saved_models()
    _write_custom()


def _convolutional():
    import keras
    from keras import layers

    image = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Add()([x, layers.Conv2D(16, 3, padding="same", activation="relu")(x)])
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", activation="relu6")(x)
    x = layers.Conv2D(32, 1, activation="relu")(x)
    x = layers.Dropout(0.1)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(10, name="digit")(x), name="picture")


def _recurrent():
    import keras
    from keras import layers

    rows = keras.Input((8, 8), name="rows")
    state = layers.LSTM(16, name="state")(rows)
    back = layers.Bidirectional(layers.GRU(8))(rows)
    digit = layers.Dense(10, activation="softmax", name="digit")(layers.Concatenate()([state, back]))
    return keras.Model(rows, [digit, state], name="rows")


def _trained(model, images, labels):
    import keras

    logits = len(model.outputs) == 1
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
    losses = loss if logits else [loss, None]
    model.compile(keras.optimizers.Adam(5e-3), losses)
    model.fit(images, labels if logits else [labels, labels], batch_size=50, epochs=EPOCHS, verbose=0)
    bare = keras.models.clone_model(model)  # without the optimiser's state, which files would hold
    bare.set_weights(model.get_weights())
    return bare


def _write_tflite(model) -> None:
    import tensorflow as tf

    Path("picture.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())

    @tf.function(input_signature=[tf.TensorSpec((2, 2), tf.float32, name="x")])
    def inverse(x):
        return {"y": tf.linalg.inv(x)}

    converter = tf.lite.TFLiteConverter.from_concrete_functions([inverse.get_concrete_function()])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    Path("flex.tflite").write_bytes(converter.convert())


def _write_saved_models() -> None:
    import tensorflow as tf

    class Module(tf.Module):
        def __init__(self):
            self.weights = tf.Variable([[1.0, 2.0], [3.0, 4.0]])

        @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32, name="x")])
        def classify(self, x):
            return {"score": x @ self.weights}

        @tf.function(
            input_signature=[
                tf.TensorSpec((None, 2), tf.float32, name="x"),
                tf.TensorSpec((None,), tf.int32, name="factor"),
            ]
        )
        def scale(self, x, factor):
            scaled = x * tf.cast(factor, tf.float32)[:, None]
            return {"total": tf.reduce_sum(scaled, 1), "score": scaled @ self.weights}

    module = Module()
    tf.saved_model.save(module, "two", signatures={"classify": module.classify, "scale": module.scale})
    tf.saved_model.save(module, "none")


def _write_custom() -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("nets", "nets.py")
    nets = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(nets)
    nets.build().save("custom.keras")


def digits(path: Path) -> Path:
    """Write the samples that `make` trains on."""
    import numpy as np
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    np.savez(path, images=(images.reshape(-1, 8, 8, 1) / 16).astype(np.float32), labels=labels.astype(np.int64))
    return path
