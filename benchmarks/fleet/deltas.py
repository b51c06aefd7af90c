"""Bytes that a retrained model takes to boards that have the one before: `python benchmarks/fleet/deltas.py`.

Needs the `torch` extra. Networks trained on scikit-learn's digits are trained on: all layers at three rates, or the
last layer alone; both releases go through the same recipe with the same calibration samples. Each patch is applied as
a board does it and compared byte by byte. LiteRT takes part where its converter is there already: `edgeopt deploy
--recipes litert-int8` installs it. Then what making and applying a patch of a large made model costs, the latter on
the oldest interpreter found.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt.deltas import PatchReport, make_patch
from edgeopt.passes.make import MakeContext, make_variant
from edgeopt.workflow.recipes import missing_tools
from edgeopt.workflow.request import Request
from edgeopt_runner.patches import apply
from support.deltas import int8_weights, onnx_file, sha256
from support.pythons import interpreters
from support.runner import bundle_path
from support.trained import module_of, trained

ALL = ("zlib", "bz2", "lzma")


@dataclass(frozen=True)
class Retrained:
    """How a network was trained on.

    Attributes:
        name: For the table.
        rate: Learning rate of AdamW.
        epochs: Over the training samples.
        head_only: Whether only the last layer learns.
    """

    name: str
    rate: float
    epochs: int
    head_only: bool = False


WAYS = (
    Retrained("all layers, rate 1e-5", 1e-5, 3),
    Retrained("all layers, rate 1e-4", 1e-4, 3),
    Retrained("all layers, rate 1e-3", 1e-3, 3),
    Retrained("last layer", 1e-3, 3, head_only=True),
)
RECIPES = (
    Recipe("onnx float32", (PassSpec("simplify"),), "float32"),
    Recipe("onnx float16", (PassSpec("simplify"), PassSpec("cast_half")), "float16"),
    Recipe("onnx int8", (PassSpec("simplify"), PassSpec("quantise_static")), "int8"),
    Recipe("onnx int8 mse", (PassSpec("simplify"), PassSpec("quantise_static", {"calibrator": "mse"})), "int8"),
    Recipe("tflite int8", (PassSpec("simplify"), PassSpec("convert_litert", {"precision": "int8"})), "int8"),
    Recipe("tflite float", (PassSpec("simplify"), PassSpec("convert_litert", {"precision": "float"})), "float32"),
)
LARGE_CHILD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from edgeopt_runner import memory, patches
before = memory.peak_bytes()
start = time.process_time()
patches.apply(*sys.argv[2:6] + [int(sys.argv[6])])
print(time.process_time() - start, memory.peak_bytes() - before)
"""


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="*", default=["residual", "depthwise", "transformer"])
    parser.add_argument("--large-mib", type=int, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        worst = {}
        for name in arguments.networks:
            for row in rows(name, Path(folder, name)):
                worst[row[:2]] = max(worst.get(row[:2], 0.0), row[2])
        print("\nLargest shares of the file")
        for (recipe, way), share in worst.items():
            print(f"  {recipe:15}{way:25}{share:7.1%}")
        large(Path(folder), arguments.large_mib)


def rows(name: str, folder: Path) -> Iterator[tuple[str, str, float]]:
    """Print a network's table; yields recipe, way and the patch's share of the file."""
    folder.mkdir()
    networks = {way.name: exported(retrained(name, way), folder / f"{index}.onnx") for index, way in enumerate(WAYS)}
    first = exported(module_of(name), folder / "first.onnx")
    print(f"\n{name:16}{'':25}{'file':>10}{'alone':>9}{'patch':>9}{'share':>8}{'zlib only':>11}")
    for recipe in (one for one in RECIPES if not missing_tools(one, Request(""))):
        base = variant(first, recipe, name, folder)
        for way, network in networks.items():
            target = variant(network, recipe, name, folder)
            full, zlib_only = (patched(base, target, folder, codecs) for codecs in (ALL, ("zlib",)))
            alone = make_patch(None, target, folder / "alone", ALL)
            sizes = f"{target.stat().st_size:10}{alone.size_bytes:9}{full.size_bytes:9}"
            print(f"{recipe.name:16}{way:25}{sizes}{full.share:8.1%}{zlib_only.share:11.1%}")
            yield recipe.name, way, full.share


def retrained(name: str, way: Retrained) -> nn.Module:
    """The trained network, trained on."""
    network = module_of(name)
    torch.manual_seed(1)
    samples = np.load(trained(name).training)
    images = torch.from_numpy(samples["input:image"][:, 0])
    labels = torch.from_numpy(samples["labels"][:, 0])
    learning = network.head if way.head_only else network
    network.train(not way.head_only)  # with its layers frozen, the batch statistics stay too
    optimiser = torch.optim.AdamW(learning.parameters(), lr=way.rate)
    for _ in range(way.epochs):
        for batch in torch.randperm(len(images)).split(50):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimiser.step()
    return network.eval()


def exported(network: nn.Module, path: Path) -> Path:
    """The network as ONNX, as users export it."""
    axes = {"image": {0: "batch"}, "logits": {0: "batch"}}
    names = {"input_names": ["image"], "output_names": ["logits"]}
    torch.onnx.export(network, (torch.zeros(2, 1, 8, 8),), path, dynamo=False, dynamic_axes=axes, **names)
    return path


def variant(network: Path, recipe: Recipe, name: str, folder: Path) -> Path:
    """The network after a recipe; calibrated with the same samples every time."""
    samples = trained(name).calibration
    context = MakeContext(
        golden=samples, calibration=samples, cache=folder / "cache", machine=os.uname().machine, isa=()
    )
    return make_variant(network, recipe, context).path


def patched(base: Path, target: Path, folder: Path, algorithms: tuple[str, ...]) -> PatchReport:
    """Make a patch, and apply it as a board does."""
    report = make_patch(base, target, folder / "patch", algorithms)
    apply(str(base), str(folder / "patch"), str(folder / "out"), sha256(target), target.stat().st_size)
    assert (folder / "out").read_bytes() == target.read_bytes()
    return report


def large(folder: Path, mib: int) -> None:
    """Print what a patch of a large INT8 model costs, and of one of floats, whose noise has to be sent."""
    version, python = min(interpreters().items(), key=lambda one: int(one[0].split(".")[1]))
    print(f"\n{mib} MiB, made weights{'patch':>18}{'made in':>10}{'applied in (CPU)':>20}{'its memory':>14}")
    layers = {"layers": mib, "count": 1 << 20}
    int8 = int8_weights(**layers), int8_weights(**layers, noise=0.3)
    cost("int8", [onnx_file(folder / f"i{n}.onnx", one) for n, one in enumerate(int8)], folder, python)
    del int8
    floats = np.random.default_rng(0).normal(0, 0.05, mib << 18).astype(np.float32)
    tuned = floats + np.random.default_rng(1).normal(0, 1e-4, mib << 18).astype(np.float32)
    paths = [onnx_file(folder / f"f{n}.onnx", {"w": values}) for n, values in enumerate((floats, tuned))]
    cost("float32", paths, folder, python)
    print(f"applied by Python {version}")


def cost(name: str, paths: list[Path], folder: Path, python: str) -> None:
    """Print one row of `large`."""
    start = time.perf_counter()
    report = make_patch(*paths, folder / "patch", ALL)
    made = time.perf_counter() - start
    given = [str(bundle_path()), *map(str, paths[:1]), str(folder / "patch"), str(folder / "out"), sha256(paths[1])]
    command = [python, "-I", "-c", LARGE_CHILD, *given, str(paths[1].stat().st_size)]
    seconds, growth = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    print(f"{name:23}{report.share:18.1%}{made:9.1f}s{float(seconds):19.1f}s{int(growth) / (1 << 20):10.1f} MiB")


if __name__ == "__main__":
    main()
