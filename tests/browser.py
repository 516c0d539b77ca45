"""A headless Chromium over its DevTools pipe: what a page shows, requests and reports to its console."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_PATIENCE = 60.0  # seconds


@dataclass
class Look:
    """A page as Chromium shows it: a screenshot of its whole height, and everything that it should not do."""

    screenshot: bytes
    requests: list[str]
    problems: list[str]
    values: dict[str, Any]


@dataclass
class Browser:
    """Connection to one page of a running Chromium."""

    orders: IO[bytes]
    answers: BufferedReader
    session: str = ""
    number: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)
    searched: int = 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; events that come first are kept."""
        self.number += 1
        order: dict[str, Any] = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            order["sessionId"] = self.session
        self.orders.write(json.dumps(order).encode() + b"\0")
        self.orders.flush()
        while True:
            message = self._read()
            if message.get("id") == self.number:
                assert "error" not in message, message["error"]
                return dict(message["result"])
            self.events.append(message)

    def _read(self) -> dict[str, Any]:
        while (end := self.received.find(b"\0", self.searched)) < 0:
            self.searched = len(self.received)
            chunk = self.answers.read1(1 << 20)
            assert chunk, "the browser has ended"
            self.received += chunk
        text, self.received, self.searched = self.received[:end], self.received[end + 1 :], 0
        return dict(json.loads(text))

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def look(
        self, page: Path, *, width: int, dark: bool = False, script: bool = True, ready: str = "true",
        values: Mapping[str, str] | None = None,
    ) -> Look:  # fmt: skip
        """Open a page at a width and in a theme; wait until `ready` holds; evaluate expressions by name."""
        self.events.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[theme])
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.call("Page.navigate", url=page.as_uri())
        until = time.monotonic() + _PATIENCE
        while not self.evaluate(f"document.readyState === 'complete' && Boolean({ready})"):
            assert time.monotonic() < until, f"the page is not ready: {self._problems()}"
            time.sleep(0.05)
        measured = {name: self.evaluate(expression) for name, expression in (values or {}).items()}
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        return Look(base64.b64decode(shot), self._requests(page), self._problems(), measured)

    def _requests(self, page: Path) -> list[str]:
        urls = [one["params"]["request"]["url"] for one in self.events if one["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if url != page.as_uri()]

    def _problems(self) -> list[str]:
        kinds = {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"}
        return [json.dumps(one["params"])[:2000] for one in self.events if one["method"] in kinds]


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start a Chromium with an empty profile and connect to a new page; end it afterwards."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe",
        f"--user-data-dir={profile}", "about:blank",
    ]  # fmt: skip
    order_out, order_in = os.pipe()
    answer_out, answer_in = os.pipe()
    # Chromium reads orders from descriptor 3 and writes answers to descriptor 4.
    redirected = ["bash", "-c", f'exec "$@" 3<&{order_out} 4>&{answer_in}', "bash", *command]
    process = subprocess.Popen(
        redirected, pass_fds=(order_out, answer_in), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(order_out)
    os.close(answer_in)
    try:
        with os.fdopen(order_in, "wb") as orders, os.fdopen(answer_out, "rb") as answers:
            opened = Browser(orders, answers)
            target = opened.call("Target.createTarget", url="about:blank")["targetId"]
            opened.session = opened.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Network", "Runtime", "Log"):
                opened.call(f"{domain}.enable")
            yield opened
    finally:
        process.terminate()
        process.wait(timeout=30)
