# SPDX-License-Identifier: BSD-2-Clause
"""What a client of the guest sees: the services of tests/guest/ (tcpserve, pagecheck, diskcheck, a shell ...), from the namespace."""
import os
import re
import select
import socket
import struct
import subprocess
import threading
import time

scale = 1  # how much more patience the guest's host needs than the fastest kind of host; set by rig.py
ECHO, PAGECHECK, DIRTY, SOURCE, SHELL, SMP, DISK = 7000, 7002, 7003, 7004, 7005, 7006, 7007


def amount(n):
    """n bytes for the fastest kind of host, fewer for a slow one."""
    return n if scale == 1 else n // 50


def connect(address, port, seconds=5):
    return socket.create_connection((address, port), timeout=seconds * scale)


def ask(address, port, seconds=5):
    """All that a service says to who connects."""
    end, said = time.monotonic() + seconds * scale, b""
    with connect(address, port, seconds) as s:
        while True:
            s.settimeout(max(end - time.monotonic(), 0.01))
            data = s.recv(4096)
            if not data:
                return said.decode()
            said += data


def status(address, port, seconds=5):
    """The status line of pagecheck, dirty, smp or diskcheck as a dict of numbers."""
    said = ask(address, port, seconds)
    assert said.endswith("\n"), f"port {port} of the guest said no whole status line, but {said!r}"
    return {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", said)}


def shell(address, command, seconds=10):
    """Run a command in the guest; its output. AssertionError if it fails or takes too long."""
    end, said = time.monotonic() + seconds * scale, b""
    with connect(address, SHELL, seconds) as s:
        s.sendall(f"({command}) 2>&1 </dev/null; echo exit=$?; exit\n".encode())
        while True:
            s.settimeout(max(end - time.monotonic(), 0.01))
            data = s.recv(4096)
            if not data:
                break
            said += data
    out, _, code = said.decode(errors="replace").rpartition("exit=")
    assert code.strip() == "0", f"in the guest: `{command}` ended with {code.strip() or '?'}: {out}"
    return out


def ping(address, count=5, interval=0.2, wait=2):
    """Lost echo requests of `count`."""
    wait *= scale
    p = subprocess.run(["ping", "-n", "-q", "-c", str(count), "-i", str(interval), "-W", str(wait), address],
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=count * interval + wait + 10)
    m = re.search(r"(\d+) packets transmitted, (\d+) received", p.stdout)
    assert m, f"ping {address}: {p.stdout}"
    return int(m[1]) - int(m[2])


def wait_ping(address, seconds):
    end = time.monotonic() + seconds * scale
    while ping(address, 1, wait=1):
        assert time.monotonic() < end, f"{address} does not answer to ping within {seconds} s"


def until(what, seconds, name):
    """Wait for a condition, and return what it was."""
    end = time.monotonic() + seconds * scale
    while not (got := what()):
        assert time.monotonic() < end, f"no {name} within {seconds} s"
        time.sleep(0.02)
    return got


def disk_goes_on(address, more=60):
    """The disk's checker has gone on, and found nothing wrong."""
    first = status(address, DISK)

    def gone_on():
        s = status(address, DISK)
        assert not s["errors"] and not s["ioerrors"], f"{s} after {first}"
        return s if s["writes"] >= first["writes"] + more and s["reads"] >= first["reads"] + more else None
    return until(gone_on, 30, "progress of the disk's checker")


def wait_port(address, port, seconds):
    """Until a service of the guest takes connections."""
    end = time.monotonic() + seconds * scale
    while True:
        try:
            connect(address, port, 1).close()
            return
        except OSError as e:
            assert time.monotonic() < end, f"{address} port {port}: {e} for {seconds} s"
            time.sleep(0.1)


def transfer(address, size, seconds=120, rate=None):
    """
    Send `size` random bytes to the guest's echo service, at most `rate` of them a second, and compare every byte that comes back. Seconds
    it took.
    """
    block = os.urandom(1 << 20)
    start, sent, got = time.monotonic(), 0, 0
    with connect(address, ECHO) as s:
        s.setblocking(False)
        while got < size:
            left = seconds * scale - (time.monotonic() - start)
            assert left > 0, f"transfer: {sent} bytes sent, {got} came back in {seconds} s"
            due = size if rate is None else min(size, int(rate * (time.monotonic() - start)))
            r, w, _ = select.select([s], [s] if sent < due else [], [], min(left, 5 if due == size else 0.05))
            if w:
                at = sent % len(block)
                sent += s.send(block[at:at + min(65536, due - sent)])
                if sent == size:
                    s.shutdown(socket.SHUT_WR)
            if r:
                data = s.recv(1 << 18)
                assert data, f"transfer: the guest closed after {got} bytes of {size}"
                at = 0
                while at < len(data):
                    n = min(len(data) - at, len(block) - got % len(block))
                    assert data[at:at + n] == block[got % len(block):got % len(block) + n], f"transfer: wrong bytes after {got}"
                    at += n
                    got += n
        s.setblocking(True)
        s.settimeout(5 * scale)
        assert s.recv(1) == b"", "transfer: more came back than was sent"
    return time.monotonic() - start


class Client(threading.Thread):
    """
    A client that lives through migrations. What it saw: .longest (seconds without a byte), .resets, .bytes, .wrong (lost or
    repeated bytes found), .error (text, if the connection ended). stop() ends it and is the time to look at them.
    """

    def __init__(self, address, port):
        super().__init__(daemon=True)
        self.sock = connect(address, port)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.longest = 0.0
        self.resets = self.bytes = self.wrong = 0
        self.error, self.stopping = None, False
        self.last = time.monotonic()

    def run(self):
        try:
            self.talk()
        except ConnectionError as e:
            self.resets += 1
            self.error = str(e)
        except Exception as e:  # whatever it is, the test must see it
            self.error = repr(e)

    def arrived(self, n):
        now = time.monotonic()
        self.longest = max(self.longest, now - self.last)
        self.last = now
        self.bytes += n

    def clear_gap(self):
        self.longest = 0.0

    def stop(self, seconds=15):
        """Stop once what is under way has come back; then .longest counts up to now."""
        self.stopping = True
        self.join(seconds * scale)
        if self.is_alive():
            self.error = f"still waiting for the guest after {seconds} s"
        self.longest = max(self.longest, time.monotonic() - self.last if self.error else 0)
        self.sock.close()
        return self

    def check(self):
        assert self.error is None and not self.resets and not self.wrong and self.bytes, \
            f"the client saw {self.resets} resets, {self.wrong} lost or repeated bytes, {self.bytes} bytes in all; {self.error or ''}"

    def said(self):
        return (f"longest gap {self.longest * 1000:.0f} ms, {self.resets} resets, {self.wrong} lost or repeated bytes "
                f"({self.bytes} bytes)" + (f", {self.error}" if self.error else ""))


class EchoClient(Client):
    """A record each `period` seconds, with its number in it; the guest sends it back. Both directions are seen."""

    def __init__(self, address, period=0.005, size=64):
        super().__init__(address, ECHO)
        self.period, self.size = period * scale, size

    def talk(self):
        self.sock.setblocking(False)
        sent, back, pending, due = 0, 0, b"", time.monotonic()
        out = b""
        while not self.stopping or back < sent or out or pending:
            now = time.monotonic()
            if now >= due and not self.stopping and len(out) < 65536:
                out += struct.pack("!Q", sent).ljust(self.size, b".")
                sent += 1
                due = now + self.period
            r, w, _ = select.select([self.sock], [self.sock] if out else [], [], max(min(due - now, 0.05), 0.001))
            if w:
                out = out[self.sock.send(out):]
            if not r:
                continue
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError("the guest closed the connection")
            self.arrived(len(data))
            pending += data
            while len(pending) >= self.size:
                if pending[:self.size] != struct.pack("!Q", back).ljust(self.size, b"."):
                    self.wrong += self.size
                pending, back = pending[self.size:], back + 1


class NumbersClient(threading.Thread):
    """
    Numbered datagrams, `rate` of them a second; the guest sends each back, with how many have come to it. What became of them: .sent, .lost
    (did not come back), .lost_there (of these, so many did not come to the guest), .repeated, .late (came behind a later one), .longest
    (seconds without one).
    """

    def __init__(self, address, rate=1000, size=64):
        super().__init__(daemon=True)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.sock.connect((address, ECHO))
        self.sock.setblocking(False)
        self.period, self.padding = scale / rate, bytes(size - 16)
        self.back, self.came, self.latest = set(), 0, -1
        self.sent = self.repeated = self.late = 0
        self.longest, self.last = 0.0, None
        self.error, self.stopping = None, False

    def run(self):
        try:
            self.talk()
        except Exception as e:  # the test must see it
            self.error = repr(e)

    def take(self):
        try:
            while True:
                number, came = struct.unpack("!QQ", self.sock.recv(2048)[:16])
                now = time.monotonic()
                if self.last is not None:
                    self.longest = max(self.longest, now - self.last)
                self.last = now
                self.repeated += number in self.back
                self.late += number < self.latest
                self.latest = max(self.latest, number)
                self.back.add(number)
                self.came = max(self.came, came)
        except BlockingIOError:
            pass

    def talk(self):
        due = time.monotonic()
        end = None  # the last ones have that long to come back
        while end is None or (time.monotonic() < end and len(self.back) < self.sent):
            now = time.monotonic()
            if self.stopping:
                end = end or now + 3 * scale
            elif now >= due:
                self.sock.send(struct.pack("!QQ", self.sent, 0) + self.padding)
                self.sent += 1
                due = max(due + self.period, now - 0.05)  # a busy machine's client does not make it all up
            if select.select([self.sock], [], [], max(due - now, 0) if end is None else 0.05)[0]:
                self.take()

    def gap(self):
        """The longest since it was asked for last."""
        longest, self.longest = self.longest, 0.0
        return longest

    def stop(self):
        self.stopping = True
        self.join(30 * scale)
        self.error = self.error or ("it does not end" if self.is_alive() else None)
        self.sock.close()
        return self

    @property
    def lost(self):
        return self.sent - len(self.back)

    @property
    def lost_there(self):
        return self.sent - self.came

    def said(self):
        return (f"{self.sent} datagrams, {self.lost} lost ({self.lost_there} of them on the way there), {self.repeated} repeated, {self.late} late"
                + (f", {self.error}" if self.error else ""))


class StreamClient(Client):
    """The guest sends 64-bit numbers 0, 1, 2 ... as fast as TCP takes them; from a slow host, as fast as this client reads."""
    SLOW_RATE = 50_000  # bytes a second

    def talk(self):
        if scale > 1:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        self.sock.sendall(b"0\n")
        self.sock.settimeout(15 * scale)
        number, pending = 0, b""
        while not self.stopping:
            data = self.sock.recv(1 << 18 if scale == 1 else 4096)
            if not data:
                raise ConnectionError("the guest closed the connection")
            self.arrived(len(data))
            if scale > 1:
                time.sleep(len(data) / self.SLOW_RATE)
            pending += data
            n = len(pending) // 8
            if pending[:8 * n] != struct.pack(f"!{n}Q", *range(number, number + n)):
                self.wrong += 8 * n
            number, pending = number + n, pending[8 * n:]

    def __init__(self, address):
        super().__init__(address, SOURCE)
