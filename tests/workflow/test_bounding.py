"""What cannot win is kept off the board and told why; what might, or what nothing better is known than, is not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

import edgeopt
from edgeopt.core.budget import Budget, LatencyLimit
from edgeopt.core.profile import Settings
from edgeopt.core.recipe import BASELINE, PassSpec, Recipe
from edgeopt.core.selection import Candidate
from edgeopt.core.space import Trial
from edgeopt.core.variant import Rejection, Variant
from edgeopt.core.work import Machine, Work
from edgeopt.documents import encode_json
from edgeopt.store import tables
from edgeopt.workflow.bounding import Bounds, within_size
from support.measurements import MEBI, candidate, failed, variant
from support.workflow import Computer, Heard, Task, known_variants

PI = Machine("pi", "aarch64", ("asimddp",), cores=4, max_khz=2_000_000)
ONE = Settings(threads=1)
HEAVY = Work(640_000_000, 0, 0, MEBI, MEBI, {"Conv": 9})  # 10 ms on one core at its peak, 2.5 ms on four
LIMIT = LatencyLimit("p90", 5_000_000)


def heavy(**changes: object) -> Variant:
    return replace(variant("heavy"), work=HEAVY, **changes)  # type: ignore[arg-type]


def test_what_cannot_be_as_fast_as_what_was_measured_is_not_sent() -> None:
    bounds = Bounds(Budget(), PI)
    told = bounds.refusal(heavy(), ONE, 9e6)
    assert told == "cannot take less than 10 ms (1 thread) by its products and bytes; 9 ms was measured of another"
    assert bounds.refusal(heavy(), ONE, 9.8e6) == ""  # one short launch may be off by that
    assert bounds.refusal(heavy(), replace(ONE, threads=4), 9e6) == ""
    assert Bounds(Budget(objective="memory"), PI).refusal(heavy(), ONE, 9e6) == ""


def test_what_breaks_the_budget_by_counting_is_not_sent_where_something_holds_it() -> None:
    bounds = Bounds(Budget(max_latency=LIMIT, objective="memory", max_size_bytes=2 * MEBI), PI)
    small = heavy(artifact=replace(variant("heavy").artifact, size_bytes=MEBI))
    assert bounds.refusal(small, ONE, 4e6).endswith("by its products and bytes, budget p90 5 ms")
    assert bounds.refusal(small, replace(ONE, threads=4), 4e6) == ""
    assert "on disk, budget 2" in bounds.refusal(heavy(), replace(ONE, threads=4), 4e6)
    assert bounds.refusal(heavy(), ONE, math.inf) == ""  # else the nearest miss would never be found


def test_what_was_not_counted_or_may_skip_products_has_no_bound() -> None:
    bounds = Bounds(Budget(), PI)
    assert bounds.least_ns(variant("heavy"), ONE) == 0.0
    sparse = Recipe("sparse", (PassSpec("prune_weights"),))
    assert bounds.least_ns(heavy(provenance=replace(variant("heavy").provenance, recipe=sparse)), ONE) == 0.0
    assert bounds.least_ns(heavy(), ONE) == pytest.approx(10e6)
    converted = heavy(artifact=replace(variant("heavy").artifact, format="tflite"))
    assert bounds.least_ns(converted, ONE) == pytest.approx(5e6)  # perhaps in 8 bits, who knows


def test_only_what_surely_holds_the_budget_bounds_others() -> None:
    bounds = Bounds(Budget(max_drop=0.01), PI)
    sound, wrong = candidate("original", 3.0), candidate("wrong", 1.0, correct=700)
    broken: list[Candidate] = [failed("broken", "crash", "")]
    assert bounds.best_ns([sound, wrong, *broken]) == pytest.approx(3e6, rel=0.02)
    assert bounds.best_ns(broken) == math.inf
    over, within = Trial(1, {}, (1e6, 0.0), excess=0.3), Trial(2, {}, (2e6, 0.0), excess=0.0)
    assert bounds.best_of([over, within, Trial(3, {})]) == 2e6
    assert bounds.best_of([over]) == math.inf


def test_files_over_the_limit_are_left_out_where_one_is_within_it() -> None:
    small, large = variant("small", size_bytes=MEBI), variant("large", size_bytes=3 * MEBI)
    original, out = variant(BASELINE.name, size_bytes=9 * MEBI), Rejection("bad", "parity", "")
    kept = within_size([original, small, large, out], Budget(max_size_bytes=2 * MEBI))
    assert kept[:2] == [original, small]
    assert kept[3] == out
    assert kept[2] == Rejection("large", "size", "takes 3 MiB on disk, budget 2 MiB")
    for budget in (Budget(), Budget(max_size_bytes=MEBI // 2)):
        assert within_size([original, small, large], budget) == [original, small, large]


def test_the_run_says_which_variant_the_roofline_kept_off_the_board(
    computer: Computer, workspace: edgeopt.Workspace, task: Task
) -> None:
    known = known_variants(workspace)["int8-minmax"]
    endless = replace(known, work=replace(HEAVY, macs=10**15))
    table = tables.variants
    with workspace.ledger._database.writing() as connection:
        here = table.c.document.contains(known.artifact.digest)
        assert connection.execute(table.update().where(here).values(document=encode_json(endless))).rowcount
    heard = Heard()
    record = edgeopt.deploy(task.request(), workspace, listener=heard)
    assert record.selection is not None
    assert {one.candidate.variant.name for one in record.selection.assessments} == {BASELINE.name, "optimised"}
    (left_out,) = (one for one in record.rejections if one.name == "int8-minmax")
    assert left_out.stage == "roofline"
    assert "by its products and bytes; " in left_out.reason
    assert f"int8-minmax: not tried, {left_out.reason}" in heard.text
    assert not [job for job in computer.jobs() if known.artifact.digest in str(job)]
