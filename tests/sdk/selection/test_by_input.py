"""A network that most inputs leave early: its average ranks, its slowest input is held against the limit."""

from dataclasses import replace

import pytest

from edgeopt.core.budget import Budget, LatencyLimit
from edgeopt.documents import plain
from edgeopt.errors import ProtocolError
from edgeopt.remote import jobs
from edgeopt.report.summary import latency_name, worst_ns
from edgeopt.selection.select import select
from support.measurements import candidate, latency_of, measurement


def exiting(name="early", *, early_ms=2.0, late_ms=10.0, late_share=0.25):
    """A candidate of which a share of the inputs is slow."""
    base = candidate(name, early_ms)
    period = round(1 / late_share)
    values = [int((late_ms if i % period == 0 else early_ms) * 1e6) + i % 7 for i in range(700)]
    average = int((late_ms * late_share + early_ms * (1 - late_share)) * 1e6)
    timing = replace(latency_of(values, 10), average_ns=average, worst_ns=int(late_ms * 1e6))
    return replace(base, measurements=tuple(replace(one, latency=timing) for one in base.measurements))


def judged(candidates, budget=None):
    selection = select(candidates, budget or Budget(max_drop=None), noise=0.01, seed=0)
    return selection, {item.candidate.variant.name: item for item in selection.assessments}


def test_the_average_ranks_not_the_median_of_those_that_left_early():
    _, found = judged([candidate("original", 9.0), candidate("int8", 3.0), exiting()])
    assert found["early"].latency_ns.value == pytest.approx(4e6, rel=0.01)
    assert found["int8"].verdict == "winner", "3 ms beat an average of 4 ms, though the median is 2 ms"


def test_the_average_wins_where_it_is_less():
    selection, _ = judged([candidate("original", 9.0), candidate("int8", 5.0), exiting()])
    assert selection.winner.startswith("early")


def test_the_slowest_input_is_held_against_a_limit_on_any_statistic():
    limit = LatencyLimit("median", 8_000_000)
    _, found = judged([candidate("original", 7.0), exiting()], Budget(max_drop=None, max_latency=limit))
    assert not found["early"].feasible
    assert found["early"].limited_latency_ns.value == pytest.approx(10e6)
    assert found["original"].feasible


def test_reports_name_the_average_and_the_worst_case():
    _, found = judged([candidate("original", 9.0), exiting()])
    assert latency_name(found["early"]) == "average, 10.0 ms at worst"
    assert worst_ns(found["original"]) is None
    assert latency_name(found["original"]) == "median"


@pytest.mark.parametrize(("average", "worst"), [(5, 4), (5, None), (0, 5), (None, 5)])
def test_an_average_above_the_worst_case_is_not_believed(average, worst):
    timing = replace(latency_of([5, 6, 7]), average_ns=average, worst_ns=worst)
    with pytest.raises(ProtocolError, match="at worst, cannot be"):
        jobs.measurement_of({"measurement": plain(measurement("x", timing))})
