"""A real Chromium driven over its debugging pipe: it goes to addresses, runs scripts and waits for what changes.

The pipe is file descriptors 3 and 4 of the browser, with a zero byte after each message of the DevTools protocol; so
nothing listens on a port, and no library is needed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from support.browser import CHROMIUM

_PATIENCE_SECONDS = 120.0
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--remote-debugging-pipe",
    "--host-resolver-rules=MAP rebound.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip


class Tab:
    """One page of the browser.

    Attributes:
        console: What the page's console and the browser's log said.
    """

    def __init__(self, outgoing: int, incoming: int) -> None:
        self._outgoing, self._incoming = outgoing, incoming
        self._number, self._buffer, self._session = 0, b"", ""
        self.console: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One call of the protocol and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._outgoing, json.dumps(message).encode() + b"\0")
        while True:
            heard = self._hear()
            if heard.get("id") == self._number:
                assert "error" not in heard, heard["error"]
                result: dict[str, Any] = heard["result"]
                return result

    def go(self, address: str, *, width: int = 1280, height: int = 900) -> None:
        """Open an address in a window of that size, as one who typed it."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        self.call("Page.navigate", url=address)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def read(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """The value of an expression once it is true."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(AssertionError):  # the page is being changed for another
                if value := self.read(expression):
                    return value
            time.sleep(0.05)
        raise AssertionError(f"never true: {expression}\n{self.read('document.body.innerText')}")

    def click(self, selector: str, title: str) -> None:
        """Click a link, and wait for the whole page whose title has these words."""
        self.read(f"document.querySelector({json.dumps(selector)}).click()")
        self.wait_for(f"document.title.includes({json.dumps(title)}) && document.readyState === 'complete'")

    def text(self) -> str:
        """What a reader sees."""
        found: str = self.read("document.body.innerText")
        return found

    def _hear(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._incoming], [], [], _PATIENCE_SECONDS)
            assert ready, "the browser says nothing"
            read = os.read(self._incoming, 1 << 16)
            assert read, "the browser has ended"
            self._buffer += read
        line, _, self._buffer = self._buffer.partition(b"\0")
        heard: dict[str, Any] = json.loads(line)
        if heard.get("method") in ("Runtime.consoleAPICalled", "Log.entryAdded", "Runtime.exceptionThrown"):
            self.console.append(json.dumps(heard["params"])[:400])
        return heard


@contextlib.contextmanager
def driven_browser() -> Iterator[Tab]:
    """A browser with an empty profile and one tab."""
    assert CHROMIUM is not None
    to_browser, from_browser = os.pipe(), os.pipe()
    redirected = f'exec "$@" 3<&{to_browser[0]} 4>&{from_browser[1]}'
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            ["bash", "-c", redirected, "bash", CHROMIUM, *_FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(to_browser[0], from_browser[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser[0])
        os.close(from_browser[1])
        try:
            yield Tab(to_browser[1], from_browser[0])
        finally:
            os.close(to_browser[1])  # the end of its input is the end of the browser
            os.close(from_browser[0])
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
