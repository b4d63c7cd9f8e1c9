# SPDX-License-Identifier: BSD-2-Clause
"""
Kernels of two Debian releases, this machine's and the next: what each makes of its CPUs, in lscpu's words, at home and at the other host. On a
mixed rig each begins on either host: the guest keeps the identity that it has started with, of either vendor.
"""
import pytest

import client
import guest_tools
from host import Host, start_together
from rig import SLOW_DOWNTIME, host_conf, kinds_wanted, vm_conf
from test_smp import lscpu_says

CPUS, MIB = 2 if "intel" in kinds_wanted() else 4, 192
ADDRESSES = {("k", "stock"): 81, ("k", "next"): 82, ("m", "stock"): 83, ("m", "next"): 84}


def address(home, kernel):
    return f"10.77.0.{ADDRESSES[home, kernel]}"


def vms(home):
    cpu = "portable" if len(set(kinds_wanted())) > 1 else "host"
    return [vm_conf(f"{kernel}-{home}", f"tern.ip={address(home, kernel)}/24 tern.load=none", MIB, f"52:54:00:77:08:{ADDRESSES[home, kernel]}", cpu, kernel,
                    vcpus=CPUS) for kernel in ("stock", "next")]


@pytest.fixture(scope="module")
def hosts(switch):
    first, second = kinds_wanted()
    k = Host("k", switch, host_conf(8, "k", *vms("k"), peer=("m", 9)), 8, kind=first)
    m = Host("m", switch, host_conf(9, "m", *vms("m"), peer=("k", 8)), 9, kind=second)
    client.scale = scale = max(k.scale, m.scale)
    try:
        start_together([k, m])
        for h in (k, m):
            h.scale = h.console.scale = scale
        yield {"k": (k, m), "m": (m, k)}
    finally:
        k.remove()
        m.remove()


@pytest.mark.rigs("amd", "mixed")
@pytest.mark.long
@pytest.mark.parametrize("kernel", ["stock", "next"])
@pytest.mark.parametrize("home", ["k", "m"] if "intel" in kinds_wanted() else ["k"])
def test_what_lscpu_says(hosts, home, kernel):
    here, there = hosts[home]
    vm, where = f"{kernel}-{home}", address(home, kernel)
    here.json(f"vm start {vm}", 30)
    client.wait_port(where, client.SHELL, 120)
    print(client.shell(where, "uname -r"))
    said = guest_tools.lscpu(where)
    assert said.items() >= lscpu_says(CPUS).items(), said
    assert said["Vendor ID"] == {"amd": "AuthenticAMD", "intel": "GenuineIntel"}[here.kind], said
    here.json(f"migrate {vm} to {there.name} {SLOW_DOWNTIME}", 200)
    assert guest_tools.lscpu(where) == said
    there.json(f"migrate {vm} to {here.name} {SLOW_DOWNTIME}", 200)
    assert guest_tools.lscpu(where) == said
    here.json(f"vm kill {vm}")
