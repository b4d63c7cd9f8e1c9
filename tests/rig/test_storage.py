# SPDX-License-Identifier: BSD-2-Clause
"""Disks on shared storage: a real target, whose units have one owner, whatever ends in between."""
import time

import pytest

import client
import storage
from console import CommandError
from host import Host, start_together
from rig import host_conf, kinds_wanted, vm_conf

ADDRESS, BOTH = "10.77.0.74", "10.77.0.75"
SECRET = "correct horse 17"


def conf(target):
    vm = vm_conf("shared", f"tern.ip={ADDRESS}/24 tern.load=diskcheck:40", 160, "52:54:00:77:0c:01", vcpus=2,
                 cpu="portable" if len(set(kinds_wanted())) > 1 else "host") + "disk = data\n"
    vm += vm_conf("both", f"tern.ip={BOTH}/24 tern.load=none", 96, "52:54:00:77:0c:02") + "disk = more, tmp\n"
    units = "".join(f"\n[disk {name}]\niscsi = {target.where(n)}\nuser = rig\nsecret = {SECRET}\n" for n, name in ((1, "data"), (2, "more")))
    return vm + units + "\n[disk tmp]\nmemory = 8M\n"


@pytest.fixture(scope="module")
def target(switch):
    t = storage.Target([64, 32], "rig", SECRET)
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
        f.json("vm start shared", 30)
    assert "shared is at e" in x.value.text, x.value.text
    check()


def owner(host, disk="data"):
    return host.json(f"disk info {disk}")["owner"]


def test_moves_with_its_unit(pair, target):
    """There and back, under writes that the guest checks: the unit is the host's where it runs, and the other's no more."""
    e, f = pair
    f.json("vm forget shared")
    for here, there in (pair, pair[::-1]) * 2:
        r = here.json(f"migrate shared to {there.name}", 60)
        print(f"down {r['downtime_us']} us, {r['total_ms']} ms")
        assert r["phase"] == "done", r
        check()
        assert owner(there) == "this host"
        assert here.vms().get("shared", {}).get("state") != "running"
    with pytest.raises(CommandError) as x:
        e.json("migrate shared to self")
    assert "shared storage" in x.value.text


def test_unit_and_layer(pair, target):
    """What the guest has written to either is there at its destination, and back home."""
    e, f = pair
    f.json("vm forget both")
    e.json("vm start both", 30)
    client.wait_port(BOTH, client.SHELL, 60)
    sums = client.shell(BOTH, "for d in a b; do head -c 65536 /dev/urandom >/tmp/$d; dd if=/tmp/$d of=/dev/vd$d bs=64k conv=fsync 2>/dev/null; "
                        "md5sum </tmp/$d; done", 20)
    for here, there in (pair, pair[::-1]):
        assert here.json(f"migrate both to {there.name}", 60)["phase"] == "done"
        assert client.shell(BOTH, "for d in a b; do dd if=/dev/vd$d bs=64k count=1 iflag=direct 2>/dev/null | md5sum; done", 20) == sums
        assert owner(there, "more") == "this host"
    e.json("vm kill both", 20)


def move(pair, host, point, action):
    """A move of the VM, wherever it is, with a failpoint at one side ("source", "dest"): both hosts, when it has been passed."""
    source = next(h for h in pair if h.vms().get("shared", {}).get("state") == "running")
    dest = pair[source is pair[0]]
    here = {"source": source, "dest": dest}[host]
    here.json(f"failpoint {point} {action}")
    said = len(here.console.text)
    source.json(f"migrate shared to {dest.name} --detach")
    if action == "crash":
        here.console.expect(f"failpoint {point}", 60, said)
        here.stop()
    else:
        client.until(lambda: here.json("failpoint")["failpoints"][int(point[1:])]["hits"], 60, f"pass through {point}")
    return source, dest


def attempt(host):
    return next(m for m in host.json("migrate status")["migrations"] if m["name"] == "shared")


def back_again(host):
    host.start()
    host.wait_address()
    if host.vms().get("shared", {}).get("state") == "stopped":
        host.json("vm forget shared")


def running(pair):
    if not any(h.vms().get("shared", {}).get("state") == "running" for h in pair):
        start(pair[0])
        pair[1].json("vm forget shared")


def test_destination_dies_with_commit(pair, target):
    """It has not claimed the unit: the source takes that back, and goes on by itself, without anybody's word."""
    running(pair)
    source, dest = move(pair, "dest", "P15", "crash")
    s = client.until(lambda: (lambda m: m if m["over"] else None)(attempt(source)), 60, "end at the source")
    assert s["phase"] == "failed" and "claimed" in s["error_text"], s
    assert source.vms()["shared"]["state"] == "running" and owner(source) == "this host"
    check()
    back_again(dest)
    assert source.json(f"migrate shared to {dest.name}", 60)["phase"] == "done"
    check()


def test_target_hangs_at_commit(pair, target):
    """COMMIT is out and the target says nothing to either host: when it does again, one has the unit and runs, and the other one knows."""
    running(pair)
    source, dest = move(pair, "dest", "P15", "stall")
    target.hang(True)
    try:
        dest.json("failpoint P15 off")
        client.until(lambda: attempt(source)["phase"] == "undecided", 60, "undecided source")
        assert attempt(dest)["phase"] not in ("done", "failed"), attempt(dest)
        with pytest.raises(CommandError):
            source.json("vm start shared", 30)
        time.sleep(3)
    finally:
        target.hang(False)
    client.until(lambda: attempt(source)["over"] and attempt(dest)["over"], 60, "end on both hosts")
    assert sum(h.vms().get("shared", {}).get("state") == "running" for h in pair) == 1
    ends = [attempt(h)["phase"] for h in (source, dest)]
    assert ends in (["done", "done"], ["failed", "failed"]), ends
    check()


@pytest.mark.long
def test_destination_dies_with_the_unit(pair, target):
    """It has claimed the unit and nobody knows whether it ran: the source waits for its operator's word."""
    running(pair)
    source, dest = move(pair, "dest", "P17", "crash")
    s = client.until(lambda: (lambda m: m if "claimed its disks" in m.get("error_text", "") else None)(attempt(source)), 60, "word of the unit")
    assert s["phase"] == "undecided", s
    with pytest.raises(CommandError) as x:
        source.json("vm claim shared")
    assert "--force" in x.value.text, x.value.text
    source.json("vm claim shared --force", 20)
    client.until(lambda: source.vms()["shared"]["state"] == "running", 30, "guest that goes on")
    check()
    back_again(dest)
    assert owner(source) == "this host"


@pytest.mark.long
@pytest.mark.parametrize("point", ["P14", "P20"])
def test_source_dies(pair, target, point):
    """Before COMMIT is out the VM is lost with its host, and starts from its disk elsewhere, by force; after it, it is at its destination."""
    running(pair)
    source, dest = move(pair, "source", point, "crash")
    if point == "P20":
        client.until(lambda: dest.vms().get("shared", {}).get("state") == "running", 30, "guest at its destination")
        check()
        back_again(source)
        assert owner(dest) == "this host"
    else:
        client.until(lambda: attempt(dest)["over"], 60, "end at the destination")
        assert attempt(dest)["phase"] == "failed" and "shared" not in dest.vms(), attempt(dest)
        source.start()
        source.wait_address()
        start(source)
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
