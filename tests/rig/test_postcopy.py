# SPDX-License-Identifier: BSD-2-Clause
"""Post-copy: the guest runs at its destination before all of its memory is there."""
import client
from rig import DEMO


def test_runs_before_its_memory_has_come(rig):
    """A guest that dirties more than the line carries: it moves after two passes, its clients stay, and each page is the right one."""
    client.shell(rig.guest, "(dirty 0 24 >/dev/null 2>&1 &)")
    c = client.EchoClient(rig.guest)
    c.start()
    try:
        source = rig.where()
        dest = rig.other(source)
        r = rig.migrate(options="--strategy post-copy --max-downtime 20 --limit 16M", seconds=120)
        print(f"{r['passes']} passes, {r['total_ms']} ms, down {r['downtime_us']} us")
        s = rig.status(dest)
        print(s)
        assert r["strategy"] == "post-copy" and s["waits"] > 0, (r, s)
    finally:
        client.shell(rig.guest, "killall dirty; while killall -0 dirty; do sleep 0.1; done", 20)
    c.stop().check()
    rig.check_after()
