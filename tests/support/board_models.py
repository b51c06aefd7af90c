"""Deployments for emulated boards: a network trained on digits, and one that takes more memory than there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from support.trained import trained
from support.workflow import SHORT_WORDS

SAMPLES = 64


def digits_words(folder: Path) -> list[str]:
    """Words of a deployment of the trained network, with samples that it never saw; its samples go into `folder`."""
    task, samples = trained("residual"), folder / "samples.npz"
    with np.load(task.evaluation) as held:
        np.savez(samples, image=held["input:image"][:, 0], labels=held["labels"][:, 0])
    words = ["deploy", str(task.network), "--data", str(samples), "--app", "digits", *SHORT_WORDS]
    words += ["--recipes", "optimised"]
    return changed(words, evaluation=SAMPLES)


def changed(words: list[str], **options: str | int) -> list[str]:
    """The same words with other values of options that are among them."""
    found = list(words)
    for name, value in options.items():
        found[found.index(f"--{name}") + 1] = str(value)
    return found


def greedy_words(folder: Path, size_bytes: int) -> list[str]:
    """Words of a deployment of a small file whose one layer makes a tensor of so many bytes."""
    repeats = helper.make_tensor("repeats", TensorProto.INT64, [2], [1, size_bytes // 4 // 32])
    graph = helper.make_graph(
        [
            helper.make_node("Tile", ["x", "repeats"], ["wide"]),
            helper.make_node("ReduceMean", ["wide"], ["y"], axes=[1], keepdims=1),
        ],
        "greedy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [repeats],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.save(model, folder / "greedy.onnx")
    samples = np.random.default_rng(0).standard_normal((8, 32)).astype(np.float32)
    np.savez(folder / "samples.npz", x=samples)
    data = ["--data", str(folder / "samples.npz"), "--recipes", "optimised"]
    return ["deploy", str(folder / "greedy.onnx"), *data, *SHORT_WORDS]
