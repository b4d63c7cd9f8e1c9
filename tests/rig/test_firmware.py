# SPDX-License-Identifier: BSD-2-Clause
"""Guests that boot from their own disk, by UEFI firmware: there is no kernel in their section, and the disk is any that firmware starts."""
import base64
import os
import subprocess

import pytest

import client
from console import CommandError
from host import GUEST, RIG, ROOT, Host
from rig import host_conf

ADDRESS = "10.77.0.71"
CMDLINE = f"console=ttyS0 tern.ip={ADDRESS}/24 tern.load=none"
VM = """
[vm firm]
mem = 256M
vcpus = 2
mac = 52:54:00:77:09:01
disk = root, data
user-data = user.yaml
network-config = net.yaml
"""
DISKS = """
[disk root]
file = root.img.zst
layer = 8M
[disk data]
memory = 8M
"""
NETWORK_CONFIG = "version: 2\n"
USER_DATA = "#cloud-config\nhostname: firm\n" + "# long\n" * 1000


def make_files(where):
    """A disk with a kernel that firmware starts by itself, and what cloud-init would read."""
    os.makedirs(where, exist_ok=True)
    uki, image, conf, user, net = (os.path.join(where, n) for n in ("uki.efi", "root.img", "none.conf", "user.yaml", "net.yaml"))
    run = lambda *a, **k: subprocess.run(a, check=True, timeout=120, **k)
    run(os.path.join(ROOT, "tests/guest/mkuki.sh"), uki, f"{GUEST}/vmlinuz", f"{GUEST}/initrd.img", CMDLINE)
    with open(conf, "w") as f:
        f.write("nothing\n")
    run(os.path.join(ROOT, "tools/mkesp.sh"), image, conf, env=dict(os.environ, EFI=uki))
    run("zstd", "-q", "-f", "-1", "--check", image, "-o", image + ".zst")
    for name, text in ((user, USER_DATA), (net, NETWORK_CONFIG)):
        with open(name, "w") as f:
            f.write(text)
    return [image + ".zst", user, net, f"{GUEST}/CLOUDHV.fd"]


@pytest.fixture(scope="module")
def pair(switch):
    """The base image is on the first alone."""
    files = make_files(os.path.join(RIG, "firmware"))
    e = Host("e", switch, host_conf(5, "e", VM, DISKS, peer=("f", 6)), 5, volume=files)
    f = Host("f", switch, host_conf(6, "f", peer=("e", 5)), 6)
    try:
        for h in (e, f):
            h.launch()
        for h in (e, f):
            h.console.wait_prompt(120, 0)
            h.wait_address()
        yield e, f
    finally:
        e.remove()
        f.remove()


def ready(seconds=90):
    client.wait_port(ADDRESS, client.SHELL, seconds)
    assert "efi: EFI v2" in client.shell(ADDRESS, "dmesg")


def seed(name):
    """A file of the disk that cloud-init reads: the guest's kernel has no FAT."""
    image = os.path.join(RIG, "firmware", "seed.img")
    with open(image, "wb") as f:
        f.write(base64.b64decode(client.shell(ADDRESS, "base64 /dev/vdc", 30)))
    assert b"CIDATA" in subprocess.run(["mlabel", "-s", "-i", image], stdout=subprocess.PIPE, check=True, timeout=10).stdout
    return subprocess.run(["mtype", "-i", image, f"::{name}"], stdout=subprocess.PIPE, check=True, timeout=10, text=True).stdout


def test_boots_moves_and_boots_again(pair):
    """It moves while its firmware runs, and later, with the image that the other host has not got; there it reboots from its disk."""
    e, f = pair
    e.json("vm start firm", 30)
    with pytest.raises(CommandError, match="no such base image there .root.img.zst.*--copy-base"):
        e.json("migrate firm to f", 30)
    assert e.json("migrate firm to f --copy-base --max-downtime 1000", 60)["phase"] == "done"
    ready()
    assert f.json("migrate firm to e --max-downtime 1000", 60)["phase"] == "done"
    # What it reads of its disks is what was written there: all of the base image, the seed, and its own.
    assert seed("user-data") == USER_DATA and seed("network-config") == NETWORK_CONFIG and "local-hostname: firm" in seed("meta-data")
    client.shell(ADDRESS, "echo kept | dd of=/dev/vdb conv=fsync 2>/dev/null")
    assert e.json("migrate firm to f --copy-base --max-downtime 1000", 60)["phase"] == "done"
    try:
        client.shell(ADDRESS, "reboot -f", 3)
    except (AssertionError, OSError):
        pass
    client.until(lambda: client.ping(ADDRESS, 1), 20, "guest that goes down")
    ready()
    assert client.shell(ADDRESS, "head -c 4 /dev/vdb") == "kept"
    assert f.json("vm info firm")["state"] == "running"
    assert f.json("migrate firm to e --max-downtime 1000", 60)["phase"] == "done"


def test_a_layer_that_is_full(pair):
    """The guest's writes fail, and it is told on the console; what it had stays, and fits again once something was given back."""
    e = pair[0]
    size = int(client.shell(ADDRESS, "cat /sys/block/vda/size")) * 512
    digest = client.shell(ADDRESS, "md5sum </dev/vda")
    out = client.shell(ADDRESS, "dd if=/dev/urandom of=/dev/vda bs=64k count=256 oflag=direct seek=100 2>&1 || true", 30)
    assert "Input/output error" in out
    assert "disk root: its layer of 8 MiB is full" in e.cmd("log")
    assert client.shell(ADDRESS, "md5sum </dev/vda") != digest
    client.shell(ADDRESS, f"blkdiscard -o {100 * 65536} -l {16 << 20} /dev/vda")
    client.shell(ADDRESS, "dd if=/dev/urandom of=/dev/vda bs=64k count=32 oflag=direct seek=100 2>/dev/null")
    assert next(d for d in e.json("disk list")["disks"] if d["name"] == "root")["errors"] > 0 and size == 40 << 20
