"""Two runs side by side: what is faster is called so, what is within the noise is not, and what differs is told."""

from dataclasses import replace

import pytest

from edgeopt.core.budget import Budget
from edgeopt.core.run_comparison import FigureChange, RunComparison
from edgeopt.selection.comparing_runs import compare_runs
from support.records import infeasible_record, run_record
from support.run_pairs import later, of_another_network, on_another_board, with_answers


def figure(found: RunComparison, name: str) -> FigureChange:
    return next(item for item in found.figures if item.name == name)


def told(found: RunComparison) -> dict[str, tuple[str, str]]:
    return {item.what: (item.before, item.after) for item in found.differences}


def test_a_faster_winner_is_better_by_a_ratio_whose_interval_holds_the_truth() -> None:
    latency = figure(compare_runs(run_record(), later(speed=1.25)), "latency")
    assert latency.change == "better"
    assert latency.ratio is not None
    assert latency.ratio.low <= 0.8 <= latency.ratio.high
    assert latency.ratio.low < latency.ratio.high < 0.85


def test_the_same_runs_the_other_way_round_are_worse() -> None:
    assert figure(compare_runs(later(speed=1.25), run_record()), "latency").change == "worse"


def test_a_difference_within_the_noise_of_the_board_is_none() -> None:
    slightly = later(speed=1.009)
    found = compare_runs(run_record(), slightly)
    assert found.noise == 0.012
    assert figure(found, "latency").change == "same"
    assert {item.change for item in found.candidates if item.ratio} == {"same"}


def test_candidates_are_matched_by_name_and_others_are_listed() -> None:
    before, after = run_record(), later(speed=2.0)
    assert after.selection is not None
    fewer = replace(after, selection=replace(after.selection, assessments=after.selection.assessments[:-1]))
    found = compare_runs(before, fewer)
    assert found.gone == ("int8-avx512 / 2 threads",)
    assert found.added == ()
    changes = {item.key: item.change for item in found.candidates}
    assert changes["int8-minmax / 2 threads"] == "better"
    assert changes["original / 2 threads"] == "same"  # only the variants became faster
    assert all(item.same_file for item in found.candidates)


def test_a_candidate_that_did_not_run_has_no_ratio() -> None:
    crashed = next(item for item in compare_runs(run_record(), later()).candidates if "avx512" in item.key)
    assert (crashed.before, crashed.after, crashed.ratio, crashed.change) == (None, None, None, "unknown")


def test_over_the_same_samples_the_metric_has_a_paired_interval() -> None:
    gain = figure(compare_runs(with_answers(run_record(), 90), with_answers(later(), 97)), "metric")
    assert gain.ratio is not None
    assert gain.ratio.value == pytest.approx(0.07)
    assert 0 < gain.ratio.low < 0.07 < gain.ratio.high < 0.15
    assert gain.change == "better"


def test_over_other_samples_the_metric_has_no_interval_and_that_is_told() -> None:
    other = with_answers(later(), 97)
    other = replace(other, data=replace(other.data, digest="f" * 64))
    found = compare_runs(with_answers(run_record(), 90), other)
    ratio = figure(found, "metric").ratio
    assert ratio is not None
    assert ratio.low == ratio.high
    assert any("evaluation samples differ" in caution for caution in found.cautions)


def test_other_metrics_are_not_compared() -> None:
    other = later()
    found = compare_runs(run_record(), replace(other, data=replace(other.data, metric="fidelity")))
    assert (figure(found, "metric").ratio, figure(found, "metric").change) == (None, "unknown")
    assert any("metrics are not the same" in caution for caution in found.cautions)


def test_another_network_is_told_first_and_not_refused() -> None:
    found = compare_runs(run_record(), of_another_network(later()))
    assert found.cautions[0].startswith("The runs are of different networks (digits and letters)")
    assert told(found)["model"] == ("digits", "letters")
    assert figure(found, "latency").ratio is not None


def test_boards_budgets_and_versions_that_differ_are_told() -> None:
    other = on_another_board(later())
    assert other.selection is not None
    other = replace(
        other,
        selection=replace(other.selection, budget=Budget(max_drop=None, objective="memory")),
        versions={**other.versions, "onnxruntime": "1.33.0"},
    )
    found = compare_runs(run_record(), other)
    assert told(found)["board"] == ("Raspberry Pi 5 Model B Rev 1.0", "Jetson Orin Nano")
    assert told(found)["largest loss"] == ("1 points", "any")
    assert told(found)["objective"] == ("least latency", "least memory")
    assert told(found)["latency limit"] == ("p90 16 ms", "none")
    assert told(found)["onnxruntime"] == ("1.32.0", "1.33.0")
    assert any("boards, or how they were set up, differ" in caution for caution in found.cautions)


def test_the_same_work_has_no_differences() -> None:
    found = compare_runs(run_record(), later())
    assert found.differences == ()
    assert len(found.cautions) == 1  # the runs were not interleaved


def test_without_a_winner_the_nearest_misses_are_compared() -> None:
    found = compare_runs(run_record(), replace(infeasible_record(), run_id="r-miss"))
    assert (found.winner_before, found.winner_after) == ("int8-entropy / 2 threads", None)
    assert found.best_after is not None
    assert figure(found, "latency").ratio is not None


def test_a_run_that_has_not_chosen_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="must have chosen"):
        compare_runs(run_record(), replace(run_record(), selection=None))
