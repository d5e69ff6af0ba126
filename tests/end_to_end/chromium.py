"""Drives Debian's Chromium over its DevTools protocol: real pages, real clicks and keys, no driver program.

The protocol is JSON over a WebSocket (https://chromedevtools.github.io/devtools-protocol/).
"""

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.request

from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium")
WITHIN_S = 60.0
"""How long a page may take for what a test waits for; a machine may be busy with other work."""
KEYS = {"Tab": 9, "Enter": 13, " ": 32, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


class Page:
    """One tab."""

    def __init__(self, socket):
        self._socket, self._last = socket, 0
        self.errors = []
        """Exceptions of scripts, and what the content-security policy refused."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """A command's result."""
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=WITHIN_S))
            if message.get("id") == self._last:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            if message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(message["params"]["exceptionDetails"])
            entry = message.get("params", {}).get("entry", {})
            if message.get("method") == "Log.entryAdded" and entry["source"] in ("security", "violation"):
                self.errors.append(entry)

    def evaluate(self, script):
        """The value of a JavaScript expression."""
        told = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, (script, told["exceptionDetails"])
        return told["result"].get("value")

    def until(self, script, within=None):
        """The first value of an expression that is true. An element is none: it comes as an object without entries."""
        end = time.monotonic() + (within or WITHIN_S)
        while not (value := self.evaluate(script)):
            assert time.monotonic() < end, (script, self.evaluate("document.body.innerText"))
            time.sleep(0.03)
        return value

    def open(self, url):
        """Go to an address, until it is loaded."""
        self.call("Page.navigate", url=url)
        self.until(f"location.href.startsWith({json.dumps(url.split('#')[0])}) && document.readyState === 'complete'")

    def text(self, selector="body"):
        """What is shown of an element."""
        return self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")

    def click(self, selector):
        """Where a person would: into the middle of what is shown."""
        script = f"""(() => {{ const one = document.querySelector({json.dumps(selector)});
            if (!one || !one.offsetParent || one.disabled) return null;
            one.scrollIntoView({{ block: "center" }});
            const box = one.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }})()"""
        before, at = None, self.until(script)
        while at != before:  # until it stands still: a page that is not laid out yet would move it from under the click
            time.sleep(0.1)
            before, at = at, self.until(script)
        x, y = at
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key):
        """One key."""
        params = {"key": key, "windowsVirtualKeyCode": KEYS.get(key, ord(key.upper()[0]))}
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else None)
        self.call("Input.dispatchKeyEvent", type="keyDown", **params, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **params)

    def type(self, text):
        """Into what has the focus."""
        self.call("Input.insertText", text=text)

    def look(self, width, dark, path, height=900):
        """A picture of the whole page, as wide as that."""
        self.call("Page.bringToFront")  # a tab behind another one may never draw what is to be seen of it
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def overflow(self, width):
        """By how many pixels the page is wider than a window of that width."""
        metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        return self.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@contextlib.contextmanager
def chromium(profile):
    """A browser without a window, which keeps what it knows in the folder; gives a function that opens a new tab."""
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command = [CHROMIUM, *options, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        told, end = profile / "DevToolsActivePort", time.monotonic() + WITHIN_S
        while not (told.exists() and "\n" in told.read_text()):
            assert process.poll() is None, "chromium ended"
            assert time.monotonic() < end, "chromium did not start"
            time.sleep(0.05)
        port = told.read_text().split()[0]
        with contextlib.ExitStack() as stack:

            def tab():
                request = urllib.request.Request(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT")
                with urllib.request.urlopen(request, timeout=WITHIN_S) as answer:
                    address = json.loads(answer.read())["webSocketDebuggerUrl"]
                return Page(stack.enter_context(connect(address, max_size=None)))

            yield tab
    finally:
        process.kill()
        process.wait()
