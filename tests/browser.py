"""A headless Chromium that tests drive through its debugging pipe: pages, clicks, keys, downloads, complaints."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Self

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
PATIENCE = 120.0  # seconds for one answer: the machine may be busy


class Browser:
    """One browser with one page; `complaints`: what the page logged, threw or was refused, `asked`: addresses."""

    def __init__(self, folder: Path, width: int = 1200, height: int = 900) -> None:
        assert BROWSER is not None
        self.folder = folder
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self._left = b""
        self._count = 0
        read_end, self._to = os.pipe()
        self._from, write_end = os.pipe()
        high = [os.dup2(read_end, 203), os.dup2(write_end, 204)]  # out of the way of 3 and 4, which Chromium wants

        def place() -> None:
            os.dup2(203, 3)
            os.dup2(204, 4)

        self._process = subprocess.Popen(
            [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars",
             f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{height}", "about:blank"],
            preexec_fn=place,  # noqa: PLW1509 - the one way to give a child the handles 3 and 4
            pass_fds=(3, 4), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        for handle in (read_end, write_end, *high):
            os.close(handle)
        target = self._ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        behaviour = {"behavior": "allow", "downloadPath": str(folder / "downloads")}
        self._ask("Browser.setDownloadBehavior", behaviour)
        self._ask("Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_end: object) -> None:
        os.close(self._to)  # Chromium ends when its pipe does
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._from)

    def _ask(self, method: str, params: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        return self._answer(self._count)

    def _answer(self, number: int) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while True:
            while b"\0" in self._left:
                raw, _, self._left = self._left.partition(b"\0")
                message = json.loads(raw)
                if message.get("id") == number:
                    assert "error" not in message, message["error"]
                    result: dict[str, Any] = message["result"]
                    return result
                self._heard(message)
            assert time.monotonic() < until, "no answer from the browser"
            if select.select([self._from], [], [], 1.0)[0]:
                got = os.read(self._from, 1 << 20)
                assert got, "the browser ended"
                self._left += got

    def _heard(self, message: dict[str, Any]) -> None:
        params, method = message.get("params", {}), message.get("method")
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(str(details.get("exception", {}).get("description", details)))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(str(params["entry"]["text"]))
        elif method == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"][:200])

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command to the page and return its answer."""
        return self._ask(method, params, self._session)

    def open(self, page: Path) -> None:
        """Open a page and wait until its script says that it is ready."""
        self.send("Page.navigate", url=page.as_uri())
        self.until("document.documentElement?.dataset.ready === 'yes'")

    def js(self, expression: str) -> Any:
        """Return the value of an expression in the page, a promise's included."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression holds in the page."""
        end = time.monotonic() + PATIENCE
        while not self.js(f"Boolean({expression})"):
            assert time.monotonic() < end, f"never: {expression}"
            time.sleep(0.05)

    def click(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
        """Click with the mouse at a share of the width and height of an element, scrolled into view first."""
        box = self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); "
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect(); "
            "return [b.x, b.y, b.width, b.height]; })()"
        )
        self.click_at(box[0] + box[2] * x, box[1] + box[3] * y)

    def click_at(self, x: float, y: float) -> None:
        """Move the mouse to a place of the window and click there."""
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        time.sleep(0.15)  # Plotly finds what the mouse is over between two frames
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        time.sleep(0.15)

    def press(self, key: str) -> None:
        """Press a key where the focus is."""
        codes = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowDown": 40, " ": 32}
        extra = {"text": "\r"} if key == "Enter" else {"text": " "} if key == " " else {}
        self.send(
            "Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=codes[key], **extra
        )
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=codes[key])

    def downloaded(self, name: str) -> bytes:
        """Return a file that the page saved, once it is whole."""
        place = self.folder / "downloads" / name
        end = time.monotonic() + PATIENCE
        while not place.exists() or place.stat().st_size == 0:
            assert time.monotonic() < end, f"never saved: {name}"
            time.sleep(0.05)
        return place.read_bytes()

    def picture(self, place: Path, *, whole: bool = False) -> None:
        """Write what the page looks like as PNG; whole: all of it rather than the window."""
        made = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        place.write_bytes(base64.b64decode(made["data"]))
