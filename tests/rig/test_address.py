# SPDX-License-Identifier: BSD-2-Clause
"""Two hosts with one address (RFC 5227): who comes second does not use it, says whose it is, and gets it when the first is gone."""
import re
import socket
import struct
import threading

import pytest

import client
import netns
from host import Host
from rig import host_conf, state_on, vm_conf

pytestmark = pytest.mark.after

TCPTEST = 7078
STRANGER = "52:54:00:00:00:99"


class Sender(threading.Thread):
    """Sends to `tcptest listen` on a host until it is stopped; the host answers with the number of bytes that it got."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.sock = client.connect(address, TCPTEST)
        self.stopping, self.sent, self.got, self.error = threading.Event(), 0, None, None

    def run(self):
        try:
            while not self.stopping.wait(0.02):
                self.sock.sendall(b"x" * 1000)
                self.sent += 1000
            self.sock.shutdown(socket.SHUT_WR)
            self.got = struct.unpack("<Q", self.sock.recv(8, socket.MSG_WAITALL))[0]
        except OSError as e:
            self.error = e

    def check(self):
        self.stopping.set()
        self.join(10)
        assert not self.error and self.got == self.sent > 0, (self.error, self.sent, self.got)


def forget_neighbours():
    netns.sh("ip", "neigh", "flush", "dev", netns.BRIDGE)


def mac_at(address):
    """Whom the client's ARP finds at an address that answers to ping."""
    forget_neighbours()
    assert client.ping(address, 2) == 0
    return re.search(r"lladdr (\S+)", netns.sh("ip", "neigh", "show", address, "dev", netns.BRIDGE))[1]


def claim_address(address, mac):
    """A gratuitous ARP reply, as of a host that uses the address and asks nobody."""
    sender = bytes.fromhex(mac.replace(":", "")) + socket.inet_aton(address)
    frame = b"\xff" * 6 + sender[:6] + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 2) + sender + sender
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
        s.bind((netns.BRIDGE, 0))
        s.send(frame)


def test_two_hosts_with_one_address(switch):
    """And with one name, as from a copied boot volume: the VM that starts with the host runs once."""
    conf = host_conf(5, "e", vm_conf("same", "tern.load=none", 128, "52:54:00:77:00:56", autostart="yes"))
    e = Host("e", switch, conf, 5)
    f = Host("f", switch, conf, 6, "e1000")
    try:
        e.start()
        before = e.json("host")
        assert before["address_state"] in ("probing", "ok") and before["address_wanted"] == f"{e.address}/24", before
        e.wait_address()
        e.wait_vm("same", "running", 30)
        e.cmd("tcptest listen")
        sender = Sender(e.address)
        sender.start()

        f.start()
        f.wait_warning(rf"{e.address} is not used: conflict with the host with MAC {e.mac}", 30)
        f.wait_warning(r"vm same: not started: same is at e, heard on its network", 30)
        assert state_on(f, "same") == "stopped" and state_on(e, "same") == "running"
        info = f.json("host")
        assert info["address_state"] == "conflict" and info["address"] == "" and info["conflict_with"] == e.mac, info
        assert f.json("net list")["nets"][0]["conflict_with"] == e.mac
        assert e.mac in f.cmd("host") and e.mac in f.cmd("net list")
        error = f.console.json_result(f"ping {netns.CLIENT_ADDRESS}")["error"]
        assert e.mac in error["text"], error
        assert mac_at(e.address) == e.mac
        sender.check()
        assert e.json("host")["address_state"] == "ok" and f.json("host")["address_state"] == "conflict"
        assert "conflict" not in e.cmd("log")

        e.stop()
        f.wait_warning(rf"{e.address}/24 is used now", 60)
        assert f.json("host")["address_state"] == "ok"
        assert mac_at(e.address) == f.mac
        said = f.cmd("log")
        assert len(re.findall("not used: conflict", said)) == 1, said

        # Defended, however often it is claimed; that is told once in 10 s.
        claim_address(e.address, STRANGER)
        f.wait_warning(rf"{STRANGER} uses {e.address} too", 5)
        assert f.json("host")["address_state"] == "ok"
        for _ in range(3):
            claim_address(e.address, STRANGER)
        forget_neighbours()
        assert client.ping(e.address, 1, wait=1) == 0
        assert f.json("host")["address_state"] == "ok"
        said = f.cmd("log")
        assert len(re.findall(rf"{STRANGER} uses", said)) == 1 and "is given up" not in said, said
    finally:
        e.remove()
        f.remove()


def test_gateway_beside_its_net(switch):
    """As some providers have it: an address of /32, and a gateway that is in no net of the host's, but on its link."""
    conf = host_conf(3, "c").replace("address = 10.77.0.13/24", "address = 10.98.0.3/32")
    assert "gateway = 10.77.0.1" in conf
    h = Host("c", switch, conf, 3, files=False)
    netns.sh("ip", "route", "add", "10.98.0.3/32", "dev", netns.BRIDGE)
    try:
        assert h.start().wait_address()["address"] == "10.98.0.3/32"
        assert client.ping("10.98.0.3", 3) == 0
        assert "4 received" in h.cmd("ping 10.77.0.1", 10)
    finally:
        netns.sh("ip", "route", "del", "10.98.0.3/32", "dev", netns.BRIDGE)
        h.remove()
