# SPDX-License-Identifier: BSD-2-Clause
"""
The two kinds of machine that a host of the rig can be: `amd` is QEMU with AMD-V, `intel` is Bochs with VT-x. Each knows how its
emulator is started and what became of it; how much longer things take on it is .scale, which all waits are multiplied by.
"""
import functools
import glob
import os
import re
import select
import shutil
import socket
import struct
import subprocess
import threading
import time

import netns

# Firmware by what Debian's ovmf installs: one file with code and variables together, else a pair for two flash chips.
FIRMWARE = ["/usr/share/ovmf/OVMF.fd", "/usr/share/qemu/OVMF.fd"]
FLASH = [("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
         ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd")]
VGABIOS = ["/usr/share/vgabios/vgabios.bin", "/usr/share/seabios/vgabios-stdvga.bin"]


def first_of(paths, what):
    for path in paths:
        if os.path.exists(path):
            return path
    raise netns.RigError(f"no {what} found (looked for {', '.join(paths)})")


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


# Instructions of QEMU's that do harm here, and NOPs of their length. The AND of cpu_clear_ignne, shortly before its RET: each XRSTOR of any
# CPU writes CPU 0's flags, nested paging's among them. The first store of an interrupt that VMRUN injects, before the other three and the
# call: who looks at exception_index next delivers the interrupt again, whatever RFLAGS.IF says.
HARMFUL = [(re.compile(rb"\x81[\xa0-\xa7]....\x7f\xff\xff\xff(?=.{0,24}\xc3)", re.S), bytes.fromhex("662e0f1f840000000000")),
           (re.compile(rb"\x89[\xb0-\xb7]..\xff\xff(?=\xc7[\x80-\x87]....\0{4}\x48\xc7[\x80-\x87]....\xff{4}"
                       rb"\xf6\x05....\x02\x0f\x85....\xba\x01\0{3})", re.S), bytes.fromhex("660f1f440000"))]
MENDED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../build/qemu-system-x86_64")


@functools.lru_cache(None)
def qemu():
    """
    The emulator and its options: RIG_QEMU, or a copy of the installed one without HARMFUL (HACKING.md), as far as each is found there.
    """
    if "RIG_QEMU" in os.environ:
        return [os.environ["RIG_QEMU"]]
    path = shutil.which("qemu-system-x86_64")
    if not path:
        raise netns.RigError("qemu-system-x86_64 is not installed")
    with open(path, "rb") as f:
        code = f.read()
    found = [(harmful, nop) for harmful, nop in HARMFUL if len(harmful.findall(code)) == 1]
    if not found or can_nest():
        return [path]
    for harmful, nop in found:
        code = harmful.sub(nop, code)
    os.makedirs(os.path.dirname(MENDED), exist_ok=True)
    with open(f"{MENDED}.{os.getpid()}", "wb") as f:
        f.write(code)
        os.fchmod(f.fileno(), 0o755)
    os.replace(f.name, MENDED)
    return [MENDED, "-L", "/usr/share/qemu", "-L", "/usr/share/seabios"]  # it looks for them beside itself


@functools.lru_cache(None)
def qemu_major():
    p = subprocess.run([qemu()[0], "--version"], stdout=subprocess.PIPE, text=True, timeout=30)
    return int(re.search(r"version (\d+)\.", p.stdout)[1])


class Qemu:
    """
    A Q35 with an EPYC. Its serial port is the unix socket itself: while nobody reads that, the port takes no more bytes.
    """
    kind, scale, cpus = "amd", 1, 2
    line_stops = True
    nics = {"virtio-net": "virtio-net-pci", "e1000": "e1000"}
    tap_has_header = True
    said = "qemu.log"

    def __init__(self, host):
        self.host = host

    def firmware(self):
        for path in FIRMWARE:
            if os.path.exists(path):
                return ["-bios", path]
        for code, variables in FLASH:
            if os.path.exists(code) and os.path.exists(variables):
                copy = os.path.join(self.host.work, "vars.fd")
                shutil.copyfile(variables, copy)
                return ["-drive", f"if=pflash,format=raw,readonly=on,file={code}", "-drive", f"if=pflash,format=raw,file={copy}"]
        raise netns.RigError("no OVMF firmware found: install the package ovmf")

    def command(self):
        h = self.host
        if h.icount:
            accel = ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-cpu", "EPYC,+svm,+npt"]
        elif can_nest():
            accel = ["-accel", "kvm", "-cpu", "host"]
        else:
            accel = ["-accel", "tcg,thread=multi", "-cpu", "EPYC,+svm,+npt"]
        return (qemu() + accel +
                ["-M", "q35", "-m", str(h.mem), "-smp", str(1 if h.icount else h.cpus), "-nodefaults",
                 "-display", "none", "-serial", f"unix:{h.socket},server=on,wait=off"] + self.firmware() +
                ["-drive", f"file={h.esp},format=raw", "-device", "isa-debug-exit,iobase=0xf4,iosize=1"] + self.cards())

    def cards(self):
        h = self.host
        header = ",vnet_hdr=off" * (h.has_relay or len(h.macs) > 1)
        words = ["-qmp", "unix:qmp.sock,server=on,wait=off"] * (len(h.macs) > 1)
        queues, mq = (f",queues={h.queues}", f",mq=on,vectors={2 * h.queues + 2}") if h.queues > 1 else ("", "")
        for i, (cable, mac) in enumerate(zip([h.cable] + h.taps[1:], h.macs)):
            words += ["-netdev", f"tap,id=n{i},ifname={cable},script=no,downscript=no{header}{queues}",
                      "-device", f"{self.nics[h.nic]},netdev=n{i},mac={mac},romfile={mq}"]
        return words

    def environment(self):
        modules = glob.glob("/usr/lib/*-linux-gnu/qemu")  # which a copy looks for beside itself, too
        return {**os.environ, "QEMU_MODULE_DIR": modules[0]} if modules else os.environ

    def started(self):
        pass

    def stopped(self):
        pass


BOCHSRC = """\
plugin_ctrl: unmapped=true, e1000=true, speaker=false
sound: driver=dummy, waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
display_library: rfb, options="timeout=0"
memory: guest={mem}, host={mem}
romimage: file="{firmware}", address={firmware_at:#x}
vgaromimage: file="{vgabios}"
cpu: model={model}, count={cpus}, ips=50000000, reset_on_triple_fault=1, ignore_bad_msrs=1
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, path="{disk}", mode=flat, cylinders={cylinders}, heads=16, spt=63
boot: disk
pci: enabled=1, chipset=i440fx, slot1=pcivga, slot2=e1000
e1000: enabled=1, mac={mac}, ethmod=tuntap, ethdev=/dev/net/tun:{tap}, script=none
com1: enabled=1, mode=socket-server, dev=127.0.0.1:{port}
log: bochs.log
panic: action=fatal
error: action={errors}
info: action=ignore
debug: action=ignore
clock: sync=slowdown, time0=local
"""
PLUGINS = glob.glob("/usr/lib/*/bochs/plugins")
TAP_PLUGIN, POLL_US = "libbx_eth_tuntap.so", 200
CYLINDER = 16 * 63 * 512  # the disk's size must be whole cylinders


def bochs_path():
    return os.environ.get("RIG_BOCHS", "bochs")


@functools.lru_cache(None)
def bochs_help(bochs):
    return subprocess.run([bochs, "--help"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60).stdout


def since_3(bochs):
    return b"-debugger" in bochs_help(bochs)


def has_debugger(bochs):
    """A Bochs (2.7) that is built with its debugger stops before the first instruction for a command; 3.0 only if asked to."""
    return b"-rc " in bochs_help(bochs) and not since_3(bochs)


def most_cpus(kind):
    """Of a host that has Linux as a guest, at most: on Bochs 3.0 with two CPUs it says nothing (under KVM as well as tern)."""
    return 1 if kind == "intel" and since_3(bochs_path()) else 2


class Bochs:
    """
    A 440FX with a Core i7. The clock follows real time (sync=slowdown; it may run at most 1.5 times as fast) at 50 MIPS. RIG_BOCHS
    names another emulator than the installed one, RIG_BOCHS_CPU another CPU model. BOCHS_ERRORS=report has failed VM entries
    explained in bochs.log.
    """
    kind, scale, cpus = "intel", 5, 1
    line_stops = False  # at 115200 baud it runs on, into sockets that hold more than a test says
    nics = {"e1000": "e1000"}
    tap_has_header = False
    said = "bochs.out"

    def __init__(self, host):
        self.host = host
        self.bochs = bochs_path()
        self.relay = self.port = None

    def command(self):
        h = self.host
        if not shutil.which(self.bochs):
            raise netns.RigError(f"no {self.bochs} here: install the packages bochs and bochs-term")
        size = -(-os.path.getsize(h.esp) // CYLINDER) * CYLINDER
        os.truncate(h.esp, size)
        lock = h.esp + ".lock"  # left by an instance that was killed
        if os.path.exists(lock):
            os.unlink(lock)
        with socket.socket() as s:  # a port that is free, and not in TIME_WAIT, in this network namespace of our own
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        firmware = first_of(FIRMWARE, "OVMF firmware (package ovmf)")
        with open(os.path.join(h.work, "bochsrc"), "w") as f:
            f.write(BOCHSRC.format(
                mem=h.mem, firmware=firmware, firmware_at=(1 << 32) - os.path.getsize(firmware),
                vgabios=first_of(VGABIOS, "VGA BIOS (package vgabios)"), model=h.model or os.environ.get("RIG_BOCHS_CPU", "corei7_skylake_x"),
                cpus=h.cpus, disk=h.esp, cylinders=size // CYLINDER, mac=h.mac, tap=h.cable, port=self.port,
                errors=os.environ.get("BOCHS_ERRORS", "ignore")))
        cmd = [self.bochs, "-q", "-f", "bochsrc"]
        if has_debugger(self.bochs):
            with open(os.path.join(h.work, "go.rc"), "w") as f:
                f.write("c\n")
            cmd += ["-rc", "go.rc"]
        return cmd

    def environment(self):
        """
        Bochs' tap driver takes one frame in each millisecond, which no option changes: 1.5 to 2 MB/s. Its plugin has that number as
        one constant: a copy with POLL_US in its place, among links to the other plugins, moves 5 to 6 MB/s. A plugin that
        looks otherwise is left alone.
        """
        found = [d for d in PLUGINS if os.path.exists(os.path.join(d, TAP_PLUGIN))]
        if not found or "RIG_BOCHS" in os.environ:
            return os.environ
        with open(os.path.join(found[0], TAP_PLUGIN), "rb") as f:
            code = f.read()
        loads = list(re.finditer(rb"[\xb8-\xbf]" + re.escape(struct.pack("<I", 1000)), code))  # mov $1000, %r32
        if len(loads) != 1:
            return os.environ
        at = loads[0].start() + 1
        mine = os.path.join(self.host.work, "plugins")
        shutil.rmtree(mine, ignore_errors=True)
        os.makedirs(mine)
        for name in os.listdir(found[0]):
            if not name.startswith(TAP_PLUGIN):
                os.symlink(os.path.join(found[0], name), os.path.join(mine, name))
        with open(os.path.join(mine, TAP_PLUGIN), "wb") as f:
            f.write(code[:at] + struct.pack("<I", POLL_US) + code[at + 4:])
        return dict(os.environ, LTDL_LIBRARY_PATH=mine)

    def started(self):
        self.relay = Relay(self.port, self.host.socket, self.host.proc)
        self.relay.start()

    def stopped(self):
        if self.relay:
            self.relay.stop()
            self.relay = None


class Relay(threading.Thread):
    """
    Bochs takes one connection to its serial port, waits for it before it boots, and is lost to the world when that ends. So the relay
    keeps it, and offers what QEMU does: a unix socket that clients come to and go from. Output that nobody is there for is dropped.
    """

    def __init__(self, port, path, proc):
        super().__init__(daemon=True)
        self.port, self.proc = port, proc
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(1)
        self.waker, self.wake = socket.socketpair()

    def connect(self, seconds=30):
        end = time.monotonic() + seconds
        while self.proc.poll() is None and time.monotonic() < end:
            try:
                return socket.create_connection(("127.0.0.1", self.port), timeout=seconds)
            except OSError:
                if select.select([self.waker], [], [], 0.02)[0]:
                    break
        return None

    def run(self):
        serial = self.connect()
        client = None
        try:
            while serial:
                ready, _, _ = select.select([serial, self.waker, client or self.listener], [], [])
                if self.waker in ready:
                    break
                if serial in ready:
                    data = serial.recv(65536)
                    if not data:
                        break
                    client = self.pass_on(client, data)
                if client and client in ready:
                    try:
                        data = client.recv(4096)
                    except OSError:
                        data = b""
                    if data:
                        serial.sendall(data)
                    else:
                        client.close()
                        client = None
                elif self.listener in ready:
                    client = self.listener.accept()[0]
        except OSError:
            pass  # the machine is gone; its process tells why
        finally:
            for s in (client, serial, self.listener):
                if s:
                    s.close()

    @staticmethod
    def pass_on(client, data):
        try:
            if client:
                client.sendall(data)
            return client
        except OSError:
            client.close()
            return None

    def stop(self):
        self.wake.send(b"x")
        self.join(5)


KINDS = {c.kind: c for c in (Qemu, Bochs)}
