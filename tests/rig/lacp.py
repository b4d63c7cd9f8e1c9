# SPDX-License-Identifier: BSD-2-Clause
"""
A switch that aggregates links (IEEE Std 802.1AX): it takes the taps of a host's bond, speaks LACP with the host, and carries the frames of
both as one port of the rig's switch. A bridge of Linux forwards no frame to 01:80:c2:00:00:02, and a bond needs a kernel's module.
"""
import fcntl
import os
import select
import socket
import struct
import threading
import time
import zlib

import netns

GROUP, TYPE, SYSTEM = bytes.fromhex("0180c2000002"), 0x8809, bytes.fromhex("020000aa0001")
ACTIVITY, SHORT, AGGREGATION, SYNC, COLLECTING, DISTRIBUTING = 1, 2, 4, 8, 16, 32
INFO = struct.Struct("!H6sHHHB")  # system priority, system, key, port priority, port, state


class Port:
    def __init__(self, number, tap):
        self.number, self.tap = number, tap
        self.wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(netns.ETH_P_ALL))
        self.wire.bind((tap, netns.ETH_P_ALL))
        self.partner, self.heard, self.said = (0, bytes(6), 0, 0, 0, 0), None, 0.0
        self.frames = 0  # of the host's own, without LACP
        self.silent = False

    def info(self):
        state = ACTIVITY | SHORT | AGGREGATION
        if self.heard is not None:
            state |= SYNC
            if self.partner[5] & SYNC and self.known:
                state |= COLLECTING | (DISTRIBUTING if self.partner[5] & COLLECTING else 0)
        return 0x8000, SYSTEM, 7, 0x8000, self.number, state

    def carries(self, bit):
        return bool(self.info()[5] & bit)

    def hear(self, pdu):
        if pdu[0] != 1 or self.silent:
            return
        before = self.info()
        self.partner = INFO.unpack_from(pdu, 4)
        self.known = INFO.unpack_from(pdu, 24)[1:5] == before[1:5]
        self.heard = time.monotonic()
        if self.info() != before or not self.known:
            self.say()

    def say(self):
        if self.silent:
            return
        self.said = time.monotonic()
        tlv = [bytes((kind, 20)) + INFO.pack(*info) + bytes(3) for kind, info in ((1, self.info()), (2, self.partner))]
        pdu = bytes((1, 1)) + b"".join(tlv) + bytes((3, 16)) + bytes(14) + bytes(52)
        self.wire.send(GROUP + SYSTEM[:5] + bytes([self.number]) + struct.pack("!H", TYPE) + pdu)

    def turn(self):
        now = time.monotonic()
        if self.heard is not None and now - self.heard > 3:
            self.heard, self.partner = None, (0, bytes(6), 0, 0, 0, 0)
        if now - self.said >= 1:
            self.say()


class Aggregator:
    """Of these taps, which are no ports of the switch any more, until remove()."""

    def __init__(self, taps):
        self.device = f"lag-{taps[0]}"
        netns.sh("ip", "tuntap", "add", "dev", self.device, "mode", "tap")
        self.trunk = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self.trunk, netns.TUNSETIFF, struct.pack("16sH22x", self.device.encode(), netns.IFF_TAP | netns.IFF_NO_PI))
        netns.quiet(self.device)
        netns.sh("ip", "link", "set", self.device, "master", netns.BRIDGE, "up")
        for tap in taps:
            netns.sh("ip", "link", "set", tap, "nomaster")
            netns.quiet(tap)
        self.ports = [Port(i + 1, tap) for i, tap in enumerate(taps)]
        self.stopping = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopping:
            ready = select.select([self.trunk] + [p.wire for p in self.ports], [], [], 0.05)[0]
            for p in self.ports:
                p.turn()
                if p.wire in ready:
                    self._from_host(p)
            if self.trunk in ready:
                self._to_host(os.read(self.trunk, 65536))

    def _from_host(self, p):
        try:
            frame, where = p.wire.recvfrom(65536)
        except OSError:  # its cable is pulled
            return
        if where[2] == socket.PACKET_OUTGOING:
            return
        if frame[12:14] == struct.pack("!H", TYPE):
            p.hear(frame[14:])
        else:
            p.frames += 1
            if p.carries(COLLECTING):
                os.write(self.trunk, frame)

    def _to_host(self, frame):
        ports = [p for p in self.ports if p.carries(DISTRIBUTING)]
        if ports:
            try:
                ports[zlib.crc32(frame[:12] + frame[26:38]) % len(ports)].wire.send(frame)
            except OSError:
                pass

    def remove(self):
        self.stopping = True
        self.thread.join(5)
        for p in self.ports:
            p.wire.close()
        os.close(self.trunk)
        netns.sh("ip", "link", "del", self.device)
