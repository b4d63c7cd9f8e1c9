# SPDX-License-Identifier: BSD-2-Clause
"""Post-copy: the guest runs at its destination before all of its memory is there."""
import contextlib
import time

import pytest

import client
from console import CommandError
from rig import DEMO, state_on

REMOTE = "--strategy post-copy --max-downtime 20"


@contextlib.contextmanager
def dirty(rig):
    """It writes more than the line carries."""
    client.shell(rig.guest, "(dirty 0 24 >/dev/null 2>&1 &)")
    try:
        yield
    finally:
        client.shell(rig.guest, "killall dirty; while killall -0 dirty; do sleep 0.1; done", 20)


def until_it_runs_there(rig):
    """A move over so slow a line that what is left of it can be disturbed. Where it came from, and where it is."""
    source = rig.begin(options=f"{REMOTE} --limit 16M --max-passes 1")
    rig.wait_status(source, lambda s: s["over"] or s["phase"] == "post-copy", 60, "guest that runs there")
    return source, rig.other(source)


def test_runs_before_its_memory_has_come(rig):
    """It moves after a few passes, its client stays, and each page is the right one. Then with a line that is gone for 4 s meanwhile."""
    c = client.EchoClient(rig.guest)
    c.start()
    with dirty(rig):
        r = rig.migrate(options=REMOTE, seconds=120)
        s = rig.status(rig.where())
        print(f"{r['passes']} passes, {r['total_ms']} ms, down {r['downtime_us']} us, waits: {s['wait_histogram']}")
        assert r["strategy"] == "post-copy" and s["waits"] >= 2 and s["wait_median_us"] <= s["wait_p99_us"], (r, s)
        assert "us" in s["vcpu_0_waits"] and "vcpu_1_waits" not in s, s

        source, dest = until_it_runs_there(rig)
        assert state_on(source) == "serving" and state_on(dest) == "running", (source.vms(), dest.vms())
        with pytest.raises(CommandError, match="can never run here"):
            source.json(f"vm claim {DEMO} --force")
        with pytest.raises(CommandError, match="all of it is at"):
            source.json("host poweroff")
        rig.switch.link(dest.tap, False)
        time.sleep(4)
        assert state_on(source) == "serving" and state_on(dest) == "running"
        rig.switch.link(dest.tap, True)
        for h in (source, dest):
            s = rig.wait_status(h, lambda s: s["over"], 60, "end")
            assert s["phase"] == "done", s
        rig.gone_from(source)
    c.stop(30).check()
    rig.check_after()


def same_on_both(rig, source, **said):
    """What both hosts' reports say of what was verified."""
    reports = [rig.wait_status(h, lambda s: s["over"], 60, "end") for h in (source, rig.other(source))]
    for s in reports:
        assert s["phase"] == "done" and s["verified_pages"] > 16 << 8 and s["verified_sections"] > 10 and not s.get("error_text"), s
    for key in ("verified_pages", "verified_sections", "differed_pages"):
        assert reports[0][key] == reports[1][key], (key, reports)
    return reports[0]


def test_verified(rig):
    """--verify: each page is compared as it comes, also by a connection that is made anew. What differs is named on both hosts, and never seen."""
    with dirty(rig):
        r = rig.migrate(options=f"{REMOTE} --verify", seconds=180)
        assert r["strategy"] == "post-copy", r
        print(f"verified {r['verified_pages']} pages, {r['verified_sections']} sections, down {r['downtime_us']} us")
        assert same_on_both(rig, rig.other(rig.where()))["differed_pages"] == 0
    rig.check_pages()
    with dirty(rig):
        source = rig.begin(options=f"{REMOTE} --verify --limit 16M --max-passes 1")
        rig.wait_status(source, lambda s: s["over"] or s["phase"] == "post-copy", 60, "guest that runs there")
        rig.switch.link(rig.other(source).tap, False)
        time.sleep(4)
        rig.switch.link(rig.other(source).tap, True)
        assert same_on_both(rig, source)["differed_pages"] == 0
        rig.gone_from(source)
    rig.check_pages()
    # Zeros that are to come, where somebody has written at the destination without a word.
    client.shell(rig.guest, "(while :; do dd if=/dev/zero of=/tmp/zeros bs=1M count=24 conv=notrunc; done) >/dev/null 2>&1 & echo $! >/tmp/zeros.pid")
    time.sleep(2)
    source = rig.where()
    dest = rig.other(source)
    dest.json("failpoint P22 stall")
    rig.begin(source, f"{REMOTE} --verify --limit 16M --max-passes 1")
    client.until(lambda: dest.json("failpoint")["failpoints"][22]["hits"], 60, "first record of what was absent")
    assert dest.json(f"spoil {DEMO} absent")["frames"] > 4
    dest.json("failpoint P22 off")
    s = same_on_both(rig, source)
    print(f"spoilt: {s['differed_pages']} pages differed as they came")
    assert s["differed_pages"], s
    for h in (source, dest):
        assert "verify: memory differs in the page at" in " ".join(h.cmd("log").split()), h.name
    client.shell(rig.guest, "kill $(cat /tmp/zeros.pid); sleep 1; test $(tr -d '\\0' </tmp/zeros | wc -c) = 0; is=$?; rm /tmp/zeros; exit $is", 20)
    rig.check_after()


@pytest.mark.rigs("mixed")
def test_across_vendors_with_a_key(rig):
    """There and back, encrypted: who waits for a page is also a vCPU whose vector registers are in use."""
    client.shell(rig.guest, "(dirty 0 4 >/dev/null 2>&1 &)")
    for _ in range(2):
        r = rig.migrate(options="--strategy post-copy --max-passes 1 --max-downtime 1000", seconds=120)
        s = rig.status(rig.where())
        print(f"{r['passes']} passes, {r['total_ms']} ms, down {r['downtime_us']} us, waits: {s.get('wait_histogram')}")
        assert s["waits"] > 0 and s["cipher"].startswith("TLS 1.3"), s
    client.shell(rig.guest, "killall dirty; while killall -0 dirty; do sleep 0.1; done", 20)
    rig.check_pages()


@pytest.mark.long
def test_destination_dies(rig):
    """The VM is lost, as was said before. Its source says so, and never runs it."""
    client.shell(rig.guest, "(dirty 0 24 >/dev/null 2>&1 &)")
    source, dest = until_it_runs_there(rig)
    dest.stop()
    rig.wait_status(source, lambda s: s.get("error_text"), 60, "lost connection")
    dest.start()
    source.console.expect(rf"{DEMO} is lost: .* has restarted", 60)
    assert state_on(source) == "serving"
    with pytest.raises(CommandError, match="--force"):
        source.json(f"vm forget {DEMO}")
    source.json(f"vm forget {DEMO} --force", 30)
    assert rig.status(source)["phase"] == "failed"
