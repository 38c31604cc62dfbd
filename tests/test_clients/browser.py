"""A real browser for tests of pages: headless Chromium over its own debugging pipe."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)


class Page:
    """One open page; every call waits for its answer."""

    def __init__(self, send: int, receive: int) -> None:
        self._send = send
        self._receive = receive
        self._waiting = b""
        self._number = 0
        self._session: str | None = None
        self.messages: list[str] = []

    def attach(self) -> None:
        (target,) = [one for one in self._targets() if one["type"] == "page"]
        attached = self.command("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.command(f"{domain}.enable")

    def _targets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while not any(one["type"] == "page" for one in found):
            found = self.command("Target.getTargets")["targetInfos"]
        return found

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        request = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            request["sessionId"] = self._session
        os.write(self._send, json.dumps(request).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            self._heard(answer)

    def open(self, path: Path, width: int = 1240, height: int = 900, *, dark: bool = False) -> None:
        """Load a file and wait until it is loaded."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.messages.clear()
        self.command("Page.navigate", url=path.as_uri())
        while (event := self._next())["method"] != "Page.loadEventFired":
            self._heard(event)
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def evaluate(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        result = self.command(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def hover(self, x: float, y: float) -> None:
        self.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, selector: str) -> None:
        """Press and release the mouse in the middle of an element."""
        place = self.evaluate(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.command(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1
            )

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.command(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=_KEYS[key]
            )

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"]))

    def _heard(self, event: dict[str, Any]) -> None:
        """Keep what the page complains about: refused resources, exceptions, console lines."""
        method, params = event.get("method"), event.get("params", {})
        if method == "Log.entryAdded":
            self.messages.append(params["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.messages.append(str(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.messages.append(str(params["args"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._waiting:
            some = os.read(self._receive, 1 << 16)
            assert some, "the browser is gone"
            self._waiting += some
        answer, _, self._waiting = self._waiting.partition(b"\0")
        found: dict[str, Any] = json.loads(answer)
        return found


_KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Tab": 9}


@contextmanager
def browsing(profile: Path) -> Iterator[Page]:
    """Start Chromium with an empty profile; it ends with the block."""
    assert CHROMIUM is not None
    to_browser, send = os.pipe()
    receive, from_browser = os.pipe()

    # The browser reads descriptor 3 and writes descriptor 4.
    wired = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
    process = subprocess.Popen(
        ["bash", "-c", wired, "bash", CHROMIUM, *_ARGUMENTS, f"--user-data-dir={profile}", "about:blank"],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    page = Page(send, receive)
    try:
        page.attach()
        yield page
    finally:
        os.close(send)
        os.close(receive)
        process.terminate()
        process.wait(timeout=30)
