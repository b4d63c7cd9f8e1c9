# SPDX-License-Identifier: BSD-2-Clause
"""Between hosts: what is on the wire, and who is spoken with at all."""
import contextlib
import os
import re
import socket
import ssl
import time

import pytest

import client
import netns
from console import CommandError
from host import Host, start_together
from rig import DEMO, KEY, host_conf, state_on, vm_conf

SECRET = "PLANTED-IN-THE-GUESTS-MEMORY"
GUEST = "10.77.0.57"
CIPHERS = r"TLS 1\.3, (AES-128-GCM|ChaCha20-Poly1305)$"


def plant(guest):
    """4 MiB of it, in a file that lives in memory."""
    client.shell(guest, f"yes {SECRET} | head -c 4194304 >/tmp/secret")


@pytest.mark.rigs("intel", "mixed")
@pytest.mark.long
def test_no_page_on_the_wire(rig):
    plant(rig.guest)
    with netns.hosts_talk() as wire:
        r = rig.migrate()
    client.shell(rig.guest, "rm /tmp/secret")
    assert re.match(CIPHERS, r["cipher"]), r
    assert len(wire.bytes) > 4 << 20 and SECRET.encode() not in wire.bytes and DEMO.encode() not in wire.bytes
    rig.check_after()


def comes_back_with_another_card(dest, source):
    """
    The destination dies with COMMIT in its hands, and is switched on again with another card: the move is undecided, and yet the source
    finds who is at that address now, says that it is another host, and obeys the operator.
    """
    dest.json("failpoint P15 crash")
    source.json(f"migrate told to {dest.address} --detach")
    dest.console.expect("failpoint P15", 30, 0)
    client.until(lambda: source.json("migrate status")["migrations"][0]["phase"] == "undecided", 20, "undecided move")
    dest.stop()
    dest.mac = dest.macs[0] = dest.mac.replace("52:54:00:00:00", "52:54:00:00:09")
    dest.start()
    dest.wait_address()
    client.until(lambda: "is another host now" in source.json("migrate status")["migrations"][0].get("error_text", ""), 30, "answer of another host")
    assert state_on(source, "told") == "undecided"
    source.json("vm claim told --force")
    client.until(lambda: state_on(source, "told") == "running", 10, "claimed VM")
    dest.json("vm forget told")  # its file has one of that name, too


@pytest.mark.parametrize("clear", [False, True])
def test_what_is_on_the_wire(switch, clear):
    """With a key nothing of the guest. In clear where both files say so: the console names it in red at each use, and the wire shows why."""
    vm = vm_conf("told", f"tern.ip={GUEST}/24 tern.load=none", 128, "52:54:00:77:00:57")
    hosts = [Host(name, switch, host_conf(n, name, *vms, peer=peer, clear=clear), n)
             for name, n, peer, vms in (("e", 5, ("f", 6), (vm,)), ("f", 6, ("e", 5), ()))]
    try:
        start_together(hosts)
        e, f = hosts
        e.json("vm start told", 20)
        client.wait_port(GUEST, client.SHELL, 60)
        plant(GUEST)
        raw = bytearray()
        with netns.hosts_talk() as wire:
            e.console.tee = raw.extend
            e.cmd("migrate told to f", 60)
            e.console.tee = None
        r = e.json("migrate status")["migrations"][0]
        assert r["phase"] == "done" and len(wire.bytes) > 4 << 20, r
        assert (SECRET.encode() in wire.bytes) == clear
        assert bool(re.search(rb"\x1b\[31m[^\x1b]*in clear", raw)) == clear, raw
        assert r["cipher"] == "in clear" if clear else re.match(CIPHERS, r["cipher"]), r
        assert ("speaks in clear" in f.cmd("log")) == clear
        for h in hosts:
            peer, = h.json("peer list")["peers"]
            assert h.json("host")["peers"][0]["state"] == peer["state"]
            assert peer["state"] == ("INSECURE" if clear else "key agreed") and peer["cipher"] == ("" if clear else r["cipher"]), peer
        if not clear:
            comes_back_with_another_card(e, f)
            # While a host is spoken with, nobody on the wire changes where it is.
            f.json("migrate told to e --detach")
            end = time.monotonic() + 60
            while not (r := f.json("migrate status")["migrations"][0])["over"]:
                if r["bytes"]:
                    netns.claim(e.address, f.mac)
                assert time.monotonic() < end, r
            assert r["phase"] == "done" and r["total_ms"] < 15000, r
        assert client.ping(GUEST, 3) == 0
    finally:
        for h in hosts:
            h.remove()


def stranger(address, say):
    """What a host answers to somebody without a key, to the end of the connection."""
    with socket.create_connection((address, 7077), 10) as s:
        s.settimeout(20)  # a host gives anybody 10 s
        s.sendall(say)
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while True:
                got = s.recv(65536)
                if not got:
                    break
                said += got
    return said


def client_hello():
    """What any program's TLS begins with: read to its end, answered with an alert, and closed in order."""
    out = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="b")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


def test_nobody_without_the_key(rig, switch):
    """A host with another key, one without any, and a program that speaks as release 0.3 did (so would a guest): words, and no more."""
    other_key = "5a" * 32
    conf = host_conf(5, "e", vm_conf("lone", "tern.load=none", 128, "52:54:00:77:00:58"), peer=("b", 2))
    e = Host("e", switch, conf.replace(KEY, other_key), 5)
    here = rig.b
    try:
        e.start()
        e.wait_address()
        e.json("vm start lone --force", 60)
        e.wait_vm("lone", "running", 30)
        with pytest.raises(CommandError, match="b has another key than this host, or none for it"):
            e.json("migrate lone to b", 20)
        assert [p["state"] for p in e.json("peer list")["peers"]] == ["key differs"]
        assert e.vms()["lone"]["state"] == "running"
        assert "10.77.0.15" in here.cmd("log") and "has not proved a key" in here.cmd("log")
        with pytest.raises(CommandError, match="is no .peer. of tern.conf"):
            e.json("migrate lone to 10.77.0.11", 20)
        assert re.search(r"^key = [0-9a-f]{64}\r?$", e.cmd("peer key"), re.M)
        assert "key" not in e.json("peer key")
    finally:
        e.remove()
    hello = bytes.fromhex("01000000 40000000".replace(" ", "")) + bytes(64)
    for noise in (hello, b"\x16\x03\x01\x02\x00" + os.urandom(512), b"\x16" + bytes(300), b"GET / HTTP/1.0\r\n\r\n"):
        assert len(stranger(here.address, noise)) < 100, "an alert at most, of 7 bytes"
    with contextlib.ExitStack() as held:  # connections that never end on this side: the host must end them on its own
        for i in range(200):
            s = held.enter_context(socket.create_connection((here.address, 7077), 5))
            s.sendall(client_hello() if i % 4 else b"\x16\x03\x01\x02\x00")
            if i % 4:
                assert len(s.recv(4096)) == 7, "an alert"
        rig.migrate()  # and those who have it are served
    rig.check_after()
