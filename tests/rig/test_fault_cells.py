# SPDX-License-Identifier: BSD-2-Clause
"""
Cells of the fault matrix (tests/unit/faults.h) on whole hosts: a host holds at a step of the migration (its failpoint stalls), the event
happens, the host goes on. Then the outcome is right, both consoles say why, the guest and its memory are whole, nothing is left on
either host, and the next migration works. Other cells are tests of their own (mark: cell) in test_faults.py and test_wan.py.
"""
import re
import time

import pytest

import client
from console import CommandError, ConsoleError
from rig import DEMO, state_on

NOTICED = 10  # seconds until a peer that is dead, or cut off for good, has been noticed
LATE = 2      # what a test's looks at the consoles, and a machine with other work, may add


class Cell:
    """The state of one: who is where, when the event happened, what must be done when it is over."""

    def __init__(self, rig, step, side, record):
        self.rig, self.point, self.record = rig, step, record
        self.source = rig.where()
        self.dest = rig.other(self.source)
        self.here, self.peer = (self.source, self.dest) if side == "source" else (self.dest, self.source)
        self.heals, self.begin, self.said, self.rebooted = [], None, {}, False

    # ---- the line; without a relay, a cable is pulled ----
    def way(self, sender):
        return "a2b" if sender is self.rig.a else "b2a"

    def cut(self, way=""):
        if self.rig.a.relay:
            self.rig.a.relay.set(f"{way} cut".strip())
        else:
            self.rig.switch.link(self.rig.a.tap, False)
        self.heals.append(self.join)

    def join(self):
        if self.rig.a.relay:
            self.rig.a.relay.set("join")
        else:
            self.rig.switch.link(self.rig.a.tap, True)

    def line(self, settings):
        self.rig.a.relay.set(settings)
        self.heals.append(lambda: self.rig.a.relay.set("clear"))

    # ---- the attempt ----
    def hold(self, action="stall"):
        """Begin, until the host is at the step."""
        before = self.hits()
        self.here.json(f"failpoint {self.point} {action}")
        self.starts = {h: len(h.console.text) for h in self.rig.hosts}
        self.rig.begin(self.source)
        client.until(lambda: self.hits() > before, 60, f"pass through {self.point}")
        self.begin = time.monotonic()

    def hits(self):
        return next(p["hits"] for p in self.here.json("failpoint")["failpoints"] if p["point"] == int(self.point[1:]))

    def release(self):
        if self.here.dead() is None:
            self.here.json(f"failpoint {self.point} off")

    def is_over(self, s):
        return s["over"] or (s["phase"] == "undecided" and s.get("error_text"))

    def ended(self, seconds=40):
        """What the attempt came to at the source, and when it was over or the operator had been told."""
        s = self.rig.wait_status(self.source, self.is_over, seconds, "end at the source")
        self.took("source", s)
        return s

    def took(self, side, s):
        self.record("ms", int((time.monotonic() - self.begin) * 1000))
        self.record("still_ms", s.get("downtime_us", 0) // 1000)
        self.said[side] = s.get("error_text", "")

    def ended_there(self, seconds=40):
        s = self.rig.wait_status(self.dest, lambda s: s["over"], seconds, "end at the destination")
        self.said["destination"] = s.get("error_text", "")
        return s

    def noticed(self, host):
        """Within the limit, whatever follows."""
        left = NOTICED + LATE - (time.monotonic() - self.begin)
        s = self.rig.wait_status(host, lambda s: s["over"] or s["phase"] == "undecided", max(left, 0.5), f"notice at {host.name}")
        assert time.monotonic() - self.begin < NOTICED + LATE, s
        return s

    def outcome(self):
        here, there = (state_on(h) if h.dead() is None else None for h in (self.source, self.dest))
        if here == "running":
            return "2" if there == "running" else "S"
        if here == "undecided":
            return "B" if there == "running" else "U"
        if there == "running":
            return "D"
        if self.source.dead() is not None and there is None:
            return "L"
        return "O" if here == "stopped" else "?"

    def is_right(self, right):
        got = self.outcome()
        self.record("outcome", got)
        for side, text in self.said.items():
            self.record(side, text)
        assert got in right, f"the outcome is {got}, not {right}: {self.said}"
        if got == "S":
            for side in ("source", "destination"):
                text = self.said.get(side)
                assert text is None or re.search("[a-z]+ [a-z]+", text), f"the {side} does not say why: {text!r}"
        return got

    def heal(self):
        while self.heals:
            self.heals.pop()()


# ---- events: each gets a cell whose host is at the step, lets it go on, and returns when it is over ----

def cut_for(seconds):
    def event(c):
        c.cut()
        c.release()
        time.sleep(seconds)
        c.heal()
        s = c.ended()
        if s["phase"] == "done":
            # TCP's next try is a second away at most. Before the pause the passes are still to come.
            if s["downtime_us"] > seconds * 900000:
                assert s["downtime_us"] < (seconds + 1 + LATE / 4) * 1e6, s
            assert "is undecided" not in c.source.console.text[c.starts[c.source]:], "the attempt did not go on, but was decided by asking"
    return event


def cut_30(c):
    c.cut()
    c.release()
    c.noticed(c.source)
    time.sleep(max(0, 30 - (time.monotonic() - c.begin)))
    c.heal()
    s = c.rig.wait_status(c.source, lambda s: s["over"], 30, "end at the source")
    c.took("source", s)
    if s["phase"] == "failed":
        c.ended_there()


def parted(cut):
    """The two are parted for good, in one direction or both: each notices, and says why."""
    def event(c):
        cut(c)
        c.release()
        c.noticed(c.source)
        c.ended()
        if c.outcome() == "S":
            c.noticed(c.dest)
            c.ended_there()
    return event


def on_the_line(settings, one_way=False, seconds=120):
    def event(c):
        c.line(f"{c.way(c.source)} {settings}" if one_way else settings)
        c.release()
        s = c.ended(seconds)
        c.heal()
        if s["phase"] == "failed":
            c.ended_there()
        damaged = sum(s[k] for s in c.rig.a.relay.stats().values() for k in ("lost", "damaged", "repeated"))
        assert damaged or settings.startswith("rate"), "the line did nothing to any frame"
    return event


def at_the_step(c):
    """The failpoint itself is the event."""
    s = c.rig.wait_status(c.source, lambda s: s["over"], 40, "end at the source")
    c.took("source", s)
    if s["phase"] == "failed":
        c.ended_there()


def source_killed(c):
    c.source.stop()
    c.release()
    s = c.noticed(c.dest)
    c.record("ms", int((time.monotonic() - c.begin) * 1000))
    if s["phase"] != "done":
        c.said["destination"] = s["error_text"]
    # The attempt's last words, or the guest's first.
    client.until(lambda: state_on(c.dest) in (None, "running"), 5, "end of the skeleton, or guest that runs")


def dest_killed(c):
    c.dest.stop()
    c.release()
    c.noticed(c.source)
    c.ended()


def cancelled(at):
    def event(c):
        h = c.source if at == "source" else c.dest
        start = h.console.begin(f"migrate cancel {DEMO} --json")
        time.sleep(0.2)  # so that it is asked for before the other host goes on; the step is passed in any case
        c.release()
        h.console.wait_prompt(20, start + 1)
        s = c.rig.wait_status(c.source, lambda s: s["over"], 30, "end at the source")
        c.took("source", s)
        c.ended_there()
        if s["phase"] != "done":
            assert "cancel" in c.said["source"] and "cancel" in c.said["destination"], c.said
    return event


def guest_does(command, says):
    def event(c):
        try:
            client.shell(c.rig.guest, f"({command} >/dev/null 2>&1 &)", 3)
        except (AssertionError, OSError):
            pass  # it is quick
        time.sleep(0.5)
        c.release()
        s = c.ended()
        c.ended_there()
        assert says in s["error_text"] and says in c.said["destination"], c.said
        client.until(lambda: state_on(c.source) in ("running", "stopped"), 10, "end of the guest, or its next boot")
    return event


def refused(host, command, says):
    """The operator asks for what cannot be done now: it is refused in words, and the migration goes on."""
    def event(c):
        h = c.source if host == "source" else c.dest
        e = h.console.json_result(command.format(other=c.rig.other(h).address), 10)
        assert "error" in e and re.search(says, e["error"]["text"]), e
        c.release()
        s = c.ended()
        assert s["phase"] == "done", s
    return event


def cut_from_source(c):
    c.cut(c.way(c.source))


def cut_to_source(c):
    c.cut(c.way(c.dest))


EVENTS = {
    "link cut for 1 s": cut_for(1),
    "link cut for 5 s": cut_for(5),
    "link cut for 30 s": cut_30,
    "link cut for ever": parted(lambda c: c.cut()),
    "half-open: nothing comes from the source": parted(cut_from_source),
    "half-open: nothing gets to the source": parted(cut_to_source),
    "RST": ("cut", at_the_step),
    "the step fails": ("error", at_the_step),
    "1 Mbit/s": on_the_line("rate 1Mbit"),
    "5 % loss": on_the_line("loss 5%"),
    "corruption that a checksum tells, 2 % of the packets": on_the_line("corrupt 2%"),
    "corruption that no checksum tells, of the source's bytes": on_the_line("swap 100%", True),
    "truncation, 2 % of the frames": on_the_line("short 2%"),
    "repetition, 20 % of the frames": on_the_line("twice 20%"),
    "source killed": source_killed,
    "destination killed": dest_killed,
    "cancelled at the source": cancelled("source"),
    "cancelled at the destination": cancelled("destination"),
    "guest reboots": guest_does("reboot -f", "restarts"),
    "guest powers off": guest_does("poweroff -f", "powers off"),
    "vm stop at the source": refused("source", f"vm stop {DEMO} --timeout 1s", "migrate cancel"),
    "vm stop at the destination": refused("destination", f"vm stop {DEMO}", "migrate cancel"),
    "second migration at the source": refused("source", f"migrate {DEMO} to {{other}}", "."),
    "second migration at the destination": refused("destination", f"migrate {DEMO} to {{other}}", "."),
}


# ---- all of one cell ----

def no_records(rig):
    """Nothing is open between the hosts: each that has decided something has heard that the other knows."""
    for h in rig.hosts:
        client.until(lambda: not h.json("migrate records")["records"], 15, f"end of {h.name}'s records")


def whole_again(rig, c, got):
    """Hosts that were killed boot, an undecided VM gets the operator's word, a guest that is off starts; then the looks of every cell."""
    if got == "L":
        for h in rig.hosts:
            h.stop()
        rig.start()
        rig.settle()
        return
    if got == "U":
        c.source.json(f"vm claim {DEMO} --force")
        client.until(lambda: state_on(c.source) == "running", 10, "guest that goes on")
    for h in rig.hosts:
        if h.dead() is not None:
            rig.restart(h)
    if got == "B":
        client.until(lambda: state_on(c.source) is None, 30, "source that has heard")
    if got == "O":
        c.source.json(f"vm start {DEMO}", 40)
    if got == "O" or c.rebooted:
        rig.wait_guest(c.source)
        assert float(client.shell(rig.guest, "cut -d' ' -f1 /proc/uptime")) < time.monotonic() - c.begin + 5, "it has not booted anew"
    client.wait_ping(rig.guest, 10)
    rig.check_after()
    no_records(rig)


def run(rig, step, event, right, record):
    point, side = step.split()
    c = Cell(rig, point, side, record)
    happens = EVENTS[event]
    action, happens = happens if isinstance(happens, tuple) else ("stall", happens)
    c.rebooted = event == "guest reboots"
    try:
        c.hold(action)
        happens(c)
        got = c.is_right(right)
    finally:
        c.heal()
        if c.here.dead() is None:
            try:
                c.release()
            except (ConsoleError, CommandError):
                pass  # the first error counts
    if right == "L":
        assert state_on(c.dest) is None
    whole_again(rig, c, right if right == "L" else got)


def cells(*rows):
    return [pytest.param(*row, marks=pytest.mark.cell(*row[:2]), id=re.sub(r"\W+", "-", f"{row[0]}-{row[1]}")) for row in rows]


@pytest.mark.parametrize("step, event, right", cells(
    ("P8 source", "link cut for 5 s", "D"),
    ("P14 source", "RST", "S"),
    ("P10 destination", "cancelled at the source", "S"),
))
def test_every_day(rig, step, event, right, record_property):
    run(rig, step, event, right, record_property)


@pytest.mark.long
@pytest.mark.parametrize("step, event, right", cells(
    ("P9 source", "link cut for 1 s", "D"),
    ("P0 source", "link cut for 5 s", "D"),
    ("P1 source", "link cut for 5 s", "D"),
    ("P12 source", "link cut for 5 s", "D"),
    ("P4 destination", "link cut for 5 s", "D"),
    ("P6 source", "link cut for 5 s", "D"),
    ("P11 destination", "link cut for 5 s", "D"),
    ("P14 source", "link cut for 5 s", "D"),
    ("P19 destination", "link cut for 5 s", "D"),
    ("P5 source", "link cut for 30 s", "S"),
    ("P17 destination", "link cut for 30 s", "D"),
    ("P9 source", "link cut for ever", "S"),
    ("P15 destination", "link cut for ever", "B"),
    ("P4 destination", "half-open: nothing comes from the source", "S"),
    ("P7 source", "half-open: nothing comes from the source", "S"),
    ("P5 source", "half-open: nothing gets to the source", "S"),
    ("P13 destination", "half-open: nothing gets to the source", "S"),
    ("P18 destination", "half-open: nothing gets to the source", "B"),
    ("P4 source", "RST", "S"),
    ("P11 destination", "RST", "S"),
    ("P19 destination", "RST", "D"),
    ("P6 source", "1 Mbit/s", "DS"),
    ("P1 source", "5 % loss", "D"),
    ("P6 source", "corruption that a checksum tells, 2 % of the packets", "D"),
    ("P4 source", "corruption that no checksum tells, of the source's bytes", "S"),
    ("P1 source", "truncation, 2 % of the frames", "D"),
    ("P1 source", "repetition, 20 % of the frames", "D"),
    ("P4 source", "source killed", "L"),
    ("P17 destination", "source killed", "D"),
    ("P14 source", "destination killed", "U"),
    ("P14 source", "cancelled at the destination", "S"),
    ("P15 destination", "cancelled at the source", "D"),
    ("P5 source", "guest reboots", "S"),
    ("P5 source", "guest powers off", "O"),
    ("P5 source", "vm stop at the source", "D"),
    ("P8 source", "vm stop at the destination", "D"),
    ("P8 destination", "second migration at the source", "D"),
    ("P5 source", "second migration at the destination", "D"),
    ("P9 source", "the step fails", "S"),
    ("P10 destination", "the step fails", "S"),
))
def test_cell(bad, step, event, right, record_property):
    run(bad, step, event, right, record_property)
