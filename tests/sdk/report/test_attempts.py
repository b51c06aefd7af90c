import dataclasses

from edgeopt.core.space import Trial
from edgeopt.report import attempts
from support.records import run_record
from support.rich_records import rich_record, trials_of


def test_every_launch_is_a_mark_in_the_order_of_the_device() -> None:
    record = rich_record()
    strip = attempts.launch_strip(record)
    assert strip is not None
    assert len(strip.dots) == 22
    assert [int(dot.tip.partition(":")[0]) for dot in strip.dots] == list(range(1, 23))
    assert sum(dot.failed for dot in strip.dots) == 2  # what crashed, twice
    assert {dot.kind for dot in strip.dots} == {"winner", "baseline", "feasible", "infeasible"}


def test_the_best_so_far_leaves_out_what_misses_the_budget() -> None:
    strip = attempts.launch_strip(rich_record())
    assert strip is not None
    lowest_step = max(float(corner.partition(",")[2]) for corner in strip.best.split())
    saturated = next(dot for dot in strip.dots if "int8-u8s8" in dot.tip)
    assert saturated.y > lowest_step  # it is faster than the winner, and wrong


def test_the_span_says_how_many_and_when() -> None:
    said = attempts.launch_span(rich_record())
    assert said.startswith("22 launches on the device, begun between 2026-01-01 00:00 and 2026-01-01 00:03 UTC")
    assert attempts.launch_span(dataclasses.replace(run_record(), selection=None)) == ""


def test_trials_are_in_the_unit_of_the_objective() -> None:
    record = rich_record()
    strip = attempts.trial_strip(record)
    assert strip is not None
    assert strip.title.startswith("latency, ms")
    assert len(strip.dots) == 40
    assert record.selection is not None
    budget = dataclasses.replace(record.selection.budget, objective="size")
    sized = dataclasses.replace(record, selection=dataclasses.replace(record.selection, budget=budget))
    assert attempts.trial_strip(sized).title.startswith("size, MiB")  # type: ignore[union-attr]


def test_of_many_trials_the_best_are_listed_in_order() -> None:
    trials = (*trials_of(2000), Trial(2001, {}, (1.0, 0.0), 0.0, "best", ""))
    listed = attempts.listed_trials(dataclasses.replace(run_record(), trials=trials))
    assert len(listed) == attempts.MOST_ROWS
    assert listed[-1].number == 2001
    assert [trial.number for trial in listed] == sorted(trial.number for trial in listed)
    assert all(trial.excess == 0 for trial in listed)
