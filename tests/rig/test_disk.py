# SPDX-License-Identifier: BSD-2-Clause
"""Disks of guests: what is written to them stays, wherever the VM is; and what an operator sees of them."""
import pytest

import client
from console import CommandError
from database import Database
from host import Host, start_together
from rig import host_conf, kinds_wanted, vm_conf

ADDRESS = "10.77.0.70"
DISKS = """
[disk data]
memory = 48M
[disk small]
memory = 8M
[disk db]
memory = 24M
"""


def disk_vm(load="diskcheck:40"):
    kinds = set(kinds_wanted())
    return vm_conf("disky", f"tern.ip={ADDRESS}/24 tern.load={load}", 160, "52:54:00:77:08:01", vcpus=2,
                   cpu="portable" if len(kinds) > 1 else "host") + "disk = data, small, db\n"


@pytest.fixture(scope="module")
def pair(switch):
    e = Host("e", switch, host_conf(5, "e", disk_vm(), DISKS, peer=("f", 6)), 5, queues=2)
    f = Host("f", switch, host_conf(6, "f", peer=("e", 5)), 6, queues=2)
    try:
        start_together([e, f])
        yield e, f
    finally:
        e.remove()
        f.remove()


@pytest.fixture(scope="module")
def guest(pair):
    pair[0].json("vm start disky", 30)
    client.wait_port(ADDRESS, client.DISK, 60)


def check(more=60):
    """The checker has gone on, and found nothing wrong."""
    first = client.status(ADDRESS, client.DISK)

    def gone_on():
        s = client.status(ADDRESS, client.DISK)
        assert not s["errors"] and not s["ioerrors"], f"{s} after {first}"
        return s if s["writes"] >= first["writes"] + more and s["reads"] >= first["reads"] + more else None
    return client.until(gone_on, 30, "progress of the disk's checker")


def disk(host, name):
    return next(d for d in host.json("disk list")["disks"] if d["name"] == name)


def test_moves_with_what_was_written(pair, guest):
    """Under a checker that reads all that it has written, with zeroes and discards; there and back, and after a cancel."""
    check()
    e, f = pair
    assert disk(e, "data")["errors"] == 0 and disk(e, "data")["layer_bytes"] > 8 << 20
    assert e.json("torture disky 10 --max-us 20000", 60)["instants"] == 2 * 10  # of each vCPU: saved, destroyed, restored
    check()
    for here, there in (pair, pair[::-1]):
        m = here.json(f"migrate disky to {there.name} --max-downtime 1000", 60)
        assert m["phase"] == "done" and m["bytes"] > 16 << 20
        check()
        assert here.json("disk list")["disks"] == [] and disk(there, "data")["layer_bytes"] > 8 << 20
    started = e.json("migrate disky to f --limit 8M --detach")
    assert started["phase"] not in ("done", "failed")
    client.until(lambda: e.json("migrate status")["migrations"][0]["phase"] == "copying", 20, "first pass")
    e.json("migrate cancel disky", 30)
    check()
    assert e.json("migrate disky to f --max-downtime 1000", 60)["phase"] == "done"
    check()
    assert f.json("migrate disky to e --max-downtime 1000", 60)["phase"] == "done"
    check()


def test_verify(pair, guest):
    """Compared on both sides before it runs there. A byte of memory that differs is named on both, and it stays."""
    e, f = pair
    m = e.json("migrate disky to f --max-downtime 1000 --verify", 120)
    assert m["phase"] == "done" and m["verified_pages"] > 16 << 8 and m["verified_sections"] > 20, m
    assert f.json("migrate status")["migrations"][0]["verified_pages"] == m["verified_pages"]
    check()
    f.json("failpoint P9 stall")
    f.json("migrate disky to e --max-downtime 6000 --verify --detach")
    client.until(lambda: f.json("failpoint")["failpoints"][9]["hits"], 60, "the guest stopped, all sent")
    e.json("spoil disky 5000")
    f.json("failpoint P9 off")
    client.until(lambda: f.json("migrate status")["migrations"][0]["over"], 60, "end of the migration")
    for host in pair:
        m = host.json("migrate status")["migrations"][0]
        assert m["phase"] == "failed" and "verify: memory differs in the page at 5000 " in m["error_text"], m
    assert f.vms()["disky"]["state"] == "running" and "disky" not in e.vms()
    check()
    m = f.json("migrate disky to e --max-downtime 1000 --verify", 120)
    assert m["phase"] == "done", m
    print(f"    verified {m['verified_pages']} pages, down {m['downtime_us']} us")
    check()


def test_stays_while_it_is_off(pair, guest):
    """Power off, on: the same data. What would lose it asks for the operator's word first."""
    e = pair[0]
    client.shell(ADDRESS, "dd if=/dev/urandom of=/tmp/r bs=1M count=4 2>/dev/null; dd if=/tmp/r of=/dev/vdb bs=64k conv=fsync 2>/dev/null")
    told = client.shell(ADDRESS, "md5sum </tmp/r").split()[0]
    e.json("vm kill disky")
    for losing in "host poweroff", "vm forget disky":
        with pytest.raises(CommandError, match="disk"):
            e.json(losing)
    assert disk(e, "small")["layer_bytes"] >= 4 << 20
    e.json("vm start disky", 30)
    client.wait_port(ADDRESS, client.SHELL, 60)
    assert client.shell(ADDRESS, "head -c 4194304 /dev/vdb | md5sum").split()[0] == told


def test_a_database_and_a_destination_that_dies(pair, guest):
    """It writes each row through while its VM moves, and while the host that it moves to is switched off."""
    e, f = pair
    database = Database(ADDRESS, "/dev/vdc")
    database.start()
    for here, there in (pair, pair[::-1]):
        assert here.json(f"migrate disky to {there.name} --max-downtime 1000", 60)["phase"] == "done"
        database.goes_on()
    e.json("migrate disky to f --limit 8M --detach")
    client.until(lambda: e.json("migrate status")["migrations"][0]["phase"] == "copying", 20, "first pass")
    f.stop()
    client.until(lambda: e.json("migrate status")["migrations"][0]["phase"] == "failed", 40, "end of the migration")
    database.goes_on()
    assert database.stop() > 20
