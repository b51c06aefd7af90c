"""CPU time of commands that must answer at once, and the heavy modules that `import edgeopt` must not load.

python benchmarks/startup.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROUNDS = 7
COMMANDS = (["--help"], ["deploy", "--help"], ["profiles"], ["--version"])
HEAVY = ("torch", "onnx", "onnxruntime", "paramiko", "numpy", "sqlalchemy", "pydantic")


def cpu_seconds(command: list[str]) -> float:
    """User and system CPU seconds of a command."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{command} ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Print the median of interleaved rounds, beside the interpreter's own start as the yardstick."""
    edgeopt = str(Path(sys.executable).with_name("edgeopt"))
    commands = {"(python alone)": [sys.executable, "-c", "pass"]}
    commands |= {"edgeopt " + " ".join(words): [edgeopt, *words] for words in COMMANDS}
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            seconds[name].append(cpu_seconds(command))
    for name, values in seconds.items():
        print(f"{name:24s} {sorted(values)[ROUNDS // 2]:.3f} s CPU")
    code = f"import edgeopt, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    print(f"import edgeopt loads of {', '.join(HEAVY)}: {loaded}")


if __name__ == "__main__":
    main()
