# SPDX-License-Identifier: BSD-2-Clause
"""One host of the rig: an emulator's process that boots tern from an EFI system partition made for it."""
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import netns
from console import Console
from emulator import KINDS
from relay import Relay

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("TERN_BUILD", "build"))
RIG = os.path.join(ROOT, "build", "rig")
LOG = os.environ.get("RIG_LOG", "")  # before the names of hosts' logs: of sessions that run side by side
SLACK_PAGES = 32  # 8 each for the consoles of two VMs that ran here and are off, and what the network's buffers may keep
SLACK_HEAP = 128 << 10  # bytes: the last 64 migrations, at 1.5 KiB, and the newest attempt of each VM
GUEST = os.path.join(ROOT, "build", "guest")
LINUX = ("vmlinuz", "vmlinuz-small", "vmlinuz-next", "vmlinux", "initrd.img", "initrd-next.img")  # unless a test wants others; on the boot volume are those that conf names


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def start_together(hosts):
    """Switch them on at once; each is at its prompt and uses its address then."""
    for h in hosts:
        h.launch()
    for h in hosts:
        h.console.wait_prompt(60, 0)
        h.wait_address()


def command_name(proc):
    return os.path.basename(proc.args[0])


class Host:
    """
    conf: the text of tern.conf. start() boots it and returns at the prompt; stop() ends the process, like a power cut. kind: "amd" or
    "intel" (emulator.py). All seconds given here are those of the fastest kind; a slower one's .scale makes them longer.

    relay: a bad line, .relay (relay.py), lies between .cable, what the emulator has, and .tap, the switch's port, from the first start
    to remove(). Without it these are one device.

    cards: how many, of which those after the first have taps and MACs of their own (.taps, .macs), and cables that link() pulls; AMD hosts
    alone. With more than one, no offload passes a cable: what is on the wire can be looked at.
    queues: pairs of them that an AMD host's card has.
    volume: paths of further files for the boot volume.
    """

    def __init__(self, name, switch, conf, number, nic="virtio-net", cpus=None, mem=1024, icount=False, files=LINUX, efi=None, kind="amd",
                 model=None, relay=False, cards=1, queues=1, volume=()):
        self.name, self.switch, self.conf, self.number = name, switch, conf, number
        self.machine = KINDS[kind](self)
        self.model = model  # of an Intel host's CPU; None: the machine's default
        self.kind, self.scale = kind, self.machine.scale
        self.nic = nic if nic in self.machine.nics else next(iter(self.machine.nics))
        self.cpus, self.mem, self.icount, self.files, self.volume = cpus or self.machine.cpus, mem, icount, files, list(volume)
        self.efi = efi or os.path.join(BUILD, "BOOTX64.EFI")
        self.tap = f"tap-{name}"
        self.has_relay, self.relay = relay, None
        self.cable = f"cable-{name}" if relay else self.tap
        self.address = f"10.77.0.{10 + number}"
        self.taps = [self.tap] + [f"tap-{name}{i}" for i in range(1, cards)]
        self.queues = queues if kind == "amd" else 1
        self.macs = [f"52:54:00:00:{i:02x}:{number:02x}" for i in range(cards)]
        self.mac = self.macs[0]
        self.work = os.path.join(RIG, f"{os.getpid()}-{name}")
        self.socket = os.path.join(self.work, "console.sock")
        self.log = os.path.join(RIG, f"{LOG}{name}.log")
        self.proc = self.console = None

    def prepare(self):
        os.makedirs(self.work, exist_ok=True)
        conf = os.path.join(self.work, "tern.conf")
        with open(conf, "w") as f:
            f.write(self.conf)
        self.esp = os.path.join(self.work, "esp.img")
        files = [os.path.join(GUEST, f) for f in self.files or () if f" = {f}\n" in self.conf] + self.volume
        for f in [self.efi] + files:
            if not os.path.exists(f):
                raise netns.RigError(f"{f} is not there: run `make` first" + "".join(f" and `make guest-{x}`" for x in ("small", "next") if f"-{x}" in f))
        p = subprocess.run([os.path.join(ROOT, "tools/mkesp.sh"), self.esp, conf] + files, env=dict(os.environ, EFI=self.efi),
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        if p.returncode:
            raise netns.RigError(f"mkesp.sh: {p.stdout}")

    def start(self, seconds=60):
        self.launch()
        try:
            self.console.wait_prompt(seconds, 0)
        except BaseException:
            self.stop()
            raise
        return self

    def connect(self):
        for tap in self.taps[1:]:
            self.switch.plug(tap, False)
        if not self.has_relay:
            self.switch.plug(self.tap, self.machine.tap_has_header and len(self.taps) == 1, self.queues)
        elif not self.relay:
            self.switch.plug_relay(self.tap, self.cable)
            self.relay = Relay(self.cable, f"tap:{self.tap}")

    def launch(self):
        """Switch it on, and do not wait."""
        self.connect()
        self.prepare()
        if os.path.exists(self.socket):
            os.unlink(self.socket)
        command = self.machine.command()
        self.errors = open(os.path.join(self.work, self.machine.said), "wb")
        self.proc = subprocess.Popen(command, cwd=self.work, stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors,
                                     env=self.machine.environment(), preexec_fn=die_with_parent)
        with open(self.log, "ab") as f:
            f.write(f"\n==== {self.name}: power on, process {self.proc.pid} ====\n".encode())
        try:
            self.machine.started()
            self.console = Console(self.socket, re.search(r"^name = (\S+)", self.conf, re.M)[1], self.log, self.dead, self.scale)
        except BaseException:
            self.stop()
            raise

    def log_fresh(self):
        open(self.log, "wb").close()

    def dead(self):
        """None while it runs, else what became of it."""
        if self.proc is None:
            return "it is switched off"
        code = self.proc.poll()
        if code is None:
            return None
        said = ""
        for name in (self.machine.said, "bochs.log"):
            path = os.path.join(self.work, name)
            if os.path.exists(path):
                with open(path, errors="replace") as f:
                    said += f.read()[-1000:]
        return f"{command_name(self.proc)} ended with {code}: {said}"

    def stop(self):
        """A power cut."""
        if self.console:
            self.console.close()
            self.console = None
        if self.proc:
            if self.proc.poll() is None:
                self.proc.kill()
            self.proc.wait(10)
            self.machine.stopped()
            self.proc = None
            self.errors.close()

    def wait_off(self, seconds):
        """After `poweroff`: the machine goes off by itself. True if it did."""
        try:
            self.proc.wait(seconds * self.scale)
            return True
        except subprocess.TimeoutExpired:
            return False

    def remove(self):
        self.stop()
        if self.relay:
            self.relay.stop()
            self.relay = None
        shutil.rmtree(self.work, ignore_errors=True)

    def link(self, card, up):
        """The card's cable, as the card sees it (QMP set_link)."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(os.path.join(self.work, "qmp.sock"))
            answers = s.makefile()
            answers.readline()  # its greeting
            for command in ({"execute": "qmp_capabilities"}, {"execute": "set_link", "arguments": {"name": f"n{card}", "up": up}}):
                s.sendall(json.dumps(command).encode())
                while "event" in (answer := json.loads(answers.readline())):
                    pass
                assert "return" in answer, answer

    # What an operator asks a host.
    def cmd(self, line, seconds=10):
        return self.console.cmd(line, seconds)

    def json(self, line, seconds=10):
        return self.console.json(line, seconds)

    def vms(self):
        """Those that are here; `vm list` also has those that have moved away."""
        return {v["name"]: v for v in self.json("vm list")["vms"] if v["state"] != "moved"}

    def memory(self):
        """Free pages, with those that the heap holds for small objects; and the bytes of these objects."""
        h = self.json("host")
        return h["pages_free"] + h["heap_bytes"] // 4096, h["heap_used"]

    def lost(self, before):
        """Of what memory() said before: pages and bytes of the heap that have not come back, or None."""
        pages, heap = self.memory()
        lost = before[0] - pages, heap - before[1]
        return lost if lost[0] > SLACK_PAGES or lost[1] > SLACK_HEAP else None

    def wait_address(self, seconds=30):
        """Until the host may use its own address, which it probes for some seconds after the prompt; what `host` says."""
        end = time.monotonic() + seconds * self.scale
        while (info := self.json("host"))["address_state"] != "ok":
            assert time.monotonic() < end, f"{self.name} does not use its address within {seconds} s: {info}\n{self.console.tail()}"
            time.sleep(0.2)
        return info

    def wait_warning(self, pattern, seconds, start=0):
        """Until the log says so on the console, and the prompt is there again."""
        m = self.console.expect(pattern, seconds, start)
        self.console.wait_prompt(5, m.end())
        return m

    def guest_console(self, vm):
        """What the guest said last on its serial console."""
        return self.json(f"vm console {vm}")["tail"]

    def wait_vm(self, vm, state, seconds):
        end = time.monotonic() + seconds * self.scale
        while True:
            v = self.vms().get(vm)
            now = v["state"] if v else None
            if now == state:
                return v
            if time.monotonic() > end:
                raise AssertionError(f"{self.name}: VM {vm} is {now}, not {state}, after {seconds} s\n{self.console.tail()}")
            time.sleep(0.1)

    def wait_guest_says(self, vm, pattern, seconds):
        end = time.monotonic() + seconds * self.scale
        while True:
            text = self.guest_console(vm)
            m = re.search(pattern, text)
            if m:
                return m
            if time.monotonic() > end:
                raise AssertionError(f"{self.name}: guest {vm} did not say {pattern!r} within {seconds} s; its console ends:\n{text[-2500:]}")
            time.sleep(0.25)
