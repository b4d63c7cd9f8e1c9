# SPDX-License-Identifier: BSD-2-Clause
"""
Two hosts, a switch between them, and the guest `demo` that moves: what the tests, `make run`, `make shell` and `make bench` share.

    a  10.77.0.11  virtio-net          [vm demo]  10.77.0.50  the guest; starts on a
    b  10.77.0.12  e1000 or virtio-net [vm twin]  on both     a name that is in use at the other host
                                       [vm filler] on both    takes memory away
                                       [vm native-a], [vm native-b]  cpu = host, each on its own host; mixed rigs only

What the hosts are is said by RIG in the environment: amd (two QEMUs; the default), intel (two Bochs) or mixed (a is Intel).
"""
import os
import re
import time

import client
import netns
from console import CommandError
from emulator import KINDS
from host import Host, RIG

DEMO, DEMO_ADDRESS, DEMO_MAC, DEMO_MIB = "demo", "10.77.0.50", "52:54:00:77:00:01", 256
TWIN_ADDRESS = "10.77.0.51"
DISK_MIB = 32

# An emulated Intel host moves 5 MB/s and runs at 50 MIPS: what its guest has and does is less by that, and so is its kernel.
# SLOW_DOWNTIME is also for tests that ask whether a guest can move, and not how well: the machine may have much else to do.
SLOW_LOAD, SLOW_MIB, SLOW_DOWNTIME = "pagecheck:2:1", 64, "--max-downtime 1000"
# Debian's, the same as an ELF file (pvh.py), the one of tests/guest/small.config, and that of Debian's next release
KERNELS = {"stock": "vmlinuz", "pvh": "vmlinux", "small": "vmlinuz-small", "next": "vmlinuz-next"}
# XSAVEC of Bochs 2.7 puts what follows the SSE registers over the XSAVE header: Linux would lose registers at each switch of tasks.
BOCHS_CMDLINE = "clearcpuid=xsavec"
RIGS = {"amd": ("amd", "amd"), "intel": ("intel", "intel"), "mixed": ("intel", "amd")}

HOST_CONF = """\
[host]
name = {name}

[nic lan]
match = first
address = {address}/24
gateway = 10.77.0.1
"""
PEER_CONF = """
[peer {name}]
address = {address}
{secret}
"""
KEY = os.urandom(32).hex()  # of all hosts of this process
VM_CONF = """
[vm {name}]
kernel = {kernel}
initrd = {initrd}
cmdline = console=ttyS0 {cmdline}
mem = {mem}
vcpus = {vcpus}
mac = {mac}
cpu = {cpu}
autostart = {autostart}
"""


def vm_conf(name, cmdline, mem, mac, cpu="host", kernel="stock", autostart="no", vcpus=1):
    if "intel" in kinds_wanted():
        cmdline = f"{BOCHS_CMDLINE} {cmdline}"
    initrd = "initrd-next.img" if kernel == "next" else "initrd.img"
    return VM_CONF.format(name=name, kernel=KERNELS[kernel], initrd=initrd, cmdline=cmdline, mem=f"{mem}M", mac=mac, cpu=cpu, autostart=autostart,
                          vcpus=vcpus)


def demo_conf(load, mem=DEMO_MIB, cpu="host", kernel="stock"):
    return vm_conf(DEMO, f"tern.ip={DEMO_ADDRESS}/24 tern.gw=10.77.0.1 tern.load={load}", mem, DEMO_MAC, cpu, kernel, "yes")


def host_conf(number, name, *vms, peer=None, clear=False):
    """
    peer: its name and number; without it a's is b, b's is a, and others have none: a host waits for each peer before it starts a VM. clear:
    they speak without a key.
    """
    peer = peer or {1: ("b", 2), 2: ("a", 1)}.get(number)
    peers = PEER_CONF.format(name=peer[0], address=f"10.77.0.{10 + peer[1]}", secret="insecure = yes" if clear else f"key = {KEY}") if peer else ""
    return HOST_CONF.format(name=name, address=f"10.77.0.{10 + number}") + peers + "".join(vms)


def kinds_wanted():
    """The kinds of hosts a and b that RIG in the environment asks for."""
    name = os.environ.get("RIG") or "amd"
    if name not in RIGS:
        raise netns.RigError(f"RIG={name}: there are {', '.join(RIGS)}")
    return RIGS[name]


class Rig:
    """
    All times to wait are those of the fastest kind of host, multiplied by .scale: the slower one's. relay: names of hosts that get a bad
    line (host.py); it begins as a good one.
    """

    def __init__(self, nics=("virtio-net", "virtio-net"), load="pagecheck:8:8", mem=DEMO_MIB, extra=True, kinds=None, switch=None, cpu=None,
                 kernel=None, relay=(), host_mem=1024, clear=False, disk=False):
        os.makedirs(RIG, exist_ok=True)
        self.switch = switch or netns.Switch()
        kinds = kinds or kinds_wanted()
        slow = any(KINDS[k].scale > 1 for k in kinds)
        kernel = kernel or ("small" if slow else "stock")
        if slow:
            load, mem = SLOW_LOAD if load.startswith("pagecheck") else load, min(mem, SLOW_MIB)
        cpu = cpu or ("host" if len(set(kinds)) == 1 else "portable")
        twin = vm_conf("twin", f"tern.ip={TWIN_ADDRESS}/24", 128, "52:54:00:77:00:02", cpu, kernel)
        filler = vm_conf("filler", "tern.load=none", 800, "52:54:00:77:00:03", cpu, kernel)
        extras = (twin, filler) if extra else ()
        native = [vm_conf(f"native-{n}", "tern.load=none", 128, f"52:54:00:77:01:0{i}", "host", kernel)
                  if extra and len(set(kinds)) > 1 else "" for i, n in enumerate("ab")]
        demo = demo_conf(load, mem, cpu, kernel) + (f"disk = data\n\n[disk data]\nmemory = {DISK_MIB}M\n" if disk else "")
        self.fresh_conf = host_conf(1, "a", demo, *extras, native[0], clear=clear)
        self.a = Host("a", self.switch, self.fresh_conf, 1, nics[0], kind=kinds[0], relay="a" in relay, mem=host_mem)
        self.b = Host("b", self.switch, host_conf(2, "b", *extras, native[1], clear=clear), 2, nics[1], kind=kinds[1], relay="b" in relay, mem=host_mem)
        self.hosts = (self.a, self.b)
        self.kinds = kinds
        self.scale = client.scale = max(h.scale for h in self.hosts)
        self.patience = SLOW_DOWNTIME if self.scale > 1 else ""
        self.guest, self.load = DEMO_ADDRESS, load
        self.base = {}   # (host's name, is demo there): its memory, as Host.memory says

    def start(self, guest=True):
        """Both hosts at their prompts, and the guest up."""
        self.a.conf = self.fresh_conf
        try:
            for h in self.hosts:
                h.launch()
            for h in self.hosts:
                h.console.wait_prompt(60, 0)
            for h in self.hosts:  # a command to the fast one may wait for the slow one
                h.scale = h.console.scale = self.scale
            if guest:
                for h in self.hosts:
                    h.wait_address()
                self.wait_guest(self.a)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self):
        for h in self.hosts:
            h.remove()

    def wait_guest(self, host, seconds=60):
        host.wait_guest_says(DEMO, r"guest ready", seconds)
        client.wait_ping(self.guest, 10)
        client.wait_port(self.guest, client.SHELL, 10)
        if self.load.startswith("pagecheck"):
            client.wait_port(self.guest, client.PAGECHECK, 10)

    def options(self, given=""):
        """The options of a migration that is to work on these hosts."""
        return given if "--max-downtime" in given else f"{given} {self.patience}".strip()

    def other(self, host):
        return self.b if host is self.a else self.a

    def where(self):
        """The one host that runs the guest."""
        found = [h for h in self.hosts if h.vms().get(DEMO, {}).get("state") == "running"]
        assert len(found) == 1, f"{DEMO} runs on {[h.name for h in found] or 'no host'}, must be exactly one"
        return found[0]

    def gone_from(self, host, seconds=20):
        """The destination of a failed attempt, or the source of a good one, must soon know nothing of the guest."""
        end = time.monotonic() + seconds * self.scale
        while DEMO in host.vms():
            assert time.monotonic() < end, f"{host.name} still has {DEMO}: {host.vms()[DEMO]}"
            time.sleep(0.1)

    def migrate(self, source=None, options="", seconds=90):
        """Move the guest to the other host, by that host's address; the report. It must work."""
        source = source or self.where()
        dest = self.other(source)
        r = source.json(f"migrate {DEMO} to {dest.address} {self.options(options)}", seconds)
        assert r["phase"] == "done", r
        self.gone_from(source)
        assert self.where() is dest
        return r

    def migrate_fails(self, source=None, to=None, options="", seconds=60):
        """A migration that must fail, with the guest running on at the source; the error."""
        source = source or self.where()
        dest = self.other(source)
        try:
            r = source.json(f"migrate {DEMO} to {to or dest.address} {self.options(options)}", seconds)
        except CommandError as e:
            assert e.text and e.code, str(e)
            assert state_on(source) == "running", f"{DEMO} is {state_on(source)} at the source after: {e}"
            return e
        raise AssertionError(f"the migration should have failed, but: {r}")

    def begin(self, source=None, options=""):
        """Start a migration and return at once."""
        source = source or self.where()
        source.json(f"migrate {DEMO} to {self.other(source).address} --detach {self.options(options)}")
        return source

    def status(self, source):
        """The newest migration on a host."""
        return source.json("migrate status")["migrations"][0]

    def wait_status(self, source, done, seconds, what):
        end = time.monotonic() + seconds * self.scale
        while True:
            s = self.status(source)
            if done(s):
                return s
            assert time.monotonic() < end, f"no {what} within {seconds} s: {s}"
            time.sleep(0.05)

    def wait_pass(self, source, seconds=20):
        """Until memory is on its way."""
        s = self.wait_status(source, lambda s: s["over"] or (s["phase"] == "copying" and s["bytes"] > 4 << 20), seconds, "pass")
        assert not s["over"], f"the migration was over before it could be disturbed: {s}"
        return s

    def check_pages(self, seconds=10):
        """pagecheck must have gone over all pages at least once since now, and found no error."""
        first = client.status(self.guest, client.PAGECHECK)
        end = time.monotonic() + seconds * self.scale
        while True:
            s = client.status(self.guest, client.PAGECHECK)
            assert s["errors"] == 0, f"the page checker found lost or stale pages: {s}"
            assert s["backwards"] == 0, f"a clock of the guest went backwards: {s}"
            assert s["registers"] == 0, f"a process of the guest lost its vector registers: {s}"
            if s["passes"] >= first["passes"] + 2:
                return s
            assert time.monotonic() < end, f"the page checker stands still: {first}, then {s}"
            time.sleep(0.2)

    def settle(self):
        """Take what is free at this moment as what it must come back to; for both places of the guest."""
        for _ in range(2):
            self.migrate()
            self.base.update({(h.name, DEMO in h.vms()): h.memory() for h in self.hosts})

    def check_free(self, seconds=10):
        end = time.monotonic() + seconds * self.scale
        while True:
            places = {h: (h.name, DEMO in h.vms()) for h in self.hosts}
            lost = {k: h.lost(self.base[k]) for h, k in places.items() if k in self.base}
            if not any(lost.values()):
                return
            assert time.monotonic() < end, f"not given back (host, guest there: pages, bytes of the heap): {lost}"
            time.sleep(0.2)

    def check_after(self, again=True):
        """What must hold after whatever happened: memory intact, guest answering, nothing leaked, and it can move again."""
        here = self.where()
        self.gone_from(self.other(here))
        if not again:  # else the look after that move counts all errors since the guest's start
            self.check_pages()
        assert client.ping(self.guest, 3) == 0, "the guest does not answer every ping"
        self.check_free()
        if again:
            self.migrate(here, "--max-downtime 1000")  # whether it can, not how well, on a machine with other work to do
            self.check_pages()
            self.check_free()

    def restart(self, host):
        """After a crash: power off and on again, without the guest, which runs elsewhere."""
        host.stop()
        host.conf = re.sub(rf"\n\[vm {DEMO}\]\n(?:[^\[\n].*\n)*", "", host.conf)
        host.start()
        host.wait_address()

    def show_failure(self):
        """What the consoles showed last, for a failed test."""
        return "\n".join(h.console.tail(4000) for h in self.hosts if h.console)


def state_on(host, vm=DEMO):
    return host.vms().get(vm, {}).get("state")
