# SPDX-License-Identifier: BSD-2-Clause
"""A VM whose memory takes the destination longer to clear than any one answer may take. Part of `make test-long`."""
import pytest

import client
from rig import Rig

MIB = 8192


@pytest.mark.long
def test_vm_of_8_gib(switch):
    """It arrives, however long that takes: what counts is that clearing its memory gets on."""
    r = Rig(load="none", mem=MIB, extra=False, switch=switch, host_mem=9400)
    try:
        r.start()
        report = r.migrate(seconds=900, options="--max-downtime 2000")
        assert report["pages"] + report["zero_pages"] >= (MIB << 20) // 4096, report
        assert client.ping(r.guest, 3) == 0
        print(f"total {report['total_ms']} ms, down {report['downtime_us'] / 1000:.1f} ms")
    finally:
        r.stop()
