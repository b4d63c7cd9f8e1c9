# SPDX-License-Identifier: BSD-2-Clause
"""The rig's network: a namespace that this process alone has, with a learning switch in it (a Linux bridge).

    client (this process)  10.77.0.1 on br0 ---+--- tap of host a ... tern ... guest
                                               +--- tap of host b ... tern

The namespace has no name and nothing to clean up: it is gone with the last process in it. Root needs no more than that; an
ordinary user gets a user namespace around it, where he may do the same.
"""
import contextlib
import ctypes
import fcntl
import json
import os
import select
import socket
import struct
import subprocess
import tempfile
import threading
import time

BRIDGE = "br0"
CLIENT_MAC = "52:54:00:77:ff:01"
CLIENT_ADDRESS = "10.77.0.1"
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
ETH_P_ARP, ETH_P_RARP = 0x0806, 0x8035
ETH_P_ALL = 3
ETH_P_LOCAL = 0x88b6  # for experiments (IEEE 802); 88b5 is tern's own
SIOCBRADDIF = 0x89A2
ETH_P_8021Q = 0x8100
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454ca, 2, 0x1000
SOL_PACKET, PACKET_AUXDATA, TP_STATUS_VLAN_VALID = 263, 8, 0x10
PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC = 1, 1


class RigError(Exception):
    """The rig itself cannot work here (no rights, missing package); not a failure of tern."""


def sh(*cmd, timeout=10):
    """Run a command; its output, or RigError with what it said."""
    p = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout)
    if p.returncode:
        raise RigError(f"{' '.join(cmd)}: {p.stderr.strip() or p.stdout.strip() or p.returncode}")
    return p.stdout


def _unshare(flags):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def enter():
    """Move this process (one thread so far) and its children into a network namespace of their own."""
    uid, gid = os.getuid(), os.getgid()
    try:
        _unshare(CLONE_NEWNET if uid == 0 else CLONE_NEWUSER | CLONE_NEWNET)
        if uid:
            for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
                with open(f"/proc/self/{name}", "w") as f:
                    f.write(text)
    except OSError as e:
        raise RigError(f"no network namespace for user {uid}: {e}. Run this as root, or allow user namespaces "
                       "(sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces > 0)") from None
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        raise RigError("/dev/net/tun cannot be opened: run this as root, or `chmod 666 /dev/net/tun` (as udev does on Debian)")
    sh("ip", "link", "set", "lo", "up")


def quiet(device):
    """Have the kernel's own IP neither speak nor answer on a device that only frames of others cross."""
    with open(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6", "w") as f:
        f.write("1")
    sh("ip", "link", "set", device, "arp", "off")


def wait_sends(device):
    """Until a device that is up has its queue: the kernel gives it one some time after its carrier comes, and drops what is sent before."""
    end = time.monotonic() + 10
    while json.loads(sh("ip", "-j", "link", "show", device))[0]["qdisc"] == "noop":
        if time.monotonic() > end:
            raise RigError(f"{device} gets no queue")
        time.sleep(0.02)


class Switch:
    """The bridge. Taps are made by plug()."""

    def __init__(self):
        # An address of its own: else it is the lowest of its ports, and the client has another one once a host is plugged in.
        sh("ip", "link", "add", BRIDGE, "address", CLIENT_MAC, "type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
        with open(f"/proc/sys/net/ipv6/conf/{BRIDGE}/disable_ipv6", "w") as f:
            f.write("1")
        sh("ip", "addr", "add", CLIENT_ADDRESS + "/24", "dev", BRIDGE)
        sh("ip", "link", "set", BRIDGE, "up")

    def plug(self, tap, header=True, queues=1):
        """Make a tap anew, with the header of offloads before each frame or without, and put its cable into the switch."""
        if os.path.exists(f"/proc/sys/net/ipv4/conf/{tap}"):
            sh("ip", "link", "del", tap)  # what the last user negotiated must not last
        sh("ip", "tuntap", "add", "dev", tap, "mode", "tap", *(["vnet_hdr"] if header else []), *(["multi_queue"] if queues > 1 else []))
        sh("ip", "link", "set", tap, "master", BRIDGE, "up")

    def plug_relay(self, tap, cable):
        """Make both ends of a relay anew: the switch's tap, and the one of an emulator, which is in no switch. Without the header."""
        self.plug(tap, False)
        if os.path.exists(f"/proc/sys/net/ipv4/conf/{cable}"):
            sh("ip", "link", "del", cable)
        sh("ip", "tuntap", "add", "dev", cable, "mode", "tap")
        quiet(cable)
        sh("ip", "link", "set", cable, "up")
        sh("ip", "link", "set", tap, "txqueuelen", "5000")  # a relay may wait long for a CPU

    def link(self, tap, up):
        """Plug the cable of a host in or pull it."""
        sh("ip", "link", "set", tap, *(("master", BRIDGE) if up else ("nomaster",)))

    def port_of(self, mac):
        """The tap that the switch has learned this MAC on, or None."""
        for e in json.loads(sh("bridge", "-j", "fdb", "show", "br", BRIDGE) or "[]"):
            if e.get("mac", "").lower() == mac.lower() and "permanent" not in e.get("state", ""):
                return e["ifname"]
        return None

    def wait_port(self, mac, tap, seconds):
        end = time.monotonic() + seconds
        while self.port_of(mac) != tap and time.monotonic() < end:
            time.sleep(0.02)
        return self.port_of(mac)


    def snoop(self, on):
        """Forward multicast only to those who have asked for it, as an operator's switch does: its queries are minutes apart, but for the
        first two. Then the client has IPv6 as well, at once: queries have its address as their source, and DAD takes up to 2 s, in which
        both would not be sent."""
        for key, value in (("dad_transmits", "0"), ("disable_ipv6", "0" if on else "1")):
            with open(f"/proc/sys/net/ipv6/conf/{BRIDGE}/{key}", "w") as f:
                f.write(value)
        sh("ip", "link", "set", BRIDGE, "type", "bridge", "mcast_query_response_interval", "100" if on else "1000",
           "mcast_startup_query_interval", "200" if on else "3125", "mcast_snooping", str(int(on)), "mcast_querier", str(int(on)))

    def members(self, group):
        """The ports that have asked for a group."""
        return {e["port"] for b in json.loads(sh("bridge", "-j", "mdb", "show", "dev", BRIDGE) or "[]") for e in b.get("mdb", [])
                if e["grp"] == group}


class ClientAddress:
    """One more address of the client, until remove()."""

    def __init__(self, address):
        self.address = address
        sh("ip", "addr", "add", f"{address}/32", "dev", BRIDGE)

    def remove(self):
        if self.address:
            sh("ip", "addr", "del", f"{self.address}/32", "dev", BRIDGE)
        self.address = None


class Router6:
    """The client as an IPv6 router, of a prefix of 64 bits such as fd00:77::, until remove()."""

    def __init__(self, prefix):
        self.prefix = prefix
        self.disable(False)
        sh("ip", "addr", "add", f"{prefix}1/64", "dev", BRIDGE, "nodad")

    def disable(self, disabled):
        with open(f"/proc/sys/net/ipv6/conf/{BRIDGE}/disable_ipv6", "w") as f:
            f.write(str(int(disabled)))

    def advertise(self):
        """RFC 4861 4.2, with one prefix (4.6.2) for addresses that hosts make themselves. Answers no solicitation."""
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as s:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex(BRIDGE))
            s.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) +
                     struct.pack("!BBBBIII16s", 3, 4, 64, 0xc0, 3600, 1800, 0, socket.inet_pton(socket.AF_INET6, self.prefix)), ("ff02::1", 0))

    def remove(self):
        self.disable(True)


class VlanPort:
    """
    A place of the client on a VLAN of the switch, with this address, until remove(): a tap whose frames get the tag here, for not every
    kernel has devices of VLANs. The bridge hands up what is for others as well, meanwhile: this tap's MAC is one it does not know.
    """

    def __init__(self, vlan, address):
        self.tag = struct.pack("!HH", ETH_P_8021Q, vlan)
        self.vlan = vlan
        self.device = f"vlan{vlan}"
        sh("ip", "tuntap", "add", "dev", self.device, "mode", "tap")
        with open(f"/proc/sys/net/ipv6/conf/{self.device}/disable_ipv6", "w") as f:
            f.write("1")
        sh("ip", "addr", "add", f"{address}/24", "dev", self.device)
        self.tap = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self.tap, TUNSETIFF, struct.pack("16sH22x", self.device.encode(), IFF_TAP | IFF_NO_PI))
        sh("ip", "link", "set", self.device, "up")
        self.wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.wire.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)  # the kernel takes tags off, and has them there
        self.wire.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, struct.pack("iHH8x", socket.if_nametoindex(BRIDGE), PACKET_MR_PROMISC, 0))
        self.wire.bind((BRIDGE, ETH_P_ALL))
        self.stopping = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopping:
            ready = select.select([self.tap, self.wire], [], [], 0.1)[0]
            if self.tap in ready:
                frame = os.read(self.tap, 65536)
                self.wire.send(frame[:12] + self.tag + frame[12:])
            if self.wire in ready:
                frame, aux, _, where = self.wire.recvmsg(65536, 64)
                status, tci = struct.unpack_from("IxxxxxxxxxxxxH", aux[0][2])
                if where[2] != socket.PACKET_OUTGOING and status & TP_STATUS_VLAN_VALID and tci & 0xfff == self.vlan:
                    os.write(self.tap, frame)

    def remove(self):
        self.stopping = True
        self.thread.join(5)
        self.wire.close()
        os.close(self.tap)
        sh("ip", "link", "del", self.device)


def mac_text(b):
    return ":".join(f"{x:02x}" for x in b)


def send_as(mac, count):
    """Broadcast frames from this MAC to all that is plugged into the switch, which itself does not learn from them."""
    frame = b"\xff" * 6 + bytes.fromhex(mac.replace(":", "")) + struct.pack("!H", ETH_P_LOCAL) + bytes(46)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
        s.bind((BRIDGE, 0))
        for _ in range(count):
            s.send(frame)


def claim(address, told, count=20):
    """Tell the machine of the MAC `told`, and nobody else, that `address` is here (an ARP reply, RFC 826)."""
    me, to = (bytes.fromhex(m.replace(":", "")) for m in (CLIENT_MAC, told))
    ip = socket.inet_aton(address)
    frame = to + me + struct.pack("!HHHBBH", ETH_P_ARP, 1, 0x0800, 6, 4, 2) + me + ip + to + ip + bytes(18)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
        s.bind((BRIDGE, 0))
        for _ in range(count):
            s.send(frame)


class Sniffer:
    """Frames of one EtherType on one device, as (time.monotonic(), what take() makes of a frame) in .frames, from now to stop()."""

    def __init__(self, device, ethertype):
        self.frames = []
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ethertype))
        self.sock.bind((device, ethertype))
        self.stopping = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopping:
            if select.select([self.sock], [], [], 0.1)[0]:
                got = self.take(*self.sock.recvfrom(2048))
                if got:
                    self.frames.append((time.monotonic(), got))

    def stop(self):
        self.stopping = True
        self.thread.join(2)
        self.sock.close()
        return self.frames


class Capture(Sniffer):
    """Every frame that a host sends by its tap."""

    def __init__(self, tap):
        super().__init__(tap, ETH_P_ALL)

    @staticmethod
    def take(frame, where):
        return frame if where[2] != socket.PACKET_OUTGOING else None


class Talk:
    """A capture, as tcpdump writes it."""
    bytes = b""

    def printed(self):
        """A text of its packets, with their link's headers."""
        return subprocess.run(["tcpdump", "-n", "-e", "-v", "-r", "-"], input=self.bytes, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=60, check=True).stdout.decode()


@contextlib.contextmanager
def hosts_talk():
    """All that hosts say to each other on the switch, with or without a tag; complete after the block."""
    talk = Talk()
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "wire")
        p = subprocess.Popen(["tcpdump", "-i", BRIDGE, "-B", "65536", "-U", "-w", path, "tcp", "port", "7077"],
                             stderr=subprocess.PIPE, text=True)
        try:
            assert "listening on" in p.stderr.readline(), "tcpdump does not start"
            yield talk
            time.sleep(0.5)  # the kernel hands the last packets over in blocks
        finally:
            p.terminate()
            p.communicate(timeout=10)
        with open(path, "rb") as f:
            talk.bytes = f.read()


def decode_rarp(frame):
    """An Ethernet frame that may be a RARP one, as a dict of text; None: it is not (RFC 903)."""
    if len(frame) < 42 or struct.unpack_from("!H", frame, 12)[0] != ETH_P_RARP:
        return None
    htype, ptype, hlen, plen, op = struct.unpack_from("!HHBBH", frame, 14)
    sha, spa, tha, tpa = struct.unpack_from("!6s4s6s4s", frame, 22)
    return {"dst": mac_text(frame[0:6]), "src": mac_text(frame[6:12]), "htype": htype, "ptype": ptype, "hlen": hlen,
            "plen": plen, "op": op, "sha": mac_text(sha), "spa": socket.inet_ntoa(spa), "tha": mac_text(tha),
            "tpa": socket.inet_ntoa(tpa), "length": len(frame)}


class RarpWatch(Sniffer):
    """Every RARP frame that crosses the switch, as decode_rarp has it."""

    def __init__(self):
        super().__init__(BRIDGE, ETH_P_RARP)

    @staticmethod
    def take(frame, _):
        return decode_rarp(frame)

    def of(self, mac):
        """The frames that announce this MAC."""
        return [(t, f) for t, f in list(self.frames) if f["src"] == mac.lower()]

    def wait(self, mac, count, seconds):
        end = time.monotonic() + seconds
        while len(self.of(mac)) < count and time.monotonic() < end:
            time.sleep(0.02)
        return self.of(mac)
