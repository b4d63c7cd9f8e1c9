# SPDX-License-Identifier: BSD-2-Clause
"""What root in a guest can try on hosts and on other VMs: it has no effect, and the operator is told."""
import re

import client
import stranger
from rig import DEMO, DEMO_ADDRESS, SLOW_DOWNTIME

# HELLO as release 0.3 had it, without the shell's knowing what is in it.
HELLO = r"printf '\001\000\000\000\100\000\000\000TERNMIG1\003\000\000\000\003\000\000\000'"


def drops(host):
    """Of the guest's port, by reason."""
    port, = [p for b in host.json("bridge")["bridges"] for p in b["ports"] if p["name"] == DEMO]
    return {k[5:]: v for k, v in port.items() if k.startswith("drop_")}


def test_guest_takes_a_hosts_address(rig):
    """A guest that answers ARP for the peer's address took running VMs: `migrate` went to it, and its words were believed."""
    here = rig.where()
    peer = rig.other(here)
    before = drops(here)
    client.shell(rig.guest, f"ip addr add {peer.address}/32 dev eth0")
    try:
        client.shell(rig.guest, f"for i in 1 2 3; do arping -q -U -c 1 -w 1 -I eth0 {peer.address}; "
                                f"arping -q -A -c 1 -w 1 -I eth0 {peer.address}; done; true", 30)
        client.shell(rig.guest, f"ping -q -c 2 -W 1 -I {peer.address} {here.address}; true", 20)  # as if it were the peer
        after = drops(here)
        assert after["host"] >= before["host"] + 6, (before, after)
        assert f"{DEMO} poses as a host of tern's" in here.cmd("log")
        rig.migrate(options=SLOW_DOWNTIME)  # it goes to the peer
    finally:
        client.shell(rig.guest, f"ip addr del {peer.address}/32 dev eth0")
    rig.check_after()


def test_segments_out_of_order(rig):
    """A stranger's connection to the migration service, with 1,600 segments of one byte and a hole before each, made a host deaf for 10 s."""
    c = client.EchoClient(rig.guest)
    c.start()
    for h in rig.hosts:
        stranger.out_of_order(h, 1600)
        client.wait_ping(h.address, 2)
        assert client.ping(h.address, 5) == 0 and h.json("host")
    rig.migrate(options=SLOW_DOWNTIME)
    c.stop().check()
    rig.check_after()


def test_guest_speaks_to_hosts(rig):
    """Its own host's services it does not reach at all; the other host wants a key of it, and tells it nothing, not even a name."""
    here = rig.where()
    before = drops(here)
    own = client.shell(rig.guest, f"{HELLO} | nc -w 3 {here.address} 7077 | wc -c", 20)
    assert own.strip().splitlines()[-1] == "0", own
    assert drops(here)["service"] > before["service"]
    assert f"{DEMO} speaks to its host's services" in here.cmd("log")
    other = rig.other(here)
    said = client.shell(rig.guest, f"{HELLO} | nc -w 3 {other.address} 7077 | wc -c", 20)
    assert said.strip().splitlines()[-1] == "0", said
    assert re.search(rf"connection to the migration service from {re.escape(DEMO_ADDRESS)}", other.cmd("log"))
    assert client.ping(DEMO_ADDRESS, 2) == 0
    rig.migrate(options=SLOW_DOWNTIME)
    rig.check_after()
