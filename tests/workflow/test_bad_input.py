"""Input that cannot work, through the real command line: what happened, the value, the remedy, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.bad_input import nothing_lost, refused
from support.command import Command

OPTIONS = [
    (["--target", "mars"], ["--target 'mars'", "edgeopt device add mars user@host"]),
    (["--target", "x86-avx512-vnnj"], ["--target 'x86-avx512-vnnj'", "Did you mean x86-avx512-vnni?"]),
    (["--target", "user@"], ["'user@' is not an address", "user@host:port"]),
    (["--profile", "x86-avx512-vnnj"], ["no profile 'x86-avx512-vnnj'", "Did you mean x86-avx512-vnni?"]),
    (["--max-drop", "lots"], ["--max-drop 'lots'", "1%, 0.01 or none"]),
    (["--max-drop", "5"], ["--max-drop '5' is more than the whole metric", "Did you mean 5%?"]),
    (["--max-latency", "20"], ["--max-latency '20'", "Say 20ms"]),
    (["--max-latency", "p42 20 ms"], ["no statistic 'p42'", "p90, p95"]),
    (["--max-memory", "many"], ["--max-memory 'many'", "200MB"]),
    (["--max-size", "0"], ["--max-size '0' is not above zero", "200MB"]),
    (["--threads", "two"], ["--threads 'two'", "--threads 1,2,4"]),
    (["--input", "1,2,3"], ["--input '1,2,3'", "x=1,3,224,224"]),
    (["--scale", "big"], ["--scale is 'big'", "1/255"]),
    (["--scale", "0"], ["--scale is 0", "1/255"]),
    (["--layout", "nhwc"], ["--layout is 'nhwc'", "hwc or chw"]),
    (["--effort", "heroic"], ["--effort 'heroic'", "quick, standard, full"]),
    (["--launches", "0"], ["--launches 0", "12 is the default"]),
    (["--launches", "many"], ["'--launches'", "whole number", "edgeopt deploy --help"]),
    (["--app", "My App"], ["--app 'My App'", "lower-case letters"]),
    (["--minimise", "beauty"], ["--minimise 'beauty'", "latency, memory, size"]),
    (["--evaluation", "0"], ["--evaluation is 0", "1 sample or more"]),
    (["--seed", "-3"], ["--seed is -3", "0 or more"]),
    (["--html", "absent/page.html"], ["--html 'absent/page.html'", "Make the folder first"]),
    (["--frob"], ["--frob", "edgeopt deploy --help"]),
]


@pytest.mark.parametrize(("words", "parts"), OPTIONS, ids=lambda value: " ".join(value) if value else "")
def test_an_option_that_cannot_be_used_names_its_value_and_what_it_takes(
    command: Command, edgeopt_home: Path, words: list[str], parts: list[str]
) -> None:
    refused(command("deploy", "m.onnx", *words), 2, *parts)
    nothing_lost(edgeopt_home)


MODELS = [
    ("absent.onnx", ["there is no file absent.onnx", "m.onnx"]),
    ("dir.onnx", ["dir.onnx is a folder", "the model file inside it"]),
    ("text.onnx", ["text.onnx is not an ONNX file", "onnx.checker"]),
    ("short.onnx", ["short.onnx is not an ONNX file, or was cut short", "onnx.checker"]),
    ("empty.onnx", ["empty.onnx is empty (0 bytes)", "again"]),
    ("op.onnx", ["op.onnx is not valid ONNX", "Frobnicate", "Export it again"]),
    ("ext.onnx", ["keeps its weights in ext.bin", "Copy ext.bin"]),
    ("keras.h5", ["keras.h5 is not an HDF5 file", "copy it again"]),
    ("weights.pth", ["weights.pth is a .pth file", "nets.py:build"]),
    ("net.tflite", ["net.tflite is not a TFLite file", "Convert or copy it again"]),
    ("net.xyz", ["net.xyz is no kind of model", "Give an .onnx, .pt2, .keras or .tflite file"]),
    ("nets.py", ["say which function", "with_example"]),
    ("nets.py:nope", ["has no function nope", "with_example", "bare"]),
    ("absent.py:build", ["there is no file absent.py", "nets.py:build"]),
    ("nowhere.nets:build", ["no module nowhere", "nets.py:build"]),
]


@pytest.mark.parametrize(("model", "parts"), MODELS, ids=[model for model, _ in MODELS])
def test_a_model_that_cannot_be_taken_in_says_why_and_what_to_give(
    command: Command, edgeopt_home: Path, model: str, parts: list[str]
) -> None:
    refused(command("init", model), 2, *parts)
    assert not Path("edgeopt.yaml").exists()
    nothing_lost(edgeopt_home)


TORCH = [
    ("nets.py:raises", ["calling nets.py:raises failed: RuntimeError: weights.pt is missing", "nets.py, line"]),
    ("nets.py:number", ["nets.py:number returned 3 (int)", "example_inputs"]),
    ("nets.py:bare", ["nets.py:bare returns no example inputs", "--input image="]),
]


@pytest.mark.parametrize(("model", "parts"), TORCH, ids=[model for model, _ in TORCH])
def test_a_function_that_gives_no_network_says_what_it_gave(
    command: Command, edgeopt_home: Path, model: str, parts: list[str]
) -> None:
    pytest.importorskip("torch")
    refused(command("init", model), 2, *parts)
    nothing_lost(edgeopt_home)


DATA = [
    (["absent.npz"], ["there is no file absent.npz", "Check the path"]),
    (["bad.npz"], ["bad.npz cannot be read as .npz", "numpy.savez"]),
    (["m.onnx"], ["m.onnx is no kind of data", ".npz file"]),
    (["name.npz"], ["has no input image; it gives picture", "image: float32[?,1,8,8]"]),
    (["hwc.npz"], ["float32[8, 8, 1]", "--layout hwc"]),
    (["bytes.npz"], ["is uint8, the model wants float32", "--scale 1/255"]),
    (["nan.npz"], ["sample 7", "NaN", "repair the sample"]),
    (["length.npz"], ["image: 40, labels: 30", "as many"]),
    (["range.npz"], ["labels go from 5 to 14", "classes 0 to 9"]),
    (["none.npz"], ["none.npz gives no samples", "arrays with entries"]),
    (["one.npz"], ["there is 1 sample", "--overlap"]),
    (["code.py:none"], ["code.py:none returned None", "Yield (inputs, label)"]),
    (["code.py:burns"], ["item 1", "RuntimeError: disk on fire", "code.py, line"]),
    (["ok.npz", "--metric", "f1"], ["--metric is 'f1'", "top1, fidelity or file.py:function"]),
    (["ok.npz", "--metric", "code.py:nope"], ["no function nope", "misses, nan"]),
    (["ok.npz", "--metric", "code.py:misses"], ["KeyError: 'nope'", "code.py, line"]),
    (["ok.npz", "--metric", "code.py:nan"], ["code.py:nan returned nan", "finite number"]),
]


@pytest.mark.parametrize(("words", "parts"), DATA, ids=lambda value: " ".join(value))
def test_samples_or_a_metric_that_do_not_fit_say_which_and_how_to_mend_them(
    command: Command, edgeopt_home: Path, words: list[str], parts: list[str]
) -> None:
    refused(command("deploy", "m.onnx", "-q", "--data", *words), 2, *parts)
    nothing_lost(edgeopt_home)
