"""Predictors on boards whose laws are known: what a ledger teaches orders networks that it has never seen."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from edgeopt.core.profile import Settings
from edgeopt.core.work import Machine, Observation, Task, Work
from edgeopt.selection.prediction.predictor import LEAST_ROWS, Ridge, Roofline, learned, rank_correlation

BOARD = Machine("board", "x86_64", ("avx2",), cores=2)
Law = Callable[[Task], float]


def network(number: int) -> list[Task]:
    """The forms of one network: float and 8 bits, in two runtimes, on one thread and two."""
    rng = random.Random(number)
    macs, nodes = int(10 ** rng.uniform(6, 9)), rng.randrange(10, 300)
    weights = int(macs / rng.uniform(5, 50))
    plain = Work(macs, 0, 0, 4 * weights, 4 * weights, {"Conv": nodes // 3, "Relu": nodes})
    pairs = {"QuantizeLinear": nodes, "DequantizeLinear": nodes, **plain.operators}
    narrow = Work(0, macs, 0, weights, 4 * weights, pairs)
    return [
        Task(work, Settings(runtime=runtime, threads=threads), BOARD)
        for work in (plain, narrow)
        for runtime in ("onnxruntime", "openvino")
        for threads in (1, 2)
    ]


def slow_in_eight_bits(task: Task) -> float:
    """A board where 8 bits do not pay in one of the runtimes and are best in the other."""
    factor = 1.0
    if task.work.narrow_macs:
        factor = 2.5 if task.settings.runtime == "onnxruntime" else 0.4
    products = task.work.macs + task.work.narrow_macs
    return factor * (products / 10 + 3000 * sum(task.work.operators.values())) / task.settings.threads**0.9


def ledger(law: Law, networks: range, *, noise: float = 0.05) -> list[Observation]:
    rng = random.Random(1)
    return [
        Observation(f"net {number}", f"{number} {place // 4}", task, law(task) * math.exp(rng.gauss(0, noise)))
        for number in networks
        for place, task in enumerate(network(number))
    ]


def correlations(predictor: Callable[[list[Task]], list[float]], networks: range) -> list[float]:
    found = []
    for number in networks:
        tasks = network(number)
        told = rank_correlation(predictor(tasks), [slow_in_eight_bits(task) for task in tasks])
        assert told is not None
        found.append(told)
    return found


def test_a_ledger_of_other_networks_orders_a_new_one_where_counting_does_not() -> None:
    new = range(100, 120)
    found = learned(ledger(slow_in_eight_bits, range(8)))
    assert found.name == "ridge regression"
    assert min(correlations(found, new)) > 0.75
    assert sum(correlations(Roofline(), new)) / len(new) < 0.6


def test_the_same_rows_in_any_order_predict_the_same_to_the_last_bit() -> None:
    rows = ledger(slow_in_eight_bits, range(6))
    tasks = network(77)
    first = learned(rows)(tasks)
    random.Random(5).shuffle(rows)
    assert learned(rows)(tasks) == first


def test_few_rows_or_rows_that_teach_nothing_leave_it_to_counting() -> None:
    rows = ledger(slow_in_eight_bits, range(6))
    assert learned(rows[: LEAST_ROWS - 1]) == Roofline()
    assert learned([]) == Roofline()
    chaos = [Observation(row.model, row.variant, row.task, random.Random(str(row)).uniform(1, 1e6)) for row in rows]
    assert learned(chaos) == Roofline()


def test_a_network_that_was_slow_once_says_nothing_of_the_order_of_its_forms() -> None:
    """A level of each network's own: one that took ten times as long in all forms teaches the same as before."""
    rows = ledger(slow_in_eight_bits, range(6), noise=0.0)
    busy = [Observation(r.model, r.variant, r.task, r.latency_ns * (10 if r.model == "net 3" else 1)) for r in rows]
    tasks = network(77)
    before, after = Ridge(rows)(tasks), Ridge(busy)(tasks)
    assert [b / a for a, b in zip(before, after, strict=True)] == pytest.approx([after[0] / before[0]] * len(tasks))


def test_a_new_board_begins_with_what_others_taught() -> None:
    found = learned(ledger(slow_in_eight_bits, range(8)))
    new = replace(BOARD, fingerprint="new board", cores=4)
    for number in (3, 60):  # measured on the other board, and nowhere
        tasks = [replace(task, machine=new) for task in network(number)]
        told = rank_correlation(found(tasks), [slow_in_eight_bits(task) for task in tasks])
        assert told is not None
        assert told > 0.75


def test_a_runtime_and_a_device_that_were_never_seen_are_predicted_too() -> None:
    found = Ridge(ledger(slow_in_eight_bits, range(6)))
    strange = Task(network(3)[0].work, Settings(runtime="ncnn"), Machine("other", "riscv64", (), cores=1))
    (value,) = found([strange])
    assert 0 < value < math.inf
    assert found([]) == []


def test_rank_correlation_is_spearmans_with_ties_sharing_their_rank() -> None:
    judged, wine = [106.0, 100, 86, 101, 99, 103, 97, 113, 112, 110], [7.0, 27, 2, 50, 28, 29, 20, 12, 6, 17]
    assert rank_correlation(judged, wine) == pytest.approx(-29 / 165)  # 1 - 6 * 194 / (10 * 99)
    assert rank_correlation([1.0, 2.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0]) == pytest.approx(0.9486833)


def test_rank_correlation_of_too_little_is_none() -> None:
    assert rank_correlation([1.0, 2.0], [1.0, 2.0]) is None
    assert rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    assert rank_correlation([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == pytest.approx(-1.0)
