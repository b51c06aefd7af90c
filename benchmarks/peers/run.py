"""edgeopt's choice against what other tools make of the same networks, under the same budget, by one neutral timer.

python benchmarks/peers/run.py [--networks lstm ...] [--rounds N] [--markdown FILE]

For each of the suite's eight networks: ONNX Runtime's quantisers with their defaults, Olive's automatic optimisation,
NNCF with OpenVINO (plain, and with accuracy control), the float network in each runtime, and what `edgeopt deploy`
chooses (shared with benchmarks/runtimes). All files run on one thread in bare loops of their runtimes, in turn. Who
loses more than 0.01 of fidelity is over the budget and does not compete. Tools get environments of their own on first
use; one that does not install or makes nothing is told with its reason.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "runtimes"))
sys.path.insert(0, str(Path(__file__).parent))

import competing
import machine as devices
import suite
import table
from choosing import workspace_of

RUNTIMES_FOLDER = Path(__file__).parents[1] / "runtimes" / "weights"


def main() -> None:
    """Make, time, print the table and whether the targets were met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(suite.NAMES), choices=suite.NAMES)
    parser.add_argument("--rounds", type=int, default=5, help="launches of each file")
    parser.add_argument("--effort", default="quick", help="plan of the finals when edgeopt chooses")
    parser.add_argument("--markdown", type=Path, help="write the table to this file too")
    arguments = parser.parse_args()
    devices.home_in(RUNTIMES_FOLDER)
    here = devices.this_machine()
    results = []
    for name in arguments.networks:
        print(name, flush=True)
        with workspace_of(name, RUNTIMES_FOLDER) as workspace:
            entered = competing.entered(name, here, workspace, RUNTIMES_FOLDER, effort=arguments.effort)
        results.append(competing.raced(entered, arguments.rounds))
    text = "\n".join([*table.rows(results), "", *table.verdicts(results)])
    print(f"\n{text}")
    if arguments.markdown:
        arguments.markdown.write_text(f"{text}\n")


if __name__ == "__main__":
    main()
