"""The choice over runtimes against the best single runtime and ONNX Runtime's best, over eight architectures.

python benchmarks/runtimes/run.py [--networks lstm ...] [--rounds N] [--markdown FILE]

For each network `edgeopt deploy` chooses on one thread among all runtimes of this machine and the float, half and int8
forms that it makes, with the default budget (at most 0.01 of fidelity lost), then again with `--runtimes X` for each X.
All winners are measured once more in turn, and every ratio is of those rounds. Then the runner's worker is compared
with a bare loop in every engine. What was made, chosen and measured is kept in `weights`, a folder for each network: a
run that was cut off goes on, and `--fresh` begins anew with the networks that are named.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import machine as devices
import overhead
import suite
from choosing import chosen, room_of, workspace_of
from rounds import Rounds, measured

FOLDER = Path(__file__).parent / "weights"
LEAST_OF_BEST, TIMES_ORT = 0.98, 1.3
ORT = "onnxruntime"
HEADINGS = (
    *("network", "chosen among all", "ms", "fidelity lost", "best single runtime", "ms", "choice against it"),
    *("best of ONNX Runtime", "ms", "times faster"),
)


def main() -> None:
    """Choose, measure, print the tables and whether each target was met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(suite.NAMES), choices=suite.NAMES)
    parser.add_argument("--rounds", type=int, default=5, help="launches of each winner")
    parser.add_argument("--effort", default="quick", help="plan of the finals when choosing")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file too")
    parser.add_argument("--fresh", action="store_true", help="forget what is known of these networks")
    parser.add_argument("--no-overhead", action="store_true", help="leave the runner's own figures out")
    arguments = parser.parse_args()
    devices.home_in(FOLDER)
    if arguments.fresh:
        forget(arguments.networks)
    here = devices.this_machine()
    print(f"{here.facts.cpu}, profile {here.profile.name}: {', '.join(here.runtimes)}", flush=True)
    found: list[Rounds] = []
    for name in arguments.networks:
        with workspace_of(name, FOLDER) as workspace:
            choices = chosen(name, here, workspace, FOLDER, effort=arguments.effort)
            found.append(measured(choices, workspace, FOLDER, arguments.rounds))
        print("\n".join(f"    {line}" for line in choices.candidates[:12]), flush=True)
    lines = [*table(found), "", *verdicts(found), *(f"* {note}" for note in here.notes)]
    if not arguments.no_overhead:
        lines += ["", *overhead.report(found, here, FOLDER)]
    text = "\n".join(lines)
    print(f"\n{text}")
    if arguments.markdown:
        arguments.markdown.write_text(f"{text}\n")


def forget(names: Sequence[str]) -> None:
    """Take away what was made, chosen and measured of these networks, with their ledgers, which would answer again."""
    for name in names:
        shutil.rmtree(room_of(name, FOLDER), ignore_errors=True)


def table(found: Sequence[Rounds]) -> Iterator[str]:
    """Markdown."""
    yield f"| {' | '.join(HEADINGS)} |"
    yield "|" + " --- |" * len(HEADINGS)
    for one in found:
        choice, best, ort = one.choice, one.best_alone, one.alone(ORT)
        cells = [one.chosen.network, str(choice), f"{one.median_ms(choice):.3f}", f"{choice.lost:.4f}"]
        cells += [str(best), f"{one.median_ms(best):.3f}", f"{one.ratio(best):.2f}"]
        cells += [ort.variant, f"{one.median_ms(ort):.3f}", f"{one.ratio(ort):.2f}x"] if ort else ["-", "-", "-"]
        yield f"| {' | '.join(cells)} |"


def verdicts(found: Sequence[Rounds]) -> Iterator[str]:
    """The targets."""
    behind = [one.chosen.network for one in found if one.ratio(one.best_alone) < LEAST_OF_BEST]
    verdict = f"**missed** ({', '.join(behind)})" if behind else "**met**"
    yield f"* as fast as the best single runtime on each (at least {LEAST_OF_BEST}): {verdict}"
    times = [one.ratio(pick) for one in found if (pick := one.alone(ORT))]
    mean = statistics.geometric_mean(times)
    yield (
        f"* times as fast as ONNX Runtime's best, geometric mean of {len(times)}: {mean:.3f} (at least {TIMES_ORT}): "
        f"**{'met' if mean >= TIMES_ORT else 'missed'}**"
    )


if __name__ == "__main__":
    main()
