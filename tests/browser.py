"""A real browser for tests: Chromium, driven by chromedriver over W3C's WebDriver protocol, and what it asked for."""

import base64
import http.client
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.patience import EVENT_PATIENCE
from tests.support.processes import find_port

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"

#: Nothing that Chromium does of its own accord, and no name that resolves.
_QUIET = (
    "--headless=new",
    "--no-sandbox",  # the tests may run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@dataclass
class Browser:
    """One window. What a script returns is JSON."""

    port: int
    session: str

    def go(self, url: str) -> None:
        """Load a page, until its load event: on a busy machine chromedriver may answer before."""
        self._post("url", {"url": url})
        loaded = "document.readyState === 'complete'"
        self.run(f"return {loaded} || new Promise(done => addEventListener('load', () => done(true)))")

    def run(self, script: str, *arguments: object) -> Any:
        """Run the body of a function in the page; chromedriver may, whatever the page's own policy says."""
        return self._post("execute/sync", {"script": script, "args": list(arguments)})

    def window(self, width: int, height: int) -> None:
        """Have a viewport of this size, in CSS pixels."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    def scheme(self, scheme: Literal["light", "dark"], media: str = "") -> None:
        """Have the user prefer this, and look at `print` or the screen."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.devtools("Emulation.setEmulatedMedia", media=media, features=features)

    def press(self, key: str) -> None:
        """Press and release a key (`Tab`, `Enter`, `Space`) as a person at the keyboard does."""
        codes = {"Tab": "\ue004", "Enter": "\ue007", "Space": " "}
        strokes = [{"type": kind, "value": codes[key]} for kind in ("keyDown", "keyUp")]
        self._post("actions", {"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]})

    def picture(self) -> bytes:
        """What the window shows, as PNG."""
        return base64.b64decode(self.devtools("Page.captureScreenshot", format="png")["data"])

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(self._post("print", {}))

    def devtools(self, method: str, **parameters: object) -> Any:
        """Call the DevTools protocol."""
        return self._post("goog/cdp/execute", {"cmd": method, "params": parameters})

    def complaints(self) -> list[str]:
        """What the console said since it was last asked: errors, violations of the page's policy."""
        return [entry["message"] for entry in self._post("se/log", {"type": "browser"})]

    def requests(self) -> list[str]:
        """The URLs that the page asked for since that was last asked."""
        logged = (json.loads(entry["message"])["message"] for entry in self._post("se/log", {"type": "performance"}))
        return [it["params"]["request"]["url"] for it in logged if it["method"] == "Network.requestWillBeSent"]

    def _post(self, command: str, body: Mapping[str, object]) -> Any:
        return _call(self.port, "POST", f"/session/{self.session}/{command}", body)


@contextmanager
def browser(directory: Path) -> Iterator[Browser]:
    """A browser with a fresh profile in this directory, for as long as the test asks it."""
    environment = {"HOME": str(directory), "PATH": os.environ["PATH"], "TMPDIR": str(directory)}
    with subprocess.Popen(
        [DRIVER, "--port=0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
    ) as driver:
        try:
            port = _port(driver)
            options = {"binary": CHROMIUM, "args": [*_QUIET, f"--user-data-dir={directory / 'profile'}"]}
            wanted = {
                "browserName": "chrome",
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }
            session = _call(port, "POST", "/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
            try:
                found = Browser(port, session)
                found.go("about:blank")
                found.complaints(), found.requests()  # the page that it opens with is none of ours
                yield found
            finally:
                _call(port, "DELETE", f"/session/{session}", None)
        finally:
            driver.terminate()


def _port(driver: "subprocess.Popen[str]") -> int:
    """The port that chromedriver listens on once it says that it started: the number it says is 0 where IPv6 is off."""
    said = ""
    for line in driver.stdout or ():
        said += line
        if "started successfully" in line:
            return find_port(driver.pid)
    raise AssertionError(f"chromedriver did not start: {said}")


def _call(port: int, method: str, path: str, body: Mapping[str, object] | None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=EVENT_PATIENCE)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())["value"]
    finally:
        connection.close()
    if isinstance(answer, dict) and "error" in answer:
        raise AssertionError(f"{path}: {answer['error']}: {answer['message']}")
    return answer
