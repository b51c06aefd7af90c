"""Wall time of the whole demo after installation, and the peak memory of the host process.

python benchmarks/demo.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "examples" / "digits"


def run(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds and peak resident MiB of a command; its children that it waited for count for the memory of their own."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{command} ended with {os.waitstatus_to_exitcode(status)}")
    return time.monotonic() - started, usage.ru_maxrss / 1024


def main() -> None:
    """Train, deploy from nothing, deploy again from the ledger."""
    edgeopt = str(Path(sys.executable).with_name("edgeopt"))
    words = ["--target", "local", "--max-drop", "1%", "--app", "digits", "--effort", "quick"]
    deploy = [edgeopt, "deploy", f"{DEMO}/digits.py:build", "--data", f"{DEMO}/digits.py:samples", *words]
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "EDGEOPT_HOME": home}
        steps = {
            "train": [sys.executable, str(DEMO / "train.py")],
            "deploy": deploy,
            "deploy again": deploy,
        }
        total = 0.0
        for name, command in steps.items():
            seconds, peak_mib = run(command, environment)
            total += seconds if name != "deploy again" else 0.0
            print(f"{name:14s} {seconds:6.1f} s   peak of the process {peak_mib:6.0f} MiB")
        print(f"{'whole demo':14s} {total:6.1f} s")


if __name__ == "__main__":
    main()
