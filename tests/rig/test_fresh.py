# SPDX-License-Identifier: BSD-2-Clause
"""tools/fresh.sh, with a root of busybox alone: what is in it; what it starts ends with it, whatever ends it, and it leaves no mount."""
import os
import signal
import subprocess
import time

import pytest

from host import ROOT

FRESH = os.path.join(ROOT, "tools/fresh.sh")
LONG = "4321"  # seconds that nothing here may last


DEBOOTSTRAP = """#!/bin/sh -e
echo "$@" >"$4.args"
mkdir -p "$4/bin" "$4/usr/bin" "$4/etc/apt/apt.conf.d" "$4/proc" "$4/sys" "$4/dev"
cp /bin/busybox "$4/bin"
for link in bin/sh bin/sleep bin/cat usr/bin/env; do ln -s /bin/busybox "$4/$link"; done
"""


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """The name of a system that is made by fresh.sh with another debootstrap."""
    name = f"busybox-{os.getpid()}"
    tools = tmp_path_factory.mktemp("tools")
    (tools / "debootstrap").write_text(DEBOOTSTRAP)
    (tools / "debootstrap").chmod(0o755)
    subprocess.run([FRESH, "root", name, "300"], check=True, timeout=300, env=dict(os.environ, PATH=f"{tools}:{os.environ['PATH']}"))
    yield name
    os.unlink(os.path.join(ROOT, "build/fresh", f"{name}.args"))
    subprocess.run([FRESH, "remove", name], check=True, timeout=60)
    assert not [f for f in os.listdir(os.path.join(ROOT, "build/fresh")) if f.startswith(name)]


def asleep(root):
    """Processes below `root` that sleep for long."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/root").endswith(root):
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    found += [pid] if LONG.encode() in f.read().split(b"\0") else []
        except OSError:
            pass  # it is gone
    return found


def wait_asleep(root, count):
    end = time.monotonic() + 60
    while len(asleep(root)) != count:
        assert time.monotonic() < end, f"{asleep(root)} sleep in {root}, must be {count}"
        time.sleep(0.1)


def no_mounts(root):
    with open("/proc/mounts") as f:
        return not [line for line in f if root in line]


def test_root(release):
    """It is made from the machine's own mirror, has all of that mirror's suites, and the last commit with nothing built."""
    root = os.path.join(ROOT, "build/fresh", release)
    with open(root + ".args") as f:
        options, name, where, site = f.read().rsplit(None, 3)
    assert "--variant=minbase" in options and (name, where) == (release, root)
    p = subprocess.run([FRESH, "in", release, "cat", "/etc/apt/sources.list"], stdout=subprocess.PIPE, text=True, timeout=120)
    assert f"deb {site} {release} main" in p.stdout.splitlines()
    assert all(line.split()[2].startswith(release) for line in p.stdout.splitlines())
    head = subprocess.run(["git", "-C", ROOT, "ls-tree", "--name-only", "HEAD"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    assert sorted(os.listdir(os.path.join(root, "tern"))) == sorted(head + [".git"])


def test_command(release):
    p = subprocess.run([FRESH, "in", release, "60", "sh", "-c", "echo $RIG from $PWD; exit 7"], stdout=subprocess.PIPE, text=True,
                       env=dict(os.environ, RIG="mixed"), timeout=120)
    assert (p.stdout, p.returncode) == ("mixed from /tern\n", 7)
    assert no_mounts(release)


def test_limit(release):
    p = subprocess.run([FRESH, "in", release, "1", "sh", "-c", f"sleep {LONG} & sleep {LONG}"], timeout=120)
    assert p.returncode
    wait_asleep(release, 0)
    assert no_mounts(release)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_ended(release, end):
    """By a signal to the one process that was started here."""
    p = subprocess.Popen([FRESH, "in", release, "600", "sh", "-c", f"sleep {LONG} & sleep {LONG}"],
                         preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # a background job's is ignored
    try:
        wait_asleep(release, 2)
        assert no_mounts(release)
    finally:
        p.send_signal(end)
    assert p.wait(60)
    wait_asleep(release, 0)
    assert no_mounts(release)
