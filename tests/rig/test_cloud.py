# SPDX-License-Identifier: BSD-2-Clause
"""
A disk like Debian's cloud images (tools/cloud_image.sh), unchanged: firmware, GRUB, Debian's kernel, systemd, cloud-init. It moves at
many moments of that, and what it writes is there when it boots again at the other host.
"""
import os
import subprocess
import time

import pytest

import client
from host import GUEST, RIG, Host
from rig import host_conf

ADDRESS = "10.77.0.72"
MOVES = 10  # while it boots
VM = """
[vm wolke]
mem = 512M
vcpus = 1
mac = 52:54:00:77:0a:01
disk = root
user-data = cloud.yaml
network-config = net.yaml
"""
DISK = """
[disk root]
file = cloud.raw.zst
layer = 512M
"""
# Each time that it boots it has a shell for this test as the other guests have, and its address from network-config.
USER_DATA = f"""#cloud-config
hostname: wolke
bootcmd:
  - [ sh, -c, "systemd-run --no-block --collect python3 -c 'import socketserver, subprocess\\nclass H(socketserver.BaseRequestHandler):\\n def handle(self): subprocess.run([\\"/bin/sh\\"], stdin=self.request, stdout=self.request, stderr=self.request)\\nsocketserver.ThreadingTCPServer.allow_reuse_address = True\\nsocketserver.ThreadingTCPServer((\\"\\", {client.SHELL}), H).serve_forever()'" ]
"""
NETWORK_CONFIG = f"""version: 2
ethernets:
  card:
    match: {{ macaddress: "52:54:00:77:0a:01" }}
    addresses: [ {ADDRESS}/24 ]
"""


def compressed():
    """The image as it is put onto boot volumes: its path."""
    path = os.path.join(RIG, "cloud", "cloud.raw.zst")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    subprocess.run(["zstd", "-q", "-f", "-1", "-T0", f"{GUEST}/cloud.raw", "-o", path], check=True, timeout=300)
    return path


@pytest.fixture(scope="module")
def pair(switch):
    files = [compressed(), os.path.join(RIG, "cloud", "cloud.yaml"), os.path.join(RIG, "cloud", "net.yaml"), f"{GUEST}/CLOUDHV.fd"]
    for name, text in ((files[1], USER_DATA), (files[2], NETWORK_CONFIG)):
        with open(name, "w") as f:
            f.write(text)
    e = Host("e", switch, host_conf(5, "e", VM, DISK, peer=("f", 6)), 5, volume=files, mem=3000)
    f = Host("f", switch, host_conf(6, "f", DISK, peer=("e", 5)), 6, volume=files[:1], mem=3000)
    try:
        for h in (e, f):  # one after the other: each unpacks the image
            h.launch()
            h.console.wait_prompt(240, 0)
        for h in (e, f):
            h.wait_address()
        yield e, f
    finally:
        e.remove()
        f.remove()


def answers():
    try:
        return "ok" in client.shell(ADDRESS, "echo ok", 3)
    except (OSError, AssertionError):
        return False


@pytest.mark.long
def test_moves_while_it_boots(pair):
    """From its first instruction on, at ten moments as they come, and more when it is up."""
    here, there = pair
    here.json("vm start wolke", 60)
    for _ in range(MOVES):
        m = here.json(f"migrate wolke to {there.name} --max-downtime 1000", 120)
        assert m["phase"] == "done"
        here, there = there, here
        time.sleep(3)  # it gets on with its boot
    client.until(answers, 300, "guest that is up")
    client.until(lambda: "done" in client.shell(ADDRESS, "cloud-init status || true", 20), 120, "end of cloud-init")
    assert client.shell(ADDRESS, "hostname").strip() == "wolke"
    assert client.shell(ADDRESS, "cat /sys/class/dmi/id/sys_vendor").strip() == "tern"
    # The root file system has grown to its disk, and takes what is written while it moves.
    client.shell(ADDRESS, "mkdir -p /srv/x && (for i in $(seq 400); do dd if=/dev/urandom of=/srv/x/$i bs=20k count=1 conv=fsync; done; "
                          "cd /srv/x && sha256sum * >/srv/sums; sync) >/dev/null 2>&1 &")
    for _ in range(2):
        assert here.json(f"migrate wolke to {there.name} --max-downtime 1000", 120)["phase"] == "done"
        here, there = there, here
    client.until(lambda: client.shell(ADDRESS, "wc -l </srv/sums 2>/dev/null || echo 0").strip() == "400", 120, "end of the writing")
    assert "FAILED" not in client.shell(ADDRESS, "cd /srv/x && sha256sum -c /srv/sums 2>&1 | grep -v OK || echo none", 60)
    # It boots again where it is.
    try:
        client.shell(ADDRESS, "systemctl reboot", 5)
    except (OSError, AssertionError):
        pass
    client.until(lambda: not answers(), 60, "guest that goes down")
    client.until(answers, 300, "guest that has booted again")
    assert "none" in client.shell(ADDRESS, "cd /srv/x && sha256sum -c /srv/sums 2>&1 | grep -v OK || echo none", 60)
    assert "none" in client.shell(ADDRESS, "dmesg | grep -E 'EXT4-fs (error|warning)|I/O error' || echo none")
    assert here.json("disk info root")["errors"] == 0
