# SPDX-License-Identifier: BSD-2-Clause
"""Several VMs move at once, in both directions, with limits and in a queue; and all of a host's."""
import re

import pytest

import client
from console import CommandError
from host import LINUX, Host, start_together
from rig import host_conf, state_on, vm_conf

SMALL = "[vm {}]\nkernel = torture.img\ncmdline = rounds=32 noshadow nocr8 nobreak\nmem = 16M\nmac = 52:54:00:77:07:09\n"


def address(vm):
    return f"10.77.0.7{vm[1]}"


class Pair:
    """Half of the VMs run on each host. With many, one on f that e will not take, for it has another with that MAC."""

    def __init__(self, switch, count):
        self.vms = [f"m{i + 1}" for i in range(count)]
        self.many = count > 2
        self.at_e, self.at_f = self.vms[:count // 2], self.vms[count // 2:]
        conf = {v: vm_conf(v, f"tern.ip={address(v)}/24 tern.load=none", 112, f"52:54:00:77:07:0{v[1]}") for v in self.vms}
        files = [*LINUX, "torture.img"]
        twin, small = (SMALL.format("twin"), SMALL.format("small")) if self.many else ("", "")
        self.e = Host("e", switch, host_conf(5, "e", *(conf[v] for v in self.at_e), twin, peer=("f", 6), clear=True), 5, files=files)
        self.f = Host("f", switch, host_conf(6, "f", *(conf[v] for v in self.at_f), small, peer=("e", 5), clear=True), 6, files=files)
        self.sides = (self.e, self.f, self.at_e), (self.f, self.e, self.at_f)

    def start(self):
        start_together([self.e, self.f])
        for h, _, vms in self.sides:
            h.wait_address()
            for v in vms:
                h.json(f"vm start {v}", 30)
        if self.many:
            self.f.json("vm start small", 30)
        for v in self.vms:
            client.wait_port(address(v), client.SHELL, 90)

    def run_at(self, host, vms):
        for v in vms:
            assert state_on(host, v) == "running" and client.ping(address(v), 3) == 0, v

    def remove(self):
        self.e.remove()
        self.f.remove()


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.long)])
def pair(switch, request):
    p = Pair(switch, request.param)
    try:
        p.start()
        yield p
    finally:
        p.remove()


def status(host):
    return {m["name"]: m for m in host.json("migrate status")["migrations"] if not m["over"]}


def test_out_and_in_at_once(pair):
    """Each at its limit; then without."""
    boot = {v: client.shell(address(v), "cat /proc/sys/kernel/random/boot_id") for v in pair.vms}
    for here, there, vms in pair.sides:
        for v in vms:
            here.json(f"migrate {v} to {there.name} --limit 4M --detach", 30)
    for here, _, vms in pair.sides:
        client.until(lambda: [m["phase"] for m in status(here).values()] == ["copying"] * len(pair.vms), 20, f"all at once at {here.name}")
        assert {v for v, m in status(here).items() if m["direction"] == "out"} == set(vms)
        slow = client.until(lambda: (s := status(here)) and all(s[v]["bytes_per_s"] for v in vms) and s, 10, "rate")
        for v in vms:
            assert slow[v]["limit_bytes_per_s"] == 4 << 20 and slow[v]["bytes_per_s"] < 6 << 20, slow[v]
    for here, _, vms in pair.sides:  # while they run
        here.json("migrate set all limit=200M")
        for v in vms:
            here.json(f"migrate set {v} limit=none")
    client.until(lambda: not status(pair.e) and not status(pair.f), 60, "end of all")
    for _, there, vms in pair.sides:
        pair.run_at(there, vms)
        there.json("migrate set all limit=none")
    assert {v: client.shell(address(v), "cat /proc/sys/kernel/random/boot_id") for v in pair.vms} == boot
    with pytest.raises(CommandError, match="no migration of m1 leaves this host"):
        pair.f.json("migrate set m1 limit=10M")


def test_all_of_a_host(pair):
    """One after the other, while the limit is less than two should have; one that cannot move is named, and stays."""
    e, f = pair.e, pair.f
    e.json("migrate set all limit=40M")  # so that each is seen on its way
    said = e.cmd("migrate all to f", 120)
    e.json("migrate set all limit=none")
    for v in pair.at_f:  # each in lines of its own
        assert re.search(rf"{v}: copying  pass \d+ .* MB/s.*\n", said) and f"{v} has moved in " in said, said
    assert f"{len(pair.at_f)} of " not in said.split("\x1b[J")[-1], said  # the last of these lines is gone
    pair.run_at(f, pair.vms)
    f.json("migrate set all limit=40M")
    goes = f.json("migrate all to e --detach")["vms"]
    assert {v["name"]: v["result"] for v in goes} == dict.fromkeys(pair.vms + ["small"] * pair.many, "goes")
    client.until(lambda: {"queued", "copying"} <= {m["phase"] for m in status(f).values()}, 20, "one that waits while another goes")
    client.until(lambda: not status(f), 60, "end of all")
    pair.run_at(e, pair.vms)
    assert e.json("migrate cancel all")["cancelled"] == 0
    if pair.many:
        with pytest.raises(CommandError, match=r"migrate all to e: 0 of 1 moved, 1 stay; small: .*MAC"):
            f.json("migrate all to e", 120)
        assert state_on(f, "small") == "running"
