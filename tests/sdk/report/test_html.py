import base64
import hashlib
import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from edgeopt.core.work import Forecast, Prediction
from edgeopt.report.html import render_report
from support.records import HOSTILE, LINES, hostile_record, infeasible_record, run_record
from support.rich_records import rich_record

SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


class Elements(HTMLParser):
    """Every element with its attributes, as a browser's parser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def body(page: str) -> str:
    return page.partition("<body>")[2].partition('<script type="application/json"')[0]


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_page_is_whole_without_a_network() -> None:
    for tag, attributes in Elements(render_report(run_record())).found:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form", "img"}
        assert not {"src", "href", "srcset", "action", "background", "style"} & attributes.keys()


def test_the_policy_names_exactly_the_scripts_and_the_style_of_the_page() -> None:
    page = render_report(run_record())
    policy = html.unescape(re.findall(r'Content-Security-Policy" content="(.*?)"', page)[0])
    scripts, style = SCRIPT.findall(page), re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert policy.startswith("default-src 'none';")
    assert f"script-src {' '.join(map(digest, scripts))};" in policy
    assert f"style-src {digest(style[0])};" in policy
    assert len(scripts) == 2


def test_hostile_text_never_becomes_an_element() -> None:
    page, calm = render_report(hostile_record()), render_report(replace(run_record(), deployment=None))
    tags = [tag for tag, _ in Elements(page).found]
    assert tags.count("script") == [tag for tag, _ in Elements(calm).found].count("script") == 3
    assert "img" not in tags
    assert not {"\x1b", "\u202e", "\x07"} & set(page)
    assert HOSTILE not in page
    assert "&lt;/script&gt;&lt;script&gt;" in body(page)


def test_the_data_island_is_json_that_cannot_end_its_element() -> None:
    island = re.findall(
        r'<script type="application/json" id="picture-data">(.*?)</script>', render_report(hostile_record())
    )
    assert len(island) == 1
    assert not {"<", ">", "&"} & set(island[0])
    assert len(json.loads(island[0])["points"]) == sum(line.status == "ok" for line in LINES)


def test_without_scripts_the_picture_is_an_svg_with_every_measured_candidate() -> None:
    picture = render_report(run_record()).partition('<section id="candidates">')[0]
    marks = re.findall(r'<g class="mark (\w+)">', picture)
    assert len(marks) == sum(line.status == "ok" for line in LINES)
    assert marks.count("winner") == 1
    assert marks.count("baseline") == 2


def test_the_answer_the_reasons_and_the_way_back_are_on_the_page() -> None:
    page = html.unescape(body(render_report(run_record())))
    assert "int8-entropy / 2 threads: 3.11× faster than the original." in page
    assert all(line.reason in page for line in LINES)
    assert "cosine 0.81 to the source model" in page
    assert "edgeopt device rollback pi5 digits" in page
    assert "edgeopt deploy digits.onnx" in page
    assert "calibrator=entropy" in page
    assert "62.40" in page  # a temperature of the evidence


def test_generated_data_is_warned_of() -> None:
    record = run_record()
    warned = render_report(replace(record, data=replace(record.data, generated=True)))
    assert "nothing about accuracy on real data" in warned
    assert "nothing about accuracy on real data" not in render_report(record)


def test_an_infeasible_run_says_so_first_and_by_how_much() -> None:
    page = body(render_report(infeasible_record()))
    assert "Nothing meets the budget. Nearest: int8-entropy / 2 threads." in page
    assert "0.72 ms over the limit" in page
    assert "★ winner" not in page


def test_what_was_tried_the_layers_and_the_conditions_are_on_the_page() -> None:
    page = html.unescape(body(render_report(rich_record())))
    assert "22 launches on the device" in page
    assert "40 points were tried, 31 ran on the device" in page
    assert "in float in the chosen variant" in page
    assert "1 of 22 launches were throttled" in page
    assert page.count('<svg class="meter-bar"') == 48
    assert len(re.findall(r'<g class="mark calm">', page)) == 42  # of heat and clock, but for the throttled launch


def test_how_well_the_board_was_foreseen_is_on_the_page() -> None:
    seen = tuple(Prediction(f"v{number}", 1e6 * number, 2e6 * number) for number in (1, 2, 3))
    told = Forecast("ridge regression", rows=64, predictions=seen, correlation=0.876)
    page = html.unescape(body(render_report(replace(rich_record(), forecast=told))))
    assert "a forecast by ridge regression over 64 launches of the ledger" in page
    assert "rank correlation 0.88 over 3 first launches" in page
    few = replace(told, basis="roofline", rows=0, predictions=seen[:2], correlation=None)
    page = html.unescape(body(render_report(replace(rich_record(), forecast=few))))
    assert "a forecast by roofline; 2 launches are too few to judge it" in page
    assert "forecast" not in body(render_report(rich_record()))


def test_ten_thousand_trials_stay_a_page_that_opens() -> None:
    page = render_report(rich_record(trials=10_000))
    assert "The best 300 of 10000 points" in page
    assert len(page.encode()) < 1_500_000


@pytest.mark.parametrize("state", ["running", "failed"])
def test_a_run_without_a_decision_has_a_page_too(state: str) -> None:
    page = render_report(
        replace(run_record(), state=state, selection=None, deployment=None, variants=(), finished_at=0.0)
    )
    assert '<canvas id="chart"' not in page
    assert ("has not chosen yet" if state == "running" else "failed before it could choose") in page


def test_a_large_run_stays_a_light_page() -> None:
    lines = tuple(replace(LINES[index % 8], name=f"variant-{index}") for index in range(20))
    page = render_report(run_record((LINES[5], *lines), launches=1, samples=20_000))
    assert len(page.encode()) < 400_000


def test_the_same_record_makes_the_same_page() -> None:
    assert render_report(run_record()) == render_report(run_record())
