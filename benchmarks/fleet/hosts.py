"""A model to many sshd hosts, edgeopt against Ansible, pyinfra and parallel-ssh: `benchmarks/fleet/hosts.py --peers`.

All hosts are on this machine, in memory, with homes and keys of their own, and share its cores with the tool; rounds
are interleaved, and what arrived is compared byte by byte. Tools are timed as processes, from their start to their end.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from loopback import APP, EDGEOPT, VERSION, Loopback, loopback
from peers import PEERS, Peer, UnavailableError, child

RELEASE = f"{APP}@{VERSION}"
TRANSFER, WHOLE, AGAIN = "edgeopt, transfer", "edgeopt, whole update", "edgeopt, once more"
TRANSFER_DOES = "signatures and SHA-256 verified there, synced; resumes"


def main() -> None:
    """Parse the command line and print the tables; leave with 1 where a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--mib", type=int, default=25)
    parser.add_argument("--forks", type=int, default=50, help="hosts at a time, for every tool")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", action="store_true", help="time the other tools too")
    parser.add_argument("--only", nargs="*", default=[], metavar="TOOL", help="of them those whose name begins so")
    arguments = parser.parse_args()
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as name:
        peers = available(arguments.only) if arguments.peers else []
        with loopback(Path(name, "fleet"), arguments.hosts, arguments.mib) as boards:
            forks = min(arguments.forks, arguments.hosts)
            print(f"{arguments.hosts} hosts, a model of {arguments.mib} MiB, {forks} at a time, {os.cpu_count()} cores")
            seconds = transfers(boards, forks, peers, arguments.rounds)
            met = compared(seconds, peers)
            met &= whole(boards, forks)
    sys.exit(0 if met else 1)


def available(only: list[str]) -> list[Peer]:
    """The tools that are here or can be installed; of the others, why not."""
    found = []
    for peer in PEERS if not only else [one for one in PEERS if one.name.startswith(tuple(only))]:
        try:
            peer.install()
            found.append(peer)
        except UnavailableError as error:
            print(f"{peer.name}: skipped, {error}")
    return found


def transfers(boards: Loopback, forks: int, peers: list[Peer], rounds: int) -> dict[str, list[float]]:
    """Seconds of every tool in every round, each round beginning with another one."""
    ways: dict[str, Callable[[], None]] = {TRANSFER: lambda: transfer(forks)}
    ways |= {peer.name: lambda peer=peer: peer.copy(boards, forks) for peer in peers}  # type: ignore[misc]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            boards.reset()
            started = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - started)
            print(f"  round {number + 1}: {name} {seconds[name][-1]:.1f} s", file=sys.stderr, flush=True)
            boards.check(copies=name != TRANSFER)
    return seconds


def transfer(forks: int) -> None:
    """What the engine does before the order: signatures, preflight, files."""
    child([sys.executable, Path(__file__).with_name("transfer.py"), RELEASE, forks])


def compared(seconds: dict[str, list[float]], peers: list[Peer]) -> bool:
    """Print the transfers, and what edgeopt takes of each tool's time; whether that is little enough."""
    ours, met = statistics.median(seconds[TRANSFER]), True
    print("\n| transfer | rounds, s | median | edgeopt takes | target | |\n|---|---|--:|--:|--:|---|")
    print(f"| {TRANSFER} ({TRANSFER_DOES}) | {rounded(seconds[TRANSFER])} | {ours:.1f} s | | | |")
    for peer in peers:
        median = statistics.median(seconds[peer.name])
        share = ours / median
        fits = peer.most is None or share <= peer.most
        target = "" if peer.most is None else f"<= {peer.most:.2f}"
        verdict = "" if peer.most is None else "met" if fits else "**missed**"
        cells = [f"{peer.name} ({peer.does})", rounded(seconds[peer.name]), f"{median:.1f} s", f"{share:.2f}"]
        print("| " + " | ".join([*cells, target, verdict]) + " |")
        met &= fits
    return met


def rounded(values: list[float]) -> str:
    """Seconds in a row."""
    return " ".join(f"{value:.1f}" for value in values)


def whole(boards: Loopback, forks: int) -> bool:
    """The command itself with its health checks, and the same command again: no byte, no restart."""
    boards.reset()
    seconds, events = update(forks)
    last = {event["board"]: event for event in events if event["event"] == "board"}
    states = [event["state"] for event in last.values()]
    assert states == ["committed"] * len(boards.servers), events[-1]
    sent = sum(event["sent_bytes"] for event in last.values())
    before = standing(boards)
    again, events = update(forks)
    more = sum(event.get("sent_bytes", 0) for event in events if event["event"] == "board")
    restarts = sum(one != other for one, other in zip(before, standing(boards), strict=True))
    still = not more and not restarts
    print("\n| `edgeopt fleet update` | s | bytes sent | restarts | |\n|---|--:|--:|--:|---|")
    print(f"| {WHOLE}: plan, transfer, smoke test, switch, health | {seconds:.1f} | {sent} | {len(last)} | |")
    print(f"| {AGAIN} | {again:.1f} | {more} | {restarts} | {'met' if still else '**missed**'} |")
    return still


def update(forks: int) -> tuple[float, list[dict[str, Any]]]:
    """One run of the command and what it said."""
    words = [EDGEOPT, "fleet", "update", RELEASE, "--to", "all", "--waves", "100%"]
    started = time.perf_counter()
    done = subprocess.run(
        [*words, "--concurrency", str(forks), "--yes", "--json"], stdout=subprocess.PIPE, text=True, check=False
    )
    seconds = time.perf_counter() - started
    return seconds, [json.loads(line) for line in done.stdout.splitlines()]


def standing(boards: Loopback) -> list[tuple[str, int]]:
    """What is active on every board, and how many orders it has had."""
    roots = [server.home / ".edgeopt" for server in boards.servers]
    return [(os.readlink(root / f"apps/{APP}/current"), len(list(root.glob("jobs/*")))) for root in roots]


if __name__ == "__main__":
    main()
