# SPDX-License-Identifier: BSD-2-Clause
"""Disks of guests: what is written to them stays, wherever the VM is; and what an operator sees of them."""
import hashlib
import json
import os
import random

import pytest

import client
import guest_tools
from console import CommandError
from database import Database
from host import RIG, Host, start_together
from rig import SLOW_DOWNTIME, host_conf, kinds_wanted, vm_conf

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


def check(more=60, address=ADDRESS):
    return client.disk_goes_on(address, more)


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
    assert 0 < m["actual_verify_us"] < m["downtime_us"], m  # and what was predicted is without it
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


def test_grows_while_its_guest_runs(pair, guest):
    """The guest sees it, writes to its new end, and finds that at the other host. What would cut data off, or cannot be, is refused."""
    e, f = pair
    before = disk(e, "small")
    size = before["size_bytes"] + (4 << 20)
    told = client.shell(ADDRESS, f"cat /sys/block/vdb/size; head -c {before['size_bytes']} /dev/vdb | md5sum").split()
    assert int(told[0]) * 512 == before["size_bytes"]
    for line, wrong in ((f"small {size - (8 << 20)}", "may not be cut off"), (f"small {size + 1}", "multiple of 512"), ("small x", "x is no size"),
                        (f"small {size} --layer 1M", "give its layer a multiple"), ("small 900G", "not enough memory"), ("nothing 8M", "no VM here")):
        with pytest.raises(CommandError, match=wrong):
            e.json(f"disk resize {line}")
    assert all(disk(e, "small")[k] == before[k] for k in ("size_bytes", "layer_max_bytes"))
    e.json(f"disk resize small {size}")
    assert disk(e, "small")["size_bytes"] == size and disk(e, "small")["layer_max_bytes"] > size
    client.until(lambda: int(client.shell(ADDRESS, "cat /sys/block/vdb/size")) * 512 == size, 10, "a larger disk")
    at = size // 4096 - 16
    write = f"dd if=/dev/urandom of=/tmp/end bs=4k count=16 2>/dev/null; dd if=/tmp/end of=/dev/vdb bs=4k seek={at} conv=fsync,notrunc 2>/dev/null"
    new = client.shell(ADDRESS, f"{write}; md5sum </tmp/end").split()[0]
    for here, there in (pair, pair[::-1]):
        m = here.json(f"migrate disky to {there.name} --max-downtime 1000", 60)
        assert m["phase"] == "done" and disk(there, "small")["size_bytes"] == size
        assert client.shell(ADDRESS, f"head -c {before['size_bytes']} /dev/vdb | md5sum").split()[0] == told[1]
        assert client.shell(ADDRESS, f"echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vdb bs=4k skip={at} 2>/dev/null | md5sum").split()[0] == new


def test_moves_while_it_is_off(pair, guest):
    """What it has written goes with it, and it can be started there alone; so can it be, with `all`, by a host that is to be switched off."""
    e, f = pair
    client.shell(ADDRESS, "dd if=/dev/urandom of=/tmp/r bs=1M count=4 2>/dev/null; dd if=/tmp/r of=/dev/vdb bs=64k conv=fsync 2>/dev/null")
    told = client.shell(ADDRESS, "md5sum </tmp/r").split()[0]
    e.json("vm kill disky")
    m = e.json("migrate disky to f", 60)
    assert (m["phase"], m["vm_state"], m["downtime_us"]) == ("done", "stopped", 0) and 4 << 20 < m["bytes"] < 100 << 20, m
    print(f"    stopped and moved in {m['total_ms']} ms, {m['bytes'] >> 20} MiB")
    assert "disky" not in e.vms() and f.vms()["disky"]["state"] == "stopped"
    assert e.json("disk list")["disks"] == [] and disk(f, "small")["layer_bytes"] >= 4 << 20
    with pytest.raises(CommandError, match="disky is at f"):
        e.json("vm start disky", 30)
    vms = f.json("migrate all to e", 60)["vms"]
    assert vms == [{"name": "disky", "result": "moved"}], vms
    assert e.vms()["disky"]["state"] == "stopped" and "disky" not in f.vms()
    assert e.json("migrate disky to f --verify", 60)["verified_sections"] == 1
    f.json("vm start disky", 30)
    client.wait_port(ADDRESS, client.SHELL, 60)
    assert client.shell(ADDRESS, "head -c 4194304 /dev/vdb | md5sum").split()[0] == told
    client.wait_port(ADDRESS, client.DISK, 60)
    check()
    assert f.json("migrate disky to e --max-downtime 1000", 60)["phase"] == "done"
    check()


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


# ---- a disk with a base image, and one of zeros ----

BASED_ADDRESS = "10.77.0.73"
BASED = """
[disk base]
file = base.raw
size = {size}M
[disk zeros]
memory = {zeros}M
"""


class Sizes:
    """In MiB. The image's last quarter is zeros, and what is behind it as well."""

    def __init__(self, slow):
        self.image, self.size, self.zeros = (2, 3, 1) if slow else (16, 24, 16)


def base_image(mib):
    """Its path."""
    path = os.path.join(RIG, "base.raw")
    with open(path, "wb") as f:
        f.write(random.Random(mib).randbytes(mib * 3 << 18))
        f.truncate(mib << 20)
    return path


@pytest.fixture(scope="module")
def based(switch):
    """Two hosts with the image on their boot volumes; the VM is in the first one's file."""
    kinds = kinds_wanted()
    slow, mixed = "intel" in kinds, len(set(kinds)) > 1
    sizes = Sizes(slow)
    image, disks = base_image(sizes.image), BASED.format(**vars(sizes))
    load = "diskcheck:/dev/vda:1:7:2" if slow else "none"
    vm = vm_conf("based", f"tern.ip={BASED_ADDRESS}/24 tern.load={load}", 64 if slow else 256, "52:54:00:77:0b:01",
                 cpu="portable" if mixed else "host", kernel="small" if slow else "stock", vcpus=1 if slow else 2) + "disk = base, zeros\n"
    g = Host("g", switch, host_conf(7, "g", vm, disks, peer=("h", 8)), 7, kind=kinds[0], volume=[image])
    h = Host("h", switch, host_conf(8, "h", disks, peer=("g", 7)), 8, kind=kinds[1], volume=[image])
    client.scale = max(g.scale, h.scale)
    try:
        start_together([g, h])
        for host in (g, h):
            host.scale = host.console.scale = client.scale
        g.json("vm start based", 30)
        client.wait_port(BASED_ADDRESS, client.SHELL, 60)
        yield g, h
    finally:
        g.remove()
        h.remove()


def in_guest(command, seconds=20):
    return client.shell(BASED_ADDRESS, command, seconds)


def image_is(first, count):
    """That many MiB of the disk are the image's still."""
    with open(os.path.join(RIG, "base.raw"), "rb") as f:
        f.seek(first << 20)
        must = hashlib.md5(f.read(count << 20)).hexdigest()
    assert in_guest(f"dd if=/dev/vda bs=1M skip={first} count={count} 2>/dev/null | md5sum").split()[0] == must


# Whole rounds: each writes every block once, of any number of sectors, and then reads all of them. A block says its round, its disk and
# its place, so that one of the round before is wrong: a checksum of its content alone, as verify=crc32c has it, would not see that.
FIO = """
fio_round() {
	fio --direct=1 --ioengine=libaio --iodepth=8 --rw=randwrite --bsrange=512-16k --randseed=$1 --verify=pattern --verify_fatal=1 \\
	    --verify_state_save=0 --thread --output-format=json --output=/tmp/fio.said $2 \\
	    --name=base --filename=/dev/vda --offset=4m --size=16m --verify_pattern=$(printf 0xba%08x $1)%o \\
	    --name=zeros --filename=/dev/vdb --size=16m --verify_pattern=$(printf 0x0f%08x $1)%o
}
"""
FIO_LOOP = """
i=0
while [ ! -e /tmp/fio.stop ]; do
	fio_round $((i+1)) || { echo round $((i+1)) >/tmp/fio.bad; break; }
	i=$((i+1))
	echo $i >/tmp/fio.rounds
done
touch /tmp/fio.over
"""


def fio_said():
    """Nothing wrong; and how many bytes it has read of each disk, which it does to verify them."""
    said = in_guest("cat /tmp/fio.said")
    jobs = json.loads(said[said.index("{"):])["jobs"]
    assert [j["jobname"] for j in jobs] == ["base", "zeros"] and not any(j["error"] for j in jobs), said
    return [j["read"]["io_bytes"] for j in jobs]


def fio_rounds():
    """How many are over, and nothing was wrong in any."""
    bad = in_guest("cat /tmp/fio.bad /tmp/fio.log 2>/dev/null || true")
    assert not bad, f"{bad}: {in_guest('cat /tmp/fio.said')}"
    return int(in_guest("cat /tmp/fio.rounds 2>/dev/null || echo 0"))


def requests(host, name):
    d = host.json(f"disk info {name}")
    return d["reads"] + d["writes"]


@pytest.mark.long
def test_fio_verifies_across_ten_moves(based):
    """It writes and verifies all the time, and once more when all moves are over. What it does not write is the image's."""
    guest_tools.bring(BASED_ADDRESS, ["fio"])
    in_guest("cat >/tmp/fio.sh <<'X'\n" + FIO + "X\ncat >/tmp/loop.sh <<'X'\n. /tmp/fio.sh\n" + FIO_LOOP + "X\n"
             "(sh /tmp/loop.sh >/tmp/fio.log 2>&1 </dev/null &)")
    client.until(lambda: fio_rounds() >= 1, 120, "first round of fio")
    for n in range(10):
        here, there = based if n % 2 == 0 else based[::-1]
        assert here.json(f"migrate based to {there.name} --max-downtime 1000", 120)["phase"] == "done"
        # Counted since it came. The next move shall not always begin where a round does: a round is some 3000 writes, and as many reads.
        for name in "base", "zeros":
            client.until(lambda: fio_rounds() >= 0 and requests(there, name) > 20 + 600 * n, 60, f"request for disk {name} of host {there.name}")
    rounds = fio_rounds()
    client.until(lambda: fio_rounds() > rounds, 120, "round of fio after the last move")
    in_guest("touch /tmp/fio.stop")
    client.until(lambda: "over" in in_guest("test -e /tmp/fio.over && echo over || true"), 120, "end of fio's rounds")
    rounds = fio_rounds()
    assert rounds >= 3 and fio_said() == [16 << 20] * 2
    before = [there.json(f"disk info {name}") for name in ("base", "zeros")]
    in_guest(f". /tmp/fio.sh; fio_round {rounds} --verify_only", 120)
    assert fio_said() == [16 << 20] * 2
    for was in before:
        now = there.json(f"disk info {was['name']}")
        assert now["writes"] == was["writes"] and now["read_bytes"] - was["read_bytes"] >= 16 << 20, f"{now} after {was}"
    image_is(0, 4)


@pytest.mark.rigs("mixed")
@pytest.mark.long
def test_crosses_vendors(based):
    """cpu = portable, from Intel to AMD and back: under the checker on the image's first MiB, and with what lies still beside it."""
    client.wait_port(BASED_ADDRESS, client.DISK, 60)
    told = in_guest("dd if=/dev/urandom of=/dev/vdb bs=4k count=64 2>/dev/null; md5sum </dev/vdb")
    for here, there in (based, based[::-1]):
        check(20, BASED_ADDRESS)
        assert here.json(f"migrate based to {there.name} {SLOW_DOWNTIME}", 90)["phase"] == "done"
        assert in_guest("md5sum </dev/vdb") == told
        image_is(1, 1)
    check(20, BASED_ADDRESS)
