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
