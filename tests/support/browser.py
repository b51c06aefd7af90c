"""A real Chromium, headless and without a network, that opens a page in a frame of a given width and looks at it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SKIP_REASON = "no Chromium on this machine: install chromium to run the tests that open the report"
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND",
    "--enable-logging=stderr", "--hide-scrollbars", "--virtual-time-budget=4000",
)  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """What came of opening a page: the answer of the probe, and every line of the browser's console."""

    answer: Any
    console: tuple[str, ...]


def _run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(prefix="chromium-") as profile:
        command = [CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=90, cwd=folder, check=True)


def _framed(page: str, width: int, height: int, probe: str) -> str:
    """A page that shows `page`, unchanged, in a frame of `width` and writes what `probe` returns into its own DOM."""
    return f"""<!doctype html><meta charset="utf-8"><style>body{{margin:0}}iframe{{border:0;display:block}}</style>
<pre id="answer" hidden></pre>
<iframe id="frame" width="{width}" height="{height}" srcdoc="{html.escape(page)}"></iframe>
<script>addEventListener("load", () => setTimeout(() => {{
  const view = document.getElementById("frame").contentWindow, doc = view.document;
  let answer;
  try {{ answer = (() => {{ {probe} }})(); }} catch (error) {{ answer = {{ failed: String(error) }}; }}
  document.getElementById("answer").textContent = "ANSWER" + JSON.stringify(answer) + "END";
}}, 300));</script>"""


def look(page: str, folder: Path, *, width: int, probe: str) -> Seen:
    """Open `page` at `width` pixels and run `probe` (a function body over `view` and `doc`) outside of it.

    The page lies in a frame, since a headless window cannot be narrower than 500 pixels; its own policy holds there.
    """
    path = folder / f"framed-{width}.html"
    path.write_text(_framed(page, width, 900, probe), encoding="utf-8")
    done = _run(["--dump-dom", f"--window-size={max(width, 600)},900", path.as_uri()], folder)
    match = re.search(r"ANSWER(.*?)END</pre>", done.stdout, re.DOTALL)
    assert match, f"the probe left no answer: {done.stdout[-400:]} {done.stderr[-400:]}"
    console = tuple(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return Seen(json.loads(html.unescape(match.group(1))), console)


def screenshot(page: str, path: Path, *, width: int, height: int, flags: tuple[str, ...] = ()) -> None:
    """Write a PNG of `page` at `width` by `height` pixels."""
    source = path.with_suffix(".framed.html")
    source.write_text(_framed(page, width, height, "return null"), encoding="utf-8")
    _run([*flags, f"--screenshot={path}", f"--window-size={max(width, 500)},{height}", source.as_uri()], path.parent)


def print_to_pdf(page: str, path: Path) -> None:
    """Print `page` as a browser does on paper."""
    source = path.with_suffix(".html")
    source.write_text(page, encoding="utf-8")
    _run([f"--print-to-pdf={path}", source.as_uri()], path.parent)
