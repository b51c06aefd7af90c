"""INT8 against float in every runtime of this machine: `python benchmarks/int8.py`. Needs the `torch` extra.

Makes ResNet-18 and MobileNetV2 (3×224×224, made weights), compresses them by the recipes of the profile that this
machine fits plus other forms for comparison, and times all of them interleaved, in a rotated order, in one process.
LiteRT takes part where its converter is there already: `edgeopt deploy --recipes litert-int8` installs it.

What an x86 CPU without VNNI can give: a uint8 × int8 product takes two multiplying instructions for 32 products
(`vpmaddubsw`, `vpmaddwd`), a float one two for 16 (`vfmadd`): at most 2 times faster where both run at their peak.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import networks

from edgeopt.core.device import LOCAL, DeviceFacts
from edgeopt.core.formats import reads
from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt.errors import PassError
from edgeopt.passes.make import MakeContext, make_variant
from edgeopt.remote.client import connect
from edgeopt.workflow.recipes import missing_tools
from edgeopt.workflow.request import Request
from edgeopt_runner.engines import LoadFailed, RunFailed, engine
from edgeopt_runner.protocol.metrics import cosine
from edgeopt_runner.protocol.samples import write_samples
from edgeopt_targets import registry
from edgeopt_targets.profile_files import match_profile


def _static(name: str, **options: Any) -> Recipe:
    return Recipe(name, (PassSpec("simplify"), PassSpec("quantise_static", options)), "int8")


OTHERS = (
    _static("u8s8 8-bit (saturates)", reduce_range=False),
    _static("u8s8 per tensor", per_channel=False),
    _static("u8u8", weights="uint8"),
    _static("s8s8", activations="int8"),
)


def main() -> None:
    """Parse the command line, and print one table for each network and thread count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(networks.NETWORKS), choices=list(networks.NETWORKS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    with connect(LOCAL) as connection:
        facts = connection.probe()
    print(f"{facts.cpu}; profile {match_profile(facts).name}")
    for name in arguments.networks:
        with tempfile.TemporaryDirectory() as folder:
            files = variants(name, Path(folder), facts)
            for threads in arguments.threads:
                calls = sessions(files, facts, threads)
                report(f"{name}, {threads} thread(s)", times(calls, arguments.rounds))


def variants(name: str, folder: Path, facts: DeviceFacts) -> dict[str, Path]:
    """The float network and its int8 forms by name; a recipe that does not work is printed and left out."""
    source = networks.export(name, folder / f"{name}.onnx")
    images = np.random.default_rng(0).standard_normal((16, *networks.INPUT_SHAPE), dtype=np.float32)
    write_samples(str(folder / "images.npz"), {"input:image": images})
    context = MakeContext(
        golden=folder / "images.npz",
        calibration=folder / "images.npz",
        cache=folder / "cache",
        machine=facts.machine,
        isa=facts.isa,
    )
    profile = match_profile(facts)
    recipes = registry.target(profile.target).recipes(profile, facts)
    wanted = [one for one in recipes if one.precision in ("float32", "int8") and not missing_tools(one, Request(""))]
    found = {"float": source}
    for recipe in (*wanted, *OTHERS):
        try:
            found[recipe.name] = make_variant(source, recipe, context).path
        except PassError as error:
            print(f"  {recipe.name}: not made: {error.message}")
    return found


def sessions(files: dict[str, Path], facts: DeviceFacts, threads: int) -> dict[str, Callable[[], dict[str, Any]]]:
    """What runs each file once in each runtime that reads it, by the names of both; gives the outputs."""
    feed = {"image": np.random.default_rng(1).standard_normal(networks.INPUT_SHAPE, dtype=np.float32)}
    found: dict[str, Callable[[], dict[str, Any]]] = {}
    for name, path in files.items():
        for runtime in (one.name for one in facts.runtimes if reads(one.name, path.suffix[1:])):
            try:
                session = engine(runtime).load(str(path), {"threads": threads})
                session.run(feed)
            except (LoadFailed, RunFailed) as error:
                print(f"  {name}, {runtime}: {error}")
                continue
            label = name if runtime == "onnxruntime" else f"{name}, {runtime}"
            found[label] = functools.partial(session.run, feed)
    return found


def times(calls: dict[str, Callable[[], dict[str, Any]]], rounds: int) -> dict[str, tuple[list[float], float]]:
    """Seconds of each inference and cosine to the float output, by name; the order rotates from round to round."""
    outputs = {name: call() for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            calls[name]()  # the caches are another network's
            for _ in range(3):
                start = time.perf_counter()
                calls[name]()
                seconds[name].append(time.perf_counter() - start)
    return {name: (seconds[name], cosine(outputs["float"], outputs[name])) for name in names}


def report(title: str, found: dict[str, tuple[list[float], float]]) -> None:
    """Print milliseconds and how many times faster than float, by median and by minimum."""
    print(f"\n{title}\n{'':34}{'median ms':>10}{'min ms':>9}{'faster':>9}{'by min':>9}{'cosine':>9}")
    base = found["float"][0]
    for name, (seconds, agreement) in found.items():
        median, least = statistics.median(seconds), min(seconds)
        faster, by_min = statistics.median(base) / median, min(base) / least
        print(f"{name:34}{median * 1e3:10.2f}{least * 1e3:9.2f}{faster:8.2f}x{by_min:8.2f}x{agreement:9.4f}")


if __name__ == "__main__":
    main()
