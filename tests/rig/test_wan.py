# SPDX-License-Identifier: BSD-2-Clause
"""Migration over lines that are no LAN: host a is behind a relay (relay.py). Shared hosts of the session go off for it."""
import re

import pytest

import client
from host import Host
from rig import DEMO, host_conf, state_on

DELAY_MS = 75  # each way


@pytest.fixture
def wan(far):
    """75 ms each way; and at the end the line is good again, and the guest well."""
    far.a.relay.set(f"clear delay {DELAY_MS}ms")
    yield far
    far.a.relay.set("clear")
    assert client.ping(far.guest, 3) == 0
    assert not any(s["missed"] or s["overflow"] for s in far.a.relay.stats().values())


def test_idle_guest_there_and_back(wan):
    source = wan.where()
    for _ in range(2):
        r = wan.migrate(options="--max-downtime 1s", seconds=180)
        assert r["downtime_us"] >= DELAY_MS * 1000, r  # its state has to cross the line
        client.wait_port(wan.guest, client.SHELL, 10)
    assert wan.where() is source


@pytest.mark.long
def test_budget_below_the_round_trip(wan):
    """Said after a few passes, with a budget that does."""
    e = wan.migrate_fails(options="--max-downtime 20", seconds=120)
    m = re.search(r"the line's round trip is (\d+) ms: .* of 20 ms allowed; --max-downtime (\d+)ms would do", e.text)
    assert m, e.text
    assert wan.status(wan.where())["passes"] < 30
    wan.migrate(options=f"--max-downtime {3 * int(m[2])}ms", seconds=180)  # a busy machine does not measure the same twice


@pytest.mark.cell("P0 source", "link cut for ever", "S")
def test_migration_network_unplugged(far):
    """Only its frames are lost: the guest and the hosts are still reached."""
    far.a.relay.set("clear drop tcp 7077")
    source = far.where()
    e = far.migrate_fails(source, seconds=60)
    assert far.other(source).address in e.text, e.text
    assert client.ping(far.guest, 3) == 0 and client.ping(far.a.address, 3) == 0
    assert any(s["dropped"] for s in far.a.relay.stats().values())
    far.a.relay.set("clear")
    far.migrate(source)
    assert state_on(source) is None


def test_evacuated_and_unplugged(far):
    """Host a is empty and restarts, its migration network unplugged and the VMs' not: silence is no death, and the VM is heard there."""
    if far.where() is far.a:
        far.migrate(far.a)
    far.a.stop()
    far.a.relay.set("clear drop tcp 7077")
    far.a.conf = far.fresh_conf
    far.a.start()
    far.a.console.expect(rf"vm {DEMO}: not started: {DEMO} is at b, heard on its network", 60, 0)
    assert state_on(far.a) == "stopped" and far.where() is far.b
    far.a.relay.set("clear")
    far.a.json(f"vm forget {DEMO}")
    assert client.ping(far.guest, 3) == 0


@pytest.mark.long
@pytest.mark.parametrize("kind", ["amd", pytest.param("intel", marks=pytest.mark.rigs("intel"))])
def test_line_outlives_a_power_cut(switch, kind):
    """Whatever the machine, its frames cross the relay; that stays as it is when the machine does not."""
    h = Host("c", switch, host_conf(3, "c"), 3, files=False, kind=kind, relay=True)
    try:
        h.start()
        client.wait_ping(h.address, 10)
        h.relay.set("b2a drop icmp")
        assert client.ping(h.address, 2, wait=1) == 2
        h.stop()
        h.start()
        assert client.ping(h.address, 2, wait=1) == 2
        h.relay.set("clear")
        client.wait_ping(h.address, 10)
    finally:
        h.remove()
