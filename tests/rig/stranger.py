# SPDX-License-Identifier: BSD-2-Clause
"""What a stranger on the hosts' network can send, made by hand: no connection of the client's kernel stands behind it."""
import contextlib
import random
import socket
import struct

import netns
from client import until

SYN, ACK = 0x02, 0x10
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


def ip4(source, to, proto, payload):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, 64, proto, 0, socket.inet_aton(source), socket.inet_aton(to))
    return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + payload


def tcp(source, to, ports, seq, ack, flags, payload=b""):
    head = struct.pack("!HHIIBBHHH", *ports, seq & 0xffffffff, ack & 0xffffffff, 5 << 4, flags, 8192, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(to) + struct.pack("!HH", 6, len(head) + len(payload))
    return ip4(source, to, 6, head[:16] + struct.pack("!H", _checksum(pseudo + head + payload)) + head[18:] + payload)


def arp_request(mac, address, target):
    return eth("ff:ff:ff:ff:ff:ff", mac, netns.ETH_P_ARP, struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + _mac(mac) + socket.inet_aton(address) +
               bytes(6) + socket.inet_aton(target))


def out_of_order(host, n):
    """A connection to the migration service, and on it n segments of one byte with a hole before each."""
    ports, seq = (random.randrange(1024, 65536), 7077), random.getrandbits(31)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(netns.ETH_P_ALL)) as s:
        s.bind((netns.BRIDGE, 0))
        s.setsockopt(netns.SOL_PACKET, netns.PACKET_ADD_MEMBERSHIP,  # the answer is for a MAC that the client does not have
                     struct.pack("iHH8x", socket.if_nametoindex(netns.BRIDGE), netns.PACKET_MR_PROMISC, 0))
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
