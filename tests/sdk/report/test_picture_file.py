import io
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from edgeopt.report.picture_file import HEAD, render_svg, sheet_of
from edgeopt.report.picture_png import render_png
from support.browser import CHROMIUM, SKIP_REASON, look
from support.records import LINES, hostile_record, run_record

SPACE = "{http://www.w3.org/2000/svg}"
MEASURED = sum(line.status == "ok" for line in LINES)


def svg_of(record) -> ET.Element:
    sheet = sheet_of(record)
    assert sheet is not None
    return ET.fromstring(render_svg(sheet))


def test_the_svg_has_every_measured_candidate_the_budget_and_a_legend() -> None:
    root = svg_of(run_record())
    drawn = [group for group in root.iter(f"{SPACE}g") if group.find(f"{SPACE}title") is not None]
    assert len(drawn) == MEASURED
    words = [text.text for text in root.iter(f"{SPACE}text")]
    assert "int8-entropy / 2 threads: 3.11× faster than the original." in words
    assert "budget p90 ≤ 16.0 ms" in words
    assert {"winner", "original", "meets the budget", "does not", "Pareto front", "budget"} <= set(words)


def test_every_colour_of_the_svg_is_one_that_any_viewer_knows() -> None:
    sheet = sheet_of(run_record())
    assert sheet is not None
    assert "var(" not in render_svg(sheet)


def test_hostile_text_stays_text_in_the_svg() -> None:
    root = svg_of(hostile_record())
    assert {one.tag for one in root.iter()} <= {
        SPACE + name for name in ("svg", "title", "style", "rect", "text", "g", "path", "circle", "line", "polyline")
    }


def test_without_a_measurement_there_is_no_sheet() -> None:
    assert sheet_of(replace(run_record(), selection=None)) is None


@pytest.mark.skipif(CHROMIUM is None, reason=SKIP_REASON)
def test_a_browser_draws_the_svg_inside_its_sheet(tmp_path: Path) -> None:
    sheet = sheet_of(run_record())
    assert sheet is not None
    probe = """const svg = doc.querySelector("svg"), whole = svg.getBoundingClientRect();
      const outside = [...svg.querySelectorAll("text, path, circle")].filter((one) => {
        const b = one.getBoundingClientRect();
        return b.left < whole.left || b.right > whole.right || b.top < whole.top || b.bottom > whole.bottom;
      });
      return [svg.querySelectorAll("g.mark").length, outside.map((one) => one.outerHTML)];"""
    seen = look(f"<!doctype html><body>{render_svg(sheet)}", tmp_path, width=1280, probe=probe)
    assert seen.console == ()
    assert seen.answer == [MEASURED + 6, []]


def test_the_png_has_the_marks_where_the_svg_has_them() -> None:
    pytest.importorskip("matplotlib", reason="no Matplotlib: pip install 'edgeopt[picture]'")
    image = pytest.importorskip("PIL.Image")
    sheet = sheet_of(run_record())
    assert sheet is not None
    drawn = image.open(io.BytesIO(render_png(sheet))).convert("RGB")
    assert drawn.size == (1920, (440 + HEAD) * 2)
    winner = next(mark for mark in sheet.drawing.marks if mark.point.kind == "winner")
    x, y = round((winner.x - winner.radius * 0.6) * 2), round((winner.y + HEAD + winner.radius * 0.3) * 2)
    red, green, blue = drawn.getpixel((x, y))
    assert blue > 150 > green > red  # the winner's blue
    assert drawn.getpixel((1, 4)) == (255, 255, 255)
