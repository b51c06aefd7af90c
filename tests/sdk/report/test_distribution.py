from dataclasses import replace

from edgeopt.core.selection import Assessment, Candidate
from edgeopt.report.distribution import BINS, histograms
from support.records import LINES, assessment_of


def with_samples(samples_ns: tuple[int, ...], *, median_ns: int) -> Assessment:
    item = assessment_of(LINES[0], launches=1)
    launch = item.candidate.measurements[0]
    assert launch.latency is not None
    latency = replace(launch.latency, samples_ns=samples_ns, median_ns=median_ns)
    measured = (replace(launch, latency=latency),)
    return replace(item, candidate=Candidate(item.candidate.variant, item.candidate.settings, measured))


def test_no_sample_is_lost_and_stragglers_are_counted() -> None:
    samples = (*range(1_000_000, 1_001_000), 50_000_000)
    (histogram,) = histograms([with_samples(samples, median_ns=1_000_500)])
    assert histogram.samples == 1001
    assert histogram.high_ms < 1.1
    assert histogram.above > 0
    assert "max 50.0 ms" in histogram.figures
    assert len(histogram.heights) == BINS
    assert max(histogram.heights) == 1.0


def test_equal_samples_make_one_bar() -> None:
    (histogram,) = histograms([with_samples((1000,) * 5, median_ns=1000)])
    assert sum(height > 0 for height in histogram.heights) == 1


def test_a_failed_candidate_has_none_and_keeps_the_numbers_of_the_others() -> None:
    made = histograms([assessment_of(LINES[-1]), assessment_of(LINES[0])])
    assert [histogram.number for histogram in made] == [2]
    assert made[0].launches == 2


def test_a_percentile_that_the_sample_does_not_support_is_not_drawn() -> None:
    item = with_samples(tuple(range(1000, 1010)), median_ns=1005)
    launch = item.candidate.measurements[0]
    assert launch.latency is not None
    bare = replace(launch, latency=replace(launch.latency, p90_ns=None))
    (histogram,) = histograms([replace(item, candidate=replace(item.candidate, measurements=(bare,)))])
    assert histogram.p90 is None
    assert "p90" not in histogram.figures
