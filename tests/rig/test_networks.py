# SPDX-License-Identifier: BSD-2-Clause
"""
Networks as servers have them: two hosts of three cards each. The first card has the management network without a tag and the migration
network with one; the other two are a bond, over which the guest's VLAN goes.

    client  10.79.0.1 on VLAN 10 of the switch, 10.77.0.1 without a tag
"""
import re
import socket
import threading
import time

import pytest

import client
import lacp
import netns
from console import CommandError
from host import Host, start_together
from rig import KEY, vm_conf

pytestmark = pytest.mark.after

CARDS = """\
[host]
name = {name}
[nic m]
match = {macs[0]}
[nic x]
match = {macs[1]}
[nic y]
match = {macs[2]}
[bond trunk]
nics = x, y
"""
CONF = CARDS + """\
[net move]
nic = m
vlan = 88
mtu = 1400
address = 10.88.0.{last}/24
address6 = fd00:88::{last}/64
use = migration
[net office]
nic = m
address = 10.77.0.{last}/24
use = management
[net prod]
nic = trunk
vlan = 10
mtu = 9000
use = vm
[peer {peer}]
address = 10.88.0.{peer_last}
key = {key}
[peer {peer}6]
address = fd00:88::{peer_last}
key = {key}
[peer elsewhere]
address = 10.77.0.99
key = {key}
"""
GUEST, MAC = "10.79.0.57", "52:54:00:77:00:57"
LACP_CONF = CARDS + """\
mode = 802.3ad
[net office]
nic = m
address = 10.77.0.{last}/24
use = management, migration
[net prod]
nic = trunk
use = vm
[net side]
nic = m
vlan = 10
use = vm
[peer {peer}]
address = 10.77.0.{peer_last}
key = {key}
"""
BOND_CONF = """\
[host]
name = {name}
[nic x]
match = {macs[0]}
[nic y]
match = {macs[1]}
[bond trunk]
nics = x, y
[net lan]
nic = trunk
address = 10.77.0.{last}/24
[peer {peer}]
address = 10.77.0.{peer_last}
key = {key}
"""
BOND_GUEST, BOND_MAC = "10.77.0.57", MAC
LACP_GUEST, LACP_MAC, SIDE_GUEST = "10.77.0.59", "52:54:00:77:00:59", "10.79.0.59"
LACP_OTHER, SIDE_OTHER = "10.77.0.60", "10.79.0.60"


def mtu(size, *devices):
    for d in devices:
        netns.sh("ip", "link", "set", d, "mtu", str(size))


def full_packets():
    """Do IP packets of 9000 bytes come to the guest and back, in one piece?"""
    netns.sh("ping", "-n", "-q", "-c", "2", "-i", "0.2", "-W", "2", "-M", "do", "-s", str(9000 - 28), GUEST)


@pytest.fixture
def vlan():
    """The client's place on the guest's VLAN."""
    port = netns.VlanPort(10, "10.79.0.1")
    mtu(9000, netns.BRIDGE, port.device)
    yield
    mtu(1500, netns.BRIDGE)
    port.remove()


@pytest.fixture
def hosts(switch, vlan):
    vm = vm_conf("told", f"tern.ip={GUEST}/24 tern.load=none", 128, MAC) + "net = prod\n"
    lone = vm_conf("lone", "tern.load=none", 128, "52:54:00:77:00:58") + "net = office\n"
    made = []
    for n, name, peer, vms in ((5, "e", 6, vm + lone), (6, "f", 5, "")):
        h = Host(name, switch, "", n, cards=3)
        h.conf = CONF.format(name=name, macs=h.macs, last=10 + n, peer="ef"[peer - 5], peer_last=10 + peer, key=KEY) + vms
        made.append(h)
    try:
        start_together(made)
        for h in made:
            mtu(9000, *h.taps)
        yield made
    finally:
        for h in made:
            h.remove()


def used(host, net="prod"):
    """Which of its cards are."""
    return [c["used"] for c in host.json(f"net info {net}")["cards"]]


def lost(seconds):
    """How many of 20 pings a second the guest does not answer, meanwhile and for so long: a context with .lost after it."""
    class Pings:
        def __enter__(self):
            self.thread = threading.Thread(target=lambda: setattr(self, "lost", client.ping(GUEST, int(20 * seconds), 0.05)))
            self.thread.start()
            return self

        def __exit__(self, *_):
            self.thread.join(seconds + 20)
    return Pings()


def test_networks(hosts):
    e, f = hosts
    nets = {n["name"]: n for n in e.json("net list")["nets"]}
    assert {n: (v["nic"], v["vlan"], v["mtu"], v["address"], v["use"]) for n, v in nets.items()} == {
        "move": ("m", 88, 1400, "10.88.0.15/24", "migration"), "office": ("m", 0, 1500, "10.77.0.15/24", "management"),
        "prod": ("trunk", 10, 9000, "", "vm")}
    assert client.ping("10.77.0.15", 3) == 0, "the management network answers"
    assert (nets["move"]["address6"], nets["move"]["address6_state"]) == ("fd00:88::15", "ok") and nets["office"]["address6"] == ""
    assert "4 received" in e.cmd("ping f6", 10)

    e.json("vm start told --force", 20)
    client.wait_port(GUEST, client.SHELL, 60)
    # Packets of full size do not get through, the one way or the other: said before a page has moved.
    full_packets()
    for tap in (f.tap, e.tap):
        mtu(1000, tap)
        with pytest.raises(CommandError, match=r"did not answer the offer, which comes in packets of full size.*\[net\] mtu"):
            e.json("migrate told to f", 30)
        mtu(9000, tap)
        assert e.vms()["told"]["state"] == "running" and client.ping(GUEST, 2) == 0

    # Nor does what the guest sends at most, on its own network.
    mtu(1500, f.taps[1])
    with pytest.raises(CommandError, match="frames of 9000 bytes on its network prod do not get to f and back, short ones do"):
        e.json("migrate told to f", 30)
    mtu(9000, f.taps[1])

    with netns.hosts_talk() as wire:
        assert e.json("migrate told to f", 60)["phase"] == "done"
    assert client.ping(GUEST, 3) == 0
    full_packets()
    assert f.switch.wait_port(MAC, f.taps[1], 5) == f.taps[1], "the guest is announced on its VLAN, by the bond's first card"
    seen = wire.printed()
    assert {v for v in re.findall(r"ethertype (.*?), length \d+: (vlan \d+)?", seen)} == {("802.1Q (0x8100)", "vlan 88")}
    lengths = [int(n) for n in re.findall(r"proto TCP \(6\), length (\d+)", seen)]
    assert max(lengths) == 1400 and len(lengths) > 1000, f"{len(lengths)} packets of at most {max(lengths)} bytes"

    # What is not for migrations is not for migrations.
    with pytest.raises(CommandError, match="10.77.0.99 is reached by the network office, which is not for migrations"):
        f.json("migrate told to elsewhere", 20)
    for address in ("10.77.0.15", "10.77.0.16"):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address, 7077), 5)
    with pytest.raises(CommandError, match="the network office is not for VMs"):
        e.json("vm start lone --force", 20)

    # The bond's card in use loses its cable: while the guest is pinged, and while it moves.
    with lost(4) as pings:
        f.link(1, False)
    assert pings.lost < 20, f"{pings.lost} of 80 pings were lost: more than a second"
    assert used(f) == [False, True]
    assert f.switch.wait_port(MAC, f.taps[2], 5) == f.taps[2]
    assert "y is used now" in f.cmd("log") or "nic2 is used now" in f.cmd("log")
    with netns.hosts_talk() as wire:
        f.json("migrate told to e6 --detach", 20)
        e.link(1, False)
        f.link(1, True)
        client.until(lambda: f.json("migrate status")["migrations"][0]["over"], 60, "the migration's end")
    assert [h.json("migrate status")["migrations"][0]["peer_name"] for h in (f, e)] == ["e6", "f6"]
    lengths = [int(n) for n in re.findall(r"vlan 88.*ethertype IPv6.*next-header TCP \(6\) payload length: (\d+)", wire.printed())]
    assert max(lengths) == 1400 - 40 and len(lengths) > 1000, f"{len(lengths)} packets of at most {max(lengths)} bytes of payload"
    assert e.vms()["told"]["state"] == "running" and "told" not in f.vms()
    assert client.ping(GUEST, 5) <= 1
    assert e.switch.wait_port(MAC, e.taps[2], 5) == e.taps[2]

    # A host whose network is another one, though of that name, does not get it, unless the operator knows better; from where it has no
    # link it may go anywhere.
    f.stop()
    f.conf = f.conf.replace("vlan = 10", "vlan = 11").replace("mtu = 1400", "mtu = 9000")
    f.start()
    f.wait_address()
    mtu(9000, *f.taps)
    with pytest.raises(CommandError, match="frames on its network prod do not get to f and back.*--any-network"):
        e.json("migrate told to f", 20)
    assert client.ping(GUEST, 3) == 0
    assert e.json("migrate told to f --any-network", 60)["phase"] == "done"
    with pytest.raises(CommandError, match="frames on its network prod do not get to e and back"):
        f.json("migrate told to e", 20)

    e.stop()
    e.conf = e.conf.replace("mtu = 1400", "mtu = 9000")
    e.start()
    e.wait_address()
    mtu(9000, *e.taps)
    e.json("vm forget told")
    for card in (1, 2):
        f.link(card, False)
    with netns.hosts_talk() as wire:
        assert f.json("migrate told to e", 60)["phase"] == "done"
    lengths = [int(n) for n in re.findall(r"proto TCP \(6\), length (\d+)", wire.printed())]
    assert max(lengths) == 9000, f"{len(lengths)} packets of at most {max(lengths)} bytes"
    assert "its network prod has no link here" in f.cmd("log")
    full_packets()


@pytest.fixture
def lacp_hosts(switch):
    """Host e, whose bond is at a switch that aggregates; f, whose bond is at one that does not. The guest is on two networks."""
    made = []
    for n, name, peer in ((5, "e", 6), (6, "f", 5)):
        h = Host(name, switch, "", n, cards=3)
        vm = vm_conf("told", f"tern.ip={LACP_GUEST}/24 tern.load=none", 128, LACP_MAC) + "net = prod, side\n"
        vm += f"ip = any | {SIDE_GUEST}\nmac_change = no, allow\n"
        h.conf = LACP_CONF.format(name=name, macs=h.macs, last=10 + n, peer="ef"[peer - 5], peer_last=10 + peer, key=KEY) + vm * (name == "e")
        made.append(h)
    aggregator = None
    port = netns.VlanPort(10, "10.79.0.1")
    try:
        start_together(made)
        aggregator = lacp.Aggregator(made[0].taps[1:])
        netns.sh("ip", "link", "set", made[1].taps[2], "nomaster")  # or what is flooded comes back to it by its other card
        yield made[0], made[1], aggregator
    finally:
        if aggregator:
            aggregator.remove()
        for h in made:
            h.remove()
        port.remove()


def test_lacp(lacp_hosts):
    e, f, aggregator = lacp_hosts

    def partners(h):
        return {c["partner"] for c in h.json("net info prod")["cards"]}

    client.until(lambda: used(e) == [True, True], 10, "agreement with the switch")
    assert partners(e) == {"02:00:00:aa:00:01"}
    client.until(lambda: used(f) == [True, False], 10, "use of the first card, since the switch says nothing")
    assert partners(f) == {""}
    e.json("vm start told --force", 20)
    client.wait_port(LACP_GUEST, client.SHELL, 60)
    client.shell(LACP_GUEST, f"ip addr add {SIDE_GUEST}/24 dev eth1; ip link set eth1 up")
    assert client.ping(SIDE_GUEST, 3) == 0
    assert {p["name"] for b in e.json("bridge")["bridges"] for p in b["ports"]} >= {"told", "told/2"}
    side = client.EchoClient(SIDE_GUEST)
    side.start()

    # A leg of either kind of death, under a TCP stream: a cable that is pulled, and a port that is up and silent for more than 3 s.
    echo = client.EchoClient(LACP_GUEST)
    echo.start()
    for card in (1, 2):
        time.sleep(0.5)
        echo.clear_gap()
        e.link(card, False)
        time.sleep(1.5)
        assert echo.longest < 1, f"a gap of {echo.longest:.2f} s"
        assert used(e) == [card == 2, card == 1]
        e.link(card, True)
        client.until(lambda: used(e) == [True, True], 10, "agreement with the switch")
    aggregator.ports[0].silent = True
    client.until(lambda: used(e) == [False, True], 10, "end of the silent leg")
    aggregator.ports[0].silent = False
    client.until(lambda: used(e) == [True, True], 10, "agreement with the switch")

    # Flows take either leg, each one of them.
    before = [p.frames for p in aggregator.ports]
    for _ in range(16):
        client.shell(LACP_GUEST, "true")
    assert e.json("migrate told to f", 60)["phase"] == "done"
    assert all(p.frames > n for p, n in zip(aggregator.ports, before)), "a leg had no frame to carry"
    # What each card may send has come with the VM.
    info = f.json("vm info told")
    assert (info["ip"], info["mac_change"]) == (f"any | {SIDE_GUEST}", "no, allow")
    client.shell(LACP_GUEST, f"ip addr add {LACP_OTHER}/24 dev eth0; ip addr add {SIDE_OTHER}/24 dev eth1")
    assert client.ping(LACP_OTHER, 3) == 0 and client.ping(SIDE_OTHER, 3) > 0
    e.link(1, False)
    assert f.json("migrate told to e", 60)["phase"] == "done"
    echo.stop().check()
    side.stop().check()
    assert client.ping(LACP_GUEST, 3) == 0 and client.ping(SIDE_GUEST, 3) == 0
    client.shell(LACP_GUEST, "ip link set eth1 address 52:54:00:77:00:99")
    netns.sh("ip", "neigh", "flush", "all")
    assert client.ping(SIDE_GUEST, 3) == 0


@pytest.fixture
def bond_hosts(switch):
    """All that these two have goes over one active-backup bond."""
    made = []
    for n, name, peer in ((5, "e", 6), (6, "f", 5)):
        h = Host(name, switch, "", n, cards=2)
        vm = vm_conf("told", f"tern.ip={BOND_GUEST}/24 tern.load=none", 128, BOND_MAC)
        h.conf = BOND_CONF.format(name=name, macs=h.macs, last=10 + n, peer="ef"[peer - 5], peer_last=10 + peer, key=KEY) + vm * (name == "e")
        made.append(h)
    try:
        start_together(made)
        yield made
    finally:
        for h in made:
            h.remove()


def test_bond_under_a_migration(bond_hosts):
    """The leg in use is pulled under a client's TCP stream, and under a migration, at its source and at its destination: both go on."""
    e, f = bond_hosts
    e.json("vm start told --force", 20)
    client.wait_port(BOND_GUEST, client.SHELL, 60)
    echo = client.EchoClient(BOND_GUEST)
    echo.start()
    client.until(lambda: echo.bytes > 10000, 10, "stream")
    echo.clear_gap()
    e.link(0, False)
    client.until(lambda: used(e, "lan") == [False, True], 10, "use of the other leg")
    seen = echo.bytes
    client.until(lambda: echo.bytes > seen + 10000, 10, "stream over the other leg")
    assert echo.longest < 1, f"a gap of {echo.longest:.2f} s"
    e.link(0, True)

    e.json("migrate told to f --limit 10M --detach", 20)

    def more(size):
        """Until so much more of the VM has been sent."""
        start = e.json("migrate status")["migrations"][0]["bytes"]
        client.until(lambda: e.json("migrate status")["migrations"][0]["bytes"] > start + size, 30, "progress of the migration")
        assert not e.json("migrate status")["migrations"][0]["over"]

    more(2 << 20)
    e.link(1, False)
    more(8 << 20)  # more than was on its way
    assert used(e, "lan") == [True, False]
    f.link(0, False)
    more(8 << 20)
    assert used(f, "lan") == [False, True]
    client.until(lambda: e.json("migrate status")["migrations"][0]["over"], 60, "the migration's end")
    assert e.json("migrate status")["migrations"][0]["phase"] == "done" and f.vms()["told"]["state"] == "running"
    assert f.switch.wait_port(BOND_MAC, f.taps[1], 5) == f.taps[1]
    echo.stop().check()
