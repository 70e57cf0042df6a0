"""A real Chromium without a window, which tests drive by the DevTools protocol.

The browser reads commands from a pipe and writes answers and events to another one, so the tests
need no package beside the browser itself. The environment variable BROWSER names its program.
"""

import json
import os
import select
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fcntl import F_DUPFD, fcntl
from pathlib import Path
from typing import Any, Self

from tests.patience import PATIENCE
from tests.service import wait_for

HIGH = 10  # the browser wants its pipes at 3 and 4, so ours must be elsewhere
CHUNK = 1 << 16
COMPLAINTS = {"Runtime.exceptionThrown", "Log.entryAdded"}
KEYS = {"Enter": ("Enter", 13, "\r"), "Space": (" ", 32, " "), "Tab": ("Tab", 9, "")}
Answer = dict[str, Any]


class Chromium:
    """A running browser. `complaints` has the exceptions and warnings of all its pages."""

    def __init__(self, profile: Path) -> None:
        self.complaints: list[str] = []
        self._number, self._received = 0, b""
        theirs_in, self._out = map(high, os.pipe())
        self._in, theirs_out = map(high, os.pipe())
        script = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *program(profile)],
            pass_fds=(theirs_in, theirs_out),
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)

    def close(self) -> None:
        self.call("Browser.close")
        self._process.wait(PATIENCE)
        os.close(self._in)
        os.close(self._out)

    def call(self, method: str, session: str | None = None, **parameters: object) -> Answer:
        """Send a command, and return its result."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            command["sessionId"] = session
        os.write(self._out, json.dumps(command).encode() + b"\0")
        while (message := self._message()).get("id") != self._number:
            if message.get("method") in COMPLAINTS:
                self.complaints.append(json.dumps(message["params"]))
        assert "error" not in message, message
        result: Answer = message["result"]
        return result

    def _message(self) -> Answer:
        while b"\0" not in self._received:
            assert select.select([self._in], [], [], PATIENCE)[0], "the browser does not answer"
            received = os.read(self._in, CHUNK)
            assert received, "the browser has ended; BROWSER names its program"
            self._received += received
        first, _, self._received = self._received.partition(b"\0")
        message: Answer = json.loads(first)
        return message

    def open(self, url: str, *, width: int = 1280, dark: bool = False) -> "Page":
        """Open a page in a tab of its own, and wait until it is loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Runtime", "Log", "Page"):
            page.call(f"{domain}.enable")
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        page.call("Page.navigate", url=url)
        page.wait(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")
        return page


class Page:
    """A page in a tab of the browser."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **parameters: object) -> Answer:
        return self._browser.call(method, self._session, **parameters)

    def value(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression: str) -> Self:
        """Wait until an expression is true in the page."""
        wait_for(lambda: self.value(expression), expression)
        return self

    def text(self, selector: str = "body") -> str:
        text: str = self.value(f"document.querySelector({json.dumps(selector)}).innerText")
        return text

    def wait_for_text(self, text: str, selector: str = "body") -> Self:
        place = f"document.querySelector({json.dumps(selector)})"
        return self.wait(f"{place}?.innerText.includes({json.dumps(text)})")

    def choose(self, selector: str, files: Sequence[Path]) -> None:
        """Choose files in an input field, as its dialog does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def press(self, key: str) -> None:
        """Press a key, which goes to the element that has the focus."""
        name, number, text = KEYS[key]
        same = {"key": name, "code": key, "windowsVirtualKeyCode": number}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **same)
        self.call("Input.dispatchKeyEvent", type="keyUp", **same)

    def tab_to(self, text: str) -> None:
        """Press Tab until the element with this text has the focus."""
        for _ in range(100):
            self.press("Tab")
            if text in self.value("document.activeElement.innerText ?? ''"):
                return
        raise AssertionError(f"Tab does not reach {text}")

    def overflows(self) -> bool:
        """Whether one has to scroll sideways."""
        return bool(self.value("document.documentElement.scrollWidth > innerWidth"))


def high(descriptor: int) -> int:
    """Move a descriptor to a number above those that the browser uses."""
    moved = fcntl(descriptor, F_DUPFD, HIGH)
    os.close(descriptor)
    return moved


def program(profile: Path) -> list[str]:
    flags = ["--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
    flags += ["--no-first-run", "--disable-gpu", "--disable-dev-shm-usage"]
    if os.geteuid() == 0:
        flags.append("--no-sandbox")  # Chromium refuses to make its sandbox for root
    return [os.environ.get("BROWSER", "chromium"), *flags]


@contextmanager
def chromium(profile: Path) -> Iterator[Chromium]:
    browser = Chromium(profile)
    try:
        yield browser
    finally:
        browser.close()
