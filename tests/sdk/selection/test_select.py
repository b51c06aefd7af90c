"""The decision on recorded tables: a known best must win, a tie must be called a tie, and each loser is told why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeopt.core.budget import Budget, LatencyLimit
from edgeopt.core.measurement import Correctness, Memory
from edgeopt.core.plan import QUICK
from edgeopt.core.profile import Settings
from edgeopt.core.selection import Assessment, Candidate, Selection
from edgeopt.errors import UsageError
from edgeopt.selection.select import select
from support.measurements import MEBI, candidate, failed, fidelity, hits, latency, measurement, top1, variant

ORIGINAL = candidate("original", 3.0, correct=980)


def choose(*candidates: Candidate, noise: float = 0.02, **budget: object) -> Selection:
    return select(candidates, Budget(**budget), noise=noise)  # type: ignore[arg-type]


def of(selection: Selection, name: str) -> Assessment:
    return next(item for item in selection.assessments if item.candidate.variant.name == name)


def test_the_fastest_within_the_budget_wins_and_says_so() -> None:
    chosen = choose(ORIGINAL, candidate("int8", 1.0, correct=978), candidate("float16", 2.0))
    assert chosen.winner == chosen.best_so_far == "int8 / 1 thread"
    winner = of(chosen, "int8")
    assert winner.verdict == "winner"
    assert winner.reason.startswith("fastest within the budget: ")
    assert winner.reason.endswith(" ms, loses 0.2 points")
    assert winner.speedup
    assert winner.speedup.low < 3.0 * 1.02
    assert winner.speedup.value == pytest.approx(3.0, rel=0.03)
    assert not chosen.misses


def test_a_slower_one_is_told_by_how_much_and_than_what() -> None:
    chosen = choose(candidate("original", 1.7, noise=0.001), candidate("int8", 3.06, noise=0.001))
    assert chosen.winner == "original / 1 thread"
    assert of(chosen, "int8").verdict == "slower"
    assert of(chosen, "int8").reason == "1.8x slower than original / 1 thread (3.06 ms against 1.7 ms)"


def test_an_inaccurate_fast_one_loses_and_is_told_its_drop() -> None:
    chosen = choose(ORIGINAL, candidate("int8", 0.5, correct=832))
    assert chosen.winner == "original / 1 thread"
    assert of(chosen, "int8").verdict == "infeasible"
    assert of(chosen, "int8").reason == "loses 14.8 points of top1, budget 1"
    assert choose(ORIGINAL, candidate("int8", 0.5, correct=832), max_drop=None).winner == "int8 / 1 thread"


def test_where_the_device_cannot_run_the_original_losses_count_from_it_on_the_host() -> None:
    """A 32-bit board has no runtime that reads ONNX, and all the same a limit on the loss is kept."""
    close, far = candidate("litert-float", 2.0, correct=979), candidate("litert-int8", 1.0, correct=832)
    assert choose(close, far, max_drop=0.01).winner is None
    on_host = top1(hits(980))
    chosen = choose(replace(close, reference=on_host), replace(far, reference=on_host), max_drop=0.01)
    assert chosen.winner == "litert-float / 1 thread"
    assert of(chosen, "litert-int8").reason.startswith("loses 14.8 points of top1")
    measured = choose(ORIGINAL, replace(close, reference=top1(hits(600))), max_drop=None)
    assert of(measured, "litert-float").drop == of(choose(ORIGINAL, close, max_drop=None), "litert-float").drop


def test_a_drop_inside_the_budget_whose_interval_is_not_is_infeasible() -> None:
    chosen = choose(ORIGINAL, candidate("int8", 0.5, correct=973))
    loser = of(chosen, "int8")
    assert loser.drop
    assert loser.drop.value == pytest.approx(0.007)
    assert loser.drop.high > 0.01
    assert not loser.feasible
    assert loser.reason.startswith("may lose 1.")
    assert "(measured 0.7 on 1000 samples, 95 % confidence), budget 1: more samples would tell" in loser.reason


def test_a_latency_inside_the_limit_whose_interval_is_not_is_infeasible() -> None:
    launches = [measurement("original", latency(ms, noise=0.001)) for ms in (19.0, 19.6, 20.3)]
    jumpy = Candidate(variant("original"), Settings(), tuple(launches))
    chosen = choose(jumpy, max_latency=LatencyLimit("median", 20_000_000))
    judged = of(chosen, "original")
    assert judged.limited_latency_ns
    assert judged.limited_latency_ns.value < 20_000_000 < judged.limited_latency_ns.high
    assert not judged.feasible
    assert "(up to 20.3 ms at 95 % confidence), budget 20 ms (over by 1." in judged.reason


def test_a_tie_goes_to_the_more_accurate_then_less_memory_then_smaller() -> None:
    accurate = choose(ORIGINAL, candidate("a", 1.0, correct=977), candidate("b", 1.005, correct=979, seed=5))
    assert accurate.winner == "b / 1 thread"
    assert of(accurate, "a").verdict == "tie"
    assert of(accurate, "a").reason.startswith("within noise of b / 1 thread (ratio ")
    assert of(accurate, "a").reason.endswith("), which is more accurate")
    assert of(accurate, "b").reason.startswith("within noise of a / 1 thread (ratio ")
    frugal = choose(candidate("a", 1.0, memory_mebi=90), candidate("b", 1.005, memory_mebi=60, seed=5), max_drop=None)
    assert frugal.winner == "b / 1 thread"
    assert "which is less hungry for memory" in of(frugal, "a").reason
    small = choose(candidate("a", 1.0, size_bytes=9 * MEBI), candidate("b", 1.005, seed=5), max_drop=None)
    assert small.winner == "b / 1 thread"
    assert "which is smaller" in of(small, "a").reason


def test_what_is_a_tie_depends_on_the_noise_of_the_device() -> None:
    a, b = candidate("a", 1.0, correct=975, noise=0.002), candidate("b", 1.04, correct=980, noise=0.002)
    assert choose(ORIGINAL, a, b, noise=0.01, max_drop=None).winner == "a / 1 thread"
    assert choose(ORIGINAL, a, b, noise=0.06, max_drop=None).winner == "b / 1 thread"


def test_noise_does_not_hide_what_is_clearly_slower_by_the_best_estimate() -> None:
    a, b = candidate("a", 1.0, correct=975, noise=0.002), candidate("b", 1.14, correct=980, noise=0.002)
    chosen = choose(ORIGINAL, a, b, noise=0.2, max_drop=None)
    assert chosen.winner == "a / 1 thread"
    assert of(chosen, "b").verdict == "tie"
    assert of(chosen, "b").reason.startswith("may be as good as a / 1 thread, but not by the best estimate (ratio 1.1")


def test_less_than_a_tenth_of_a_point_is_not_more_accurate() -> None:
    nearly, all_right = (top1(hits(count, 10_000)) for count in (9_799, 9_800))
    a = candidate("a", 1.0, accuracy=nearly, size_bytes=MEBI)
    b = candidate("b", 1.005, accuracy=all_right, seed=5)
    chosen = choose(candidate("original", 3.0, accuracy=all_right), a, b, max_drop=None)
    assert chosen.winner == "a / 1 thread"


def test_an_unstable_measurement_wins_no_tie() -> None:
    shaky = candidate("int8", 2.97, correct=979, flags=("unstable",), noise=0.05)
    assert choose(ORIGINAL, shaky, max_drop=None).winner == "original / 1 thread"


def test_an_unstable_measurement_wins_where_its_whole_interval_is_better() -> None:
    assert choose(ORIGINAL, candidate("int8", 1.0, correct=979, flags=("unstable",))).winner == "int8 / 1 thread"


def test_an_unstable_original_does_not_lose_to_something_slower() -> None:
    shaky = candidate("original", 1.0, flags=("unstable",))
    assert choose(shaky, candidate("optimised", 1.8)).winner == "original / 1 thread"


def test_where_everything_is_unstable_the_faster_still_wins() -> None:
    shaky = ("unstable",)
    assert (
        choose(candidate("original", 3.0, flags=shaky), candidate("int8", 1.0, flags=shaky)).winner == "int8 / 1 thread"
    )


def test_no_measurement_is_infeasible() -> None:
    chosen = choose(ORIGINAL, Candidate(variant("int8"), Settings(), ()))
    assert of(chosen, "int8").verdict == "failed"
    assert of(chosen, "int8").reason == "was not measured on the device"
    assert chosen.winner == "original / 1 thread"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("crash", "crashed on onnxruntime 1.32.0, 2 threads: SIGSEGV while loading"),
        ("oom", "ran out of memory on"),
        ("illegal_instruction", "needs an instruction that the CPU lacks on"),
        ("timeout:load", "ran past its deadline (load) on"),
        ("runtime_missing", "found no runtime on"),
        ("something_new", "failed (something_new) on"),
    ],
)
def test_a_failed_measurement_says_how(status: str, words: str) -> None:
    chosen = choose(ORIGINAL, failed("int8", status, "SIGSEGV while loading.", threads=2))
    assert of(chosen, "int8").verdict == "failed"
    assert of(chosen, "int8").reason.startswith(words)
    assert of(chosen, "int8").latency_ns is None


def test_one_crash_among_good_launches_is_a_crash_but_a_lost_link_is_not() -> None:
    good = candidate("int8", 1.0)
    for status, winner in (("crash", "original / 1 thread"), ("lost", "int8 / 1 thread")):
        mixed = replace(good, measurements=(*good.measurements, *failed("int8", status, "").measurements))
        assert choose(ORIGINAL, mixed).winner == winner


def test_wrong_outputs_are_infeasible_however_fast() -> None:
    wrong = Correctness(passed=False, cosine=0.31, max_abs=4.0, reason="outputs are constant")
    chosen = choose(ORIGINAL, candidate("int8", 0.1, correctness=wrong))
    assert chosen.winner == "original / 1 thread"
    assert of(chosen, "int8").reason == "gives wrong outputs on the device: outputs are constant"


def test_launches_that_were_throttled_do_not_count() -> None:
    good = candidate("int8", 1.0)
    slow = tuple(replace(item, flags=("throttled",)) for item in candidate("int8", 9.0).measurements)
    chosen = choose(ORIGINAL, replace(good, measurements=slow + good.measurements))
    assert chosen.winner == "int8 / 1 thread"
    only = choose(ORIGINAL, replace(good, measurements=slow))
    assert only.winner == "original / 1 thread"
    assert "all its launches are flagged throttled" in of(only, "int8").reason


def test_missing_accuracy_is_infeasible_only_where_accuracy_is_limited() -> None:
    blind = candidate("int8", 1.0, accuracy=None)
    assert of(choose(ORIGINAL, blind), "int8").reason == "has no accuracy measured on the device"
    assert choose(ORIGINAL, blind, max_drop=None).winner == "int8 / 1 thread"


def test_other_threads_of_the_same_file_share_its_accuracy() -> None:
    measured, other = candidate("int8", 2.0, correct=979), candidate("int8", 1.0, threads=2, accuracy=None)
    assert choose(ORIGINAL, measured, other).winner == "int8 / 2 threads"


def test_an_accuracy_that_is_no_number_never_passes() -> None:
    broken = replace(top1(hits(980)), value=float("nan"))
    chosen = choose(ORIGINAL, candidate("int8", 1.0, accuracy=broken))
    assert of(chosen, "int8").reason == "has a top1 on the device that is not a number"
    assert of(chosen, "int8").metric is None


def test_accuracies_on_different_samples_are_not_compared() -> None:
    chosen = choose(ORIGINAL, candidate("int8", 1.0, accuracy=top1(hits(490, 500))))
    assert (
        "was not evaluated on the samples of the original (top1 on 1000, this one top1 on 500)"
        in of(chosen, "int8").reason
    )


def test_a_fidelity_is_compared_with_the_source_model_itself() -> None:
    near, far = fidelity([0.999] * 64), fidelity([0.95] * 64)
    chosen = choose(
        candidate("original", 3.0, accuracy=fidelity([1.0] * 64)),
        candidate("near", 2.0, accuracy=near),
        candidate("far", 1.0, accuracy=far),
    )
    assert chosen.winner == "near / 1 thread"
    drop = of(chosen, "near").drop
    assert drop
    assert drop.value == pytest.approx(0.001)
    assert of(chosen, "far").reason == "loses 5 points of fidelity, budget 1"


def test_the_baseline_is_the_original_at_its_own_best_settings() -> None:
    chosen = choose(candidate("original", 4.0), candidate("original", 2.0, threads=2), candidate("int8", 1.0))
    assert chosen.assessment("int8 / 1 thread").speedup.value == pytest.approx(2.0, rel=0.03)  # type: ignore[union-attr]
    assert chosen.assessment("original / 1 thread").speedup.value == pytest.approx(0.5, rel=0.03)  # type: ignore[union-attr]
    best = chosen.assessment("original / 2 threads").speedup
    assert best
    assert (best.low, best.value, best.high) == (1, 1, 1)


def test_without_a_feasible_candidate_the_nearest_misses_are_told() -> None:
    limit = LatencyLimit("median", 500_000)
    chosen = choose(
        ORIGINAL,
        candidate("int8", 0.55),
        candidate("int4", 0.4, correct=500),
        failed("bad", "crash", ""),
        max_latency=limit,
    )
    assert chosen.winner is None
    assert chosen.best_so_far == "int8 / 1 thread"
    assert list(chosen.misses) == ["int8 / 1 thread", "original / 1 thread", "int4 / 1 thread"]
    assert chosen.misses["int8 / 1 thread"].startswith("median latency of 0.5")
    assert "budget 0.5 ms (over by 1" in chosen.misses["int8 / 1 thread"]
    assert {item.verdict for item in chosen.assessments} == {"infeasible", "failed"}


def test_where_nothing_works_there_is_no_best_so_far() -> None:
    chosen = choose(failed("original", "oom", "killed at load"), failed("int8", "crash", ""))
    assert (chosen.winner, chosen.best_so_far, dict(chosen.misses)) == (None, None, {})
    assert choose().winner is None


def test_memory_and_size_are_limits_and_objectives() -> None:
    lean = candidate("lean", 2.0, memory_mebi=30, size_bytes=9 * MEBI)
    tiny = candidate("tiny", 2.5, memory_mebi=50, size_bytes=MEBI)
    assert choose(ORIGINAL, lean, tiny, objective="memory").winner == "lean / 1 thread"
    by_size = choose(ORIGINAL, lean, tiny, objective="size")
    assert by_size.winner == "tiny / 1 thread"
    assert of(by_size, "lean").reason == "9.0x larger than tiny / 1 thread (9 MiB against 1 MiB)"
    limited = choose(ORIGINAL, lean, tiny, max_memory_bytes=40 * MEBI, max_size_bytes=8 * MEBI)
    assert limited.winner is None
    assert of(limited, "lean").reason == "takes 9 MiB on disk, budget 8 MiB (over by 1 MiB)"
    assert of(limited, "tiny").reason == "takes 50 MiB of memory, budget 40 MiB (over by 10 MiB)"


def serving(name: str, median_ms: float, rate: float, *, sessions: int = 1, memory_mebi: int = 64) -> Candidate:
    """A candidate of so many requests a second, a little more or less in each launch."""
    made = candidate(name, median_ms, memory_mebi=memory_mebi)
    settings = replace(made.settings, sessions=sessions)
    rates = (rate, rate * 1.005, rate * 0.995)
    launches = [
        replace(launch, settings=settings, items_per_second=one)
        for launch, one in zip(made.measurements, rates, strict=True)
    ]
    return replace(made, settings=settings, measurements=tuple(launches))


def test_time_per_item_ranges_over_sessions_where_latency_does_not() -> None:
    one, two = serving("original", 3.0, 330), serving("original", 3.6, 540, sessions=2, memory_mebi=90)
    assert choose(one, two).winner == "original / 1 thread"
    chosen = choose(one, two, objective="time-per-item")
    assert chosen.winner == "original / 1 thread 2 sessions"
    assert of_key(chosen, chosen.winner).reason.startswith("most throughput within the budget")
    assert "more time per item than original / 1 thread 2 sessions" in of_key(chosen, "original / 1 thread").reason
    limited = choose(one, two, objective="time-per-item", max_latency=LatencyLimit("median", 3_300_000))
    assert limited.winner == "original / 1 thread"  # throughput under a limit on the time of a request


def test_sessions_that_serve_no_more_win_nothing() -> None:
    one, two = serving("original", 3.0, 330), serving("original", 6.0, 331, sessions=2, memory_mebi=90)
    assert choose(one, two, objective="time-per-item").winner == "original / 1 thread"


def test_without_a_throughput_nothing_is_chosen_by_it() -> None:
    chosen = choose(ORIGINAL, objective="time-per-item")
    assert chosen.winner is None
    assert "throughput was not measured" in of(chosen, "original").reason


def of_key(selection: Selection, key: str | None) -> Assessment:
    return next(item for item in selection.assessments if item.candidate.key == key)


def test_the_largest_peak_of_all_launches_is_the_memory() -> None:
    base = candidate("int8", 1.0)
    peak = replace(base.measurements[0], memory=Memory(load_bytes=99 * MEBI, run_bytes=10 * MEBI))
    chosen = choose(ORIGINAL, replace(base, measurements=(peak, *base.measurements[1:])))
    assert of(chosen, "int8").memory_bytes == 99 * MEBI


def test_a_memory_that_was_not_measured_meets_no_limit() -> None:
    chosen = choose(ORIGINAL, candidate("int8", 1.0, memory=None), max_memory_bytes=1 << 40)
    assert of(chosen, "int8").reason == "its memory was not measured on the device"
    assert choose(ORIGINAL, candidate("int8", 1.0, memory=None)).winner == "int8 / 1 thread"


def test_a_percentile_that_the_samples_do_not_support_is_not_believed() -> None:
    short = candidate("original", 1.0, samples=100, launches=1)
    chosen = choose(short, max_latency=LatencyLimit("p99", 10**12))
    assert of(chosen, "original").reason == (
        "p99 cannot be told from 100 samples, 662 are needed: measure with a longer plan"
    )


def test_once_there_are_finals_the_winner_is_a_finalist() -> None:
    quick = candidate("quick", 0.9, plan=QUICK, launches=1)
    chosen = choose(ORIGINAL, candidate("int8", 1.0), quick)
    assert chosen.winner == "int8 / 1 thread"
    assert of(chosen, "quick").verdict == "tie"
    assert "only in a short measurement, not in the finals" in of(chosen, "quick").reason


def test_the_launches_of_the_deepest_plan_count() -> None:
    final = candidate("int8", 2.0)
    early = candidate("int8", 0.1, plan=QUICK, launches=5)
    chosen = choose(ORIGINAL, replace(final, measurements=early.measurements + final.measurements))
    assert of(chosen, "int8").latency_ns.value == pytest.approx(2e6, rel=0.02)  # type: ignore[union-attr]


def test_something_dominated_within_the_noise_is_called_so() -> None:
    chosen = choose(candidate("a", 1.0, noise=0.001), candidate("b", 1.01, memory_mebi=70, noise=0.001), max_drop=None)
    assert of(chosen, "b").verdict == "dominated"
    assert of(chosen, "b").reason.startswith("a / 1 thread is at least as good in latency, accuracy, memory and size")
    assert [item.pareto for item in chosen.assessments] == [True, False]


def test_two_candidates_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="two candidates are called 'original / 1 thread'"):
        choose(ORIGINAL, ORIGINAL)
