# SPDX-License-Identifier: BSD-2-Clause
"""The guest as a machine on the network, on either host; and its power."""
import re
import time

import pytest

import client
import netns
from console import CommandError
from rig import DEMO, DEMO_MAC, SLOW_DOWNTIME


def wait_console(host, count, seconds):
    """Until the guest has said "guest ready" after its console went past `count` bytes."""
    end = time.monotonic() + seconds * host.scale
    while True:
        c = host.json(f"vm console {DEMO}")
        if c["console_bytes"] > count and "guest ready" in c["tail"][-2000:]:
            return
        assert time.monotonic() < end, f"the guest did not come up again: {c['tail'][-2000:]}"
        time.sleep(0.2)


def reboots(rig, command):
    """Run what resets the guest: it must come up again by itself, at the same host."""
    h = rig.where()
    before = h.json(f"vm console {DEMO}")["console_bytes"]
    try:
        client.shell(rig.guest, f"(sleep 0.3; {command}) >/dev/null 2>&1 &", 5)
    except (OSError, AssertionError):
        pass  # the guest may go before it has answered
    wait_console(h, before + 2000, 60)
    rig.wait_guest(h)
    rig.check_pages()


@pytest.mark.rigs("amd", "intel")
def test_ping_and_50_mb_on_both_hosts(rig):
    """One of them has a virtio-net card, the other an e1000."""
    for _ in rig.hosts:
        assert client.ping(rig.guest, 10, 0.05) == 0
        size = client.amount(50_000_000)
        seconds = client.transfer(rig.guest, size)
        print(f"{rig.where().name} ({rig.where().nic}): {size // 1000000} MB there and back in {seconds:.1f} s")
        rig.migrate(options=SLOW_DOWNTIME)
    rig.check_after(again=False)


@pytest.mark.rigs("amd", "intel", "mixed")
@pytest.mark.long("intel")
def test_instructions_of_either_vendor(rig):
    """Hypercalls of both (by a program: -EPERM, as KVM says), and system calls as the guest's kernel has chosen them for the CPU that it started on."""
    for _ in rig.hosts:
        out = client.shell(rig.guest, "foreign")
        assert re.search(r"vmcall=-1 vmmcall=-1 fast=(syscall|sysenter) calls=1000\b", out), out
        rig.migrate(options=SLOW_DOWNTIME)
    rig.check_after(again=False)


def bridge(host):
    """Its ports by name, and those of them that a MAC is bound to."""
    b = host.json("bridge")["bridges"][0]
    return {p["name"]: p for p in b["ports"]}, {m["mac"]: m["port"] for m in b["macs"] if m["static"]}


def spoofed(host):
    return sum(p["spoofed"] for p in bridge(host)[0].values() if not p["guest"])


@pytest.mark.rigs("amd", "intel")
@pytest.mark.long("intel")
def test_nobody_on_the_wire_takes_its_mac(rig):
    """Frames from the guest's MAC, or from the host's own, come in from the wire: they are counted, and both stay reachable."""
    for _ in rig.hosts:
        h = rig.where()
        assert bridge(h)[1] == {DEMO_MAC: DEMO, h.mac: "tern"}
        assert bridge(rig.other(h))[1] == {rig.other(h).mac: "tern"}, "the guest does not run there"
        before = spoofed(h)
        for mac in (DEMO_MAC, h.mac):
            netns.send_as(mac, 5)
        end = time.monotonic() + 5 * rig.scale
        while spoofed(h) < before + 10:
            assert time.monotonic() < end, f"{spoofed(h) - before} of 10 frames were counted as spoofed"
        assert client.ping(rig.guest, 5, 0.05) == 0
        assert client.ping(h.address, 5, 0.05) == 0
        rig.migrate(options=SLOW_DOWNTIME)
    rig.check_after(again=False)


def test_reboot(rig):
    reboots(rig, "reboot -f")
    rig.check_after()


def test_triple_fault(rig):
    reboots(rig, "echo triple >/sys/kernel/reboot/type; reboot -f")
    rig.check_after()


def test_reboot_where_it_has_moved_to(rig):
    if rig.where() is rig.a:
        rig.migrate(options=SLOW_DOWNTIME)
    reboots(rig, "reboot -f")
    rig.check_after()


def test_power_button(rig):
    """The button asks a guest; one that does not listen runs on; one that does switches itself off and can start again."""
    h = rig.where()
    if h is not rig.a:
        rig.migrate(options=SLOW_DOWNTIME)
        h = rig.a
    client.shell(rig.guest, "killall acpid")
    with pytest.raises(CommandError, match=r"has not shut down within 2000 ms, and runs on. `vm kill demo` cuts its power"):
        h.json(f"vm shutdown {DEMO} --timeout 2s")
    assert client.ping(rig.guest, 2) == 0
    client.shell(rig.guest, "acpid -d >/dev/null 2>&1 & until ls -l /proc/$!/fd | grep -q event0; do sleep 0.1; done")
    h.json(f"vm shutdown {DEMO}", 30)
    assert h.vms()[DEMO]["state"] == "stopped"
    before = h.json(f"vm console {DEMO}")["console_bytes"]
    h.json(f"vm start {DEMO}")
    wait_console(h, before, 60)
    rig.wait_guest(h)
    rig.check_after()


@pytest.mark.rigs("amd", "intel")
def test_stop_and_start(rig):
    h = rig.where()
    before = h.json(f"vm console {DEMO}")["console_bytes"]
    h.json(f"vm stop {DEMO} --timeout 3s")  # the small kernel has no driver for its power button
    assert h.vms()[DEMO]["state"] == "stopped"
    assert client.ping(rig.guest, 1, wait=1) == 1
    h.json(f"vm start {DEMO}")
    wait_console(h, before + 2000, 60)
    rig.wait_guest(h)
    rig.check_after()
