"""The main job on networks of many kinds, on this machine: `python benchmarks/architectures.py` (`torch` extra).

Each network (made weights, made samples) goes through `edgeopt deploy` as a user would give it: a function, an ONNX
file of either exporter, or a `.pt2` program. Home folders are temporary. The table says what was chosen, how much
faster it is than the original on the device, how well the outputs agree there (mean cosine, and share of equal
arg-maxes), minutes for all, and the largest memory of any process on the host.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parent))

import networks

from support import architectures

SAMPLES = 64


@dataclass(frozen=True)
class Case:
    """How a network is given.

    Attributes:
        network: Its name in `support.architectures` or `networks`.
        form: ``function``, ``pt2``, ``onnx`` (dynamo, batch 1), or ``onnx-11`` (TorchScript exporter, that opset).
    """

    network: str
    form: str = "function"

    def __str__(self) -> str:
        return self.network if self.form == "function" else f"{self.network} {self.form}"


CASES = (
    *(Case(name) for name in (*networks.NETWORKS, *architectures.NETWORKS)),
    Case("resnet18", "onnx"),
    Case("mobilenet_v2", "onnx"),
    Case("unet", "onnx-11"),
    Case("two_inputs", "onnx-12"),
    Case("lstm", "onnx-13"),
    Case("vit", "onnx-14"),
    Case("sensor", "pt2"),
    Case("encoder", "pt2"),
)


def main() -> None:
    """Parse the command line, and print one row for each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="names as in the table")
    parser.add_argument("--keep", metavar="FOLDER", help="keep homes, records and logs there")
    parser.add_argument("words", nargs="*", help="further options of edgeopt deploy, after --")
    arguments = parser.parse_args()
    print(f"{'network':22}{'original':>11}  {'chosen':32}{'faster':>7}{'cosine':>9}{'top-1':>7}{'min':>6}{'MiB':>6}")
    for case in CASES:
        if not arguments.only or str(case) in arguments.only:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(arguments.keep, str(case).replace(" ", "-")) if arguments.keep else Path(name)
                folder.mkdir(parents=True, exist_ok=True)
                print(row(case, folder, arguments.words), flush=True)


def row(case: Case, folder: Path, words: list[str]) -> str:
    """Run one case and say what came of it."""
    source = given(case, folder)
    started = time.monotonic()
    status, peak_bytes = run(folder, [*source, *words])
    took = f"{(time.monotonic() - started) / 60:6.1f}{peak_bytes / 2**20:6.0f}"
    try:
        record = json.loads((folder / "record.json").read_text())
    except ValueError:
        reason = (folder / "log").read_text().strip().splitlines()[-1:]
        return f"{case!s:22}exit {status}: {' '.join(reason)[:100]} {took}"
    return f"{case!s:22}{told(record)}{took}"


def given(case: Case, folder: Path) -> list[str]:
    """Write the network and its samples the way the case wants; the words of the command line that name them."""
    if case.network in networks.NETWORKS:
        module, inputs = networks.NETWORKS[case.network](), {"input": architectures.pictures(1, 3, 224)}
    else:
        module, inputs = architectures.NETWORKS[case.network]()
    np.savez(folder / "samples.npz", **architectures.samples_of(inputs, SAMPLES))
    model = write(case, module, inputs, folder)
    return [model, "--data", str(folder / "samples.npz")]


def write(case: Case, module: Any, inputs: dict[str, Any], folder: Path) -> str:
    """The model in the case's form, as the command line names it."""
    import torch

    if case.form == "function":
        path = folder / "network.py"
        path.write_text(_FUNCTION.format(paths=sys.path[:2], case=case))
        return f"{path}:{case.network}"
    if case.form == "pt2":
        path = folder / "network.pt2"
        batch = {name: {0: torch.export.Dim("batch", min=1, max=64)} for name in inputs}
        example = {name: value.repeat(2, *[1] * (value.dim() - 1)) for name, value in inputs.items()}
        torch.export.save(torch.export.export(module, (), example, dynamic_shapes=batch), path)
        return str(path)
    path = folder / "network.onnx"
    options: dict[str, Any] = {"dynamo": True, "external_data": False}
    if case.form != "onnx":
        options = {"dynamo": False, "opset_version": int(case.form.partition("-")[2])}
        options["dynamic_axes"] = {name: {0: "batch"} for name in inputs}
    torch.onnx.export(module, tuple(inputs.values()), str(path), input_names=list(inputs), verbose=False, **options)
    return str(path)


_FUNCTION = """import sys
sys.path[:0] = {paths!r}
import networks
from support import architectures

def {case.network}():
    if "{case.network}" in networks.NETWORKS:
        return networks.NETWORKS["{case.network}"](), {{"input": architectures.pictures(1, 3, 224)}}
    return architectures.NETWORKS["{case.network}"]()
"""


def run(folder: Path, words: list[str]) -> tuple[int, int]:
    """`edgeopt deploy` to its end: exit code, and largest memory of any of its processes in bytes."""
    command = [str(Path(sys.executable).with_name("edgeopt")), "deploy", *words, "--target", "local"]
    command += ["--effort", "quick", "--launches", "1", "--json"]
    places = {"HOME": folder / "home", "EDGEOPT_HOME": folder / "edgeopt", "EDGEOPT_LOCK": folder / "lock"}
    places["HOME"].mkdir(exist_ok=True)
    environment = {**os.environ, **{name: str(place) for name, place in places.items()}}
    with open(folder / "record.json", "wb") as out, open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=out, stderr=log, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024


def told(record: dict[str, Any]) -> str:
    """Original and winner as measured on the device; the original at its own best settings."""
    found = record["selection"]["assessments"]
    original = min(each["latency_ns"]["value"] for each in found if each["candidate"]["variant"]["name"] == "original")
    start = f"{original / 1e6:8.2f} ms  "
    winner = next((each for each in found if each["verdict"] == "winner"), None)
    if winner is None:
        return start + "none meets the budget".ljust(55)
    name = f"{winner['candidate']['variant']['name']} / {winner['candidate']['settings']['threads']}"
    kept = len(winner["candidate"]["variant"]["kept_float"])
    name += f" ({kept} layers float)" if kept else ""
    accuracy = next(filter(None, (each["accuracy"] for each in winner["candidate"]["measurements"])))
    agreement = accuracy["extra"]["top1_agreement"]
    return f"{start}{name:32}{winner['speedup']['value']:6.2f}x{winner['metric']:9.4f}{agreement:7.0%}"


if __name__ == "__main__":
    main()
