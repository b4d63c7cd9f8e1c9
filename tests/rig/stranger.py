# SPDX-License-Identifier: BSD-2-Clause
"""What a stranger on the hosts' network can send, made by hand: no connection of the client's kernel stands behind it."""
import contextlib
import itertools
import random
import socket
import struct
import threading
import time

import netns
from client import until

SYN, ACK = 0x02, 0x10
ICMP, TCP, UDP, ICMP6, MORE_FRAGMENTS, ETH_P_8021AD = 1, 6, 17, 58, 0x2000, 0x88a8
ADVERTISE_ROUTER, SOLICIT, ADVERTISE, OVERRIDE, SOURCE_MAC, TARGET_MAC, PREFIX = 134, 135, 136, 0x20000000, 1, 2, 3  # RFC 4861
ALL = "ff:ff:ff:ff:ff:ff"
STRANGER, STRANGER_MAC = "10.77.0.98", "52:54:00:77:ff:98"


def _checksum(data):
    data += bytes(len(data) % 2)
    s = sum(struct.unpack(f"!{len(data) // 2}H", data))
    s = (s & 0xffff) + (s >> 16)
    return ~((s & 0xffff) + (s >> 16)) & 0xffff


def _mac(text):
    return bytes.fromhex(text.replace(":", ""))


def eth(to, source, kind, payload):
    return (_mac(to) + _mac(source) + struct.pack("!H", kind) + payload).ljust(60, b"\0")


def ip4(source, to, proto, payload, ident=0, fragment=0):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), ident, fragment, 64, proto, 0, socket.inet_aton(source), socket.inet_aton(to))
    return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + payload


def tcp(source, to, ports, seq, ack, flags, payload=b""):
    head = struct.pack("!HHIIBBHHH", *ports, seq & 0xffffffff, ack & 0xffffffff, 5 << 4, flags, 8192, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(to) + struct.pack("!HH", 6, len(head) + len(payload))
    return ip4(source, to, TCP, head[:16] + struct.pack("!H", _checksum(pseudo + head + payload)) + head[18:] + payload)


def ip6(source, to, proto, payload, checksum_at):
    """The payload with its checksum, behind a header with the hop limit of neighbours."""
    source, to = (socket.inet_pton(socket.AF_INET6, a) for a in (source, to))
    c = _checksum(source + to + struct.pack("!II", len(payload), proto) + payload)
    payload = payload[:checksum_at] + struct.pack("!H", c) + payload[checksum_at + 2:]
    return struct.pack("!IHBB16s16s", 6 << 28, len(payload), proto, 255, source, to) + payload


def udp(source, to, ports, payload):
    return ip4(source, to, UDP, struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload)


def _arp(op, mac, address, to, target):
    return eth(to, mac, netns.ETH_P_ARP, struct.pack("!HHBBH", 1, 0x0800, 6, 4, op) + _mac(mac) + socket.inet_aton(address) +
               bytes(6) + socket.inet_aton(target))


def arp_request(mac, address, target):
    return _arp(1, mac, address, ALL, target)


def arp_reply(mac, address, to=ALL):
    """That this address is at this MAC, to one machine or to all."""
    return _arp(2, mac, address, to, address)


def dhcp_offer(mac, address, offered):
    """To all who listen for one (RFC 2131): a server at this address offers another."""
    bootp = struct.pack("!BBBBIHH4s4s4s4s", 2, 1, 6, 0, 1, 0, 0x8000, bytes(4), socket.inet_aton(offered), socket.inet_aton(address), bytes(4))
    options = bytes.fromhex("63825363 350102 3604") + socket.inet_aton(address) + bytes.fromhex("3304 00000e10 ff")
    return eth(ALL, mac, 0x0800, udp(address, "255.255.255.255", (67, 68), bootp.ljust(236, b"\0") + options))


def _anybody(i):
    """A MAC and an address on the hosts' network that nobody has."""
    return f"52:54:00:f0:{i >> 8 & 255:02x}:{i & 255:02x}", f"10.77.0.{128 + i % 120}"


def syns(hosts, n=500):
    return [eth(h.mac, mac, 0x0800, tcp(address, h.address, (1024 + i, 7077), random.getrandbits(32), 0, SYN))
            for i in range(n) for h in hosts for mac, address in [_anybody(i)]]


def unknown(hosts, n=500):
    """SYNs and questions by ARP from hosts of the same link that are not there, each of which wants a place among the neighbours."""
    return syns(hosts, n) + [frame for i in range(n) for h in hosts for mac, near in [_anybody(i)] for far in [f"169.254.{i % 250 + 1}.{i % 200 + 1}" if i % 2 else f"10.{i % 200 + 1}.{i % 250 + 1}.1"]
                             for frame in (eth(h.mac, mac, 0x0800, tcp(far, h.address, (1024 + i, 7077), i, 0, SYN)), arp_request(mac, far, h.address),
                                           arp_request(mac, near, h.address))]


def arps(hosts, n=100):
    """Each host's address is claimed by others, and asked for by them, as if they were hosts."""
    return [frame for i in range(n) for h in hosts for mac, _ in [_anybody(i)] for o in hosts if o is not h
            for frame in (arp_reply(mac, h.address, o.mac), arp_reply(mac, h.address), arp_request(mac, h.address, o.address))]


def fragments(hosts, n=500):
    """Each of a packet that never becomes whole."""
    return [eth(h.mac, mac, 0x0800, ip4(address, h.address, UDP, bytes(1200), i & 0xffff, MORE_FRAGMENTS | (i % 2) * 150))
            for i in range(n) for h in hosts for mac, address in [_anybody(i)]]


def _nd(to_mac, to, mac, source, kind, word, target, *options):
    """Neighbour discovery; each option's length is a multiple of 8."""
    return eth(to_mac, mac, 0x86dd, ip6(source, to, ICMP6, struct.pack("!BBHI", kind, 0, 0, word) + target + b"".join(options), 2))


def floods6(hosts, n=300):
    """
    What syns(), unknown() and arps() are, over IPv6: connections, and solicitations, each from another neighbour; and routers, each of
    another network. The second list are claims: each host's address is at other machines, and wanted by others.
    """
    anonymous, claims, all_nodes = [], [], ("33:33:00:00:00:01", "ff02::1")
    for i, h in itertools.product(range(n), hosts):
        mac, peer = _anybody(i)[0], next(o for o in hosts if o is not h)
        near, link = f"fd00:77::f0:{i:x}", f"fe80::f0:{i:x}"
        own, peers = (socket.inet_pton(socket.AF_INET6, o.address6) for o in (h, peer))
        my_mac = struct.pack("!BB6s", SOURCE_MAC, 1, _mac(mac))
        syn = struct.pack("!HHIIBBHHH", 1024 + i, 7077, random.getrandbits(32), 0, 5 << 4, SYN, 8192, 0, 0)
        prefix = struct.pack("!BBBBIII16s", PREFIX, 4, 64, 0xc0, 3600, 1800, 0, socket.inet_pton(socket.AF_INET6, f"fd00:{i + 0x100:x}::"))
        anonymous += [eth(h.mac, mac, 0x86dd, ip6(near, h.address6, TCP, syn, 16)),
                      _nd(h.mac, h.address6, mac, near, SOLICIT, 0, own, my_mac),
                      _nd(h.mac, h.address6, mac, link, SOLICIT, 0, own, my_mac),
                      _nd(*all_nodes, mac, link, ADVERTISE_ROUTER, 64 << 24 | 1800, bytes(8), my_mac, prefix)]
        his_mac = struct.pack("!BB6s", TARGET_MAC, 1, _mac(mac))
        claims += [_nd(h.mac, h.address6, mac, peer.address6, ADVERTISE, OVERRIDE, peers, his_mac),
                   _nd(*all_nodes, mac, peer.address6, ADVERTISE, OVERRIDE, peers, his_mac),
                   _nd(h.mac, h.address6, mac, peer.address6, SOLICIT, 0, own, my_mac)]
    return anonymous, claims


class Flood:
    """These frames on the hosts' network, round and round, `rate` a second at most, for the block. .sent, so far."""
    BATCH = 0.005

    def __init__(self, frames, rate):
        self.frames, self.rate, self.sent, self.stopping = itertools.cycle(frames), rate, 0, threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
            s.bind((netns.BRIDGE, 0))
            start = time.monotonic()
            while not self.stopping.wait(self.BATCH):
                due = int((time.monotonic() - start) * self.rate) - self.sent
                for frame in itertools.islice(self.frames, min(due, self.rate // 50)):
                    s.send(frame)
                    self.sent += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join(10)


def _wire():
    """All that crosses the switch, also what is for others."""
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(netns.ETH_P_ALL))
    s.bind((netns.BRIDGE, 0))
    s.setsockopt(netns.SOL_PACKET, netns.PACKET_ADD_MEMBERSHIP,
                 struct.pack("iHH8x", socket.if_nametoindex(netns.BRIDGE), netns.PACKET_MR_PROMISC, 0))
    return s


class Answerer:
    """A machine on the hosts' network for the block: _answer(frame, auxiliary data) gets each frame that comes by this socket."""

    def __init__(self, wire):
        wire.settimeout(0.1)
        self.wire, self.stopping = wire, False
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self.stopping:
            with contextlib.suppress(TimeoutError):
                frame, aux, _, where = self.wire.recvmsg(65536, 64)
                if where[2] != socket.PACKET_OUTGOING:
                    self._answer(frame, aux)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.thread.join(5)
        self.wire.close()


class TwoTags(Answerer):
    """
    A machine behind two tags, 802.1ad's and 802.1Q's, that answers echo requests, for the block. .lengths: of the requests' frames, with
    both tags. Meanwhile the switch and these taps of it carry such frames.
    """

    def __init__(self, address, taps):
        super().__init__(_wire())
        self.taps, self.address, self.lengths = taps, socket.inet_aton(address), []
        self.wire.setsockopt(netns.SOL_PACKET, netns.PACKET_AUXDATA, 1)  # the kernel takes the first tag off, and has it there

    def _answer(self, frame, aux):
        status, tci = struct.unpack_from("IxxxxxxxxxxxxH", aux[0][2])
        tagged = status & netns.TP_STATUS_VLAN_VALID and frame[12:14] == b"\x81\0" and frame[16:18] == b"\x08\0"
        if not tagged or frame[:6] != _mac(STRANGER_MAC) or frame[34:38] != self.address or frame[38:39] != b"\x08":
            return
        self.lengths.append(len(frame) + 4)
        echo = bytes(4) + frame[42:]
        echo = echo[:2] + struct.pack("!H", _checksum(echo)) + echo[4:]
        packet = ip4(socket.inet_ntoa(self.address), socket.inet_ntoa(frame[30:34]), ICMP, echo)
        self.wire.send(frame[6:12] + frame[:6] + struct.pack("!HH", ETH_P_8021AD, tci) + frame[12:18] + packet)

    def _mtu(self, size):
        for device in (netns.BRIDGE,) + self.taps:
            netns.sh("ip", "link", "set", device, "mtu", str(size))

    def __enter__(self):
        self._mtu(1508)
        return super().__enter__()

    def __exit__(self, *_):
        super().__exit__()
        self._mtu(1500)


def out_of_order(host, n):
    """A connection to the migration service, and on it n segments of one byte with a hole before each."""
    ports, seq = (random.randrange(1024, 65536), 7077), random.getrandbits(31)
    with _wire() as s:  # the answer is for a MAC that the client does not have
        s.setblocking(False)
        s.send(arp_request(STRANGER_MAC, STRANGER, host.address))  # it learns where the answer goes
        s.send(eth(host.mac, STRANGER_MAC, 0x0800, tcp(STRANGER, host.address, ports, seq, 0, SYN)))

        def answer():
            with contextlib.suppress(BlockingIOError):
                while True:
                    f = s.recv(2048)
                    if f[:6] == _mac(STRANGER_MAC) and f[12:14] == b"\x08\0" and f[23] == 6 and f[36:38] == struct.pack("!H", ports[0]):
                        return struct.unpack("!I", f[38:42])[0] + 1
            return None

        ack = until(answer, 5, "SYN ACK")
        s.send(eth(host.mac, STRANGER_MAC, 0x0800, tcp(STRANGER, host.address, ports, seq + 1, ack, ACK)))
        for i in range(n):
            s.send(eth(host.mac, STRANGER_MAC, 0x0800, tcp(STRANGER, host.address, ports, seq + 3 + 2 * i, ack, ACK, b"x")))
