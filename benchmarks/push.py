"""Push of 256 MiB to a real sshd on loopback, against OpenSSH's own sftp; both ends in memory, rounds interleaved.

python benchmarks/push.py
"""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from edgeopt.remote.client import Connection, connect
from support.device import pin
from support.sshd import Sshd, running_sshd

SIZE_BYTES = 256 << 20
ROUNDS = 3
LEAST_RATIO = 0.8


def sftp(server: Sshd, path: Path, target: Path) -> None:
    """Upload with the OpenSSH client; connection and key exchange included, as its users have it."""
    options = ["-q", "-b", "-", "-P", str(server.port), "-i", str(server.client_key)]
    options += ["-o", f"UserKnownHostsFile={os.environ['EDGEOPT_HOME']}/known_hosts", "-o", "IdentitiesOnly=yes"]
    command = ["sftp", *options, f"{server.user}@{server.host}"]
    subprocess.run(command, input=f"put {path} {target}\n".encode(), stdout=subprocess.DEVNULL, check=True)
    target.unlink()


def push(server: Sshd, path: Path, digest: str) -> None:
    """Upload with edgeopt, from connecting to the verified file; hashed and synced on the device."""
    with connect(server.device()) as connection:
        report = connection.push(path, digest)
        assert report.sent_bytes == SIZE_BYTES
        stored(server, digest).unlink()


def stored(server: Sshd, digest: str) -> Path:
    """The object on the device."""
    return server.home / ".edgeopt" / "objects" / digest


def second_push(connection: Connection, path: Path, digest: str) -> tuple[int, float]:
    """Bytes and seconds of pushing what is there."""
    connection.push(path, digest)
    started = time.perf_counter()
    report = connection.push(path, digest)
    return report.sent_bytes, time.perf_counter() - started


def megabytes_per_second(call: Callable[[], None]) -> float:
    """Throughput of one upload."""
    started = time.perf_counter()
    call()
    return SIZE_BYTES / 1e6 / (time.perf_counter() - started)


def main() -> None:
    """Print throughputs and the ratio of their medians; exit 1 where it is below what was promised."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as name:
        folder = Path(name)
        os.environ["EDGEOPT_HOME"] = str(folder / "home")
        path = folder / "model"
        path.write_bytes(os.urandom(SIZE_BYTES))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        rates: dict[str, list[float]] = {"sftp": [], "edgeopt": []}
        with running_sshd(folder / "board") as server:
            pin(server)
            for _ in range(ROUNDS):
                rates["sftp"].append(megabytes_per_second(lambda: sftp(server, path, folder / "copy")))
                rates["edgeopt"].append(megabytes_per_second(lambda: push(server, path, digest)))
            with connect(server.device()) as connection:
                again_bytes, again_seconds = second_push(connection, path, digest)
    for client, values in rates.items():
        rounds = " ".join(f"{value:6.0f}" for value in values)
        print(f"{client:8s} {rounds}   median {statistics.median(values):6.0f} MB/s")
    ratio = statistics.median(rates["edgeopt"]) / statistics.median(rates["sftp"])
    print(f"ratio    {ratio:.2f} (at least {LEAST_RATIO})")
    print(f"again    {again_bytes} bytes in {again_seconds * 1e3:.0f} ms")
    if ratio < LEAST_RATIO or again_bytes:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
