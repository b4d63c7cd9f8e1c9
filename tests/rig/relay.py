# SPDX-License-Identifier: BSD-2-Clause
"""A bad line between a host's cable and its port of the switch: relay.c as a process of ours. That file has all commands."""
import json
import os
import select
import subprocess

import netns

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../build/relay")
ANSWER = 5  # seconds for an answer to a command


class Relay:
    """
    a, b: the two devices as relay.c names them. In Rig a is the host's end and b the switch's, so `a2b` is what the host sends. The
    process lives until stop(), over power cuts of the host too, and keeps its settings.

        relay.set("delay 75ms rate 100Mbit")       both directions
        relay.set("b2a cut")                       half-open: the host hears nothing more, and is heard
        relay.set("drop tcp 7077")                 the migration network looks unplugged, while the guest's goes on
        relay.set("clear")
    """

    def __init__(self, a, b, seed=1):
        if not os.path.exists(PROGRAM):
            raise netns.RigError(f"{os.path.relpath(PROGRAM)} is not there: run `make build/relay` first")
        self.proc = subprocess.Popen([PROGRAM, a, b, str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            self._answer("its start")
        except netns.RigError:
            self.stop()
            raise

    def set(self, line):
        """Change settings; RigError if relay.c does not like the line, which then changes nothing."""
        said = self._ask(line)
        if said != "ok":
            raise netns.RigError(f"relay: `{line}`: {said}")

    def stats(self):
        """
        {"a2b": {...}, "b2a": {...}}, in frames: came = passed + cut + dropped (by kind) + lost + overflow (of the limit) + failed (the
        device did not take it) + frames (on the way, with so many bytes). missed: came too fast for the relay, in no other number.
        damaged: of those that came (corrupt, swap, short); repeated (twice) count as having come once more.
        """
        return json.loads(self._ask("stats"))

    def stop(self):
        """The line is gone: neither end hears the other."""
        self.proc.stdin.close()
        try:
            self.proc.wait(ANSWER)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait(ANSWER)
        self.proc.stdout.close()
        self.proc.stderr.close()

    def _ask(self, line):
        try:
            self.proc.stdin.write(line.encode() + b"\n")
            self.proc.stdin.flush()
        except OSError:
            pass  # it has ended: what it said tells why
        return self._answer(f"`{line}`")

    def _answer(self, what):
        if not select.select([self.proc.stdout], [], [], ANSWER)[0]:
            raise netns.RigError(f"relay: no answer to {what} for {ANSWER} s")
        said = self.proc.stdout.readline().decode().strip()
        if not said:
            raise netns.RigError(f"relay ended at {what}: {self.proc.stderr.read().decode().strip()}")
        return said
