# SPDX-License-Identifier: BSD-2-Clause
"""Guests with several CPUs: they start, work against each other (tests/guest/smp.c), come and go, and move."""
import re
import time

import pytest

import client
import guest_tools
import netns
import stranger
from host import Host, start_together
from rig import SLOW_DOWNTIME, host_conf, kinds_wanted, state_on, vm_conf

CALM = "killall -STOP smp pagecheck"


def address(n):
    return f"10.77.0.{60 + n}"


def smp_conf(n, mem=160, load="none", more=""):
    kinds = set(kinds_wanted())
    return vm_conf(f"smp{n}", f"tern.ip={address(n)}/24 tern.load={load}{more}", mem, f"52:54:00:77:06:0{n}", vcpus=n,
                   cpu="portable" if len(kinds) > 1 else "host", kernel="small" if "intel" in kinds else "stock")


@pytest.fixture(scope="module")
def pair(switch):
    """Two hosts; the VMs are in the first one's file. A slow host has one CPU and a small guest."""
    kinds = kinds_wanted()
    vms = [smp_conf(2, 64)] if "intel" in kinds else [smp_conf(2) + "weight = 300\n", smp_conf(3, load="smp", more=" nox2apic"), smp_conf(4, load="pagecheck:8:8+smp"), smp_conf(8)]
    e = Host("e", switch, host_conf(5, "e", *vms, peer=("f", 6)), 5, kind=kinds[0], queues=2)
    f = Host("f", switch, host_conf(6, "f", peer=("e", 5)), 6, kind=kinds[1], queues=2)
    client.scale = scale = max(e.scale, f.scale)
    try:
        start_together([e, f])
        for h in (e, f):
            assert h.json("nic")["nics"][0]["queues"] == h.queues
            h.scale = h.console.scale = scale
        yield e, f
    finally:
        e.remove()
        f.remove()


def start(host, n):
    """It runs, and its network card has a pair of queues for each CPU, which Linux uses."""
    host.json(f"vm start smp{n}", 30)
    client.wait_port(address(n), client.SHELL, 60)
    for kind in "rx", "tx":
        assert client.shell(address(n), f"ls -d /sys/class/net/eth0/queues/{kind}-* | wc -l").strip() == str(n)


def queues_heard(n):
    """How many of its card's receive queues have interrupted it."""
    lines = client.shell(address(n), "grep 'virtio.*-input' /proc/interrupts").splitlines()
    return sum(any(int(word) for word in line.split()[1:] if word.isdigit()) for line in lines)


def check(n, rounds=50, seconds=30):
    """smp has gone round so often since now, and found nothing wrong."""
    first = client.status(address(n), client.SMP)
    end = time.monotonic() + seconds * client.scale
    while True:
        s = client.status(address(n), client.SMP)
        wrong = {k: s[k] for k in ("stale", "behind", "lost", "stuck", "failed", "backwards", "registers") if s[k]}
        assert not wrong, f"{wrong} after {s}"
        if s["rounds"] >= first["rounds"] + rounds:
            return s
        assert time.monotonic() < end, f"too slow: {first}, then {s}"
        time.sleep(0.2)


def lscpu_says(n):
    return {"CPU(s)": str(n), "On-line CPU(s) list": f"0-{n - 1}" if n > 2 else "0,1", "Thread(s) per core": "1", "Core(s) per socket": str(n), "Socket(s)": "1"}


def topology(n):
    """What lscpu makes its lines of."""
    names = "topology/core_cpus_list", "topology/package_cpus_list", "cache/index3/shared_cpu_list"
    cpus = "/sys/devices/system/cpu"
    files = " ".join(f"{cpus}/cpu{n - 1}/{name}" for name in names)
    threads, package, cache = client.shell(address(n), f"cat {files}").split()
    info = client.shell(address(n), "grep -E 'siblings|cpu cores|physical id' /proc/cpuinfo | sort | uniq -c")
    return threads, package, cache, sorted(" ".join(line.split()) for line in info.splitlines())


def one_socket(n):
    return str(n - 1), f"0-{n - 1}", f"0-{n - 1}", [f"{n} cpu cores : {n}", f"{n} physical id : 0", f"{n} siblings : {n}"]


def moves(pair, count):
    """smp4, there and back, with a look at all after each move."""
    boot = client.shell(address(4), "cat /proc/sys/kernel/random/boot_id")
    for i in range(count):
        here, there = pair[i % 2], pair[1 - i % 2]
        r = here.json(f"migrate smp4 to {there.name} {SLOW_DOWNTIME}", 60)
        assert r["phase"] == "done" and r["downtime_us"] < 1_000_000, r
        assert state_on(there, "smp4") == "running" and client.ping(address(4), 3) == 0
        check(4, 20)
        s = client.status(address(4), client.PAGECHECK)
        assert not s["errors"] and not s["backwards"] and not s["registers"], s
    assert client.shell(address(4), "cat /proc/sys/kernel/random/boot_id") == boot and topology(4) == one_socket(4)
    assert guest_tools.lscpu(address(4)).items() >= lscpu_says(4).items()
    assert queues_heard(4) > 1


def check_leaks(pair, free):
    """The VM is where it was when this was free, and it is again."""
    assert not any(h.lost(before) for h, before in zip(pair, free))


def steals(n):
    """Ticks of 10 ms that the guest was told of by each CPU."""
    return [int(line.split()[8]) for line in client.shell(address(n), "grep '^cpu[0-9]' /proc/stat").splitlines()]


def check_services(n):
    """The guest's kernel has found what KVM offers to guests of several CPUs, and uses it: time that others had is told."""
    said = client.shell(address(n), "dmesg")
    for what in ("KVM setup pv remote TLB flush", "setup PV sched yield", "PV spinlocks enabled", "setup PV IPIs"):
        assert what in said, what
    before, began = steals(n), time.monotonic()
    check(n, 50)
    told = [b - a for a, b in zip(before, steals(n))]
    most = (time.monotonic() - began) * 100
    assert all(0 < t < most for t in told), (told, most)


def check_top(host):
    """One second of the host: each vCPU has worked, or waited for its turn; nobody has done more than there was time."""
    talk = client.EchoClient(address(4))
    talk.start()
    t = host.json("top", 10)
    talk.stop().check()
    mine = [v for v in t["vcpus"] if v["vm"] == "smp4"]
    assert [v["vcpu"] for v in mine] == [0, 1, 2, 3] and len(t["cpus"]) == host.cpus, t
    for v in mine:
        assert v["run_us"] and v["exits_per_s"] and sum(v["exits"].values()), v
        assert v["run_us"] + v["wait_us"] < 1.2 * t["interval_us"], (v, t["interval_us"])
    (vm,) = [v for v in t["vms"] if v["vm"] == "smp4"]
    assert vm["memory"] == 160 << 20 and vm["received_per_s"] and vm["sent_per_s"] and not vm["dirtied_per_s"], vm
    assert vm["exits"] == {k: sum(v["exits"][k] for v in mine) for k in vm["exits"]} and vm["exits_per_s"], vm
    for k in ("run_us", "wait_us"):
        assert abs(vm[k] - sum(v[k] for v in mine)) <= len(mine), (k, vm, mine)
    host.console.send("top\r")  # as the operator sees it
    host.console.expect(r"smp4/3 +[\d.]+% +[\d.]+% +\d+ +\w+ \d+", 10)
    host.console.expect(r"smp4/all +[\d.]+% +[\d.]+% +\d+ +\w+ \d+", 10)
    end = len(host.console.text)
    host.console.send("q")
    host.console.wait_prompt(10, end)
    assert sum(v["run_us"] for v in mine) < 1.2 * sum(c["busy_us"] for c in t["cpus"]) <= 1.2 * host.cpus * t["interval_us"], t


def test_four_cpus_move_under_stress(pair):
    start(pair[0], 4)
    assert client.shell(address(4), "nproc").strip() == "4"
    assert topology(4) == one_socket(4) and guest_tools.lscpu(address(4)).items() >= lscpu_says(4).items()
    client.wait_port(address(4), client.SMP, 10)
    s = check(4)
    assert s["cpus"] == 4, s
    check_top(pair[0])
    check_services(4)
    before, began = steals(4), time.monotonic()
    moves(pair, 2)
    free = [h.memory() for h in pair]
    moves(pair, 2)
    check_leaks(pair, free)
    told = [b - a for a, b in zip(before, steals(4))]  # over all hosts: neither a jump nor a step back
    assert all(0 < t < (time.monotonic() - began) * 100 for t in told), told


def test_cpu_time_by_weight(pair):
    """
    Three times the weight is three times the CPU time, though the other has twice the vCPUs, and they cause exits, fill the console and send
    frames as fast as they can: what the host does for it then is its own, too.
    """
    e = pair[0]
    start(e, 2)
    assert [e.json(f"vm info smp{n}")["weight"] for n in (2, 4)] == [300, 100]
    if state_on(e, "smp4") != "running":
        start(e, 4)
    frame = stranger.eth(netns.CLIENT_MAC, e.json("vm info smp4")["mac"], 0x0800, stranger.udp(address(4), netns.CLIENT_ADDRESS, (9, 9), bytes(1000)))
    # The console's interrupts may take all of the time that a CPU has: of one on which the frames' sender is not.
    storms = {2: [":"] * 2, 4: ["taskset -c 0 exitcost", "taskset -c 1 exitcost", "taskset -c 2 cat /proc/cpuinfo >/dev/ttyS0",
                                f"taskset -c 3 frames eth0 10000 {frame.hex()}"]}
    client.shell(address(4), f"{CALM}; echo 4 >/proc/irq/default_smp_affinity")
    for n in storms:
        client.shell(address(n), "touch /tmp/storm; " + "".join(f"(while [ -e /tmp/storm ]; do {s}; done >/dev/null 2>&1 &); " for s in storms[n]))
    try:
        check_weights(e)
    finally:
        e.json("vm kill smp2")
        client.shell(address(4), "rm /tmp/storm", 30)


def sends(host, top=None):
    """The frames of smp4's storm, by `top`: in a guest that has little time it takes a while until they begin."""
    return next(v["sent_per_s"] for v in (top or host.json("top", 10))["vms"] if v["vm"] == "smp4") > 10000


def check_weights(e):
    client.until(lambda: sends(e), 30, "frame of the storm")
    ran = {"smp2": 0, "smp4": 0}
    said = e.json("vm console smp4")["console_bytes"]
    tops = [e.json("top", 10) for _ in range(2)]
    for v in [v for t in tops for v in t["vcpus"]]:
        ran[v["vm"]] += v["run_us"]
    print(ran, [(v["vm"], v["vcpu"], v["run_us"], v["wait_us"], v["exits_per_s"]) for t in tops for v in t["vcpus"]])
    assert 2 < ran["smp2"] / ran["smp4"] < 4.5, ran
    assert ran["smp2"] > 0.6 * e.cpus * sum(t["interval_us"] for t in tops), (ran, tops)
    assert any(sends(e, t) for t in tops) and e.json("vm console smp4")["console_bytes"] > said + 1000
    assert client.ping(address(2), 3) == 0 == client.ping(address(4), 3)


def test_reboots_where_it_came_with_its_files(pair):
    """The second host's file names no VM, so it has read no kernel: the guest has brought its own. At home it has those that are there."""
    e, f = pair
    before = {h.name: h.json("host")["memory_files"] for h in pair}
    client.shell(address(4), CALM)  # whether it can move, not how well
    e.json(f"migrate smp4 to f {SLOW_DOWNTIME}", 60)
    assert f.json("vm info smp4")["boot_files"] == "came with it"
    assert before["f"] == 0 and f.json("host")["memory_files"] >= before["e"]
    said = f.json("vm console smp4")["console_bytes"]
    client.shell(address(4), "(sleep 0.2; reboot -f) >/dev/null 2>&1 &")
    client.until(lambda: f.json("vm console smp4")["console_bytes"] > said + 2000, 60, "boot")
    client.wait_port(address(4), client.SMP, 60)
    assert client.shell(address(4), "nproc").strip() == "4"
    check(4, 20)
    client.shell(address(4), CALM)
    f.json(f"migrate smp4 to e {SLOW_DOWNTIME}", 60)
    assert e.json("vm info smp4")["boot_files"] == "of this host"
    assert {h.name: h.json("host")["memory_files"] for h in pair} == before
    e.json("vm kill smp4")


def test_guest_in_xapic_mode(pair):
    """It leaves x2APIC mode, and its local APICs answer in memory: all CPUs start, interrupt each other, and move."""
    e, f = pair
    start(e, 3)
    client.wait_port(address(3), client.SMP, 10)
    assert client.shell(address(3), "nproc").strip() == "3" and "x2apic" not in client.shell(address(3), "cat /proc/cpuinfo")
    check(3)
    for here, there in (pair, pair[::-1]):
        here.json(f"migrate smp3 to {there.name} {SLOW_DOWNTIME}", 60)
        check(3, 20)
    e.json("vm kill smp3")


def test_only_who_dirties_is_slowed(pair):
    """One CPU of four dirties more than the line carries, another counts: that one keeps its speed, and all is well in the guest."""
    e, f = pair
    start(e, 4)
    client.shell(address(4), f"{CALM}; (taskset -c 1 dirty 0 16 >/dev/null 2>&1 &)")
    client.shell(address(4), "taskset -c 2 sh -c 'while :; do :; done' >/dev/null 2>&1 & echo $! >/tmp/counts")
    slowed = []
    e.json("migrate smp4 to f --strategy throttle --max-downtime 100 --limit 12M --detach")
    def over():
        s = e.json("migrate status")["migrations"][0]
        slowed.extend([s["speeds"]] if s["speeds"] else [])
        return s if s["over"] else None
    s = client.until(over, 120, "end of the migration")
    print(f"{s['passes']} passes, {s['total_ms']} ms, down {s['downtime_us']} us, speeds {slowed}")
    assert s["phase"] == "done", s
    speeds = [dict((int(c), int(p.strip('<%'))) for c, p in (w.split(":") for w in one.split())) for one in slowed]
    assert any(s.get(1, 100) < 50 for s in speeds), slowed
    assert not any(s.get(2, 100) < 80 for s in speeds), slowed
    client.shell(address(4), "killall dirty; kill $(cat /tmp/counts)")
    assert "stall" not in client.shell(address(4), "dmesg")
    f.json(f"migrate smp4 to e {SLOW_DOWNTIME}", 60)
    e.json("vm kill smp4")


@pytest.mark.long
def test_fifty_moves_under_stress(pair):
    """None leaves a page behind."""
    start(pair[0], 4)
    client.wait_port(address(4), client.SMP, 10)
    moves(pair, 2)
    free = [h.memory() for h in pair]
    moves(pair, 50)
    check_leaks(pair, free)
    pair[0].json("vm kill smp4")


@pytest.mark.long
@pytest.mark.parametrize("n", [2, 8])
def test_cpus_come_and_go(pair, n):
    """
    By /sys, all the time, on a host of two, and meanwhile the one with 8 moves there and back; the one with 2 is saved, destroyed and
    restored at random instants (test_torture.py).
    """
    e = pair[0]
    start(e, n)
    assert topology(n) == one_socket(n)
    client.shell(address(n), "(smp unplug >/dev/null 2>&1 &)")
    client.wait_port(address(n), client.SMP, 10)
    s = check(n)
    if n == 2:
        # 12 s of which it runs one: while it waits for all its CPUs (stop_machine) nothing moves, and 20 s of that are "stuck".
        assert e.json("torture smp2 80 --max-us 20000", 120)["instants"] == 2 * 80  # of each vCPU
        client.wait_port(address(n), client.SMP, 30)
    else:
        for here, there in (pair, pair[::-1]):
            assert here.json(f"migrate smp{n} to {there.name} --max-downtime 1000", 60)["phase"] == "done"
            s = check(n)
    client.until(lambda: check(n)["unplugged"] > s["unplugged"], 30, "CPU that comes back")
    e.json(f"vm kill smp{n}")


@pytest.mark.rigs("intel", "mixed")
@pytest.mark.long("mixed")
def test_two_cpus_on_slow_hosts(pair):
    """Of either vendor, on one CPU: the guest starts its second CPU, works, and moves there and back."""
    start(pair[0], 2)
    client.shell(address(2), "(smp >/dev/null 2>&1 &)")
    client.wait_port(address(2), client.SMP, 10)
    for here, there in (pair, pair[::-1]):
        assert topology(2) == one_socket(2)
        assert here.kind == there.kind or guest_tools.lscpu(address(2)).items() >= lscpu_says(2).items()
        check(2, 10)
        assert here.json(f"migrate smp2 to {there.name} {SLOW_DOWNTIME}", 90)["phase"] == "done"
        assert state_on(there, "smp2") == "running" and client.ping(address(2), 3) == 0
    check(2, 10)
    pair[0].json("vm kill smp2")


@pytest.mark.rigs("mixed")
@pytest.mark.long
def test_begins_on_amd(pair, switch):
    """All else of this rig begins on the Intel host. This guest boots on the AMD one, and its CPUs keep what they were told there."""
    where, kinds = "10.77.0.69", kinds_wanted()[::-1]
    vm = vm_conf("begun", f"tern.ip={where}/24 tern.load=none", 64, "52:54:00:77:06:69", vcpus=2, cpu="portable", kernel="small")
    g = Host("g", switch, host_conf(7, "g", vm, peer=("h", 8)), 7, kind=kinds[0])
    h = Host("h", switch, host_conf(8, "h", peer=("g", 7)), 8, kind=kinds[1])
    try:
        start_together([g, h])
        for host in (g, h):
            host.scale = host.console.scale = client.scale
        g.json("vm start begun", 30)
        client.wait_port(where, client.SHELL, 60)
        cpus = "grep -E 'vendor|model|flags|siblings' /proc/cpuinfo"
        told = client.shell(where, cpus)
        echo = client.EchoClient(where)
        echo.start()
        for here, there in ((g, h), (h, g)):
            assert here.json(f"migrate begun to {there.name} {SLOW_DOWNTIME}", 90)["phase"] == "done"
            assert client.shell(where, cpus) == told
        echo.stop().check()
        assert "2" in client.shell(where, "nproc")
    finally:
        g.remove()
        h.remove()
