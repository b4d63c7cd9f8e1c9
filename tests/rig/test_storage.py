# SPDX-License-Identifier: BSD-2-Clause
"""Disks on shared storage: a real target, whose units have one owner, whatever ends in between."""
import pytest

import client
import storage
from console import CommandError
from host import Host, start_together
from rig import host_conf, kinds_wanted, vm_conf

ADDRESS = "10.77.0.74"
SECRET = "correct horse 17"


def conf(target):
    vm = vm_conf("shared", f"tern.ip={ADDRESS}/24 tern.load=diskcheck:40", 160, "52:54:00:77:0c:01", vcpus=2,
                 cpu="portable" if len(set(kinds_wanted())) > 1 else "host") + "disk = data\n"
    return vm + f"\n[disk data]\niscsi = {target.where(1)}\nuser = rig\nsecret = {SECRET}\n"


@pytest.fixture(scope="module")
def target(switch):
    t = storage.Target([64], "rig", SECRET)
    try:
        t.start()
        yield t
    finally:
        t.remove()


@pytest.fixture(scope="module")
def pair(switch, target):
    e = Host("e", switch, host_conf(5, "e", conf(target), peer=("f", 6)), 5, queues=2)
    f = Host("f", switch, host_conf(6, "f", conf(target), peer=("e", 5)), 6, queues=2)
    try:
        start_together([e, f])
        yield e, f
    finally:
        e.remove()
        f.remove()


def check():
    return client.disk_goes_on(ADDRESS)


def test_one_owner(pair, target):
    """Its target's end and return cost the guest time, and no write. Another host cannot have it meanwhile, but by force."""
    e, f = pair
    e.json("vm start shared", 30)
    client.wait_port(ADDRESS, client.DISK, 60)
    check()
    d = e.json("disk info data")
    assert d["session"] == "open" and d["owner"] == "this host" and d["digests"] == "header, data" and d["size_bytes"] == 64 << 20, d
    target.away(3)
    check()
    d = e.json("disk info data")
    assert d["sessions"] == 2 and d["errors"] == 0, d
    with pytest.raises(CommandError) as x:
        e.json("migrate shared to f")
    assert "shared storage" in x.value.text
    with pytest.raises(CommandError) as x:
        f.json("vm start shared", 30)
    assert "shared is at e" in x.value.text, x.value.text
    check()


def put(seed):
    """A MiB of the guest's disk behind what the checker has: written, and its sum."""
    return client.shell(ADDRESS, f"for i in $(seq 20000); do echo {seed} $i; done | head -c 65536 >/tmp/x && dd if=/tmp/x of=/dev/vda bs=64k seek=800 conv=fsync "
                        "2>/dev/null && md5sum </tmp/x", 20)


def get():
    return client.shell(ADDRESS, "dd if=/dev/vda bs=64k skip=800 count=1 iflag=direct 2>/dev/null | md5sum", 20)


def start(host, options=""):
    host.json(f"vm start shared{options}", 40)
    client.wait_port(ADDRESS, client.DISK, 60)
    check()


def test_outlives_its_host(pair, target):
    """Stopped here and started there, it finds what it wrote; and so it does after its host has lost its power, by force."""
    e, f = pair
    if e.vms()["shared"]["state"] != "running":
        start(e)
    sum_ = put("one")
    e.json("vm kill shared", 20)
    start(f)
    assert get() == sum_
    sum_ = put("two")
    f.stop()
    with pytest.raises(CommandError) as x:
        e.json("vm start shared", 60)  # nobody knows what became of f
    assert "--force" in x.value.text, x.value.text
    start(e, " --force")
    assert get() == sum_
    f.start()
    f.wait_address()
    with pytest.raises(CommandError) as x:
        f.json("vm start shared", 30)
    assert "shared is at e" in x.value.text, x.value.text
    check()


def test_taken_by_force(pair, target):
    """Who has lost the unit writes no more, and says why; the other one finds nothing wrong."""
    e, f = pair
    if e.vms()["shared"]["state"] != "running":
        start(e)
    f.json("vm start shared --force", 40)
    s = client.until(lambda: (lambda v: v if v["state"] == "failed" else None)(e.vms()["shared"]), 30, "the end at the host that lost it")
    assert "another host" in e.cmd("vm info shared"), s
    client.wait_port(ADDRESS, client.DISK, 60)
    check()
    f.json("vm kill shared", 20)
    e.json("vm stop shared", 20)
