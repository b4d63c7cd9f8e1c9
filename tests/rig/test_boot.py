# SPDX-License-Identifier: BSD-2-Clause
"""Power on to prompt, and what an operator finds there."""
import hashlib
import json
import os
import re
import subprocess
import time

import pytest

import client
import dhcp
import netns
from console import LEAVE_KEY, Console
from emulator import most_cpus
from host import Host
from pvh import vmlinux
from rig import DEMO, host_conf, vm_conf


DISKS = {  # a file: what the loader says of it
    "image.raw.zst": "a disk of 65536 KiB, 192 KiB of it in memory",
    "plain.raw": "a disk of 10240 KiB, 64 KiB of it in memory",
    "damaged.raw.zst": "damaged, or no Zstandard file",
    "short.raw.zst": "the file has lost its end",
    "odd.raw": "a disk has whole sectors of 512 bytes",
    "nosuch.raw": "file not found on this volume",
}


def make_disks(at):
    """Those files, but for the last, below a directory; their paths and sections."""
    disk = bytearray(64 << 20)
    disk[:3000], disk[33 << 20:(33 << 20) + 66000] = os.urandom(3000), os.urandom(66000)  # one block of 64 KiB, and two
    packed = subprocess.run(["zstd", "-q", "-c", "--check"], input=disk, stdout=subprocess.PIPE, check=True).stdout
    data = [packed, disk[:10 << 20], packed[:-1] + bytes([packed[-1] ^ 1]), packed[:-1000], disk[:700]]
    for name, content in zip(DISKS, data):
        (at / name).write_bytes(content)
    conf = "".join(f"\n[disk d{i}]\nfile = {name}\n" for i, name in enumerate([*DISKS, "image.raw.zst"]))
    return conf, [str(at / name) for name in DISKS if (at / name).exists()]


def check_disks(h):
    """Each is read once, without its zeros, or the line says what is wrong with it."""
    started, said = " ".join(h.console.text.split()), " ".join(h.cmd("log").split())
    for i, (name, what) in enumerate(DISKS.items()):
        if what.startswith("a disk of"):
            assert started.count(f"{name}: {what}") == 1 and name not in said, started
        else:
            assert re.search(rf"tern\.conf:\d+: \[disk d{i}\] file = {name}: {what}", said), said
    assert "plain.raw: 10 MiB 30% 50% 80% plain.raw:" in started, started  # of steps of 1 MiB those behind each quarter
    assert h.json("host")["memory_files"] == 4 << 16


def check_machine(h, vendor):
    info = h.json("host")
    assert info["cpus"] == h.cpus and info["cpus_missing"] == 0
    assert info["cpu_vendor"] == vendor
    assert info["memory_total"] > 900 << 20
    h.wait_address()
    assert client.ping(h.address, 5) == 0
    assert "4 received" in h.cmd(f"ping {netns.CLIENT_ADDRESS}")
    assert all(t["ok"] for t in h.json("selftest", 30)["tests"]), h.console.tail()


@pytest.mark.parametrize("kind, cpus, vendor", [
    ("amd", 2, "AuthenticAMD"),
    pytest.param("intel", 2, "GenuineIntel", marks=[pytest.mark.rigs("intel"), pytest.mark.long])])
def test_machine(switch, tmp_path, kind, cpus, vendor):
    """
    Whatever the machine: it boots, has its CPUs and its network, restarts, and goes off. (An Intel one with one CPU: test_boot.) A fast one
    reads images of disks as well.
    """
    disks, volume = make_disks(tmp_path) if kind == "amd" else ("", [])
    h = Host("c", switch, host_conf(3, "c", disks), 3, "e1000", cpus=cpus, files=False, kind=kind, volume=volume)
    try:
        h.start()
        if disks:
            check_disks(h)
        check_machine(h, vendor)
        start = h.console.begin("reboot")
        h.console.expect(r"tern 0\.[0-9.]+\S* on c", 60, start)
        h.console.wait_prompt(30, start + 20)
        check_machine(h, vendor)
        start = h.console.begin("poweroff")
        assert h.wait_off(10), f"poweroff left it on: {h.console.text[start:]}"
    finally:
        h.remove()


@pytest.mark.rigs("amd", "intel", "mixed")
def test_boot(rig):
    for h in rig.hosts:
        info = h.json("host")
        assert info["cpus"] == h.cpus and info["cpus_missing"] == 0
        assert info["virtualisation"] and info["memory_total"] > 900 << 20
        assert h.cmd("host").count("\n") >= 6
        features = {f["name"]: f for f in info["virtualisation_features"]}
        assert any(f["present"] and f["used"] for f in features.values())
        assert not [f for f in features.values() if f["used"] and not f["present"]]
        paging = "NPT" if info["virtualisation"] == "AMD-V" else "EPT"
        assert features[paging] == {"name": paging, "present": True, "used": True} and paging + "*" in h.cmd("host")
        assert all(t["ok"] for t in h.json("selftest", 30)["tests"]), h.console.tail()


def no_way_from(h, vm, to):
    """Of a CPU whose nested page tables have no dirty bits: it runs VMs, and says why they stay."""
    features = {f["name"]: f for f in h.json("host")["virtualisation_features"]}
    assert features["EPT"]["used"] and not features["EPT-A/D"]["present"]
    e = h.console.json_result(f"migrate {vm} to {to}", 30)["error"]
    assert "without dirty bits" in e["text"], e
    assert h.vms()[vm]["state"] == "running"


@pytest.mark.parametrize("cpus, kernel, says, model", [
    pytest.param(1, "stock", "Debian", None, marks=[pytest.mark.rigs("amd", "intel"), pytest.mark.long("intel")]),
    pytest.param(2, "small", "rig", "corei7_ivy_bridge_3770k", marks=pytest.mark.rigs("intel"))])
def test_boot_runs_linux(shared, cpus, kernel, says, model):
    """Debian's own kernel, whatever the rig's guest runs otherwise, on a third host with one CPU; an Intel one with two old ones."""
    address = "10.77.0.53"
    cpus = min(cpus, most_cpus(shared.a.kind))
    conf = vm_conf("third", f"tern.ip={address}/24 tern.load=none", 128, "52:54:00:77:00:53", kernel=kernel)
    peer = ("b", 2) if model else None
    h = Host("c", shared.switch, host_conf(3, "c", conf, peer=peer), 3, cpus=cpus, kind=shared.a.kind, model=model)
    try:
        h.start()
        assert h.json("host")["cpus"] == cpus
        assert all(t["ok"] for t in h.json("selftest", 30)["tests"]), h.console.tail()
        h.wait_address()
        h.json("vm start third", 30)
        h.wait_guest_says("third", rf"Linux version .*{says}", 30)
        h.wait_guest_says("third", r"guest ready", 60)
        client.wait_ping(address, 10)
        if model:
            h.wait_address()
            no_way_from(h, "third", shared.b.address)
        client.wait_ping(address, 10)
        h.json("vm kill third")
        assert h.vms()["third"]["state"] == "stopped"
        start = len(h.console.text)
        h.console.begin("poweroff")
        assert h.wait_off(10), f"poweroff left it on: {h.console.text[start:]}"
    finally:
        h.remove()


def test_boot_by_pvh(switch):
    """Debian's kernel as an ELF file, entered by PVH, with two CPUs: it runs, is saved and restored as it runs, and resets itself."""
    address = "10.77.0.53"
    vmlinux()
    h = Host("c", switch, host_conf(3, "c", vm_conf("third", f"tern.ip={address}/24 tern.load=none", 256, "52:54:00:77:00:53", kernel="pvh",
                                                    vcpus=2)), 3)
    try:
        h.start()
        h.wait_address()
        h.json("vm start third", 30)
        for reset in (False, True):
            h.wait_guest_says("third", r"Linux version .*Debian", 30)
            h.wait_guest_says("third", r"guest ready", 60)
            client.wait_port(address, client.SHELL, 20)
            loader = client.shell(address, "od -A n -t x1 -j 528 -N 1 /sys/kernel/boot_params/data; grep -c ^processor /proc/cpuinfo; cat /sys/class/dmi/id/product_name")
            assert loader.split() == ["b0", "2", "tern", "PC"], loader  # type_of_loader as Linux' own PVH entry sets it
            if not reset:
                h.cmd("torture third 20", 60)
                before = h.json("vm console third")["console_bytes"]
                try:
                    client.shell(address, "(sleep 0.3; reboot -f) >/dev/null 2>&1 &", 5)
                except (OSError, AssertionError):
                    pass  # the guest may go before it has answered
                client.until(lambda: h.json("vm console third")["console_bytes"] > before + 2000, 30, "a reset")
        h.json("vm kill third")
    finally:
        h.remove()


def test_address_by_dhcp(switch):
    """
    A real DHCP server (busybox's) on the switch. The first address that it gives turns out to be another's (the client's, on whose
    side the server does not look) and is declined; the second is shown, and answers. So does the address that it makes from what a
    router advertises.
    """
    taken = [netns.ClientAddress(a) for a in ("10.77.0.90", "10.77.0.91")]
    server = dhcp.Server("10.77.0.90", "10.77.0.91")
    h = Host("c", switch, host_conf(3, "c").replace("address = 10.77.0.13/24\ngateway = 10.77.0.1", "address = dhcp\naddress6 = auto"), 3,
             files=False)
    router = netns.Router6("fd00:77::")
    try:
        h.start()
        first = h.wait_warning(rf"(10\.77\.0\.9\d) is not used: conflict with the host with MAC {netns.CLIENT_MAC}", 30)[1]
        for a in taken:
            a.remove()
        assert h.json("host")["address"] == ""
        second = h.wait_address(60)["address"].partition("/")[0]
        assert second != first and f"{second}/24" in h.cmd("net list")
        assert client.ping(second, 2) == 0
        assert h.json("host")["address6"] == "" and "no router" in h.cmd("host")
        client.until(lambda: router.advertise() or h.json("host")["address6_state"] == "ok", 10, "an address of the prefix")
        made = h.json("host")["address6"]
        assert made.startswith("fd00:77::") and client.ping(made, 2) == 0
        assert "4 received" in h.cmd("ping fd00:77::1", 10)
    finally:
        h.remove()
        router.remove()
        for a in taken:
            a.remove()
        server.remove()


def test_waiting_is_shown_and_left(switch):
    """`vm start` asks a peer that is silent: that is shown, ^C leaves it, and the VM does not start then. A host with a VM stays on."""
    conf = vm_conf("third", "tern.load=none", 128, "52:54:00:77:00:53", kernel="stock", autostart="yes")
    h = Host("c", switch, host_conf(3, "c", conf, peer=("f", 6)), 3)
    try:
        h.start()
        h.wait_address()
        h.wait_vm("third", "starting", 10)
        assert "its start is given up" in h.cmd("vm stop third")
        assert h.vms()["third"]["state"] == "stopped"
        end = time.monotonic() + 20  # what it was told by then ends with the questions under way
        while h.vms()["third"].get("waits_for"):
            assert time.monotonic() < end
            time.sleep(0.2)
        start = h.console.begin("vm start third")
        h.console.expect(r"starting \(asks f, \d+ s\)", 10, start)
        h.console.send("\x03")
        h.console.wait_prompt(3, start + 1)
        assert "error: vm start third: given up" in h.console.text[start:]
        e = h.console.json_result("vm start third", 40)["error"]
        assert "f does not answer" in e["text"] and h.vms()["third"]["state"] == "stopped", e
        h.json("vm start third --force", 30)
        for line in ("poweroff", "host reboot"):
            assert "third runs here" in h.console.json_result(line)["error"]["text"]
        e = h.console.json_result("migrate third to c")["error"]
        assert "that is this host" in e["text"]
        assert "that is this host" in h.cmd(f"migrate third to {h.address}")
        start = h.console.begin("poweroff --force")
        assert h.wait_off(10), h.console.text[start:]
    finally:
        h.remove()


def test_console_password(switch):
    """Who has not typed it sees the release and the host's name, and no line of the log; `logout` locks it again. What cannot be read is nobody's."""
    word, salt = "correct horse", os.urandom(16)
    made = f"pbkdf2-sha256:1000:{salt.hex()}:{hashlib.pbkdf2_hmac('sha256', word.encode(), salt, 1000).hex()}"
    plain = host_conf(3, "c") + "\n[vm broken]\nkernel = nosuchfile\n"
    h = Host("c", switch, plain.replace("[host]\n", f"[host]\nconsole_password = {made}\n"), 3, files=False)
    asks = r"^tern:c password: $"
    try:
        h.launch()
        con = h.console
        con.expect(asks, 60, 0)
        shown = re.search(r"^tern 0\.[\w.-]+\s+tern:c password: $", con.text, re.M)
        assert shown and "nosuchfile" not in con.text, con.text
        for typed in ("correct hors\r", "host\r", "\r", "correct\x03x\r"):
            start = con.begin(typed[:-1])
            con.expect(asks, 20, start)
            assert con.text[start:].split() == ["tern:c", "password:"], con.text[start:]
        start = con.begin("wrxx\x7f\x7f\x15" + word)
        con.wait_prompt(20, start)
        log = h.cmd("log")
        assert "a wrong password" in log and "nosuchfile" in log and word not in log and salt.hex() not in log
        start = con.begin("password")
        con.expect("^password: $", 5, start)
        con.send("battery staple\r")
        con.expect("the same again: $", 5, start)
        con.send("battery staple\r")
        line = con.expect(r"^console_password = (\S+)\r?\n", 60, start)[1]
        con.wait_prompt(5, start + 10)
        assert "staple" not in con.text[start:]
        n, salt, made = line.split(":")[1:]
        assert hashlib.pbkdf2_hmac("sha256", b"battery staple", bytes.fromhex(salt), int(n)).hex() == made
        start = con.begin("logout")
        con.expect(asks, 10, start)
        h.stop()
        h.conf = plain.replace("[host]\n", "[host]\nconsole_password = correct horse\n")
        h.launch()
        con = h.console
        con.expect(asks, 60, 0)
        start = con.begin(word)
        con.expect(asks, 20, start)
        assert word not in con.text
    finally:
        h.remove()


def test_damaged_image(switch, tmp_path):
    """One bit of the compressed kernel: it is said, and not started."""
    h = Host("c", switch, host_conf(3, "c"), 3)
    with open(h.efi, "rb") as f:
        image = bytearray(f.read())
    with open(os.path.join(os.path.dirname(h.efi), "kernel.zst"), "rb") as f:
        image[image.index(f.read(64)) + 100_000] ^= 4
    h.efi = str(tmp_path / "BOOTX64.EFI")
    with open(h.efi, "wb") as f:
        f.write(image)
    try:
        h.launch()
        h.console.expect(r"the kernel inside this BOOTX64.EFI is damaged; copy the file anew", 60, 0)
    finally:
        h.remove()


def test_boot_wrong_configuration(shared):
    """A missing file, a wrong key and MACs that no VM may have are said with file, line and key, in their order, and the rest starts."""
    bad = "\n[vm broken]\nkernel = nosuchfile\nmem = 128M\nautostart = yes\n\n[vm odd]\nkernel = nosuchfile\npi = 10.77.0.1\nautostart = yes\n"
    for name, mac in (("first", "52:54:00:77:00:61"), ("second", "52:54:00:77:00:61"), ("hosts", "52:54:00:00:00:03"),
                      ("group", "53:54:00:77:00:62")):
        bad += f"\n[vm {name}]\nkernel = nosuchfile\nmac = {mac}\n"
    bad += "\n[vm small]\nkernel = vmlinuz\ninitrd = initrd.img\nmem = 64M # less than it needs\n"
    h = Host("c", shared.switch, host_conf(3, "c", bad), 3)
    try:
        h.start()
        said = h.console.text + h.cmd("log")
        number = h.conf.splitlines().index("kernel = nosuchfile") + 1
        assert re.search(rf"tern\.conf:{number}:.*nosuchfile", said), said
        assert re.search(rf"tern\.conf:{number + 6}: \[vm odd\] pi: there is no such key", said), said
        for name, why in (("second", "that of VM first"), ("hosts", "that of a network card"), ("group", "write unicast MAC")):
            number = h.conf.splitlines().index(f"[vm {name}]") + 3
            words = re.search(rf"tern\.conf:{number}: \[vm {name}\] mac.*{why}[^\r\n]*", said)[0]
            assert words in " ".join(h.cmd(f"vm info {name}").split()) and words in h.console.json_result(f"vm start {name}")["error"]["text"]
        problems = [int(n) for n in re.findall(r"tern\.conf:(\d+): \[vm \w+\] (?:mac|pi)", h.cmd("log"))]
        assert len(problems) == 4 and problems == sorted(problems)
        states = {name: vm["state"] for name, vm in h.vms().items()}
        assert states == {"broken": "stopped", "odd": "misconfigured", "first": "stopped", "second": "misconfigured", "hosts": "misconfigured",
                          "group": "misconfigured", "small": "stopped"}
        assert re.search(r"its initrd starts with mem = \d\dM at least", h.console.json_result("vm start small")["error"]["text"])
        h.wait_address()
        assert client.ping(h.address, 2) == 0
        assert h.console.json_result("vm start broken")["error"]["text"]
        assert "this host has no file nosuchfile" in " ".join(h.cmd("vm info broken").split())
        assert re.search(r"starts with mem = \d\dM at least", " ".join(h.cmd("vm list").split()))
        reboot = h.console.begin("reboot --json")
        h.console.expect(r"tern 0\.[0-9.]+\S* on c", 60, reboot)
        h.console.wait_prompt(30, reboot + 20)
        assert Console.objects(h.console.text[reboot:])[0] == {"reboot": True}
    finally:
        h.remove()


@pytest.mark.rigs("amd", "intel")
@pytest.mark.long("intel")
def test_console_editing(rig):
    """Completion, history and editing, as keys on the wire."""
    con = rig.a.console
    start = len(con.text)
    con.send("vm li\t\r")
    con.expect(r"NAME\s+STATE", 5, start)
    con.wait_prompt(5, start)
    start = len(con.text)
    con.send("\x1b[A\r")  # up: the same again
    con.expect(r"NAME\s+STATE", 5, start)
    con.wait_prompt(5, start)
    start = len(con.text)
    con.send("hXX\x7f\x7fost\x01\x05\r")
    con.expect(r"CPUs", 5, start)
    con.wait_prompt(5, start)
    assert "error" in con.cmd("nonsense")
    assert "please is a word too many. Usage: poweroff [--force]" in con.cmd("poweroff now please")
    for line in ("vm help", "vm start ?", "help vm start"):
        assert "vm start NAME [--force]" in con.cmd(line), line


@pytest.mark.rigs("amd", "intel")
@pytest.mark.long("intel")
def test_console_fits_its_width(rig):
    """No table, and no line of facts, is wider than a terminal."""
    for line in ("vm list", f"vm info {DEMO}", "host", "nic", "net list", "bridge", "migrate status", "migrate history", "migrate records", "tasks", "help"):
        out = rig.where().cmd(line)
        assert out and max(len(row) for row in out.splitlines()) <= 79, out
    assert re.match(r"NAME +STATE +VCPUS +MEMORY +MAC +UP\n", rig.where().cmd("vm list"))


def test_console_of_the_guest(rig):
    """Attach, talk to the guest's shell, leave with Ctrl-]."""
    con = rig.where().console
    start = con.begin(f"vm console {DEMO}")
    con.expect(r"console of demo", 5, start)
    start = len(con.text)
    con.send("\recho $((6*7))-answer\r")
    con.expect(r"^42-answer", 15, start)
    start = len(con.text)
    con.send(LEAVE_KEY)
    con.wait_prompt(5, start)


@pytest.mark.rigs("amd", "intel")
def test_every_command_speaks_json(rig):
    """Each command of `help` with --json prints one valid object, errors included. (poweroff and reboot: tested elsewhere.)"""
    h, other = rig.a, rig.b
    names = [c["name"] for c in h.json("help")["commands"]]
    for must in ("help", "host", "nic", "net", "vm", "migrate", "log", "poweroff", "reboot"):
        assert must in names, f"there is no command {must}"
    lines = {n: [n] for n in names if n not in ("poweroff", "reboot")}
    lines["help"] += ["help vm", "help nonsense"]
    lines["vm"] += ["vm list", f"vm info {DEMO}", f"vm console {DEMO}", "vm info nonsense", f"vm start {DEMO}", "vm kill nonsense"]
    lines["migrate"] += ["migrate status", "migrate cancel nonsense", "migrate nonsense to 10.77.0.12", "migrate x to"]
    lines["log"] += ["log error", "log nonsense"]
    lines.setdefault("ping", []).append(f"ping {other.address}")
    lines.setdefault("tcptest", []).append("tcptest listen")
    for line in sum(lines.values(), []) + ["nonsense"]:
        r = h.console.json_result(line, 20)
        assert isinstance(r, dict) and r, line
        if "error" in r:
            assert r["error"]["code"] and r["error"]["text"], line
        json.dumps(r)
    assert "error" in h.console.json_result("nonsense")


@pytest.mark.rigs("amd", "intel")
def test_guest_sees_plain_pc(rig):
    """What a user of the guest would look at: it is up, has its network card, its clock is kvm's."""
    out = client.shell(rig.guest, "uname -s; cat /sys/devices/system/clocksource/clocksource0/current_clocksource; nproc")
    assert out.split() == ["Linux", "kvm-clock", "1"], out
