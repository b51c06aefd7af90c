"""Builds realistic rollouts: waves over two kinds of boards, one that went well, one that was halted, a hostile one."""

from __future__ import annotations

import random
from dataclasses import replace

from edgeopt.core.fleet import Caps
from edgeopt.core.release import HealthFigures
from edgeopt.core.rollout import (
    BoardProgress,
    BoardState,
    FailureClass,
    GatePolicy,
    GateVerdict,
    Plan,
    PlannedBoard,
    Rollout,
    RolloutState,
)

START = 1_790_000_000.0
PROFILES = {"pi5": 12.0, "jetson-orin-nano": 4.0}


def figures(median_ms: float, *, p95: float = 1.2, memory_mib: float = 80.0, disturbed: str = "") -> HealthFigures:
    return HealthFigures(
        round(median_ms * 1e6), round(median_ms * p95 * 1e6), round(memory_mib * 2**20), 0.998, 50, disturbed
    )


def progress(index: int, wave: int, *, slower: float = 0.02) -> BoardProgress:
    """A board that committed, with its own level of latency."""
    chance = random.Random(index)
    profile = list(PROFILES)[index % 2]
    before = PROFILES[profile] * chance.uniform(0.9, 1.15)
    return BoardProgress(
        board=f"shop-{index:03d}",
        profile=profile,
        site=("berlin", "paris", "oslo")[index % 3],
        wave=wave,
        state="committed",
        attempts=1,
        sent_bytes=26_214_400,
        before=figures(before),
        after=figures(before * (1 + slower + chance.gauss(0, 0.02)), p95=1.25, memory_mib=84),
        version="1.4.0",
        updated_at=START + 60 * wave + chance.uniform(0, 50),
    )


def failed(board: BoardProgress, state: BoardState, failure: FailureClass, detail: str) -> BoardProgress:
    after = board.after if state == "rolled_back" else None
    return replace(board, state=state, failure=failure, detail=detail, version="1.3.2", after=after)


def untouched(board: BoardProgress, state: BoardState = "pending") -> BoardProgress:
    return replace(
        board, state=state, before=None, after=None, sent_bytes=0, attempts=0, version="1.3.2", updated_at=0.0
    )


def plan_of(boards: list[BoardProgress], **gate: float) -> Plan:
    return Plan(
        release="detector@1.4.0",
        manifest="ab" * 32,
        waves=("1", "25%", "100%"),
        boards=tuple(PlannedBoard(b.board, b.profile, b.site, b.wave, "update", "", 26_214_400) for b in boards),
        gate=replace(GatePolicy(max_slower=0.10, soak_seconds=600.0), **gate),
        caps=Caps(concurrency=16, bytes_per_second=5_000_000),
        digest="cd" * 32,
    )


def _waves(count: int) -> list[BoardProgress]:
    return [progress(index, 1 if index < 2 else 2 if index < count // 4 else 3) for index in range(count)]


def _rollout(state: RolloutState, wave: int, reason: str, boards: list[BoardProgress], *gates: GateVerdict) -> Rollout:
    finished = START + 300 if state == "done" else 0.0
    return Rollout(
        rollout_id="00c0ffee00c0ffee",
        plan=plan_of(boards),
        state=state,
        wave=wave,
        reason=reason,
        holder="" if state in ("done", "halted") else "ann@desk:4242",
        fence=3,
        boards=tuple(boards),
        gates=gates,
        started_at=START,
        finished_at=finished,
    )


def _go(wave: int, count: int) -> GateVerdict:
    slower = (("jetson-orin-nano", 0.021, 0.004, 0.038), ("pi5", 0.018, 0.002, 0.035))
    return GateVerdict(wave, "go", (), (("committed", count),), slower, START + 60 * wave + 55)


def done_rollout(count: int = 42) -> Rollout:
    boards = _waves(count)
    boards[5] = replace(boards[5], state="skipped", detail="runs it already", sent_bytes=0, before=None, after=None)
    return _rollout("done", 3, "", boards, *(_go(wave, 10) for wave in (1, 2, 3)))


def halted_rollout(count: int = 42) -> Rollout:
    """A regression on one kind of board, found after wave 2."""
    boards = _waves(count)
    for index, board in enumerate(boards):
        if board.wave == 2 and board.profile == "pi5":
            boards[index] = progress(index, 2, slower=0.16)
        if board.wave == 3:
            boards[index] = untouched(board)
    boards[6] = failed(boards[6], "rolled_back", "health", "p95 19.8 ms is over the limit of 18.0 ms")
    boards[7] = failed(boards[7], "unreachable", "network", "no route to host")
    reasons = (
        "pi5 is 16.2 % slower than before (14.1 to 18.0), 10 % are allowed",
        "1 of 10 boards failed: between 0.9 and 35 %",
    )
    slower = (("jetson-orin-nano", 0.021, 0.004, 0.038), ("pi5", 0.162, 0.141, 0.18))
    halt = GateVerdict(2, "halt", reasons, (("committed", 6), ("rolled_back", 1)), slower, START + 175)
    return _rollout("halted", 2, reasons[0], boards, _go(1, 2), halt)


def hostile_rollout(text: str) -> Rollout:
    """Every text of the halted one replaced by what an attacker would write there."""
    rollout = halted_rollout(8)
    boards = tuple(
        replace(b, board=f"{text}{i}", profile=text, site=text, detail=text, version=text)
        for i, b in enumerate(rollout.boards)
    )
    gates = tuple(
        replace(gate, reasons=(text,), slower=tuple((text, *row[1:]) for row in gate.slower)) for gate in rollout.gates
    )
    plan = replace(rollout.plan, release=text, waves=(text,), manifest=text)
    return replace(rollout, plan=plan, boards=boards, gates=gates, reason=text, holder=text)
