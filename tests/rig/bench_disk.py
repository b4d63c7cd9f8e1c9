# SPDX-License-Identifier: BSD-2-Clause
"""
What `make bench` measures of disks: the guest's program (tests/guest/diskbench.c) on each kind of disk, what a request costs, moves
of a VM that writes its disk, and a cloud image's way to its login beside the same straight on the emulator.
"""
import os
import re
import statistics
import time

import client
import dhcp
import netns
from console import LEAVE_KEY
from emulator import KINDS
from figures import figure, say
from host import GUEST, RIG, ROOT, Host
from rig import DEMO, host_conf, vm_conf
from test_cloud import compressed

PAGE, MIB = 4096, 1 << 20
NO_TARGET = 1e9
VM, ADDRESS, DISK_MIB = "benchy", "10.77.0.73", 64
DISKS = f"""
[disk data]
memory = {DISK_MIB}M
[disk image]
file = bench.raw
layer = {DISK_MIB + 2}M
"""
SAID = r"diskbench: ({}) requests=(\d+) iops=(\d+) mbs=(\d+) tsc=(\d+)\s"
LINE = re.compile(SAID.format(r"\w+"))
WORDS = {"read4k": "random reads of 4 KiB", "write4k": "random writes of 4 KiB", "read1m": "read in a row", "write1m": "written in a row"}
# Each disk's first requests find it as it was made: the memory disk is written first, the base image is read.
ORDER = {"data": ("write1m", "read1m", "write4k", "read4k"), "image": ("read1m", "read4k", "write4k", "write1m")}


def host(switch, icount=False):
    """With the VM of this file, on a CPU of its own, and a disk of each kind."""
    image = os.path.join(RIG, "bench.raw")
    os.makedirs(RIG, exist_ok=True)
    with open(image, "wb") as f:
        f.write(os.urandom(DISK_MIB * MIB))
    conf = vm_conf(VM, f"quiet tern.ip={ADDRESS}/24 tern.load=none", 128, "52:54:00:77:0b:01", autostart="yes") + "disk = data, image\n"
    return Host("c", switch, host_conf(3, "c", conf, DISKS), 3, kind="amd", icount=icount, cpus=1 if icount else 2, volume=[image])


def spent(h):
    """Exits of the VM so far, and the CPU time in us of its disks' workers."""
    workers = sum(t["run_us"] for t in h.json("tasks")["tasks"] if t["name"] == "virtio-blk")
    return sum(h.json(f"vm info {VM}")["exits"].values()), workers


def rates(switch):
    """What a guest gets done in a second."""
    h = host(switch)
    try:
        h.start(120)
        client.wait_port(ADDRESS, client.SHELL, 90)
        for device, (disk, order) in zip("ab", ORDER.items()):
            for what in order:
                for depth in (1, 32):
                    before = spent(h)
                    m = LINE.search(client.shell(ADDRESS, f"diskbench /dev/vd{device} 2 {what}_{depth}", 30))
                    exits, busy = (now - then for now, then in zip(spent(h), before))
                    n, unit = int(m[2]), "/s" if what.endswith("4k") else "MB/s"
                    figure(f"{WORDS[what]}, QD {depth}, {'memory disk' if disk == 'data' else 'base image'}", int(m[3 if unit == "/s" else 4]),
                           NO_TARGET, unit, digits=0, note=f"no target; a request: {exits / n:.1f} exits, {busy / n:.0f} us of tern's task")
        assert h.json("disk info data")["errors"] == h.json("disk info image")["errors"] == 0
    finally:
        h.remove()


def in_guest(h, command, answer, vm=VM):
    """
    By its serial console, which stays attached meanwhile: asking again and again is slow where time is counted. What was said before is
    shown again, so `answer` must be of this command.
    """
    start = h.console.begin(f"vm console {vm}")
    h.console.send(f"{command}\r")
    m = h.console.expect(answer, 180, start)
    start = len(h.console.text)
    h.console.send(LEAVE_KEY)
    h.console.wait_prompt(60, start)
    return m


def cost(switch):
    """Instructions and exits of a request, on one CPU where RDTSC counts instructions and a microsecond is a thousand of them."""
    h = host(switch, icount=True)
    try:
        h.start(180)
        h.wait_vm(VM, "running", 120)
        in_guest(h, "", r"guest# ")
        for what in ("write1m_1", "write4k_1", "read4k_1", "write4k_32", "read4k_32"):
            before = spent(h)
            m = in_guest(h, f"diskbench /dev/vda 0.2 {what}", SAID.format(what))
            exits, busy = ((now - then) / int(m[2]) for now, then in zip(spent(h), before))
            if what == "write1m_1":  # all of its blocks are there now
                continue
            kind, depth = what.replace("4k", "").split("_")
            figure(f"instructions of a {kind} of 4 KiB, QD {depth}", int(m[5]), NO_TARGET, "", digits=0,
                   note=f"no target; with Linux's own part; tern's task takes {busy * 1000:.0f} of them; of {m[2]}")
            figure(f"exits of a {kind} of 4 KiB, QD {depth}", exits, NO_TARGET, "", note="no target; with those of timers and the console")
    finally:
        h.remove()


def disk_of(h):
    return next(d for d in h.json("disk list")["disks"] if d["vm"] == DEMO)


def written(h):
    return h.json("disk info data")["written_bytes"] // PAGE


def moves(rig, busy):
    """Five moves: each one's report, and of a busy disk the frames of its layer that were sent and those that were dirtied."""
    found = []
    for _ in range(5):
        here = rig.where()
        before = written(here)
        if busy:
            client.shell(rig.guest, "(diskbench /dev/vda 600 write4k_32 >/run/bench 2>&1 &)")
            client.until(lambda: written(here) > before + 1000, 20, "writes")
        layer, at_start = disk_of(here)["layer_bytes"] // PAGE, written(here)
        r = rig.migrate(here, "--max-downtime 2000")
        if busy:
            client.shell(rig.guest, "killall diskbench; while killall -0 diskbench 2>/dev/null; do sleep 0.1; done")
            m = LINE.search(client.shell(rig.guest, "cat /run/bench"))
            # Written until it left: all, less what was written at the destination, less what was before the move.
            r["dirtied"] = layer + before + int(m[2]) - written(rig.where()) - at_start
            r["mbs"] = int(m[4])
        found.append(r)
    return found


def busy_disk(rig):
    """A VM whose disk is written all the time, as fast as it goes, beside the same one with an idle disk."""
    client.shell(rig.guest, "diskbench /dev/vda 1 write1m_1", 20)  # all of its blocks are there
    idle, busy = moves(rig, False), moves(rig, True)

    def middle(reports, key):
        return statistics.median(r[key] for r in reports)

    size, cipher = disk_of(rig.where())["size_bytes"] // MIB, busy[0]["cipher"]
    figure(f"downtime, idle disk of {size} MiB, {cipher}", middle(idle, "downtime_us") / 1000, NO_TARGET, "ms", digits=1, note="no target; median of 5")
    figure(f"added downtime, disk written all the time, {cipher}", (middle(busy, "downtime_us") - middle(idle, "downtime_us")) / 1000, NO_TARGET, "ms",
           digits=1, note=f"no target; median of 5; random writes of 4 KiB at QD 32, {middle(busy, 'mbs'):.0f} MB/s; {middle(busy, 'dirty_pages'):.0f} "
                          f"pages in the last pass, {middle(busy, 'passes'):.0f} passes, {middle(busy, 'total_ms'):.0f} of {middle(idle, 'total_ms'):.0f} ms")
    figure(f"layer frames sent / that the layer had or were written since, {cipher}", statistics.median(r["disk_pages"] / r["dirtied"] for r in busy), 1, "",
           note="median of 5; " + "; ".join(f"{r['disk_pages']} of {r['dirtied']}" for r in busy))


# ---- a cloud image ----

CLOUD, CLOUD_MIB = "wolke", 512
ROUNDS = 3 if os.environ.get("LONG") else 1  # of 3 to 5 minutes
CLOUD_CONF = f"""
[vm {CLOUD}]
mem = {CLOUD_MIB}M
vcpus = 1
mac = 52:54:00:77:0b:02
disk = root
user-data = bench.yaml
"""
CLOUD_DISK = """
[disk root]
file = cloud.raw.zst
layer = 512M
"""
USER_DATA = f"#cloud-config\nhostname: {CLOUD}\n"


class StraightQemu(KINDS["amd"]):
    """The same emulator with the image and the seed as its own virtio disks."""

    def command(self):
        h, words = self.host, super().command()
        at = words.index(f"file={h.esp},format=raw")
        words[at] = f"file={h.esp},format=raw,if=none,id=root,snapshot=on"
        return words + ["-device", "virtio-blk-pci,drive=root,bootindex=0", "-drive", f"file={h.seed},format=raw,if=none,id=seed,readonly=on",
                        "-device", "virtio-blk-pci,drive=seed"]


class Straight(Host):
    """A machine like the VM, without tern."""

    def __init__(self, switch, image, seed):
        super().__init__("s", switch, f"name = {CLOUD}\n", 7, cpus=1, mem=CLOUD_MIB)
        self.machine, self.esp, self.seed = StraightQemu(self), image, seed

    def prepare(self):
        os.makedirs(self.work, exist_ok=True)


def times(h, since, start):
    """Seconds until the first line of Linux, and until its login."""
    h.console.expect(r"Linux version", 600, start)
    kernel = time.monotonic() - since
    h.console.expect(rf"{CLOUD} login: ", 600, start)
    return kernel, time.monotonic() - since


def on_tern(switch, files):
    h = Host("c", switch, host_conf(3, "c", CLOUD_CONF, CLOUD_DISK), 3, volume=files, mem=3000)
    try:
        h.start(240)
        h.wait_address()
        since = time.monotonic()
        h.json(f"vm start {CLOUD}", 60)
        return times(h, since, h.console.begin(f"vm console {CLOUD}"))
    finally:
        h.remove()


def straight(switch, seed):
    h = Straight(switch, os.path.join(GUEST, "cloud.raw"), seed)
    try:
        since = time.monotonic()
        h.launch()
        return times(h, since, 0)
    finally:
        h.remove()


def cloud(switch):
    """`vm start` to login of a cloud image, and the same image straight on the emulator with its own firmware."""
    missing = [f"make guest-{name}" for name, file in (("cloud", "cloud.raw"), ("firmware", "CLOUDHV.fd")) if not os.path.exists(os.path.join(GUEST, file))]
    if missing:
        say(f"left out: `{'`, `'.join(missing)}` has not been run")
        return
    where = os.path.join(RIG, "cloud")
    os.makedirs(where, exist_ok=True)
    user, seed = os.path.join(where, "bench.yaml"), os.path.join(where, "seed.img")
    files = {"user-data": USER_DATA, "meta-data": f"instance-id: {CLOUD}\nlocal-hostname: {CLOUD}\n", "bench.yaml": USER_DATA}
    for name, text in files.items():
        with open(os.path.join(where, name), "w") as f:
            f.write(text)
    netns.sh(os.path.join(ROOT, "tools/cloud_image.sh"), "seed", seed, *(os.path.join(where, n) for n in ("user-data", "meta-data")), timeout=30)
    image = compressed()
    server = dhcp.Server("10.77.0.90", "10.77.0.99")
    try:
        found = [(straight(switch, seed), on_tern(switch, [image, user, f"{GUEST}/CLOUDHV.fd"])) for _ in range(ROUNDS)]
    finally:
        server.remove()
    (bare_kernel, bare), (kernel, login) = ([statistics.median(x) for x in zip(*runs)] for runs in zip(*found))
    figure("cloud image, `vm start` to Linux' first line", kernel, NO_TARGET, "s", digits=1, note=f"no target; straight on the emulator {bare_kernel:.1f} s, by OVMF")
    figure("cloud image, that line to login / straight", (login - kernel) / (bare - bare_kernel), 1.2, "",
           note=f"{login - kernel:.1f} of {bare - bare_kernel:.1f} s, median of {ROUNDS}")
    figure("cloud image, start to login / straight", login / bare, NO_TARGET, "", note=f"no target; {login:.1f} of {bare:.1f} s, with firmware and GRUB")
