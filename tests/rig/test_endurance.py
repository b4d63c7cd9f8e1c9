# SPDX-License-Identifier: BSD-2-Clause
"""
A guest that goes there and back for an hour: hundreds of moves of two busy vCPUs, encrypted, by one strategy after the other. MOVES in the
environment says how many: MOVES=1000 for a night.
"""
import os
import statistics
import time

import pytest

import client
from host import Host, start_together
from rig import host_conf, state_on, vm_conf

MOVES = int(os.environ.get("MOVES") or 300)
ADDRESS, NAME = "10.77.0.72", "goer"
STRATEGIES = ("--strategy auto", "--strategy throttle", "--strategy stop --max-passes 3")
CLOCK_MS = 10  # that a move may take from the guest's clock, or add; never more than it stood still
REPORTS = 64   # of migrations that are over, which a host keeps
KIB = 1024     # of the heap: a report's text, a connection that is just being closed
WARM = 8       # moves until buffers are as large as they get


def clock():
    """By how many ms the guest's clock differs from ours: when the answer comes it has just been read, so the least is the truest."""
    def once():
        now = client.status(ADDRESS, client.PAGECHECK)["now_us"]
        return time.monotonic() * 1000 - now / 1000
    return min(once() for _ in range(8))


def look():
    """Both programs go round and have found nothing wrong, since the guest's start."""
    first = [client.status(ADDRESS, p) for p in (client.PAGECHECK, client.SMP)]
    for s in first:
        wrong = {k: v for k, v in s.items() if k in ("errors", "stale", "behind", "lost", "stuck", "failed", "backwards", "registers") and v}
        assert not wrong, s
    return first[1]["rounds"], first[0]["passes"]


@pytest.mark.long
def test_hundreds_of_moves(switch):
    vm = vm_conf(NAME, f"tern.ip={ADDRESS}/24 tern.load=pagecheck:4:2+smp", 64, "52:54:00:77:07:02", kernel="small", vcpus=2)
    hosts = [Host("k", switch, host_conf(8, "k", vm, peer=("l", 9)), 8), Host("l", switch, host_conf(9, "l", peer=("k", 8)), 9)]
    try:
        start_together(hosts)
        hosts[0].json(f"vm start {NAME}", 30)
        for port in (client.SHELL, client.PAGECHECK, client.SMP):
            client.wait_port(ADDRESS, port, 60)
        boot = client.shell(ADDRESS, "cat /proc/sys/kernel/random/boot_id")
        free, steps, down, done = {}, [], [], look()
        began, first = time.monotonic(), clock()
        for i in range(MOVES):
            here, there = hosts[i % 2], hosts[1 - i % 2]
            before = clock()
            r = here.json(f"migrate {NAME} to {there.name} --max-downtime 1000 {STRATEGIES[i % len(STRATEGIES)]}", 120)
            assert r["phase"] == "done" and r["cipher"].startswith("TLS 1.3"), r
            assert state_on(there, NAME) == "running" and state_on(here, NAME) is None
            step, at_most = clock() - before, max(CLOCK_MS, r["downtime_us"] / 1000)
            if step > at_most:
                step = clock() - before  # a busy machine's answers may all have been late; a clock that is behind stays so
            assert abs(step) <= at_most, f"move {i + 1} has moved the guest's clock by {step:.1f} ms: {r}"
            steps.append(step)
            down.append(r["downtime_us"] / 1000)
            now = look()
            assert now[0] > done[0], f"move {i + 1}: the guest's CPUs stand still: {done}, then {now}"
            done = now
            free.setdefault((i + 1) % 2, []).append([h.memory() for h in hosts])
        took = time.monotonic() - began
        print(f"{MOVES} moves in {took:.0f} s; downtime, ms: median {statistics.median(down):.1f}, most {max(down):.1f}; clock, ms a move: "
              f"median {statistics.median(steps):+.2f}, most {max(steps, key=abs):+.2f}, in all {clock() - first:+.1f}")
        for place, rows in free.items():
            print(f"pages free and bytes of the heap, of both hosts, guest on {hosts[place].name}: {rows[:2]} {rows[WARM // 2]} ... {rows[-2:]}")
        off = [s for s in steps if abs(s) > CLOCK_MS]  # COMMIT was late: what it takes nobody can know (doc/handover.md, Guest time)
        assert len(off) <= MOVES // 50, f"the guest's clock is off by more than {CLOCK_MS} ms after {len(off)} moves: {off}"
        assert client.shell(ADDRESS, "cat /proc/sys/kernel/random/boot_id") == boot
        assert client.ping(ADDRESS, 3) == 0
        for rows in free.values():
            rows = rows[WARM // 2:]
            third = max(len(rows) // 3, 1)
            for n in range(2):  # the most that was free at the end, and at the beginning: some of it may be on its way at any moment
                early, late = (max(r[n][0] for r in part) for part in (rows[:third], rows[-third:]))
                assert late >= early, f"{hosts[n].name}: {early - late} pages are missing after {MOVES} moves"
                if MOVES >= 2 * REPORTS:
                    early, late = (min(r[n][1] for r in part) for part in (rows[REPORTS // 2:][:third], rows[-third:]))
                    assert late <= early + KIB, f"{hosts[n].name}: {late - early} bytes of the heap are missing after {MOVES} moves"
    finally:
        for h in hosts:
            h.remove()
