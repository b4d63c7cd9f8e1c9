# SPDX-License-Identifier: BSD-2-Clause
"""Who speaks doc/wire.md as a host would, and has no key: on connections, and by frame."""
import contextlib
import os
import socket
import struct
import sys
import threading

import netns
import stranger

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from wire_reader import fnv, u64  # noqa: E402

ETH_P_HOSTS = 0x88b5
HELLO, OFFER, NEVER, QUERY, ERROR, DONE, HAVE, IDENT, SETTLE, REACH, REACHED = 1, 2, 15, 16, 17, 18, 20, 21, 23, 27, 28
ECANCELED, IT_IS_HERE, NO_SUCH_NETWORK = 140, 1, 2


def record(number, kind, fields, key=0):
    head = struct.pack("<II", kind, 4 + len(fields))
    h = fnv(fields, fnv(head, fnv(u64(number), fnv(u64(key)))))
    return head + struct.pack("<I", (h ^ h >> 32) & 0xffffffff) + fields


def greeting(name, incarnation, version=3):
    """HELLO and IDENT, of a host of this release or of one that speaks another version."""
    hello = b"TERNMIG1" + struct.pack("<IIQI32s", version, version, 3, 335880, name.encode())
    return record(0, HELLO, hello) + record(1, IDENT, incarnation)


def offer(name, me):
    """All that a source says until a destination accepts: a VM of 64 MiB that asks nothing of the CPU."""
    attempt = os.urandom(16) + me + struct.pack("<Q", 1)
    mac = bytes.fromhex("525400770f99")
    fields = attempt + struct.pack("<QIII6s32s16s6I", 64 << 20, 1, 4096, 1, mac, name.encode(), b"portable", 7, 0, 0, 0, 0, 0)
    return greeting("e", me) + record(2, OFFER, fields)


def abortions(uuid, source, me):
    """What might end an attempt to move this VM, each as all that is said on a connection."""
    attempt = uuid + source + struct.pack("<Q", 1)
    debt = attempt + struct.pack("<I", 0) + me + b"moves".ljust(32, b"\0") + bytes(4)
    for kind, fields in ((ERROR, struct.pack("<I200s", ECANCELED, b"cancelled")), (NEVER, attempt + me), (SETTLE, debt), (QUERY, attempt),
                         (DONE, attempt)):
        for key in (0, fnv(attempt)):
            yield greeting("e", me) + record(2, kind, fields, key)


def speak(address, said, source=None):
    """Say this to a host's migration service; all that it answers."""
    heard = b""
    with contextlib.suppress(ConnectionError), socket.create_connection((address, 7077), 10, source and (source, 0)) as s:
        s.settimeout(20)  # a host gives anybody 10 s
        s.sendall(said)
        while got := s.recv(4096):
            heard += got
    return heard


def hosts_frame(to, mac, nonce, message):
    return stranger.eth(to, mac, ETH_P_HOSTS, struct.pack("!H", len(nonce + message)) + nonce + message)


def have(name):
    """That a VM runs here already."""
    return struct.pack("<I32s32s16sQI32sQ", IT_IS_HERE, name.encode(), b"f", bytes(16), 0, 0, b"", 0)


def denial(net):
    """That the destination has no such network for VMs."""
    return struct.pack("<III16s", NO_SUCH_NETWORK, 1500, 1500, net.encode())


class OldHost:
    """A host of release 0.2, which knows no keys, at this address of the client's for the block: it greets whoever comes, and hears him out."""

    def __init__(self, address):
        self.listener = socket.create_server((address, 7077))
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        with contextlib.suppress(OSError):
            while True:
                s, _ = self.listener.accept()
                with s, contextlib.suppress(OSError):
                    s.settimeout(20)  # a host gives anybody 10 s
                    s.sendall(greeting("old", b"an old host's id", 2))
                    while s.recv(4096):
                        pass

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(30)
        self.listener.close()


class Denier(stranger.Answerer):
    """
    Sees the frames by which the source of a migration looks for its destination, and says in the destination's name, at once, that the
    VM's network is not there. .asked: how many it has answered.
    """

    def __init__(self):
        super().__init__(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_HOSTS)))
        self.wire.bind((netns.BRIDGE, ETH_P_HOSTS))
        self.asked, self.source = 0, None

    def _answer(self, frame, _):
        nonce, message = frame[16:24], frame[24:]
        ident_at = 8 + struct.unpack_from("<I", message, 4)[0]
        asked_at = ident_at + 8 + struct.unpack_from("<I", message, ident_at + 4)[0]
        if struct.unpack_from("<I", message, asked_at)[0] != REACH:
            return
        self.source, dest = message[ident_at + 12:ident_at + 28], message[asked_at + 12:asked_at + 28]
        said = greeting("f", dest) + record(2, REACHED, denial("lan"))
        for _ in range(3):
            self.wire.send(hosts_frame(netns.mac_text(frame[6:12]), stranger.STRANGER_MAC, nonce, said))
        self.asked += 1
