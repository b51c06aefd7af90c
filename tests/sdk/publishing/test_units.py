"""Units that systemd itself takes, and cron lines."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgeopt.errors import UsageError
from edgeopt.publishing import units


def start(root: str = "/home/pi/.edgeopt", every_seconds: int = 1800) -> units.Start:
    return units.Start(sys.executable, f"{root}/runner/current/edgeopt_runner.pyz", root, every_seconds)


@pytest.mark.parametrize("root", ["/home/pi/.edgeopt", "/srv/my models/100% $HOME"])
def test_systemd_takes_the_units(tmp_path: Path, root: str) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    (tmp_path / f"{units.NAME}.service").write_text(units.service(start(root)))
    (tmp_path / f"{units.NAME}.timer").write_text(units.timer(start(root)))
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / f"{units.NAME}.timer")]
    done = subprocess.run(command, capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if units.NAME in line]
    assert ours == []


def test_a_root_that_no_unit_can_name_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot stand in a systemd unit"):
        units.service(start("/srv/two\nlines"))


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("90s", 90), ("6h", 21600), ("1d", 86400), ("15", 900)])
def test_spans_of_time(text: str, seconds: int) -> None:
    assert units.span_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "5s", "8d", "-1m", "soon", "1m30s", "9" * 30])
def test_times_that_cannot_be_used_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--every"):
        units.span_of(text)


def test_cron_lines() -> None:
    assert units.cron_line(start()).startswith("*/30 * * * * ")
    assert units.cron_line(start(every_seconds=21600)).startswith("0 */6 * * * ")
    assert r"100\%" in units.cron_line(start("/srv/100%"))
