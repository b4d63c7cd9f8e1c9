# SPDX-License-Identifier: BSD-2-Clause
"""A DHCP server on the switch: busybox's, in the client's place."""
import os
import subprocess
import tempfile

import netns
from host import die_with_parent


class Server:
    """It gives the addresses first to last, with the client as the router, until remove()."""

    def __init__(self, first, last):
        self.directory = tempfile.TemporaryDirectory()
        leases, pid, conf = (os.path.join(self.directory.name, n) for n in ("leases", "pid", "conf"))
        open(leases, "w").close()
        with open(conf, "w") as f:
            f.write(f"start {first}\nend {last}\ninterface {netns.BRIDGE}\noption subnet 255.255.255.0\n"
                    f"option router {netns.CLIENT_ADDRESS}\nlease_file {leases}\npidfile {pid}\n")
        self.proc = subprocess.Popen(["busybox", "udhcpd", "-f", conf], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                     preexec_fn=die_with_parent)

    def remove(self):
        self.proc.kill()
        self.proc.wait(5)
        self.directory.cleanup()
