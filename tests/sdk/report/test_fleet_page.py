"""The page of a rollout: what it says, that nothing said by a board becomes markup, and how a real browser shows it."""

import html
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edgeopt.report.fleet_page import render_rollout
from edgeopt.store.audit import Entry
from support.browser import CHROMIUM, SKIP_REASON, look, print_to_pdf
from support.records import HOSTILE
from support.rollout_records import done_rollout, halted_rollout, hostile_rollout, untouched

browser = pytest.mark.skipif(CHROMIUM is None, reason=SKIP_REASON)
LOG = (Entry(1, 1_790_000_000.0, "ann@desk", "rollout.start", "00c0ffee00c0ffee", "edgeopt fleet update", "0" * 64),)


class Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def count(self, tag: str) -> int:
        return sum(found == tag for found, _ in self.found)


def text_of(page: str) -> str:
    body = page.partition("<body>")[2].partition("<script>")[0]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_a_rollout_that_went_well_says_so_first() -> None:
    said = text_of(render_rollout(done_rollout()))
    assert "★ detector@1.4.0 runs on 41 of 42 boards." in said
    assert "1 board: left out." in said
    assert "41 / 42" in said
    assert "+2.1 %" in said


def test_a_halted_one_names_the_reason_with_its_numbers_and_the_boards_that_failed_first() -> None:
    page = render_rollout(halted_rollout(), command="edgeopt fleet update detector@1.4.0 --to all", log=LOG)
    said = text_of(page)
    assert "✗ Halted in wave 2" in said
    assert "pi5 is 16.2 % slower than before (14.1 to 18.0), 10 % are allowed" in said
    assert "1 of 10 boards failed: between 0.9 and 35 %" in said
    assert "edgeopt fleet update detector@1.4.0 --to all" in said
    assert "ann@desk" in said
    first = re.findall(r'<tr class="(\w+)">', page)
    assert first[:2] == ["rolled_back", "unreachable"]


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (0.05, "none in waves too small for that"),
        (0.0, "failures none allowed"),
    ],
)
def test_where_no_board_may_fail_no_share_of_nought_percent_is_claimed(limit: float, said: str) -> None:
    rollout = halted_rollout()
    gate = replace(rollout.plan.gate, max_failures=limit)
    page = text_of(render_rollout(replace(rollout, plan=replace(rollout.plan, gate=gate))))
    assert said in page
    assert (" 0 % allowed" in page, "none allowed" in page) == (False, limit == 0)


def test_each_profile_has_a_pair_of_dots_a_board_that_was_measured() -> None:
    rollout = halted_rollout()
    page = render_rollout(rollout)
    measured = sum(board.before is not None and board.after is not None for board in rollout.boards)
    assert page.count('class="hollow" cx') == page.count('class="full" cx') == measured
    assert len(re.findall(r"<h3>", page)) == 2


@pytest.mark.parametrize("state", ["planned", "running", "soaking", "paused", "cancelled", "rolling_back"])
def test_a_rollout_at_any_stage_has_a_page(state: str) -> None:
    rollout = halted_rollout()
    fresh = tuple(untouched(board) for board in rollout.boards)
    page = render_rollout(replace(rollout, state=state, boards=fresh, gates=(), started_at=0.0, reason=""))
    assert "0 / 42" in text_of(page)
    assert 'id="timeline"' not in page


def test_the_page_loads_nothing_and_has_no_style_of_an_element() -> None:
    for tag, attributes in Elements(render_rollout(done_rollout())).found:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form", "img"}
        assert not {"src", "href", "srcset", "action", "background", "style"} & attributes.keys()


def test_hostile_text_never_becomes_an_element() -> None:
    log = (replace(LOG[0], who=HOSTILE, what=HOSTILE, why=HOSTILE),)
    page = render_rollout(hostile_rollout(HOSTILE), command=HOSTILE, log=log)
    found = Elements(page)
    assert found.count("script") == 1
    assert found.count("img") == 0
    assert not {"\x1b", "\u202e", "\x07"} & set(page)
    assert HOSTILE not in page


def test_four_thousand_boards_make_a_page_that_a_browser_bears() -> None:
    page = render_rollout(done_rollout(6000))
    assert len(page.encode()) < 8_000_000
    assert "2000 boards that went well are left out" in text_of(page)
    assert len(re.findall(r'class="moment', page)) == 1500


def test_the_same_rollout_makes_the_same_page() -> None:
    assert render_rollout(halted_rollout()) == render_rollout(halted_rollout())


PROBE = """
  const heads = [...doc.querySelectorAll("#boards th")];
  const first = () => doc.querySelector("#boards tbody tr .name").textContent;
  const order = [first()];
  const change = heads.find((head) => head.textContent.startsWith("change"));
  for (let i = 0; i < 2; i++) { change.querySelector("button").click(); order.push(change.getAttribute("aria-sort")); }
  order.push(doc.querySelector("#boards tbody tr td[data-label=change]").textContent);
  return {
    scroll: doc.documentElement.scrollWidth, title: doc.title, order,
    loaded: view.performance.getEntriesByType("resource").map((entry) => entry.name),
    svg: [...doc.querySelectorAll("svg")].map((one) => one.clientWidth).filter((width) => width > 200).length,
    outside: [...doc.querySelectorAll("#latency svg text")].filter((one) => {
      const box = one.getBoundingClientRect(), sheet = one.closest("svg").getBoundingClientRect();
      return box.left < sheet.left - 1 || box.right > sheet.right + 1;
    }).length,
    scripts: doc.scripts.length, images: doc.images.length,
  };
"""


@browser
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_overflows_or_complains_and_a_click_sorts(width: int, tmp_path: Path) -> None:
    seen = look(render_rollout(halted_rollout(), log=LOG), tmp_path, width=width, probe=PROBE)
    assert seen.console == ()
    assert seen.answer["scroll"] <= width
    assert seen.answer["loaded"] == []
    assert seen.answer["svg"] >= 3
    assert seen.answer["outside"] == 0
    assert seen.answer["order"][0] == "shop-006"
    assert seen.answer["order"][1:3] == ["ascending", "descending"]
    assert seen.answer["order"][3].startswith("+1")


@browser
def test_hostile_text_stays_text_in_a_browser(tmp_path: Path) -> None:
    seen = look(render_rollout(hostile_rollout(HOSTILE), command=HOSTILE), tmp_path, width=390, probe=PROBE)
    assert seen.console == ()
    assert seen.answer["title"].startswith("</script><script>document.title=")
    assert (seen.answer["scripts"], seen.answer["images"]) == (1, 0)
    assert seen.answer["scroll"] <= 390


@browser
def test_a_script_that_slipped_in_would_not_run(tmp_path: Path) -> None:
    page = render_rollout(done_rollout()).replace("</main>", "<script>document.title='owned'</script></main>")
    seen = look(page, tmp_path, width=1280, probe="return doc.title")
    assert seen.answer.startswith("detector@1.4.0")
    assert any("Content Security Policy" in line for line in seen.console)


@browser
def test_the_page_prints(tmp_path: Path) -> None:
    print_to_pdf(render_rollout(halted_rollout()), tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
