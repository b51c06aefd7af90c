"""One neutral timer for all: bare loops of the runtimes, in fresh processes that take turns."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BARE = Path(__file__).parents[1] / "runtimes" / "bare.py"
SECONDS = 1.0


@dataclass(frozen=True)
class Entry:
    """What takes part.

    Attributes:
        runtime: Where it runs.
        interpreter: Path of the Python that has this runtime.
        file: The model.
        seconds: Wall time that making it took.
        what: What the name does not say.
    """

    runtime: str
    interpreter: str
    file: Path
    seconds: float = 0.0
    what: str = ""

    @property
    def size_bytes(self) -> int:
        """Of the file, and of the weights beside it where the format has two."""
        weights = self.file.with_suffix(".bin")
        return self.file.stat().st_size + (weights.stat().st_size if self.file.suffix == ".xml" else 0)


@dataclass(frozen=True)
class Figures:
    """What was found of an entry.

    Attributes:
        medians_ns: Latency by round.
        peak_bytes: Largest resident memory of the process.
        lost: 1 - mean cosine of the outputs to the float original's.
    """

    medians_ns: tuple[float, ...]
    peak_bytes: int
    lost: float

    @property
    def median_ms(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.medians_ns) / 1e6

    def faster_than(self, other: Figures) -> float:
        """Median over the rounds of the other's latency over this one's."""
        pairs = zip(self.medians_ns, other.medians_ns, strict=True)
        return statistics.median(theirs / mine for mine, theirs in pairs)


def timed(
    entries: Mapping[str, Entry], original: str, samples: Path, rounds: int, folder: Path
) -> tuple[dict[str, Figures], dict[str, str]]:
    """Run all entries `rounds` times in turn, in an order that rotates.

    Args:
        entries: By name.
        original: Name of the entry with whose outputs all are compared.
        samples: ``.npz`` with the inputs; not those that tools calibrate on.
        rounds: Launches of each.
        folder: For outputs.

    Returns:
        Figures by name, and why others have none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in entries}
    problems: dict[str, str] = {}
    for turn in range(rounds):
        names = [name for name in entries if name not in problems]
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            try:
                found[name].append(_launch(entries[name], samples, folder / f"{plain(name)}.npz"))
                print(f"    round {turn + 1}: {name} {found[name][-1][0] / 1e6:.3f} ms", flush=True)
            except (subprocess.SubprocessError, ValueError) as error:
                problems[name] = _reason(error)
    wanted = _outputs(folder / f"{plain(original)}.npz")
    figures = {}
    for name in entries:
        if name in problems:
            continue
        lost = _lost(_outputs(folder / f"{plain(name)}.npz"), wanted)
        medians, peaks = zip(*found[name], strict=True)
        figures[name] = Figures(medians, max(peaks), lost)
    return figures, problems


def _launch(entry: Entry, samples: Path, outputs: Path) -> tuple[float, int]:
    words = [entry.interpreter, str(BARE), entry.runtime, str(entry.file), str(samples), str(SECONDS), str(outputs)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True)
    median_ns, peak_bytes = json.loads(done.stdout.splitlines()[-1])
    return median_ns, peak_bytes


def _outputs(path: Path) -> np.ndarray:
    """[samples, values] of all outputs."""
    with np.load(path) as file:
        return np.concatenate([file[name].reshape(len(file[name]), -1) for name in file.files], axis=1)


def _lost(found: np.ndarray, wanted: np.ndarray) -> float:
    """Infinite where the outputs are of another shape or no numbers."""
    if found.shape != wanted.shape or not np.isfinite(found).all():
        return float("inf")
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    return float(1 - np.mean((found * wanted).sum(1) / np.maximum(lengths, 1e-30)))


def plain(name: str) -> str:
    """A name for a file or folder."""
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def _reason(error: Exception) -> str:
    said = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    return ((said or str(error)).strip().splitlines() or ["no word"])[-1][:160]
