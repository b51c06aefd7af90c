"""The report opened in a real Chromium at the widths of a desk and of a phone."""

import re
from pathlib import Path

import pytest

from edgeopt.report.html import render_report
from support.browser import CHROMIUM, SKIP_REASON, look, print_to_pdf
from support.records import LINES, hostile_record, infeasible_record, run_record
from support.rich_records import rich_record

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=SKIP_REASON)

PROBE = """
  const chart = view.Chart && view.Chart.getChart("chart");
  const canvas = doc.getElementById("chart");
  const pixels = canvas && canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const heads = [...doc.querySelectorAll("#candidates th")];
  const first = () => doc.querySelector("#candidates tbody tr").id;
  const order = [first()];
  const median = heads.find((head) => head.textContent.startsWith("median"));
  for (let i = 0; i < 2; i++) {
    median.querySelector("button").click();
    order.push(first(), median.getAttribute("aria-sort"));
  }
  return {
    scroll: doc.documentElement.scrollWidth, title: doc.title,
    points: chart ? chart.data.datasets.reduce((sum, set) => sum + set.data.length, 0) : 0,
    painted: pixels ? pixels.some((value) => value > 0) : false,
    canvas: canvas ? canvas.clientWidth : 0, still: getComputedStyle(doc.querySelector(".static")).display,
    loaded: view.performance.getEntriesByType("resource").map((entry) => entry.name),
    scripts: doc.scripts.length, images: doc.images.length, order,
  };
"""
MEASURED = sum(line.status == "ok" for line in LINES)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_chart_is_drawn_and_nothing_overflows_or_complains(width: int, tmp_path: Path) -> None:
    seen = look(render_report(run_record()), tmp_path, width=width, probe=PROBE)
    assert seen.console == ()
    assert seen.answer["points"] == MEASURED
    assert seen.answer["painted"]
    assert seen.answer["still"] == "none"
    assert width * 0.7 < seen.answer["canvas"] < width
    assert seen.answer["scroll"] <= width
    assert seen.answer["loaded"] == []


@pytest.mark.parametrize("width", [1280, 390])
def test_a_run_with_everything_fits_the_screen(width: int, tmp_path: Path) -> None:
    probe = """const wide = [...doc.querySelectorAll("svg, table, pre")].filter((one) => one.checkVisibility());
      return [doc.documentElement.scrollWidth, Math.min(...[...doc.querySelectorAll(".strips svg")].map(
        (one) => one.clientHeight)), Math.max(...wide.map((one) => one.getBoundingClientRect().right))]"""
    seen = look(render_report(rich_record()), tmp_path, width=width, probe=probe)
    assert seen.console == ()
    scroll, least_height, right = seen.answer
    assert scroll <= width
    assert right <= width
    assert least_height > 110  # charts that a thumb can tell apart


def test_a_click_on_a_header_sorts_and_a_second_one_turns_it_round(tmp_path: Path) -> None:
    order = look(render_report(run_record()), tmp_path, width=1280, probe=PROBE).answer["order"]
    assert order == ["row-1", "row-10", "ascending", "row-11", "descending"]


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    seen = look(render_report(hostile_record()), tmp_path, width=390, probe=PROBE)
    assert seen.console == ()
    assert seen.answer["title"].startswith("</script><script>document.title=")
    assert (seen.answer["scripts"], seen.answer["images"]) == (3, 0)
    assert seen.answer["points"] == MEASURED
    assert seen.answer["scroll"] <= 390


def test_a_script_that_slipped_in_would_not_run(tmp_path: Path) -> None:
    page = render_report(run_record()).replace("</main>", "<script>document.title='owned'</script></main>")
    seen = look(page, tmp_path, width=1280, probe="return doc.title")
    assert seen.answer.startswith("digits on pi5")
    assert any("Content Security Policy" in line for line in seen.console)


def test_without_scripts_the_svg_stands_in(tmp_path: Path) -> None:
    page = render_report(infeasible_record()).replace("<script>", '<script type="text/plain">')
    probe = """return [doc.querySelectorAll("#picture svg .mark").length, doc.querySelector("svg").clientWidth,
      getComputedStyle(doc.querySelector(".chart")).display, doc.documentElement.scrollWidth]"""
    marks, svg_width, chart, scroll = look(page, tmp_path, width=390, probe=probe).answer
    assert (marks, chart) == (MEASURED, "none")
    assert 250 < svg_width < 390
    assert scroll <= 390


def test_on_paper_the_table_fits_and_the_svg_takes_the_place_of_the_canvas(tmp_path: Path) -> None:
    page = re.sub(r'<meta http-equiv="Content-Security-Policy".*?>', "", render_report(run_record()))
    probe = """return [doc.querySelector("#candidates table").offsetWidth, doc.documentElement.scrollWidth,
      getComputedStyle(doc.querySelector(".chart")).display, getComputedStyle(doc.querySelector(".static")).display]"""
    table, page_width, canvas, svg = look(
        page.replace("@media print", "@media all"), tmp_path, width=718, probe=probe
    ).answer
    assert table <= page_width <= 718
    assert (canvas, svg) == ("none", "block")


def test_the_page_prints(tmp_path: Path) -> None:
    print_to_pdf(render_report(run_record()), tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
