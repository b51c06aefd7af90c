"""A bare loop over one file in one runtime, by the runtime's own interface: what an application does at the least.

    python bare.py RUNTIME FILE SAMPLES SECONDS [OUTPUTS]    prints median nanoseconds and peak bytes as JSON

For networks with one input, on one thread. OUTPUTS: file for the outputs of all samples. Imports nothing of edgeopt.
"""

import json
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Call = Callable[[np.ndarray], Any]
_INPUT = "input:"


def onnxruntime(path: str) -> Call:
    """`InferenceSession.run`."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda array: session.run(None, {name: array})


def openvino(path: str) -> Call:
    """`InferRequest.infer` in float32 where the file is float, sizes fixed to those of the first input."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino as ov

    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    core, requests = ov.Core(), []

    def call(array: np.ndarray) -> Any:
        if not requests:
            model = core.read_model(path)
            model.reshape(array.shape)
            requests.append(core.compile_model(model, "CPU", {**options, "NUM_STREAMS": 1}).create_infer_request())
        return list(requests[0].infer([array], share_inputs=True).values())

    return call


def litert(path: str) -> Call:
    """`Interpreter.invoke`."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    given, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()

    def call(array: np.ndarray) -> Any:
        interpreter.set_tensor(given["index"], array.astype(given["dtype"], copy=False))
        interpreter.invoke()
        return [interpreter.get_tensor(detail["index"]) for detail in outputs]

    return call


def ncnn(path: str) -> Call:
    """One extractor for each run; the file is edgeopt's zip of ncnn's two."""
    import ncnn as library

    net = library.Net()
    net.opt.num_threads, net.opt.use_vulkan_compute = 1, False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        archive.extractall(folder)
        net.load_param(f"{folder}/model.param")
        net.load_model(f"{folder}/model.bin")
        ports = json.loads(archive.read("meta.json"))

    def call(array: np.ndarray) -> Any:
        extractor = net.create_extractor()
        values = array[0] if array.dtype.kind == "f" else array[0].astype(np.int32)
        extractor.input(ports["inputs"][0]["tensor"], library.Mat(values))
        return [np.array(extractor.extract(port["tensor"])[1]) for port in ports["outputs"]]

    return call


def mnn(path: str) -> Call:
    """`Module.forward`."""
    import MNN.expr as expr
    import MNN.nn as nn

    manager = nn.create_runtime_manager(({"backend": "CPU", "numThread": 1, "precision": "high"},))
    module = nn.load_module_from_file(path, [], [], runtime_manager=manager)

    def call(array: np.ndarray) -> Any:
        kind = expr.float if array.dtype.kind == "f" else expr.int
        values = array if array.dtype.kind == "f" else array.astype(np.int32)
        given = expr.const(values, list(values.shape), expr.NCHW, kind)
        return [np.array(found.read()) for found in module.forward([given])]

    return call


def executorch(path: str) -> Call:
    """`Method.execute`."""
    import executorch.extension.pybindings.portable_lib as bindings
    import torch
    from executorch.runtime import Runtime

    bindings._unsafe_reset_threadpool(1)
    program = Runtime.get().load_program(path)
    method = program.load_method("forward")
    return lambda array: [found.numpy() for found in method.execute([torch.from_numpy(array)])]


RUNTIMES = {one.__name__: one for one in (onnxruntime, openvino, litert, ncnn, mnn, executorch)}


def main(runtime: str, path: str, samples: str, seconds: float, outputs: str = "") -> None:
    """Load, warm up, run for so long."""
    call = RUNTIMES[runtime](path)
    with np.load(samples) as file:
        (array,) = [file[name] for name in file.files if name.startswith(_INPUT)]
    feeds = list(array[:4])
    for i in range(10):
        call(feeds[i % len(feeds)])
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        feed = feeds[len(times) % len(feeds)]
        start = time.perf_counter_ns()
        call(feed)
        times.append(time.perf_counter_ns() - start)
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    if outputs:
        keep(call, array, outputs)
    print(json.dumps([sorted(times)[len(times) // 2], int(peak.split()[1]) * 1024]), flush=True)
    os._exit(0)


def keep(call: Call, array: np.ndarray, path: str) -> None:
    """Write every output, [samples, ...], largest first: runtimes differ in the order."""
    rows = [sorted((np.array(one) for one in call(sample)), key=lambda one: -one.size) for sample in array]
    np.savez(path, *(np.stack(column) for column in zip(*rows, strict=True)))


if __name__ == "__main__":
    main(*sys.argv[1:4], float(sys.argv[4]), *sys.argv[5:])
