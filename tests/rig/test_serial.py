# SPDX-License-Identifier: BSD-2-Clause
"""The host's serial line: what it costs others when its terminal stops reading (nothing), and the words that die by it."""
import contextlib
import os
import re
import time

import pytest

import client
from console import LEAVE_KEY
from host import ROOT, Host
from rig import DEMO, host_conf

FLOOD = 100_000  # bytes that the guest says: more than its console's ring, the host's queue and the emulator's socket hold
MIGRATE_PORT = 7077
TCPTEST, TCPTEST_MAX = 7078, 8  # the port of `tcptest listen`, and how many connections it takes


def said(guest):
    """Bytes that the guest's kernel has given to its serial port."""
    return int(re.search(r"tx:(\d+)", client.shell(guest, "cat /proc/tty/driver/serial"))[1])


def flood(guest, on):
    client.shell(guest, "yes 0123456789abcdef0123456789abcdef >/dev/ttyS0 2>/dev/null & echo $! >/tmp/flood" if on else
                 "kill $(cat /tmp/flood)")


def wait_said(guest, count, seconds):
    end = time.monotonic() + seconds * client.scale
    while (now := said(guest)) < count:
        assert time.monotonic() < end, f"the guest said only {now} bytes of {count} in {seconds} s"
        time.sleep(0.2)


def refusals(host):
    """How many lines of the log are about refused connections, and how many connections that were."""
    lines = [line["text"] for line in host.json("log warn")["log"] if "one is refused" in line["text"]]
    return len(lines), sum(int((re.search(r"\[(\d+) lines like this\]$", text) or [0, 1])[1]) for text in lines)


@pytest.mark.rigs("amd", "intel")
@pytest.mark.long("intel")
def test_the_stalled_serial_line_costs_a_guest_no_ping(rig):
    """The operator's terminal takes nothing while the guest floods its attached console: guest and host answer as ever."""
    h = rig.where()
    con = h.console
    start = con.begin(f"vm console {DEMO}")
    con.expect(r"console of demo", 5, start)
    count, talk = said(rig.guest), client.EchoClient(rig.guest)
    talk.start()
    flood(rig.guest, True)
    try:  # nobody reads con's socket from here on
        wait_said(rig.guest, count + FLOOD // client.scale, 60)
        for address in (rig.guest, h.address):
            assert client.ping(address, 20, 0.1) == 0, f"{address} lost pings while the terminal stood"
        for _ in range(20):
            client.connect(h.address, MIGRATE_PORT).close()
    finally:
        start = len(con.text)
        flood(rig.guest, False)
        talk.stop().check()
    if h.machine.line_stops:
        con.expect(r"\[\d+ bytes lost", 30, start)
    con.send(LEAVE_KEY)
    con.wait_prompt(10, start)
    assert h.json("host")["name"] == h.name
    rig.check_pages()


@pytest.mark.rigs("amd", "intel")
@pytest.mark.long("intel")
def test_a_flood_of_refusals_is_a_few_lines(rig):
    """More connections than a service takes: the log counts them, and the operator's console is not flooded."""
    h, n = rig.where(), 100
    h.cmd("tcptest listen")
    before = refusals(h)
    start, held = len(h.console.text), []
    try:
        for _ in range(TCPTEST_MAX):  # the last two places are peers'
            with contextlib.suppress(ConnectionError):  # the reset may be here first
                held.append(client.connect(h.address, TCPTEST))
        for _ in range(n):
            with contextlib.suppress(ConnectionError):
                client.connect(h.address, TCPTEST).close()
        end = time.monotonic() + 10 * client.scale
        while (now := refusals(h))[1] - before[1] < n:
            assert time.monotonic() < end, f"of {n} refusals the log has {now}, before: {before}"
            time.sleep(0.2)
    finally:
        for s in held:
            s.close()
    assert now[0] - before[0] < n // 2, f"{n} refusals took {now[0] - before[0]} lines"
    assert h.console.text.count("one is refused", start) < n // 2


def test_panic_console(switch):
    """A panic of the host says what happened and still answers."""
    h = Host("c", switch, host_conf(3, "c"), 3, files=False)
    try:
        con = h.start().console
        for how, words in (("panic", "selftest: on purpose"), ("null", "page fault"), ("stack", ""), ("key", "page fault"),
                           ("locks", "lock order: \"first\" is taken with \"second\" held")):
            start = con.begin(f"selftest {how}")
            con.expect(rf"panicked on CPU \d+, task console: .*{words}", 20, start)
            con.expect(r"panic \(log, bt, reboot\)> $", 20, start)
            shown = con.text[start:]
            assert ("r15" in shown) == (how == "null") and ("may hold a key" in shown) == (how in ("key", "stack")), how
            start = len(con.text)
            con.send("bt\r")
            con.expect(r"backtrace:\s+[0-9a-f]{16} \w+", 10, start)
            con.expect(r"panic \(log, bt, reboot\)> $", 10, start)
            start = len(con.text)
            con.send("reboot\r")
            con.expect(r"tern 0\.[0-9.]+\S* on c", 60, start)
            con.wait_prompt(30, start)
    finally:
        h.remove()


def test_no_word_kills_the_product(switch):
    """The product has no command of test images (`make check` looks for all of them), least of all those that kill the host."""
    h = Host("c", switch, host_conf(3, "c"), 3, files=False, efi=os.path.join(ROOT, "build", "BOOTX64.EFI"))
    try:
        h.start()
        for line in ("selftest panic", "selftest null", "selftest stack", "failpoint P8 crash", "torture x 1", "tcptest listen"):
            assert "no such command" in h.console.json_result(line)["error"]["text"], line
        h.wait_address()
        assert client.ping(h.address, 2) == 0
    finally:
        h.remove()
