import html
import io
from dataclasses import replace

import pytest
from rich.console import Console

from edgeopt.report import comparison
from edgeopt.report.comparison_page import render_comparison
from edgeopt.report.comparison_terminal import print_comparison
from edgeopt.selection.comparing_runs import compare_runs
from support.records import hostile_record, infeasible_record, run_record
from support.run_pairs import later, of_another_network


def printed(found, width: int = 80) -> str:
    stream = io.StringIO()
    print_comparison(found, Console(file=stream, width=width, highlight=False))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (run_record(), later(speed=1.25), "int8-entropy / 2 threads won again: 1.25× faster."),
        (later(speed=1.25), run_record(), "int8-entropy / 2 threads won again: 0.80× the speed."),
        (run_record(), later(), "int8-entropy / 2 threads won again: as fast, within the noise."),
        (run_record(), infeasible_record(), "Nothing meets the budget any more; int8-entropy / 2 threads did."),
        (infeasible_record(), run_record(), "int8-entropy / 2 threads meets the budget; nothing did before."),
        (infeasible_record(), infeasible_record(), "Neither run met its budget."),
    ],
)
def test_the_answer_is_one_sentence(before, after, said: str) -> None:
    assert comparison.headline(compare_runs(before, after)) == said


def test_the_terminal_has_figures_with_intervals_and_what_differs() -> None:
    found = compare_runs(run_record(), of_another_network(later(speed=1.25)))
    text = printed(found, width=120)
    assert "0.800× (0.79" in text
    assert "▲ better" in text
    assert "61.2 MiB" in text
    assert "letters" in text
    assert "note The runs are of different networks" in text


def test_the_page_says_what_the_terminal_says_and_is_whole_without_a_network() -> None:
    page = render_comparison(compare_runs(run_record(), of_another_network(later(speed=1.25))))
    text = html.unescape(page)
    for said in ("1.25× faster", "0.800× (0.79", "different networks (digits and letters)", "▲ better"):
        assert said in text
    assert "edgeopt report --compare r-20260101-7f3a r-later" in text
    assert page.count('<svg class="whisker') == 10
    assert "default-src 'none'" in text
    assert not {"src=", "href=", "@import"} & set(page.replace("=", "= ").split())


def test_hostile_names_stay_text() -> None:
    page = render_comparison(compare_runs(replace(hostile_record(), run_id="r-evil"), run_record()))
    assert "<img" not in page
    assert page.count("<script") == 1
    text = printed(compare_runs(replace(hostile_record(), run_id="r-evil"), run_record()))
    assert not {"\x1b", "\x07", "\u202e"} & set(text)
