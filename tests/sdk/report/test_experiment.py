"""What keepers of experiments are given: names with units, finite figures, text that is safe to show."""

from __future__ import annotations

import math
import re
from dataclasses import replace

from edgeopt.core.run import RunRecord
from edgeopt.report.experiment import run_entry, variant_entries
from support.records import HOSTILE, LINES, hostile_record, infeasible_record, run_record
from support.rich_records import rich_record


def by_name(record: RunRecord) -> dict[str, dict[str, float]]:
    return {entry.name: dict(entry.metrics) for entry in variant_entries(record)}


def test_each_variant_has_the_figures_of_its_best_settings() -> None:
    found = by_name(run_record())
    assert found["int8-entropy"]["latency_median_ms"] == LINES[0].median_ms  # two threads; with one it takes 6.63 ms
    assert found["original"]["latency_median_ms"] == 13.1
    assert found["int8-entropy"]["file_mib"] == 96 / 1024


def test_the_run_has_the_figures_of_the_winner_or_of_the_nearest_miss() -> None:
    assert run_entry(run_record()).metrics["latency_median_ms"] == 4.21
    missed = run_entry(infeasible_record())
    assert missed.metrics["latency_median_ms"] == 4.21
    assert "edgeopt.winner" not in missed.tags
    assert not missed.failed


def test_the_statistic_that_the_budget_limits_is_named() -> None:
    assert "latency_p90_ms" in by_name(run_record())["original"]


def test_before_anything_is_measured_there_is_what_went_in() -> None:
    open_run = replace(run_record(), selection=None, variants=(), state="running", finished_at=0.0)
    entry = run_entry(open_run)
    assert entry.params["data"] == "digits.npz"
    assert dict(entry.metrics) == {"variants": 0.0}
    assert [one.name for one in variant_entries(open_run)] == ["int8-percentile", "int8-dynamic"]


def test_a_metric_of_the_users_own_gives_a_name_that_can_be_used() -> None:
    record = run_record()
    own = replace(record, data=replace(record.data, metric="my metrics.py:mean error (°C)"))
    assert "metric_mean_error_C_" in run_entry(own).metrics


def test_whatever_devices_and_users_say_names_are_plain_figures_finite_and_texts_short() -> None:
    for record in (hostile_record(), rich_record(), infeasible_record()):
        for entry in (run_entry(record), *variant_entries(record)):
            assert all(
                re.fullmatch(r"[\w.-]+", name, re.ASCII) for name in (*entry.params, *entry.metrics, *entry.tags)
            )
            assert all(math.isfinite(value) for value in entry.metrics.values())
            assert all(
                len(text) <= 500 and text.isprintable() for text in (*entry.params.values(), *entry.tags.values())
            )
    assert HOSTILE not in run_entry(hostile_record()).params.values()
