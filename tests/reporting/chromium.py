"""A headless Chromium spoken to over its debugging pipe, with nothing but the standard library."""

import base64
import fcntl
import json
import os
import shutil
import signal
from contextlib import contextmanager

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


class Tab:
    """One tab: commands, and the events that came meanwhile."""

    def __init__(self, to_browser, from_browser):
        self._out, self._in, self._rest, self._number, self._session = to_browser, from_browser, b"", 0, None
        self.events = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, url):
        self.events.clear()
        self.send("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def show(self, *, width, dark=False, media="screen"):
        """Lay the page out ``width`` CSS pixels wide, on a light or dark screen or on paper."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def value(self, expression):
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path):
        data = self.send("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def pdf(self, path):
        path.write_bytes(base64.b64decode(self.send("Page.printToPDF", printBackground=False)["data"]))

    def _receive(self):
        while b"\0" not in self._rest:
            data = os.read(self._in, 1 << 16)
            if not data:
                raise ConnectionError("the browser has gone")
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


@contextmanager
def browser(profile):
    """Start a browser with a profile folder of its own; yield a tab; end the browser."""
    ends = [*os.pipe(), *os.pipe()]
    their_in, our_out, our_in, their_out = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in ends)
    for fd in ends:
        os.close(fd)
    files = [
        (os.POSIX_SPAWN_DUP2, their_in, 3),
        (os.POSIX_SPAWN_DUP2, their_out, 4),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    command = [PROGRAM, *FLAGS, f"--user-data-dir={profile}"]
    process = os.posix_spawn(PROGRAM, command, os.environ, file_actions=files, setpgroup=0)
    os.close(their_in)
    os.close(their_out)
    try:
        tab = Tab(our_out, our_in)
        yield tab
    finally:
        os.killpg(process, signal.SIGKILL)  # its own group: the browser and its helpers, nothing else
        os.waitpid(process, 0)
        os.close(our_out)
        os.close(our_in)
