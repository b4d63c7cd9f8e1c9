# SPDX-License-Identifier: BSD-2-Clause
"""A driver for tern's serial console, as an operator at a terminal would use it: over a unix socket."""
import json
import re
import select
import socket
import time

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PACE_BYTES, PACE_SECONDS = 8, 0.002  # unpaced bursts lose characters in the emulated serial port
LEAVE_KEY = "\x1d"                   # Ctrl-]


class ConsoleError(AssertionError):
    """The console did not do what was waited for. The text ends with what it showed last."""


class CommandError(AssertionError):
    """A command answered with an error object: .code and .text."""

    def __init__(self, line, error):
        super().__init__(f"`{line}`: {error.get('code')}: {error.get('text')}")
        self.code, self.text = error.get("code"), error.get("text")


class Console:
    """
    One connection. All that arrives is kept in .text (escape sequences taken out) and written to the log file. Times to wait
    are multiplied by scale.
    """

    def __init__(self, path, name, log_path, alive, scale=1):
        self.name, self.alive, self.scale = name, alive, scale  # alive(): None, or what became of the machine
        self.prompt = re.compile(r"(?:^|[\r\n])tern:%s> $" % re.escape(name))
        self.log = open(log_path, "ab", buffering=0)
        self.tee = None  # called with all bytes that arrive
        self.raw = b""
        self.text = ""
        end = time.monotonic() + 10
        while True:
            self.sock = socket.socket(socket.AF_UNIX)
            try:
                self.sock.connect(path)
                break
            except OSError as e:
                self.sock.close()
                if time.monotonic() > end or alive():
                    raise ConsoleError(f"{name}: no console at {path}: {alive() or e}") from None
                time.sleep(0.02)
        self.sock.setblocking(False)

    def close(self):
        self.sock.close()
        self.log.close()

    def pump(self, seconds):
        """Take what arrives within `seconds`; returns as soon as something has. False: nothing."""
        if not select.select([self.sock], [], [], max(seconds, 0))[0]:
            return False
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            raise ConsoleError(f"{self.name}: the console was closed: {self.alive()}\n{self.tail()}")
        self.log.write(data)
        if self.tee:
            self.tee(data)
        self.raw += data
        # Escape sequences go; one that is cut at the end stays in raw until the rest of it is there.
        cut = re.search(rb"\x1b(\[[0-9;?]*)?$", self.raw)
        whole, self.raw = (self.raw[:cut.start()], self.raw[cut.start():]) if cut else (self.raw, b"")
        self.text += ESCAPES.sub("", whole.decode("latin-1"))
        return True

    def tail(self, n=3000):
        return f"---- console of {self.name}, its end ----\n{self.text[-n:]}\n----"

    def wait(self, done, seconds, what):
        """Pump until done() is true and return that; ConsoleError at the deadline."""
        seconds *= self.scale
        end = time.monotonic() + seconds
        while True:
            got = done()
            if got:
                return got
            left = end - time.monotonic()
            if left <= 0:
                raise ConsoleError(f"{self.name}: no {what} within {seconds:g} s ({self.alive() or 'it runs'})\n{self.tail()}")
            self.pump(min(left, 0.5))

    def expect(self, pattern, seconds, start=None):
        """Wait for a regular expression in what comes from now on (or from `start` in .text)."""
        at = len(self.text) if start is None else start
        return self.wait(lambda: re.compile(pattern, re.M).search(self.text, at), seconds, repr(pattern))

    def wait_prompt(self, seconds, start=None):
        at = len(self.text) if start is None else start
        self.wait(lambda: self.prompt.search(self.text, max(at - 1, 0)), seconds, "prompt")

    def send(self, text):
        """Type text, at a typist's pace for a serial port."""
        data = text.encode("latin-1")
        for i in range(0, len(data), PACE_BYTES):
            chunk = data[i:i + PACE_BYTES]
            while chunk:
                select.select([], [self.sock], [], 1)
                chunk = chunk[self.sock.send(chunk):]
            while self.pump(PACE_SECONDS):
                pass

    def begin(self, line):
        """Type a command line and Enter; where its output begins in .text."""
        while self.pump(0):
            pass
        self.send(line)
        start = len(self.text)
        self.send("\r")
        return start

    def cmd(self, line, seconds=10):
        """Run a command; its output as text, without echo and prompt."""
        start = self.begin(line)
        self.wait_prompt(seconds, start + 1)
        out = self.text[start:]
        return out[out.find("\n") + 1:out.rfind("\n") + 1].replace("\r\n", "\n")

    @staticmethod
    def objects(text):
        """The JSON objects among lines of output."""
        found = []
        for line in re.split(r"[\r\n]+", text):
            if line.startswith("{"):
                found.append(json.loads(line))
        return found

    def json_result(self, line, seconds=10):
        """Run a command with --json: exactly one object must come, and it is returned, an error object too."""
        start = at = self.begin(line + " --json")
        end = time.monotonic() + seconds * self.scale
        while True:
            try:
                self.wait_prompt(seconds, at + 1)
            except ConsoleError as e:
                raise ConsoleError(f"{e}\n---- what it was at ----\n{self.left_alone()}") from None
            out = self.text[start:]
            found = self.objects(out[:out.rfind("\n") + 1])
            if found or time.monotonic() > end:
                break
            at = len(self.text)  # that prompt was drawn anew below a line of the log, which came while the command was typed
        if len(found) != 1:
            raise ConsoleError(f"{self.name}: `{line} --json` printed {len(found)} JSON objects, not one:\n{out}")
        return found[0]

    def left_alone(self):
        """A command takes too long: leave it with ^C, and ask what goes on."""
        start = len(self.text)
        for line in ("\x03", "migrate status --json\r", "top --json\r", "log\r"):
            at = len(self.text)
            self.send(line)
            try:
                self.wait_prompt(5, at)
            except ConsoleError:
                break
        return self.text[start:]

    def json(self, line, seconds=10):
        """Same, and CommandError if it is an error object."""
        r = self.json_result(line, seconds)
        if "error" in r:
            raise CommandError(line, r["error"])
        return r

    def interrupt(self):
        """Get back to an empty prompt, whatever was half typed."""
        start = len(self.text)
        self.send("\x03")
        self.wait_prompt(10, start)
