#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
`make bench`: the figures that tern promises, each with its target beside it, and the same as build/bench.json. Ratios are taken
in one run, between things measured in turn; instructions are counted under icount, where RDTSC counts them exactly.
"""
import json
import os
import statistics
import subprocess
import sys
import time

import bench_disk
import bench_strategies
import client
import netns
from figures import figure, rows, save, say, table
from host import BUILD, Host, ROOT
from rig import DEMO, Rig, demo_conf, host_conf
from test_many import Pair, status

PAGE, MIB = 4096, 1 << 20
TEST_IMAGE = os.path.join(ROOT, "build", "test", "BOOTX64.EFI")


def against_tcp(rig, name, target):
    """A guest with much that is not zero, against bare TCP between the same hosts, in turn; `tcptest` is in the test image alone."""
    client.shell(rig.guest, "(pagecheck 128 16 >/dev/null 2>&1 &)")
    client.wait_port(rig.guest, client.PAGECHECK, 20)
    client.shell(rig.guest, "killall -STOP pagecheck")
    for h in rig.hosts:
        h.cmd("tcptest listen")
    ratios, rates = [], []
    for _ in range(6):
        source = rig.where()
        dest = rig.other(source)
        tcp = source.json(f"tcptest connect {dest.address} 150", 120)["kb_per_s"] * 1000
        r = rig.migrate(source)
        moved = r["pages"] * PAGE * 1000 / r["total_ms"]
        rates.append((moved, tcp))
        ratios.append(moved / tcp)
    client.shell(rig.guest, "killall -CONT pagecheck; killall pagecheck; while killall -0 pagecheck; do sleep 0.1; done")
    moved, tcp = (statistics.median(x) / 1e6 for x in zip(*rates))
    figure(name, statistics.median(ratios), target, "", at_least=True, note=f"{moved:.0f} of {tcp:.0f} MB/s, median of 6")


def throughput(rig):
    against_tcp(rig, "migration in clear / bare TCP", 0.7)


def encrypted(rig):
    """The emulator calls a function for each instruction of AES and each vector: no target. `make bench-aead` has the CPU's own cost."""
    against_tcp(rig, f"migration by {rig.migrate()['cipher']} / bare TCP", 0)


def idle(rig):
    moves = [(rig.where(), rig.migrate()) for _ in range(10)]
    reports = [r for _, r in moves]
    down = [r["downtime_us"] / 1000 for r in reports]
    figure("downtime, idle guest of 256 MiB", statistics.median(down), 50, "ms", digits=1, note=f"median of 10; {min(down):.1f} to {max(down):.1f}")
    # To the first host, which has the VM's boot files; the other one is sent them each time (doc/boot.md).
    back = [r for source, r in moves if source is not rig.hosts[0]]
    wire = [r["bytes"] / ((256 * MIB // PAGE - r["zero_pages"]) * PAGE) for r in back]
    figure("bytes on the wire / non-zero bytes", statistics.median(wire), 1.05, "", digits=3, note=f"median of {len(wire)}")
    figure("time of an idle migration", statistics.median(r["total_ms"] for r in reports), 1e9, "ms", digits=0, note="no target")
    figure("round trips of an idle migration, less its passes", statistics.median(r["round_trips"] - r["passes"] for r in reports), 4, "", digits=0,
           note="HELLO, OFFER, FILES and, beside one for each pass, one of the switch-over")
    off = sorted(max(r["predicted_downtime_us"], r["downtime_us"]) / min(r["predicted_downtime_us"], r["downtime_us"]) for r in reports[2:])
    figure("forecast of the downtime, off by a factor of", statistics.median(off), 2, "", note=f"median of {len(off)}; {off[0]:.2f} to {off[-1]:.2f}")


def verified(rig):
    """What --verify adds: all of memory is read and digested on both sides while the guest stands still."""
    reports = [rig.migrate(options="--verify --max-downtime 1000") for _ in range(4)]
    figure("time of --verify / time of the migration without", statistics.median(r["actual_verify_us"] / (r["total_ms"] * 1000 - r["actual_verify_us"]) for r in reports),
           1e9, "", note="no target: the emulator's; " + ", ".join(f"{r['actual_verify_us'] / 1000:.0f} ms" for r in reports) + " for 256 MiB")


def remote(rig):
    """
    Post-copy of a guest that writes more than the line carries: how long it waits for a page, beside a round trip between the hosts and what a page
    takes on the line. (Both by the hosts' own clocks, under the same load.)
    """
    client.shell(rig.guest, "(dirty 0 64 >/dev/null 2>&1 &)")
    ratio, down, p99, said = [], [], [], ""
    for _ in range(6):
        source = rig.where()
        r = rig.migrate(source, "--strategy post-copy --max-passes 2 --max-downtime 20")
        s = rig.status(rig.where())
        trip = statistics.median(source.json(f"ping {rig.where().address}", 10)["rtt_us"])
        page = PAGE * r["total_ms"] * 1000 / r["bytes"]
        ratio.append(s["wait_median_us"] / (trip + page))
        down.append(r["downtime_us"] / 1000)
        p99.append(s["wait_p99_us"] / (trip + page))
        said = f"{s['waits']} waits, median {s['wait_median_us']} us, 99 %: {s['wait_p99_us']} us; round trip {trip} us, page {page:.0f} us"
    client.shell(rig.guest, "killall dirty")
    figure("post-copy: median wait / (round trip + a page)", statistics.median(ratio), 1.3, "", note=said)
    figure("post-copy: 99 % of waits / (round trip + a page)", statistics.median(p99), 1e9, "", note="no target")
    figure("post-copy: downtime of a guest that writes more than the line carries", statistics.median(down), 50, "ms", digits=1)


def datagrams(rig):
    """
    What a client sees that sends 1,000 numbered datagrams a second, each of which the guest sends back, beside the downtime that the hosts
    report: of a guest that moves, and of one whose move fails at the last moment, so that it goes on in the emulator which has its code.
    """
    c = client.NumbersClient(rig.guest)
    c.start()
    client.until(lambda: len(c.back) > 1000, 10, "datagrams that came back")
    idle, moved, back, down = c.gap() * 1000, [], [], []

    def gap(report):
        time.sleep(0.5)
        return c.gap() * 1000 - report["downtime_us"] / 1000

    for _ in range(10):
        source = rig.where()
        source.cmd("failpoint P9 error")
        c.gap()
        rig.migrate_fails(source)
        back.append(gap(rig.status(source)))
        r = rig.migrate(source)
        moved.append(gap(r))
        down.append(r["downtime_us"] / 1000)
    c.stop()
    for what, more, limit in (("whose guest goes on at its source", back, 10), ("whose guest has moved", moved, 1e9)):
        figure(f"longest gap - downtime of a client {what}", statistics.median(more), limit, "ms", digits=1,
               note=f"median of 10; {min(more):.1f} to {max(more):.1f}" + (
                   f"; downtime {statistics.median(down):.1f}; no target: the emulator translates its code anew" if more is moved else
                   f"; longest without a move {idle:.1f}"))
    figure("datagrams lost in 10 moves and 10 that failed", c.lost, 0, "", digits=0, note=c.said())


def exits_per_second(host, seconds):
    """Of the demo VM, of all kinds: what is done in its vCPU's context beside the guest."""
    start, before = time.monotonic(), sum(host.json(f"vm info {DEMO}")["exits"].values())
    time.sleep(seconds)
    return (sum(host.json(f"vm info {DEMO}")["exits"].values()) - before) / (time.monotonic() - start)


def tracking(rig):
    """Page faults while dirty pages are tracked: a migration that never fits its budget, stopped after some passes."""
    client.shell(rig.guest, "(dirty 0 64 >/dev/null 2>&1 &)")
    client.wait_port(rig.guest, client.DIRTY, 10)
    source = rig.where()
    echo = client.EchoClient(rig.guest)
    echo.start()
    quiet = exits_per_second(source, 3)
    gap = echo.longest
    echo.clear_gap()
    before = source.json(f"vm info {DEMO}")
    rig.begin(source, "--strategy abort --max-downtime 60 --max-passes 1000")
    dirtied = client.status(rig.guest, client.DIRTY)["written_mib"]
    busy = exits_per_second(source, 3)
    stop = echo.longest
    echo.stop().check()
    s = rig.wait_status(source, lambda s: s["over"] or s["passes"] >= 5, 60, "5 passes")
    dirtied = (client.status(rig.guest, client.DIRTY)["written_mib"] - dirtied) * 256
    after = source.json(f"vm info {DEMO}")
    if not s["over"]:
        source.json(f"migrate cancel {DEMO}")
    client.shell(rig.guest, "killall dirty; while killall -0 dirty; do sleep 0.1; done")
    faults = after["exits"]["npf"] - before["exits"]["npf"]
    figure("exits by tracking per 1000 pages dirtied", faults * 1000 / max(dirtied, 1), 0, "", digits=2,
           note=f"{faults} nested page faults, {dirtied} pages dirtied, {after['page_splits'] - before['page_splits']} splits")
    # Tracking starts beside the running vCPU: what this sees is a busy machine's scheduling.
    figure("longest gap of a TCP echo as tracking starts", stop * 1000, 1e9, "ms", digits=1, note=f"no target; {gap * 1000:.1f} ms in 3 s before it")
    # 3 % of a CPU that does 10^9 instructions a second are 50,000 exits of 600.
    figure("exits per second of a pass", busy, 50000, "", digits=0, note=f"the guest dirties all it can; {quiet:.0f} before it")


def four_cpus(rig):
    """The guest stands still while all its vCPUs' state goes: on hosts of two CPUs."""
    for what, dirty in (("idle", None), ("at 64 MiB/s dirtied", "dirty 64 64")):
        if dirty:
            client.shell(rig.guest, f"({dirty} >/dev/null 2>&1 &)")
            client.wait_port(rig.guest, client.DIRTY, 10)
        down = [rig.migrate(options="--max-downtime 1000")["downtime_us"] / 1000 for _ in range(5)]
        figure(f"downtime, 4 vCPUs, {what}", statistics.median(down), 1e9, "ms", digits=1,
               note=f"no target; median of 5; {min(down):.1f} to {max(down):.1f}")


def together(switch):
    """Two VMs of 112 MiB at once against one after the other, and four that cross against twice two."""
    p = Pair(switch, 4)

    def seconds(*moves):
        start = time.monotonic()
        for here, there, v in moves:
            here.json(f"migrate {v} to {there.name} --detach", 30)
        client.until(lambda: not status(p.e) and not status(p.f), 120, "end of all")
        return time.monotonic() - start

    try:
        p.start()
        m1, m2 = ((p.e, p.f, v) for v in p.at_e)
        m3, m4 = ((p.f, p.e, v) for v in p.at_f)

        def back(*moves):
            return [(there, here, v) for here, there, v in moves]

        one, two, four = [], [], []
        for _ in range(3):
            one.append(seconds(m1) + seconds(m2))
            two.append(seconds(*back(m1, m2)))
            four.append(seconds(m1, m2, m3, m4))
            four.append(seconds(*back(m1, m2, m3, m4)))
    finally:
        p.remove()
    one, two, four = map(statistics.median, (one, two, four))
    figure("two migrations at once / one after the other", two / one, 1.1, "", note=f"{two:.1f} of {one:.1f} s")
    figure("four that cross / twice two at once", four / two / 2, 1.1, "", note=f"{four:.1f} of {2 * two:.1f} s")


def bench_of(what, *options):
    """What build/host/bench_WHAT found."""
    return json.loads(subprocess.run([os.path.join(BUILD, "host", f"bench_{what}"), *options, "--json"], stdout=subprocess.PIPE, check=True, timeout=300).stdout)


def copying():
    """The kernel's memcpy on this machine, beside that of the C library it is linked with."""
    for t in bench_of("memcpy"):
        limit = 1e9 if "MiB" in t["name"] else 0.5 if "frame" in t["name"] else 1  # the first is the memory's speed rather than ours
        figure(f"{t['name']} / newlib's", t["ns"] / t["newlib_ns"], limit, "", note=f"{t['ns']:.0f} of {t['newlib_ns']:.0f} ns")


def encrypting():
    """What sealing and opening a page takes on this machine, by each implementation it has."""
    for t in bench_of("aead"):
        for what in ("seal", "open"):
            ns = t[f"{what}_ns"]
            figure(f"{what} a page, {t['name']}", ns / 1000, 1e9, "us", note=f"{PAGE * 1000 / ns:.0f} MB/s, {t[f'{what}_cycles']} cycles of the TSC")
        for what, bare in (("send", "seal"), ("receive", "open")):
            figure(f"{what} by TLS / {bare}, {t['name']}", t[f"{what}_ns"] / t[f"{bare}_ns"], 1.2, "")
    for t in bench_of("aead", "--instructions"):
        figure(f"instructions to {t['name']}", t["instructions"], 1e9, "", digits=0, note="no target")


def forwarding():
    """What a frame costs in the bridge."""
    for t in bench_of("bridge"):
        figure(f"instructions in the bridge, {t['name']}", t["instructions"], 1e9, "", digits=0, note="no target")


def tables():
    """What dirty tracking costs in the nested page tables, and pages on the wire."""
    for t in bench_of("pt"):
        figure(f"instructions a GiB, {t['name']}", t["instructions"], 1e9, "", digits=0, note="no target")
    for t in bench_of("flush"):
        figure(f"instructions, {t['name']}", t["instructions"], 1e9, "", digits=0, note="no target; who asks for it")
    for t in bench_of("pages"):
        figure(f"instructions to {t['name']}", t["instructions"], 1e9, "", digits=0, note="no target")
    untouched = json.loads(subprocess.run([os.path.join(BUILD, "host", "bench_pages"), "--bytes"], stdout=subprocess.PIPE, check=True, timeout=300).stdout)
    figure("bytes on the wire per never-touched GiB", untouched["bytes"], 1024, "", digits=0)
    scan = bench_of("harvest")
    figure("scan of page tables, two CPUs / one", scan["two"] / scan["one"], 1, "", at_least=True, note=f"{scan['one']:.0f} GiB/s by one")


def host_figures(rig):
    infos = [h.json("host") for h in rig.hosts]
    own = infos[rig.hosts.index(rig.where())]["memory_tern"]
    figure("tern's own memory", own / MIB, 16 + 256 / 100, "MiB", digits=1, note="with a guest of 256 MiB")
    figure("firmware left to prompt", max(i["boot_ms"] for i in infos), 1000, "ms", digits=0)
    kernel = os.path.getsize(os.path.join(BUILD, "kernel.stripped.elf")) / 1024
    figure("BOOTX64.EFI", os.path.getsize(rig.a.efi) / 1024, 1024, "KiB", digits=0, note=f"its kernel has {kernel:.0f} KiB unpacked")


def exits(switch, number, kind, peer, vcpus=1):
    """Seen by a guest of the stock kernel, on one CPU where RDTSC counts instructions: QEMU under icount, Bochs always."""
    demo = demo_conf("none", mem=128).replace("console=ttyS0", "console=ttyS0 quiet")
    conf = host_conf(number, "c", demo.replace("vcpus = 1", f"vcpus = {vcpus}"))
    h = Host("c", switch, conf, number, icount=kind == "amd", cpus=1, kind=kind)
    try:
        h.start(180)
        h.wait_vm(DEMO, "running", 120)
        start = h.console.begin(f"vm console {DEMO}")  # attached: asking again and again is slow where time is counted
        h.console.send("\r")  # it may have been ready before
        h.console.expect(r"guest# ", 180, start)
        h.console.send("\rexitcost wake\r")
        m = h.console.expect(r"exitcost: cpuid=(\d+) out=(\d+) wake=(\d+)\s", 120, start)
    finally:
        h.remove()
    with_cpus = f"{kind}, {vcpus} vCPUs" if vcpus > 1 else kind
    for what, value, limit, there in (("a CPUID", m[1], 600 if vcpus == 1 else 660, peer[0]), ("an OUT", m[2], 800, peer[1])):
        figure(f"instructions of {what} exit, {with_cpus}", int(value), limit, "", digits=0, note=f"Linux and KVM there: {there}")
    if vcpus > 1:
        figure(f"instructions to wake a halted vCPU and be woken, {kind}", int(m[3]), 1e9, "", digits=0, note="no target; with Linux's own part")


def in_passes(switch):
    """
    What tern does in a vCPU's context while a migration goes on: how much less its guest gets done in the time that it has. Counted where the
    TSC counts instructions, on one CPU, for a guest that dirties all it can; and exits, which are what tern does there. (Two vCPUs, of which
    one idles: a guest of one is not told of time that others had.)
    """
    here = Host("c", switch, host_conf(3, "c", demo_conf("none").replace("vcpus = 1", "vcpus = 2"), peer=("d", 4)), 3, icount=True, cpus=1)
    there = Host("d", switch, host_conf(4, "d", peer=("c", 3)), 4)

    def work(seconds):
        """Pages dirtied in each tick of the guest's own, and exits a second of these."""
        before = sum(here.json(f"vm info {DEMO}")["exits"].values())
        m = bench_disk.in_guest(here, f"exitcost dirty {seconds}", rf"exitcost: of={seconds} dirtied=(\d+) ticks=(\d+) stolen_ms=(\d+)\s", DEMO)
        exits = sum(here.json(f"vm info {DEMO}")["exits"].values()) - before
        own = int(m[2]) - int(m[3]) * 1_000_000
        return int(m[1]) / own, exits * 1e9 / own, m[0]

    try:
        there.start()
        here.start(180)
        here.wait_vm(DEMO, "running", 120)
        bench_disk.in_guest(here, "", r"guest# ", DEMO)
        quiet, quiet_exits, _ = work(4)
        here.json(f"migrate {DEMO} to d --strategy abort --max-downtime 60 --max-passes 1000 --detach", 30)
        passed, exits, said = work(5)  # another number, so that the answer is its own
        s = here.json("migrate status")["migrations"][0]
        here.json(f"migrate cancel {DEMO}", 60)
        say(f"{said} {s}")
    finally:
        here.remove()
        there.remove()
    figure("instructions in a vCPU's context in passes / the guest's", 1 - passed / quiet, 0.03, "", digits=4,
           note=f"{(1 - passed / quiet) * 1e9:.0f} a second; exits a second {exits:.0f}, before it {quiet_exits:.0f}; the guest dirties all it can")


def moving(efi, *parts, switch, clear=False, vcpus=1, disk=False):
    """Two hosts of that image and a guest that has moved there and back."""
    rig = Rig(load="none", extra=False, switch=switch, clear=clear, disk=disk)
    rig.fresh_conf = rig.fresh_conf.replace("vcpus = 1", f"vcpus = {vcpus}")
    for h in rig.hosts:
        h.efi = efi or h.efi
    say("hosts and guest ...")
    rig.start()
    try:
        rig.migrate()
        rig.migrate()
        time.sleep(1)
        for part in parts:
            say(f"{part.__name__} ...")
            part(rig)
    except BaseException:
        say(rig.show_failure())
        raise
    finally:
        rig.stop()


def the_tcp(switch):
    moving(TEST_IMAGE, throughput, datagrams, switch=switch, clear=True)
    moving(TEST_IMAGE, encrypted, switch=switch)


def the_exits(switch):
    exits(switch, 3, "amd", (3209, 5264))
    exits(switch, 4, "intel", (1000, 5150))
    exits(switch, 3, "amd", (3209, 5264), vcpus=4)


def busy_disks(switch):
    for clear in (True, False):
        moving(None, bench_disk.busy_disk, switch=switch, disk=True, clear=clear)


# In this order; STAGES in the environment names those that are wanted.
STAGES = {
    "move": lambda switch: moving(None, host_figures, idle, verified, tracking, switch=switch),
    "remote": lambda switch: moving(None, remote, switch=switch, clear=True),
    "strategies": lambda switch: moving(None, bench_strategies.strategies, switch=switch, clear=True),
    "stun": lambda switch: moving(None, bench_strategies.stun, switch=switch, clear=True),
    "vcpus": lambda switch: moving(None, four_cpus, switch=switch, vcpus=4),
    "together": together,
    "tcp": the_tcp,
    "disk": bench_disk.rates,
    "disk-move": busy_disks,
    "cloud": bench_disk.cloud,
    "memcpy": lambda switch: copying(),
    "aead": lambda switch: encrypting(),
    "bridge": lambda switch: forwarding(),
    "tables": lambda switch: tables(),
    "exits": the_exits,
    "passes": in_passes,
    "disk-cost": bench_disk.cost,
}


def main():
    wanted = os.environ.get("STAGES", "").split() or list(STAGES)
    if unknown := set(wanted) - set(STAGES):
        say(f"bench: STAGES: no {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
        return 2
    try:
        netns.enter()
        switch = netns.Switch()
        for name, stage in STAGES.items():
            if name in wanted:
                say(f"{name} ...")
                stage(switch)
    except netns.RigError as e:
        say(f"bench: {e}")
        return 2
    finally:
        table()
    save(os.path.join(BUILD, "bench.json"))
    return 0 if all(r["met"] for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
