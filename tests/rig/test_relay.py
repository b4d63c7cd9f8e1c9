# SPDX-License-Identifier: BSD-2-Clause
"""The relay by itself, without hosts: each of its settings does what it says, with frames as they are and with a real TCP."""
import contextlib
import ctypes
import fcntl
import re
import socket
import struct
import subprocess
import sys
import time

import pytest

import client
import netns
from host import die_with_parent
from relay import Relay

TEST_TYPE = 0x88B5  # of Ethernet, for local experiments (IEEE 802)
TAG = b"\x81\x00\x00\x2a"  # IEEE 802.1Q: VLAN 42
A, B = bytes.fromhex("5254000000aa"), bytes.fromhex("5254000000bb")
SOL_PACKET, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING, VLAN_VALID = 263, 8, 23, 0x10
FAR = "10.77.0.77"
WITHIN = 10  # seconds for anything to happen


class End:
    """A device's frames, tags included, from the kernel's side of it."""

    def __init__(self, device):
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self.sock.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
        self.sock.bind((device, 3))  # ETH_P_ALL

    def send(self, frame):
        self.sock.send(frame)

    def next(self, seconds=WITHIN):
        """The next frame of ours; None: there is none for that long."""
        end = time.monotonic() + seconds
        while True:
            self.sock.settimeout(max(end - time.monotonic(), 0.001))
            try:
                data, control, _, _ = self.sock.recvmsg(70000, 64)
            except TimeoutError:
                return None
            for level, kind, aux in control:
                status, _, _, _, _, tci, tpid = struct.unpack_from("IIIHHHH", aux)
                if (level, kind) == (SOL_PACKET, PACKET_AUXDATA) and status & VLAN_VALID:
                    data = data[:12] + struct.pack("!HH", tpid, tci) + data[12:]
            if data[:6] in (A, B):
                return data

    def close(self):
        self.sock.close()


class Pair:
    """Two ends with a relay between them: a is one of a veth pair, as a client's; b is a tap."""

    def __init__(self):
        netns.sh("ip", "link", "add", "end-a", "mtu", "65521", "type", "veth", "peer", "name", "mid-a", "mtu", "65521")
        netns.sh("ip", "tuntap", "add", "dev", "end-b", "mode", "tap")
        netns.sh("ip", "link", "set", "end-b", "mtu", "65521", "txqueuelen", "5000")
        for device in ("end-a", "mid-a", "end-b"):
            netns.quiet(device)
            netns.sh("ip", "link", "set", device, "up")
        self.relay = Relay("mid-a", "tap:end-b")
        for device in ("end-a", "mid-a", "end-b"):
            netns.wait_sends(device)
        self.a, self.b = End("end-a"), End("end-b")

    def stop(self):
        self.relay.stop()
        self.a.close()
        self.b.close()
        netns.sh("ip", "link", "del", "end-a")
        netns.sh("ip", "link", "del", "end-b")


@pytest.fixture(scope="module")
def ends():
    p = Pair()
    yield p
    p.stop()


@pytest.fixture
def pair(ends):
    """With nothing on the way, and every setting as at the start; and then every frame must be accounted for."""
    ends.relay.set("cut")
    ends.relay.set("clear")
    ends.relay.set("seed 1")
    for end in (ends.a, ends.b):
        while end.next(0.001):
            pass
    yield ends
    for s in ends.relay.stats().values():
        assert s["came"] == sum(s[k] for k in ("passed", "cut", "dropped", "lost", "overflow", "failed", "frames")), s
        assert not s["missed"] and not s["failed"], s


def frame(number, size=60, to=B, sender=A, tag=b""):
    return (to + sender + tag + struct.pack("!HI", TEST_TYPE, number)).ljust(size, b"\xa5")


def ip_frame(proto, ports=(0, 0), offset=0, tag=b"", options=0):
    ip = struct.pack("!BBHHHBBH4s4s", 0x45 + options, 0, 28, 0, offset, 64, proto, 0, b"\n\x4d\0\1", b"\n\x4d\0\2") + bytes(4 * options)
    return (B + A + tag + struct.pack("!H", 0x0800) + ip + struct.pack("!HH", *ports)).ljust(60, b"\0")


def numbers(end, first=WITHIN, more=0.3):
    """The numbers of all frames that come, until none has come for `more` seconds."""
    got = []
    while (f := end.next(more if got else first)):
        got.append(struct.unpack_from("!I", f, 14)[0])
    return got


def wait_stats(relay, direction, done, seconds=WITHIN):
    end = time.monotonic() + seconds
    while not done(s := relay.stats()[direction]):
        assert time.monotonic() < end, s
        time.sleep(0.01)
    return s


def send_all(pair, frames):
    """From a; returns when the relay has taken them all."""
    came = pair.relay.stats()["a2b"]["came"]
    for f in frames:
        pair.a.send(f)
    return wait_stats(pair.relay, "a2b", lambda s: s["came"] == came + len(frames))


@pytest.mark.parametrize("size", [60, 1514, 9014, 65535])
@pytest.mark.parametrize("tag", [b"", TAG], ids=["plain", "tagged"])
def test_frames_pass_unchanged(pair, size, tag):
    for i, (one, other) in enumerate(((pair.a, pair.b), (pair.b, pair.a))):
        f = frame(i, size, *((B, A) if one is pair.a else (A, B)), tag)
        one.send(f)
        assert other.next() == f


def test_delay_keeps_the_order(pair):
    pair.relay.set("delay 300ms")
    start = time.monotonic()
    send_all(pair, [frame(n) for n in range(50)])
    pair.b.send(frame(50, to=A, sender=B))
    assert numbers(pair.b) == list(range(50))
    assert time.monotonic() - start >= 0.3
    assert numbers(pair.a) == [50]
    pair.relay.set("delay 60s")
    send_all(pair, [frame(n) for n in range(50)])
    assert pair.relay.stats()["a2b"]["frames"] == 50
    pair.relay.set("delay 1ms")  # frames that are on the way are not forgotten there
    send_all(pair, [frame(n) for n in range(50, 60)])
    assert numbers(pair.b) == list(range(60))


def test_loss_is_the_same_each_time(pair):
    frames = [frame(n) for n in range(2000)]
    lost = []
    for setting in ("a2b loss 5%", "seed 1", "seed 2"):
        pair.relay.set(setting)
        send_all(pair, frames)
        lost.append(set(range(2000)) - set(numbers(pair.b)))
    assert 50 < len(lost[0]) < 150
    assert lost[0] == lost[1] != lost[2]
    pair.b.send(frame(7, to=A, sender=B))
    assert numbers(pair.a) == [7]
    pair.relay.set("a2b loss 100%")
    send_all(pair, frames[:100])
    assert pair.b.next(0.1) is None
    pair.relay.set("clear")
    send_all(pair, frames[:100])
    assert numbers(pair.b) == list(range(100))


def test_rate_and_limit(pair):
    """10 frames of 1000 bytes have room; at 1 s a frame the others do not come in before the sender is done."""
    before = pair.relay.stats()["a2b"]
    pair.relay.set("a2b rate 8kbit limit 10000")
    s = send_all(pair, [frame(n, 1000) for n in range(100)])
    assert s["bytes"] <= 10000 and s["overflow"] - before["overflow"] >= 80, s
    first = pair.b.next()
    s = pair.relay.stats()["a2b"]
    assert first == frame(0, 1000) and s["frames"] >= 1, s  # it took a second; the others still wait
    pair.relay.set("clear")
    assert numbers(pair.b)[:9] == list(range(1, 10))


def test_number_of_frames_is_bounded(pair):
    """Small ones, which the limit of bytes alone would not bound."""
    pair.relay.set("delay 60s limit 64M")
    before = pair.relay.stats()["a2b"]["overflow"]
    for n in range(17):
        s = send_all(pair, [frame(n * 1000 + i) for i in range(1000)])
    assert s["frames"] == 16384 and s["overflow"] - before == 17000 - 16384, s


def test_cut_and_join(pair):
    pair.relay.set("delay 60s")
    send_all(pair, [frame(1)])
    pair.relay.set("cut")  # with the one that is in it
    send_all(pair, [frame(2)])
    assert pair.relay.stats()["a2b"]["frames"] == 0
    pair.relay.set("join delay 0ms")
    send_all(pair, [frame(3)])
    assert numbers(pair.b) == [3]


def internet_sum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total


def test_damage(pair):
    """One bit of the packet; two words of TCP's data, and the same sum; the second half; and each frame once more."""
    data = bytes(range(200))
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40 + len(data), 0, 0, 64, 6, 0, b"\n\x4d\0\1", b"\n\x4d\0\2")
    tcp = struct.pack("!HHIIBBHHH", 5, 7077, 1, 2, 5 << 4, 0x18, 100, 0, 0)
    f = B + A + b"\x08\x00" + ip + tcp + data
    headers = len(f) - len(data)
    for kind in ("corrupt", "swap", "short", "twice"):
        pair.relay.set(f"clear a2b {kind} 100%")
        before = pair.relay.stats()["a2b"]
        pair.a.send(f)
        got = pair.b.next()
        s = wait_stats(pair.relay, "a2b", lambda s: s["passed"] - before["passed"] == 1 + (kind == "twice"))
        assert s["damaged"] - before["damaged"] == (kind != "twice") and s["repeated"] - before["repeated"] == (kind == "twice"), s
        if kind == "corrupt":
            assert sum(bin(x ^ y).count("1") for x, y in zip(f, got)) == 1 and got[:14] == f[:14] and len(got) == len(f)
        elif kind == "swap":
            assert got[:headers] == f[:headers] and got != f and internet_sum(got[14:]) == internet_sum(f[14:])
        elif kind == "short":
            assert got == f[:len(f) // 2]
        else:
            assert got == f and pair.b.next() == f
    pair.relay.set("clear a2b corrupt 100% swap 100%")  # nothing that a checksum of IP's looks after
    pair.a.send(frame(1))
    assert pair.b.next() == frame(1)


def test_half_open(pair):
    pair.relay.set("a2b cut")
    send_all(pair, [frame(1)])
    pair.b.send(frame(2, to=A, sender=B))
    assert numbers(pair.a) == [2] and pair.b.next(0.05) is None
    pair.relay.set("a2b join b2a cut")
    pair.b.send(frame(3, to=A, sender=B))
    send_all(pair, [frame(4)])
    assert numbers(pair.b) == [4] and pair.a.next(0.05) is None


def test_drop_by_kind(pair):
    tcp, udp = 6, 17
    rows = [("tcp 7077", ip_frame(tcp, (7077, 5)), True), ("tcp 7077", ip_frame(tcp, (5, 7077)), True),
            ("tcp 7077", ip_frame(tcp, (5, 7078)), False), ("tcp 7077", ip_frame(udp, (5, 7077)), False),
            ("tcp 7077", ip_frame(tcp, (5, 7077), tag=TAG), True), ("tcp 7077", ip_frame(tcp, (5, 7077), options=3), True),
            ("tcp 7077", ip_frame(tcp, (7077, 7077), offset=5), False), ("tcp 7077", ip_frame(tcp, (5, 7077), offset=0x2000), True),
            ("tcp 7077", frame(1), False), ("tcp", ip_frame(tcp), True), ("tcp", ip_frame(tcp, offset=5), True),
            ("udp 67", ip_frame(udp, (68, 67)), True), ("icmp", ip_frame(1), True), ("icmp", ip_frame(tcp), False),
            ("ip", ip_frame(89), True), ("ip", frame(1), False), ("arp drop udp", ip_frame(udp), True),
            ("arp", (B + A + b"\x08\x06").ljust(60, b"\0"), True), ("rarp", (B + A + b"\x80\x35").ljust(60, b"\0"), True),
            ("tcp 7077", (B + A + b"\x08\x00\x45").ljust(15, b"\0"), False)]
    for kind, f, gone in rows:
        pair.relay.set(f"a2b pass drop {kind}")
        before = pair.relay.stats()["a2b"]["dropped"]
        s = send_all(pair, [f, frame(9)])
        assert s["dropped"] - before == gone, (kind, f.hex())
        assert gone or pair.b.next() == f
        assert pair.b.next() == frame(9)
    pair.b.send(bytes(A + B) + ip_frame(tcp, (5, 7077))[12:])
    assert pair.a.next() is not None


@pytest.mark.parametrize("line", [
    "", "a2b", "nonsense", "delay", "delay 5", "twice", "swap 101%", "delay -5ms", "delay 5m", "delay 61s", "delay 1e999s", "loss 5", "loss 101%", "rate 1M",
    "rate fast", "limit 65M", "drop", "drop nonsense", "drop tcp 0", "drop tcp 65536", "drop tcp 7077x", "drop icmp 7", "seed", "seed x",
    "stats now", "a2b b2a", "a2b cut b2a delay", "cut delay 5ms delay", " ".join(["drop arp"] * 9), " ".join(["cut"] * 40)])
def test_bad_lines_change_nothing(pair, line):
    with pytest.raises(netns.RigError, match="error: "):
        pair.relay.set(line)
    send_all(pair, [frame(1)])
    assert numbers(pair.b, more=0.01) == [1]


def test_bad_devices():
    for a, b, says in (("nonsense", "lo", "nonsense: No such device"), ("tap:lo", "lo", "tap lo: "),
                       ("a" * 20, "lo", "not a device's name")):
        with pytest.raises(netns.RigError, match=says):
            Relay(a, b)


# ---- a real TCP: the far end is a network namespace behind the switch, as a host would be ----

ECHO = """
import socket, threading
def serve(port):
    with socket.create_server(("", port)) as s:
        while True:
            threading.Thread(target=echo, args=(s.accept()[0],), daemon=True).start()
def echo(c):
    with c:
        while data := c.recv(65536):
            c.sendall(data)
threading.Thread(target=serve, args=(7077,), daemon=True).start()
serve(7000)
"""


def far_namespace():
    die_with_parent()
    netns._unshare(netns.CLONE_NEWNET)


def whole_checksums(device):
    """Have a device's sender make checksums: the relay takes no half-made ones. ETHTOOL_STXCSUM (linux/ethtool.h)."""
    value = ctypes.create_string_buffer(struct.pack("II", 0x17, 0))
    with socket.socket() as s:
        fcntl.ioctl(s, 0x8946, struct.pack("16sP", device.encode(), ctypes.addressof(value)))  # SIOCETHTOOL


@pytest.fixture(scope="module")
def line(switch):
    """The relay between the switch and FAR."""
    far = subprocess.Popen([sys.executable, "-c", ECHO], preexec_fn=far_namespace)
    inside = ("nsenter", "-t", str(far.pid), "-n")
    try:
        switch.plug("tap-far", False)
        netns.sh("ip", "link", "add", "mid-far", "type", "veth", "peer", "name", "far")
        netns.quiet("mid-far")
        whole_checksums("far")
        netns.sh("ip", "link", "set", "mid-far", "up")
        netns.sh("ip", "link", "set", "far", "netns", str(far.pid))
        netns.sh(*inside, "ip", "addr", "add", FAR + "/24", "dev", "far")
        netns.sh(*inside, "ip", "link", "set", "far", "up")
        relay = Relay("mid-far", "tap:tap-far")
        wait_connect(7000)
        wait_connect(7077)
        yield relay
        relay.stop()
    finally:
        far.kill()
        far.wait(5)
        netns.sh("ip", "link", "del", "tap-far")


def wait_connect(port):
    end = time.monotonic() + WITHIN
    while not connects(port):
        assert time.monotonic() < end, f"port {port} does not answer"


def connects(port, seconds=0.5):
    with contextlib.suppress(OSError):
        socket.create_connection((FAR, port), timeout=seconds).close()
        return True
    return False


def round_trip_ms():
    """The fastest of a few pings."""
    p = subprocess.run(["ping", "-n", "-q", "-c", "3", "-i", "0.01", "-W", "2", FAR], stdout=subprocess.PIPE, text=True, timeout=30)
    m = re.search(r"= ([\d.]+)/", p.stdout)
    return float(m[1]) if m else None


def test_ping_takes_the_delay_twice(line):
    line.set("clear delay 75ms")
    assert round_trip_ms() >= 150
    line.set("clear a2b delay 100ms")
    assert round_trip_ms() >= 100
    line.set("clear")
    end = time.monotonic() + WITHIN
    while round_trip_ms() >= 50:
        assert time.monotonic() < end, "the delay stays"


def test_tcp_keeps_to_the_rate(line):
    line.set("clear b2a rate 4Mbit")
    assert client.transfer(FAR, 200_000) >= 200_000 * 8 / 4e6 - 0.01  # that a frame may take sooner


def test_tcp_mends_what_is_lost(line):
    line.set("clear loss 3% delay 1ms")
    client.transfer(FAR, 200_000)
    s = line.stats()
    assert s["a2b"]["lost"] + s["b2a"]["lost"] > 0, s


def test_one_port_is_dropped(line):
    line.set("clear drop tcp 7077")
    assert not connects(7077)
    client.transfer(FAR, 1000)
    assert round_trip_ms() is not None
    line.set("clear")
    wait_connect(7077)


def test_large_transfer_over_a_clear_line(line):
    line.set("clear")
    client.transfer(FAR, 10_000_000)
    for s in line.stats().values():
        assert not s["missed"] and not s["overflow"], s
