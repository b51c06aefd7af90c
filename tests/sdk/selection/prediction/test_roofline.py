"""Bounds that hold for every runtime, and estimates that need no measurement."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeopt.core.profile import Settings
from edgeopt.core.work import Machine, Task, Work
from edgeopt.selection.prediction.roofline import about_ns, least_ns

MEBI = 1 << 20
PI = Machine("pi", "aarch64", ("asimd", "asimddp"), cores=4, max_khz=2_000_000, bandwidth_gb_per_second=10.0)
PLAIN = Work(32_000_000, 0, 0, 4 * MEBI, MEBI, {"MatMul": 8})
ONE = Task(PLAIN, Settings(threads=1), PI)


def test_products_over_the_peak_of_the_cores_bound_the_time() -> None:
    assert least_ns(ONE) == pytest.approx(1e9 * 32e6 / (32 * 2e9))
    assert least_ns(replace(ONE, settings=Settings(threads=4))) == pytest.approx(least_ns(ONE) / 4)
    assert least_ns(replace(ONE, settings=Settings(threads=64))) == pytest.approx(least_ns(ONE) / 4)
    narrow = replace(PLAIN, macs=0, narrow_macs=PLAIN.macs)
    assert least_ns(replace(ONE, work=narrow)) == pytest.approx(least_ns(ONE) / 2)
    assert least_ns(replace(ONE, settings=Settings(batch=3))) == pytest.approx(3 * least_ns(ONE))


def test_a_fast_algorithm_may_spare_products_so_the_bound_leaves_them_out() -> None:
    spared = replace(PLAIN, spared_macs=PLAIN.macs)
    assert least_ns(replace(ONE, work=spared)) == pytest.approx(least_ns(ONE) * 64 / (36 * 9))


def test_a_runtime_may_compute_in_eight_bits_what_has_weights_of_so_many() -> None:
    packed = replace(PLAIN, operators={"MatMulNBits": 8})
    assert least_ns(replace(ONE, work=packed)) == pytest.approx(least_ns(ONE) / 2)


def test_weights_that_no_cache_holds_come_through_the_memory_each_time() -> None:
    heavy = replace(PLAIN, weight_bytes=116 * MEBI)
    assert least_ns(replace(ONE, work=heavy)) == pytest.approx(100 * MEBI / 10.0)
    assert least_ns(replace(ONE, work=replace(PLAIN, weight_bytes=16 * MEBI))) == least_ns(ONE)
    assert least_ns(replace(ONE, work=replace(heavy, table_bytes=100 * MEBI))) == least_ns(ONE)  # a few rows are read
    assert least_ns(replace(ONE, work=replace(PLAIN, table_bytes=MEBI))) == least_ns(ONE)


def test_what_is_not_known_bounds_nothing() -> None:
    assert least_ns(replace(ONE, machine=replace(PI, name="riscv64"))) < 1000
    assert least_ns(replace(ONE, settings=Settings(runtime="tensorrt"))) == 0.0
    assert least_ns(replace(ONE, settings=Settings(provider="CUDAExecutionProvider"))) == 0.0
    slow = least_ns(replace(ONE, machine=replace(PI, max_khz=None)))
    assert slow == pytest.approx(least_ns(ONE) / 3)


def test_an_estimate_grows_with_products_bytes_and_operators_and_is_above_the_bound() -> None:
    more = [
        replace(PLAIN, macs=2 * PLAIN.macs),
        replace(PLAIN, activation_bytes=9 * MEBI),
        replace(PLAIN, operators={"MatMul": 99}),
    ]
    for work in more:
        assert about_ns(replace(ONE, work=work)) > about_ns(ONE) > least_ns(ONE)
    narrow = replace(PLAIN, macs=0, narrow_macs=PLAIN.macs)
    assert about_ns(replace(ONE, work=narrow)) < about_ns(ONE)
