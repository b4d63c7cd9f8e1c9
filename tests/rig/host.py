# SPDX-License-Identifier: BSD-2-Clause
"""One host of the rig: a QEMU process that boots tern from an EFI system partition made for it."""
import ctypes
import os
import re
import shutil
import signal
import subprocess
import time

import netns
from console import Console

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("TERN_BUILD", "build"))
RIG = os.path.join(ROOT, "build", "rig")
GUEST = os.path.join(ROOT, "build", "guest")
NICS = {"virtio-net": "virtio-net-pci", "e1000": "e1000"}

# Firmware by what Debian's ovmf installs: one file with code and variables together, else a pair for two flash chips.
FIRMWARE = ["/usr/share/ovmf/OVMF.fd", "/usr/share/qemu/OVMF.fd"]
FLASH = [("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
         ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd")]


def can_nest():
    """True where KVM gives its guests AMD-V; everywhere else the hosts are emulated."""
    try:
        with open("/proc/cpuinfo") as f:
            svm = re.search(r"^flags\s*:.*\bsvm\b", f.read(), re.M)
        with open("/sys/module/kvm_amd/parameters/nested") as f:
            nested = f.read().strip() in ("1", "Y", "y")
    except OSError:
        return False
    return bool(svm) and nested and os.access("/dev/kvm", os.R_OK | os.W_OK)


def firmware_args(work):
    for path in FIRMWARE:
        if os.path.exists(path):
            return ["-bios", path]
    for code, variables in FLASH:
        if os.path.exists(code) and os.path.exists(variables):
            copy = os.path.join(work, "vars.fd")
            shutil.copyfile(variables, copy)
            return ["-drive", f"if=pflash,format=raw,readonly=on,file={code}", "-drive", f"if=pflash,format=raw,file={copy}"]
    raise netns.RigError("no OVMF firmware found: install the package ovmf")


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Host:
    """
    conf: the text of tern.conf. start() boots it and returns at the prompt; stop() ends the process, like a power cut.
    """

    def __init__(self, name, switch, conf, number, nic="virtio-net", cpus=2, mem=1024, icount=False, files=True, efi=None):
        self.name, self.switch, self.conf, self.number = name, switch, conf, number
        self.nic, self.cpus, self.mem, self.icount, self.files = nic, cpus, mem, icount, files
        self.efi = efi or os.path.join(BUILD, "BOOTX64.EFI")
        self.tap = f"tap-{name}"
        self.address = f"10.77.0.{10 + number}"
        self.work = os.path.join(RIG, f"{os.getpid()}-{name}")
        self.socket = os.path.join(self.work, "console.sock")
        self.log = os.path.join(RIG, f"{name}.log")
        self.proc = self.console = None

    def prepare(self):
        os.makedirs(self.work, exist_ok=True)
        conf = os.path.join(self.work, "tern.conf")
        with open(conf, "w") as f:
            f.write(self.conf)
        self.esp = os.path.join(self.work, "esp.img")
        files = [os.path.join(GUEST, f) for f in ("vmlinuz", "initrd.img")] if self.files else []
        for f in [self.efi] + files:
            if not os.path.exists(f):
                raise netns.RigError(f"{f} is not there: run `make` first")
        p = subprocess.run([os.path.join(ROOT, "tools/mkesp.sh"), self.esp, conf] + files, env=dict(os.environ, EFI=self.efi),
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        if p.returncode:
            raise netns.RigError(f"mkesp.sh: {p.stdout}")

    def command(self):
        if self.icount:
            accel = ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-cpu", "EPYC,+svm,+npt"]
        elif can_nest():
            accel = ["-accel", "kvm", "-cpu", "host"]
        else:
            accel = ["-accel", "tcg,thread=multi", "-cpu", "EPYC,+svm,+npt"]
        return (["qemu-system-x86_64"] + accel +
                ["-M", "q35", "-m", str(self.mem), "-smp", str(1 if self.icount else self.cpus), "-nodefaults",
                 "-display", "none", "-serial", f"unix:{self.socket},server=on,wait=off"] + firmware_args(self.work) +
                ["-drive", f"file={self.esp},format=raw", "-netdev", f"tap,id=n0,ifname={self.tap},script=no,downscript=no",
                 "-device", f"{NICS[self.nic]},netdev=n0,mac=52:54:00:00:00:{self.number:02x},romfile=",
                 "-device", "isa-debug-exit,iobase=0xf4,iosize=1"])

    def start(self, seconds=60):
        self.launch()
        try:
            self.console.wait_prompt(seconds, 0)
        except BaseException:
            self.stop()
            raise
        return self

    def launch(self):
        """Switch it on, and do not wait."""
        self.switch.plug(self.tap)
        self.prepare()
        if os.path.exists(self.socket):
            os.unlink(self.socket)
        self.errors = open(os.path.join(self.work, "qemu.log"), "wb")
        self.proc = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors,
                                     preexec_fn=die_with_parent)
        with open(self.log, "ab") as f:
            f.write(f"\n==== {self.name}: power on, process {self.proc.pid} ====\n".encode())
        try:
            self.console = Console(self.socket, self.name, self.log, self.dead)
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
        with open(os.path.join(self.work, "qemu.log"), errors="replace") as f:
            return f"QEMU ended with {code}: {f.read()[-1000:]}"

    def stop(self):
        """A power cut."""
        if self.console:
            self.console.close()
            self.console = None
        if self.proc:
            if self.proc.poll() is None:
                self.proc.kill()
            self.proc.wait(10)
            self.proc = None
            self.errors.close()

    def wait_off(self, seconds):
        """After `poweroff`: the machine goes off by itself. True if it did."""
        try:
            self.proc.wait(seconds)
            return True
        except subprocess.TimeoutExpired:
            return False

    def remove(self):
        self.stop()
        shutil.rmtree(self.work, ignore_errors=True)

    # What an operator asks a host.
    def cmd(self, line, seconds=10):
        return self.console.cmd(line, seconds)

    def json(self, line, seconds=10):
        return self.console.json(line, seconds)

    def vms(self):
        return {v["name"]: v for v in self.json("vm list")["vms"]}

    def pages_free(self):
        return self.json("host")["pages_free"]

    def guest_console(self, vm):
        """What the guest said last on its serial console."""
        return self.json(f"vm console {vm}")["tail"]

    def wait_vm(self, vm, state, seconds):
        end = time.monotonic() + seconds
        while True:
            v = self.vms().get(vm)
            now = v["state"] if v else None
            if now == state:
                return v
            if time.monotonic() > end:
                raise AssertionError(f"{self.name}: VM {vm} is {now}, not {state}, after {seconds} s\n{self.console.tail()}")
            time.sleep(0.1)

    def wait_guest_says(self, vm, pattern, seconds):
        end = time.monotonic() + seconds
        while True:
            text = self.guest_console(vm)
            m = re.search(pattern, text)
            if m:
                return m
            if time.monotonic() > end:
                raise AssertionError(f"{self.name}: guest {vm} did not say {pattern!r} within {seconds} s; its console ends:\n{text[-2500:]}")
            time.sleep(0.25)
