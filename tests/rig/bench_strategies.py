# SPDX-License-Identifier: BSD-2-Clause
"""
What each strategy makes of a guest that writes: its downtime, how long the move takes and what it sends, how much of its work the guest gets
done meanwhile, and what its client sees. Beside it what Linux, KVM and QEMU do on the same emulated hosts, where that was measured.
"""
import statistics
import time

import client
from figures import figure, say

MIB, SET = 1 << 20, 64  # the guest writes to so many MiB, round and round
NO_TARGET = 1e9
# Measured on such a rig: two hosts of Linux 6.1, KVM and QEMU, a guest of 256 MiB.
PEER = {"idle": "70 to 200 ms down, 1.9 to 4.9 s, 95 to 97 MB", "16 MiB/s": "152 to 201 ms, 3.6 to 5.0 s, 178 to 215 MB",
        "64 MiB/s": "108 to 300 ms, 7.0 to 11.6 s, 230 to 466 MB", "64 MiB/s post-copy": "5 to 31 ms, then stalls of up to 2 s, 3.9 to 10.3 s, 204 to 212 MB",
        "256 MiB/s": "146 ms, 209 MB"}
PACED = [("idle", 0), ("16 MiB/s", 16), ("64 MiB/s", 64), ("256 MiB/s", 256)]
WILD = ("throttle", "stop", "post-copy")


def written(rig):
    return client.status(rig.guest, client.DIRTY, 20)["written_mib"], time.monotonic()


def busy(rig, rate, size=SET, work=0):
    client.shell(rig.guest, f"(dirty {rate} {size} {work} >/dev/null 2>&1 &)")
    client.wait_port(rig.guest, client.DIRTY, 10)
    time.sleep(1)


def calm(rig):
    client.shell(rig.guest, "killall dirty; while killall -0 dirty; do sleep 0.1; done", 30)


def measure(rig, load, strategy, writes, quiet=None):
    """There and back; quiet: MiB a second that it writes when nothing moves."""
    down, total, sent, work, gaps = [], [], [], [], []
    for _ in range(2):
        echo = client.EchoClient(rig.guest)
        echo.start()
        before = written(rig) if writes else None
        r = rig.migrate(options=f"--strategy {strategy} --max-downtime 300", seconds=180)
        source = rig.other(rig.where())
        rig.wait_status(source, lambda s: s["over"], 60, "end")
        if writes:
            after = written(rig)
            work.append((after[0] - before[0]) / (after[1] - before[1]) / (quiet or 1))
        gaps.append(echo.longest * 1000)
        echo.stop(30).check()
        down.append(r["downtime_us"] / 1000)
        total.append(r["total_ms"] / 1000)
        sent.append(r["bytes"] / 1e6)
    d, t, b, g = (statistics.mean(x) for x in (down, total, sent, gaps))
    done = f", {100 * statistics.mean(work):.0f} % of its work" if work else ""
    there = PEER.get(f"{load} {strategy}", PEER.get(load, "") if strategy == "auto" else "")
    figure(f"downtime, {load}, {strategy}", d, NO_TARGET, "ms", digits=1,
           note=f"no target; {t:.1f} s, {b:.0f} MB, client's longest gap {g:.0f} ms{done}" + f"; KVM there: {there}" * bool(there))


def strategies(rig):
    for load, rate in PACED:
        if rate:
            busy(rig, rate)
        for strategy in ("auto", "post-copy"):
            say(f"{load}, {strategy} ...")
            measure(rig, load, strategy, bool(rate), rate)
        if rate:
            calm(rig)
    busy(rig, 0)
    quiet = speed(rig)
    for strategy in WILD:
        say(f"all it can, {strategy} ...")
        measure(rig, f"all it can ({quiet:.0f} MiB/s)", strategy, True, quiet)
    calm(rig)


def speed(rig, seconds=3):
    """MiB a second that the guest writes now."""
    a = written(rig)
    time.sleep(seconds)
    b = written(rig)
    return (b[0] - a[0]) / (b[1] - a[1])


def stun(rig):
    """
    A guest that is slowed may write as much as lets what is left shrink: of what the line carries, how much of that does it get? It writes
    more than that by its CPU's speed, and to no page twice in a pass.
    """
    limit, parts, work = 24, [], 10000
    busy(rig, 0, 128, work)
    work = int(work * speed(rig) / (4 * limit))
    calm(rig)
    busy(rig, 0, 128, work)
    quiet = speed(rig)
    for _ in range(2):
        source = rig.begin(options=f"--strategy throttle --max-downtime 60 --limit {limit}M")
        rig.wait_status(source, lambda s: s["over"] or s["speeds"], 60, "slowed guest")
        first = last = written(rig)
        while not (s := rig.status(source))["over"] and s["phase"] == "copying":
            last = written(rig)
            time.sleep(0.2)
        if last[1] > first[1]:
            parts.append((last[0] - first[0]) / (last[1] - first[1]) / limit)
        rig.wait_status(source, lambda s: s["over"], 120, "end")
        rig.gone_from(source)
    calm(rig)
    figure("what a slowed guest writes / what the line carries", statistics.mean(parts) if parts else 0, 0.8, "", at_least=True,
           note=f"{limit} MiB/s, {quiet:.0f} at full speed; it may 0.85 of the line, so that what is left shrinks; two moves: {', '.join(f'{p:.2f}' for p in parts)}")
