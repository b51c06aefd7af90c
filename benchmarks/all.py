"""Runs every benchmark, one after the other; each also runs alone.

python benchmarks/all.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = (
    "startup",
    "runner",
    "push",
    "int8",
    "parallel",
    "search",
    "compression/run",
    "runtimes/run",
    "peers/run",
    "fleet/boards",
    "fleet/hosts --peers",
    "demo",
)


def main() -> None:
    """Run them in child processes, so that none disturbs the next."""
    for name in BENCHMARKS:
        print(f"\n== {name} ==", flush=True)
        script, *words = name.split()
        subprocess.run([sys.executable, str(Path(__file__).parent / f"{script}.py"), *words], check=True)


if __name__ == "__main__":
    main()
