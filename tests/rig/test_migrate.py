# SPDX-License-Identifier: BSD-2-Clause
"""The main job: the guest moves and nobody notices more than a pause."""
import contextlib
import re
import socket
import statistics
import time

import pytest

import client
import netns
from console import CommandError
from rig import DEMO, DEMO_MAC, state_on

LATE = 3  # a loaded machine's


@contextlib.contextmanager
def load_in_guest(rig, command, port=None):
    """A load beside the page checker, for the time of the block."""
    name = command.split()[0]
    client.shell(rig.guest, f"({command} >/dev/null 2>&1 &)")
    if port:
        client.wait_port(rig.guest, port, 10)
    try:
        yield
    finally:
        client.shell(rig.guest, f"killall {name}; while killall -0 {name}; do sleep 0.1; done")


def report_ok(r):
    assert r["passes"] >= 1 and r["pages"] > 1000 and r["zero_pages"] > 1000
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", r["started"])
    assert r["bytes"] > r["pages"] * 4096 > r["bytes"] * 0.9
    assert 0 < r["downtime_us"] < r["total_ms"] * 500, r  # most of it went while the guest ran; `make bench` has the time


PARTS = ("scan", "send", "state", "load", "waits")


def forecast_ok(rig, source, r):
    """Predicted and actual downtime, each the sum of its parts, in the report and in the history of both hosts."""
    rounded = len(PARTS) + 1  # each to a microsecond
    assert 0 <= r["predicted_downtime_us"] - sum(r[f"predicted_{p}_us"] for p in PARTS) <= rounded, r
    assert 0 <= r["downtime_us"] - sum(r[f"actual_{p}_us"] for p in PARTS) <= rounded and not r["actual_verify_us"], r
    assert r["actual_load_us"] and r["actual_state_us"], r  # the destination has said so
    assert 1 <= r["stopped_round_trips"] <= 2 and r["round_trips"] <= r["passes"] + 2 + r["stopped_round_trips"], r
    there = rig.other(source)
    ours, theirs = (h.json(f"migrate history {DEMO}")["migrations"][0] for h in (source, there))
    assert {k: v for k, v in ours.items() if k != "started"} == {k: v for k, v in r.items() if k != "started"}, (ours, r)
    assert theirs["direction"] == "in" and theirs["phase"] == "done" and theirs["passes"] == r["passes"], theirs
    assert re.search(rf"^{DEMO} +to {there.name} .* done [^$]*predicted [\d.]+ m?s: scan ", source.cmd("migrate history"), re.M)
    assert source.json("migrate history nobody")["migrations"] == []


@pytest.mark.rigs("amd", "intel")
@pytest.mark.long("intel")
def test_idle(rig):
    """Nothing runs in the guest but its kernel; the page checker, stopped for that time, then looks at every page."""
    client.shell(rig.guest, "killall -STOP pagecheck")
    r = rig.migrate()
    client.shell(rig.guest, "killall -CONT pagecheck")
    report_ok(r)
    rig.check_after()


@pytest.mark.rigs("amd", "intel", "mixed")
def test_under_page_checker_with_a_client(rig):
    c = client.EchoClient(rig.guest)
    c.start()
    time.sleep(0.5)
    r = rig.migrate()
    time.sleep(0.5)
    c.stop().check()
    report_ok(r)
    assert r["cipher"].startswith("TLS 1.3" if rig.scale > 1 else "in clear")  # conftest.py
    # The clock of a slow host catches up with ours in leaps: its downtime may be short for us.
    assert c.longest * 1e6 >= r["downtime_us"] * 0.3 / rig.scale, "the client cannot have seen less than the pause"
    assert c.longest < 1.0 * LATE * rig.scale, c.said()
    rig.check_after()


@pytest.mark.rigs("amd", "intel")
def test_under_writes(rig):
    """What the emulated link carries beside other work, and no more: `make bench` has 16 MiB/s, with the machine to itself."""
    with load_in_guest(rig, "dirty 4 16" if rig.scale == 1 else "dirty 1 1", client.DIRTY):
        before = client.status(rig.guest, client.DIRTY)
        r = rig.migrate()
        time.sleep(0.5)
        after = client.status(rig.guest, client.DIRTY)
    report_ok(r)
    assert r["passes"] >= 2
    assert after["written_mib"] > before["written_mib"] and after["backwards"] == 0
    rig.check_after()


@pytest.mark.rigs("amd", "mixed")
@pytest.mark.long("mixed")
def test_pulled(rig):
    """Passes of which the destination asks for each page; memory that was never touched is in no map. Back over a line that is gone for 3 s."""
    echo = client.EchoClient(rig.guest)
    echo.start()
    with load_in_guest(rig, "dirty 4 16" if rig.scale == 1 else "dirty 1 1", client.DIRTY):
        r = rig.migrate(options="--pull", seconds=120)
        print(f"{r['passes']} passes, {r['pages']} and {r['zero_pages']} zero pages, {r['bytes']} bytes, {r['total_ms']} ms, down {r['downtime_us']} us")
        assert r["pull"] and r["phase"] == "done" and r["pages"] > 1000 and r["zero_pages"] < 1000, r
        source = rig.begin(options="--pull --limit 24M")
        rig.wait_pass(source)
        rig.switch.link(source.tap, False)
        time.sleep(3)
        rig.switch.link(source.tap, True)
        s = rig.wait_status(source, lambda s: s["over"], 120, "end")
        assert s["phase"] == "done" and s["pull"], s
    echo.stop(30).check()
    rig.check_pages()


def test_under_a_tcp_stream(rig):
    """The guest sends as fast as it can, all through a migration there and back; an echo client runs beside it."""
    s, c = client.StreamClient(rig.guest), client.EchoClient(rig.guest, 0.02)
    s.start()
    c.start()
    time.sleep(0.5)
    for _ in range(2):
        before = s.bytes
        rig.migrate(options="--max-downtime 1000")
        time.sleep(1)
        assert s.bytes > before, "the stream stands still after the migration"
    s.stop().check()
    c.stop().check()
    rig.check_after()


def test_client_sends_through_a_migration(rig):
    """
    The other direction: 40 MB go to the guest and come back, byte-compared, while it moves. Not as fast as can be: all that comes dirties
    pages, and goes over the wire that the VM moves over; on a busy machine that never ends.
    """
    source = rig.begin(options="--max-downtime 1000")
    client.transfer(rig.guest, 40_000_000, rate=4_000_000)
    s = rig.wait_status(source, lambda s: s["over"], 60, "end of the migration")
    assert s["phase"] == "done", s
    rig.check_after()


@pytest.mark.rigs("amd", "mixed")
@pytest.mark.long("mixed")
def test_rarp_and_switch_port(rig):
    """At once after the switch-over the real switch must know the new port, without a frame from the guest itself."""
    source = rig.where()
    dest = rig.other(source)
    client.ping(rig.guest, 1)
    assert rig.switch.port_of(DEMO_MAC) == source.tap
    watch, capture = netns.RarpWatch(), netns.Capture(dest.tap)
    rig.migrate(source)
    assert rig.switch.wait_port(DEMO_MAC, dest.tap, 1) == dest.tap
    frames = watch.wait(DEMO_MAC, 5, 2)
    watch.stop()
    sent = [f for _, f in capture.stop()]
    assert len(frames) == 5, f"{len(frames)} announcements, not 5: at once and after 50, 200, 450 and 800 ms"
    for _, f in frames:
        assert f["dst"] == "ff:ff:ff:ff:ff:ff" and f["src"] == f["sha"] == f["tha"] == DEMO_MAC, f
        assert (f["htype"], f["ptype"], f["hlen"], f["plen"], f["op"]) == (1, 0x0800, 6, 4, 3), f
        assert f["spa"] == f["tpa"] == "0.0.0.0" and f["length"] >= 60, f
    # A Bochs' clock may run faster than ours.
    assert 0.7 / rig.scale <= frames[-1][0] - frames[0][0] < 0.8 * LATE * rig.scale, [t - frames[0][0] for t, _ in frames]
    mac, ip = bytes.fromhex(DEMO_MAC.replace(":", "")), socket.inet_aton(rig.guest)
    gratuitous = b"\xff" * 6 + mac + bytes.fromhex("0806 0001 0800 06 04 0001") + mac + ip + bytes(6) + ip
    assert sum(f.startswith(gratuitous) for f in sent) >= 5, "gratuitous ARP for the guest's address, with each RARP"
    rig.check_after()


@pytest.mark.rigs("amd")
def test_switch_that_snoops(rig):
    """
    Behind a switch that forwards multicast by membership alone, the guest's IPv6 must work at once after a move, and keep its client; and
    the groups that its programs have joined, of both families, are at its new port.
    """
    source = rig.where()
    dest = rig.other(source)
    group, address = "ff02::1:ff77:1", "fe80::5054:ff:fe77:1"  # by DEMO_MAC
    joined = ("239.77.1.2", "ff05::77:3")
    client.ping(rig.guest, 1)
    rig.switch.snoop(True)
    try:
        client.shell(rig.guest, f"(join eth0 {' '.join(joined)} >/dev/null 2>&1 & echo $! >/run/join)")
        for g in joined:
            client.until(lambda: rig.switch.members(g) == {source.tap}, 20, f"the guest's report of {g}")
        client.until(lambda: rig.switch.members(group) == {source.tap}, 20, "the guest's report of its solicited-node group")
        client.wait_ping(f"{address}%{netns.BRIDGE}", 10)
        c = client.EchoClient(f"{address}%{netns.BRIDGE}")
        c.start()
        rig.migrate(source)
        begin = time.monotonic()
        for g in (group,) + joined:
            client.until(lambda: dest.tap in rig.switch.members(g), 2, f"a report of {g} from the guest's new port")
        netns.sh("ip", "-6", "neigh", "flush", "dev", netns.BRIDGE)  # so that the client has to ask for the guest
        client.wait_ping(f"{address}%{netns.BRIDGE}", 2)
        print(f"reported and reached {time.monotonic() - begin:.2f} s after the move")
        c.stop().check()
    finally:
        rig.switch.snoop(False)
        client.shell(rig.guest, "kill $(cat /run/join)")
    rig.check_after()


@pytest.mark.rigs("amd")
def test_announced_by_hand(rig):
    here = rig.where()
    for what in (lambda: here.json(f"vm announce {DEMO}"), lambda: here.json(f"announce {DEMO}")):
        watch = netns.RarpWatch()
        what()
        assert len(watch.wait(DEMO_MAC, 5, 3)) == 5
        watch.stop()


def test_four_in_a_row(rig):
    c = client.EchoClient(rig.guest)
    c.start()
    reports = [rig.migrate() for _ in range(4)]
    c.stop().check()
    for r in reports:
        report_ok(r)
    forecast_ok(rig, rig.other(rig.where()), reports[-1])
    down = [r["downtime_us"] / 1000 for r in reports]
    print("predicted, ms: " + ", ".join(f"{r['predicted_downtime_us'] / 1000:.1f} for {r['downtime_us'] / 1000:.1f}" for r in reports))
    print(f"downtime ms: median {statistics.median(down):.1f}, most {max(down):.1f}; client: {c.said()}")
    rig.check_after()


def test_no_datagram_is_lost(rig):
    """
    What comes for the guest while it moves comes to it all the same: 1,000 numbered datagrams a second, which nobody sends again. `make
    bench` has the gap that their sender sees. What the guest sends back may find a card's ring full that a busy machine's emulator does not empty:
    so many may be lost as the hosts say that their cards have not taken.
    """
    def refused():
        return sum(p["drop_full"] for h in rig.hosts for p in h.json("bridge")["bridges"][0]["ports"])
    before = refused()
    c = client.NumbersClient(rig.guest)
    c.start()
    client.until(lambda: len(c.back) > 100, 5, "datagram that came back")
    seen = []
    for _ in range(4):
        c.gap()
        r = rig.migrate()
        time.sleep(0.3)
        seen.append(f"{c.gap() * 1000:.1f} ({r['downtime_us'] / 1000:.1f})")
    c.stop()
    print(f"longest gap (downtime), ms: {', '.join(seen)}; {c.said()}")
    assert c.error is None and c.sent > 1000 and not c.lost_there and c.lost <= refused() - before, c.said()
    rig.check_after()


def test_progress_is_shown(rig):
    """Without --json the operator sees pass, pages left, MB/s and prediction, drawn in place, and then the report."""
    source = rig.where()
    dest = rig.other(source)
    out = source.cmd(f"migrate {DEMO} to {dest.name}", 60)  # by the peer's name
    assert "pass 1" in out and "pages left" in out and "MB/s" in out, out
    for word in ("total time", "downtime", "passes", "pages", "bytes"):
        assert word in out.split("runs at")[1], out
    assert rig.where() is dest
    rig.check_after()


def test_typed_ahead(rig):
    """What is pasted while a migration is followed runs after it, all of it; ^C takes back what was typed before it."""
    source = rig.where()
    dest = rig.other(source)
    con = source.console
    start = len(con.text)
    con.send(f"migrate {DEMO} to {dest.name}\rlog echo\rmigrate status\r")
    end = con.expect(r"^VM +PEER +PHASE.*\s+demo ", 60, start).end()
    con.wait_prompt(5, end)
    out = con.text[start:]
    assert "error" not in out and out.index("runs at") < out.index("the console shows") < out.index("PHASE"), out
    assert rig.where() is dest
    assert re.search(rf"{DEMO} +to {dest.name} +done", out) and re.search(rf"{DEMO} +from {source.name} +done", dest.cmd("migrate list"))
    assert max(len(row) for row in re.split(r"[\r\n]+", out)) <= 79, out
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:.]+Z", source.json("log info")["log"][0]["time"])
    start = len(dest.console.text)
    dest.console.send(f"migrate {DEMO} to {source.name}\rnonsense\x03help vm\r")
    dest.console.expect(r"the migration goes on.*\n[^$]*for example: vm start", 20, start)
    dest.console.wait_prompt(5, start)
    assert "nonsense: " not in dest.console.text[start:]
    source.wait_vm(DEMO, "running", 30)
    rig.check_after()


@pytest.mark.rigs("mixed")
def test_model_host_does_not_cross(rig):
    """Refused before anything moves, with the first difference named, from either vendor to the other."""
    for source in rig.hosts:
        dest, vm = rig.other(source), f"native-{source.name}"
        source.json(f"vm start {vm}")
        source.wait_vm(vm, "running", 10)
        try:
            e = source.console.json_result(f"migrate {vm} to {dest.address}", 30)["error"]
            assert re.search(r"destination lacks \w+ \(CPUID 0x", e["text"]), e
            assert source.vms()[vm]["state"] == "running" and vm not in dest.vms()
        finally:
            source.json(f"vm kill {vm}")


@pytest.mark.rigs("amd")
def test_paused(rig):
    """It arrives paused and goes on when it is told to: its memory is whole, and its time is that of one that was paused where it was."""
    source = rig.where()
    dest = rig.other(source)

    def lag():  # of the guest's clock
        begin = time.monotonic()
        up = float(client.shell(rig.guest, "cut -d' ' -f1 /proc/uptime"))
        return (begin + time.monotonic()) / 2 - up

    before = lag()
    source.json(f"vm pause {DEMO}")
    with pytest.raises(CommandError, match="it is paused"):
        source.json(f"vm pause {DEMO}")
    assert client.ping(rig.guest, 2) == 2, "it answers, paused"
    r = source.json(f"migrate {DEMO} to {dest.address}", 90)
    assert (r["phase"], r["vm_state"], r["passes"], r["downtime_us"]) == ("done", "paused", 2, 0), r
    rig.gone_from(source)
    assert state_on(dest) == "paused" and client.ping(rig.guest, 2) == 2
    with pytest.raises(CommandError, match="has moved to"):
        source.json(f"vm resume {DEMO}")
    dest.json(f"vm resume {DEMO}")
    after = lag()
    print(f"    paused and moved in {r['total_ms']} ms; the guest's clock lags {after - before:.3f} s more than before")
    assert abs(after - before) < 0.3 * LATE
    rig.check_after()


@pytest.mark.rigs("amd")
def test_to_self(rig):
    """Into a second slot of the same host, under a client: to whom it is as between two hosts. The host then has it once, as ever."""
    here = rig.where()
    c = client.EchoClient(rig.guest)
    c.start()
    time.sleep(0.3)
    r = here.json(f"migrate {DEMO} to self", 60)
    time.sleep(0.5)
    c.stop().check()
    report_ok(r)
    assert (r["phase"], r["peer_name"]) == ("done", "self")
    assert [v["state"] for v in here.json("vm list")["vms"] if v["name"] == DEMO] == ["running"]
    assert here.json("migrate records")["records"] == []
    print(f"    within one host in {r['total_ms']} ms, down {r['downtime_us']} us; client's gap {c.longest * 1e3:.0f} ms")
    rig.check_pages()
    rig.check_after()
