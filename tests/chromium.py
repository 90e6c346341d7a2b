"""Pages opened in a headless Chromium, where there is one, through its debugging pipe: no driver and no package is needed."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars", "--remote-debugging-pipe")
MOVED = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"  # pipes to where it wants them
PATIENCE = 60  # seconds for any one answer

EXECUTABLE = next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """A tab: commands of the DevTools protocol, and what tests ask of a page."""

    def __init__(self, write, read):
        self.write, self.read, self.number, self.session, self.left, self.events = write, read, 0, None, b"", []

    def __call__(self, method, **given):
        """A command of the protocol, and its answer; what happens meanwhile is kept in ``events``."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": given} | ({"sessionId": self.session} if self.session else {})
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while (answer := self.message()).get("id") != self.number:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def message(self):
        """The next message of the browser."""
        until = time.monotonic() + PATIENCE
        while b"\0" not in self.left:
            if time.monotonic() > until:
                raise TimeoutError("The browser does not answer.")
            part = os.read(self.read, 1 << 20)
            if not part:
                raise RuntimeError("The browser has ended.")
            self.left += part
        text, self.left = self.left.split(b"\0", 1)
        return json.loads(text)

    def open(self, path, width, height=800, scheme="light"):
        """A file on a screen of this size, in this colour scheme, and without a network."""
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self.session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self(f"{domain}.enable")
        self("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self("Page.navigate", url=path.resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.message())
        return self

    def ask(self, expression):
        """The value of a JavaScript expression."""
        found = self("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"].get("description", "an exception"))
        return found["result"].get("value")

    def press(self, key, code, text=""):
        """A key, down and up."""
        given = {"key": key, "code": key if key != " " else "Space", "windowsVirtualKeyCode": code}
        self("Input.dispatchKeyEvent", type="keyDown", **given, **({"text": text} if text else {}))
        self("Input.dispatchKeyEvent", type="keyUp", **given)


@contextlib.contextmanager
def browser(folder):
    """A browser of one's own, whose profile is in a folder; it is closed at the end."""
    ours, theirs = os.pipe(), os.pipe()  # (read, write): commands go to the browser's 3, answers come from its 4
    command = [EXECUTABLE, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
    moved = [sys.executable, "-c", MOVED, str(ours[0]), str(theirs[1]), *command]
    process = subprocess.Popen(moved, pass_fds=(ours[0], theirs[1]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(ours[0])
    os.close(theirs[1])
    try:
        yield Page(ours[1], theirs[0])
    finally:
        process.terminate()
        process.wait(PATIENCE)
        os.close(ours[1])
        os.close(theirs[0])
