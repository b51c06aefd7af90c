"""The exporter's text against the grammar of the exposition format, and hostile names in it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NamedTuple

import pytest

from edgeopt.core.release import BoardRelease
from edgeopt.core.sighting import Sighting
from edgeopt.report.fleet_metrics import exposition
from support.records import HOSTILE
from support.rollout_records import done_rollout, figures, halted_rollout, hostile_rollout

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*"'
_VALUE = r"[+-]?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|Inf)|NaN"
_SAMPLE = re.compile(rf"({_NAME})\{{((?:{_LABEL})(?:,(?:{_LABEL}))*)\}} ({_VALUE})")


class Sample(NamedTuple):
    name: str
    labels: dict[str, str]
    value: float


def read(text: str) -> list[Sample]:
    """A strict reader: HELP and TYPE once before the samples of a family, no series twice, a line feed at the end."""
    assert text.endswith("\n")
    found: list[Sample] = []
    family, seen, series = "", set(), set()
    lines = text[:-1].split("\n")
    for number, line in enumerate(lines):
        if line.startswith("# HELP "):
            family = line.split(" ")[2]
            assert family not in seen
            seen.add(family)
            assert lines[number + 1] == f"# TYPE {family} gauge"
        elif not line.startswith("# TYPE "):
            match = _SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] == family
            assert line.rpartition(" ")[0] not in series
            series.add(line.rpartition(" ")[0])
            labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2]))
            found.append(Sample(match[1], labels, float(match[3])))
    return found


def board(**changes: object) -> Sighting:
    release = BoardRelease(
        "detector", "1.4.0", 4, "ab" * 32, "cd" * 32, 7, verified=True, signed=True, figures=figures(12.5)
    )
    return replace(Sighting("shop-001", "pi5", True, 1_790_000_000.0, 1_790_000_000.0, "", (release,)), **changes)


def test_a_rollout_and_its_boards_are_told() -> None:
    samples = read(exposition([halted_rollout()], [board()]))
    found = {(s.name, s.labels.get("state") or s.labels.get("stat") or ""): s for s in samples}
    assert found["edgeopt_rollout_state", "halted"].value == 1
    assert found["edgeopt_rollout_state", "done"].value == 0
    assert found["edgeopt_rollout_boards", "committed"].value == 8
    assert found["edgeopt_rollout_boards", "rolled_back"].value == 1
    assert found["edgeopt_board_latency_seconds", "median"].value == 0.0125
    assert found["edgeopt_board_latency_seconds", "p95"].labels["profile"] == "pi5"
    info = next(s for s in samples if s.name == "edgeopt_board_release_info")
    assert (info.labels["board"], info.labels["version"], info.value) == ("shop-001", "1.4.0", 1)
    assert next(s for s in samples if s.name == "edgeopt_board_verified").value == 1


def test_hostile_names_stay_inside_their_quotes() -> None:
    nasty = HOSTILE + '"} 1\nedgeopt_rollout_state{state="done"} 1\n\\'
    release = BoardRelease(nasty, nasty, state=nasty, figures=figures(1.0))
    text = exposition([hostile_rollout(nasty)], [Sighting(nasty, nasty, True, 1.0, 1.0, nasty, (release,))])
    samples = read(text)
    assert not {"\x1b", "\u202e", "\r", "\x07"} & set(text)
    assert sum(s.name == "edgeopt_rollout_state" for s in samples) == 8


def test_boards_with_the_same_name_after_shortening_do_not_break_the_format() -> None:
    boards = [board(board="x" * 200 + end) for end in "ab"]
    read(exposition([], boards))


@pytest.mark.parametrize("rollouts", [[], [done_rollout(), replace(halted_rollout(), rollout_id="0" * 16)]])
def test_none_and_several_are_fine(rollouts: list) -> None:
    samples = read(exposition(rollouts, []))
    assert sum(s.name == "edgeopt_rollout_wave" for s in samples) == len(rollouts)


def test_the_reader_of_this_test_refuses_what_prometheus_does() -> None:
    for wrong in ('a{b="c"} one\n', 'a{b="c} 1\n', "a 1\n", '# HELP x\na{b="c"} 1\n', 'a{b="\\x"} 1\n'):
        with pytest.raises(AssertionError):
            read(wrong if wrong.startswith("#") else f"# HELP a text\n# TYPE a gauge\n{wrong}")


def test_the_official_parser_reads_it_where_it_is_installed() -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    text = exposition([halted_rollout()], [board()])
    found = list(parser.text_string_to_metric_families(text))
    assert sum(len(family.samples) for family in found) == len(read(text))
