# SPDX-License-Identifier: BSD-2-Clause
"""
A storage server: tgt, Linux' iSCSI target in user space, at the client's place in the network (10.77.0.1), with its state in a directory of
its own, so that several run side by side. It knows reservations, and forgets them when it ends.
"""
import os
import signal
import subprocess
import tempfile
import time

import client
from netns import CLIENT_ADDRESS

NAME = "iqn.2026-11.invalid.rig:disks"
CONTROL = "7"


class Target:
    """units: MiB of each, as lun 1, 2, ... of one target. user, secret: CHAP."""

    def __init__(self, units, user="", secret="", port=3260):
        self.units, self.user, self.secret, self.port = units, user, secret, port
        self.dir = tempfile.TemporaryDirectory(prefix="tgt-")
        self.proc = None
        for n, mib in enumerate(units, 1):
            with open(self.path(n), "wb") as f:
                f.truncate(mib << 20)

    def path(self, n):
        return os.path.join(self.dir.name, f"unit{n}")

    def where(self, n):
        """The value of `iscsi` in a [disk]."""
        return f"{NAME} at {CLIENT_ADDRESS}:{self.port} lun {n}"

    def env(self):
        return dict(os.environ, TGT_IPC_SOCKET=os.path.join(self.dir.name, "sock"))

    def admin(self, mode, op, **options):
        words = [w for k, v in options.items() for w in (f"--{k.replace('_', '-')}", str(v))]
        return subprocess.run(["tgtadm", "-C", CONTROL, "--lld", "iscsi", "--mode", mode, "--op", op, *words], env=self.env(), check=True,
                              timeout=10, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout

    def start(self):
        with open(os.path.join(self.dir.name, "log"), "ab") as log:
            self.proc = subprocess.Popen(["tgtd", "-f", "-C", CONTROL, "--iscsi", f"portal={CLIENT_ADDRESS}:{self.port}"], env=self.env(),
                                         stdout=log, stderr=log)

        def answers():
            assert self.proc.poll() is None, f"tgtd has ended: {self.log()}"
            try:
                return self.admin("system", "show") or True
            except subprocess.CalledProcessError:
                return None
        client.until(answers, 10, "answer of tgtd")
        self.admin("target", "new", tid=1, targetname=NAME)
        for n in range(1, len(self.units) + 1):
            self.admin("logicalunit", "new", tid=1, lun=n, backing_store=self.path(n))
        for digest in ("HeaderDigest", "DataDigest"):
            self.admin("target", "update", tid=1, name=digest, value="CRC32C")
        if self.user:
            self.admin("account", "new", user=self.user, password=self.secret)
            self.admin("account", "bind", tid=1, user=self.user)
        self.admin("target", "bind", tid=1, initiator_address="ALL")

    def log(self):
        with open(os.path.join(self.dir.name, "log"), errors="replace") as f:
            return f.read()[-2000:]

    def kill(self):
        """As its power goes: what it was told in its last moment may be lost, what it has answered is not."""
        if self.proc:
            self.proc.kill()
            self.proc.wait(10)
        self.proc = None

    def away(self, seconds):
        """Gone for a time, and back without its reservations."""
        self.kill()
        time.sleep(seconds)
        self.start()

    def hang(self, on):
        """It neither answers nor ends."""
        os.kill(self.proc.pid, signal.SIGSTOP if on else signal.SIGCONT)

    def remove(self):
        self.kill()
        self.dir.cleanup()
