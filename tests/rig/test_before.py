# SPDX-License-Identifier: BSD-2-Clause
"""The release before this one, built from its commit (RELEASE_BEFORE): VMs move from it and to it, and run once."""
import os
import subprocess

import pytest

import client
from console import CommandError
from host import ROOT, Host, start_together
from rig import host_conf, state_on, vm_conf

GUEST = "10.77.0.59"


@pytest.fixture
def before():
    """Its image."""
    efi = os.path.join(ROOT, "build/before/BOOTX64.EFI")
    p = subprocess.run(["make", "--no-print-directory", os.path.relpath(efi, ROOT)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, timeout=900)
    assert p.returncode == 0, p.stdout[-4000:]
    return efi


def test_to_the_release_before_and_back(switch, before):
    vm = vm_conf("told", f"tern.ip={GUEST}/24 tern.load=none", 128, "52:54:00:77:00:59")
    e = Host("e", switch, host_conf(5, "e", vm, peer=("f", 6), clear=True), 5)
    f = Host("f", switch, host_conf(6, "f", vm, peer=("e", 5), clear=True), 6, efi=before)
    upgraded = e.efi
    try:
        start_together([e, f])
        with open(os.path.join(ROOT, "RELEASE_BEFORE")) as r:
            release = r.read().split()[1]
        assert f.json("host")["version"] == release and e.json("host")["version"] != release
        e.json("vm start told", 30)
        client.wait_port(GUEST, client.SHELL, 60)
        boot = client.shell(GUEST, "cat /proc/sys/kernel/random/boot_id")
        f.json("vm forget told")
        e.json("vm pause told")
        for here, there in ((e, f), (f, e)):
            assert here.json(f"migrate told to {there.address}", 60)["phase"] == "done" and state_on(there, "told") == "paused"
        e.json("vm resume told")
        for here, there, how in ((e, f, " --verify"), (f, e, " --verify"), (e, f, " --strategy post-copy"), (f, e, " --pull"), (e, f, "")):
            assert here.json(f"migrate told to {there.address}{how}", 60)["phase"] == "done"
            assert state_on(there, "told") == "running" and client.ping(GUEST, 3) == 0
            assert switch.wait_port("52:54:00:77:00:59", there.tap, 5) == there.tap
        assert client.shell(GUEST, "cat /proc/sys/kernel/random/boot_id") == boot
        # Who has it is asked across releases, too.
        e.stop()
        e.start()
        e.wait_address()
        with pytest.raises(CommandError, match="told is at f"):
            e.json("vm start told", 30)
        assert client.ping(GUEST, 3) == 0
        # To a key as doc/upgrade.md has it: e has the key, and hears f in clear; then f has the key, and at last this release.
        e.stop()
        e.conf = host_conf(5, "e", vm, peer=("f", 6)) + "[peer f]\ninsecure = incoming\n"
        e.start()
        e.wait_address()
        e.json("vm forget told")
        assert f.json(f"migrate told to {e.address}", 60)["phase"] == "done" and state_on(e, "told") == "running"
        for efi in (before, upgraded):
            f.stop()
            f.efi, f.conf = efi, host_conf(6, "f", vm, peer=("e", 5))
            f.start()
            f.wait_address()
            f.json("vm forget told")
            assert "TLS 1.3" in e.json("migrate told to f", 60)["cipher"] and state_on(f, "told") == "running"
            if efi is before:
                assert "TLS 1.3" in f.json("migrate told to e", 60)["cipher"] and state_on(e, "told") == "running"
        assert client.shell(GUEST, "cat /proc/sys/kernel/random/boot_id") == boot
    finally:
        e.remove()
        f.remove()
