#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""A reader of tern's migration stream that shares nothing with tern but doc/wire.md.

wire_reader.py SOURCE DESTINATION            check the recorded output of both sides of one migration
wire_reader.py --mutate SOURCE DESTINATION   and then change each field, and drop, repeat and swap records: each must be refused
"""
import functools
import struct
import sys

MASK = (1 << 64) - 1
FILE_BLOCK = 65536
INC = [("host_id", 8), ("boot_id", 8)]
ID = [("uuid", 16), ("source_host", 8), ("source_boot", 8), ("number", 8)]
BY = [("by_host", 8), ("by_boot", 8)]
DEBT = ID + [("started", 4)] + BY + [("vm", 32), ("source", 4)]
# name, sender (S, D or both), fields as (name, size); what varies comes after them
TYPES = {
    1: ("HELLO", "SD", [("magic", 8), ("version_min", 4), ("version_max", 4), ("features", 8), ("max_record", 4), ("host", 32)]),
    2: ("OFFER", "S", ID + [("mem", 8), ("vcpus", 4), ("page_size", 4), ("ncompat", 4), ("mac", 6), ("name", 32),
                            ("cpu", 16)]),
    3: ("ACCEPT", "D", ID),
    4: ("REFUSE", "D", [("code", 4), ("text", 200)]),
    5: ("PASS", "S", [("pass", 4), ("flags", 4)]),
    6: ("PAGES", "S", [("base", 8), ("nruns", 4), ("npages", 4)]),
    7: ("PASS_END", "S", [("pass", 4), ("data", 8), ("zero", 8)]),
    8: ("PASS_ACK", "D", [("pass", 4)]),
    9: ("KEEPALIVE", "S", []),
    10: ("SECTION", "S", [("name", 32), ("instance", 4), ("version", 4)]),
    11: ("END", "S", ID + [("passes", 4), ("sections", 4), ("debts", 4), ("data", 8), ("zero", 8)]),
    12: ("READY", "D", ID),
    13: ("COMMIT", "S", ID + [("paused_ns", 8)]),
    14: ("STARTED", "D", ID + BY),
    15: ("NEVER", "D", ID + BY),
    16: ("QUERY", "S", ID),
    17: ("ERROR", "SD", [("code", 4), ("text", 200)]),
    18: ("DONE", "SD", ID),
    19: ("WHO", "S", [("name", 32), ("mac", 6), ("vm_uuid", 16), ("flags", 4), ("asker_host", 8), ("asker_boot", 8),
                      ("id_uuid", 16), ("id_host", 8), ("id_boot", 8), ("id_number", 8)]),
    20: ("HAVE", "D", [("have", 4), ("name", 32), ("host", 32), ("where_host", 8), ("where_boot", 8), ("when", 8), ("silent", 4),
                       ("silent_host", 32), ("digest", 8)]),
    21: ("IDENT", "SD", INC),
    22: ("UNKNOWN", "D", ID),
    23: ("SETTLE", "S", DEBT),
    24: ("KEPT", "D", ID),
    25: ("DEBT", "S", DEBT),
    26: ("PREPARING", "D", [("done", 8), ("total", 8)]),
    29: ("FILES", "S", []),
    30: ("WANT", "D", [("files", 4)]),
    31: ("FILE", "S", [("file", 4), ("offset", 8)]),
    32: ("VERIFY", "S", [("first", 8), ("frames", 8)]),
    33: ("VERIFY_STATE", "S", [("name", 32), ("instance", 4), ("digest", 8)]),
    34: ("CHECKED", "D", [("range", 4)]),
    35: ("DIFFERS", "D", [("name", 32), ("instance", 4), ("first", 8)]),
    36: ("FRAMES", "S", [("card", 4)]),
    37: ("STATE", "S", [("state", 4)]),
    38: ("ABSENT", "SD", [("base", 8), ("nruns", 4)]),
    39: ("DEMAND", "D", [("first", 8), ("count", 4), ("flags", 4)]),
    40: ("SERVED", "S", [("first", 8), ("count", 4), ("flags", 4)]),
    41: ("ALL", "D", ID),
    42: ("REJOIN", "S", ID),
    43: ("SUMS", "S", [("first", 8)]),
    44: ("AGAIN", "D", [("first", 8), ("times", 4), ("has", 8), ("said", 8)]),
}
# What comes behind these, or not: times, where both have feature bit 2; and what was verified.
MORE = {"ACCEPT": ["load_ns"], "READY": ["pages_ns", "state_ns", "load_ns"], "STARTED": ["start_ns"], "COMMIT": ["key"], "ALL": ["verified", "differed"]}
CHUNK = 1024  # frames
FILE_FIELDS = [("name", 96), ("size", 8), ("digest", 8), ("blocks", 8)]
STRINGS = {"host", "name", "cpu", "text", "vm", "silent_host"}
UUIDS = {"uuid", "vm_uuid", "id_uuid", "mac"}


class Refused(Exception):
    pass


def need(cond, why):
    if not cond:
        raise Refused(why)


def fnv(data, h=0xCBF29CE484222325):
    for b in data:
        h = ((h ^ b) * 0x100000001B3) & MASK
    return h


def u64(n):
    return struct.pack("<Q", n)


P1, P2, P3, P4, P5 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def rotl(v, n):
    return (v << n | v >> (64 - n)) & MASK


def xxh_round(acc, lane):
    return rotl((acc + lane * P2) & MASK, 31) * P1 & MASK


@functools.lru_cache(maxsize=None)
def xxh64(data, seed=0):
    """XXH64, from its description (xxHash, doc/xxhash_spec.md)."""
    n = len(data)
    acc = [(seed + P1 + P2) & MASK, (seed + P2) & MASK, seed, (seed - P1) & MASK]
    for lanes in struct.iter_unpack("<4Q", data[:n & ~31]):
        acc = [xxh_round(a, lane) for a, lane in zip(acc, lanes)]
    h = (seed + P5) & MASK
    if n >= 32:
        h = sum(rotl(a, r) for a, r in zip(acc, (1, 7, 12, 18))) & MASK
        for a in acc:
            h = ((h ^ xxh_round(0, a)) * P1 + P4) & MASK
    h = (h + n) & MASK
    rest = data[n & ~31:]
    for (lane,) in struct.iter_unpack("<Q", rest[:len(rest) & ~7]):
        h = (rotl(h ^ xxh_round(0, lane), 27) * P1 + P4) & MASK
    rest = rest[len(rest) & ~7:]
    if len(rest) >= 4:
        h = (rotl(h ^ struct.unpack_from("<I", rest)[0] * P1 & MASK, 23) * P2 + P3) & MASK
        rest = rest[4:]
    for b in rest:
        h = rotl(h ^ b * P5 & MASK, 11) * P1 & MASK
    for shift, p in ((33, P2), (29, P3)):
        h = (h ^ h >> shift) * p & MASK
    return h ^ h >> 32


def file_digest(data):
    """Of a boot file: of each block that is not zero with its number, and the size."""
    said = b""
    for i in range(0, len(data), FILE_BLOCK):
        block = data[i:i + FILE_BLOCK]
        if block.strip(b"\0"):
            said += u64(i // FILE_BLOCK) + block
    return xxh64(said + u64(len(data))) or 1


class Record:
    """One record: its place, type and fields; places of fields for the mutation test."""

    def __init__(self, at):
        self.at, self.end, self.data_at = at, at, None
        self.type, self.name, self.f, self.places = 0, "", {}, [("type", at, 4), ("length", at + 4, 4), ("check", at + 8, 4)]
        self.runs, self.payload, self.sums = [], b"", []


def string(raw, what):
    text, _, rest = raw.partition(b"\0")
    need(len(text) < len(raw) and not rest.strip(b"\0"), f"{what}: no proper string")
    need(all(c >= 0x20 and c != 0x7F for c in text), f"{what}: control character")
    return text.decode("latin-1")


DISK = [("name", 16), ("size", 8), ("layer", 8), ("flags", 4), ("file", 96), ("base_size", 8), ("base_digest", 8)]


def parse_offer_end(r, buf, pos):
    """Cards, and behind an empty name that is not the first, disks, on units or with blocks here. Returns where they end."""
    r.f["disks"], r.f["units"], r.f["cards"], cards = [], [], 1, 0

    def field(name, size, text):
        nonlocal pos
        need(pos + size <= r.end, "OFFER is too short")
        raw = bytes(buf[pos:pos + size])
        r.places.append((name, pos, size))
        pos += size
        return string(raw, name) if text else int.from_bytes(raw, "little")

    while pos < r.end:
        if not field(f"net{cards}", 16, True) and cards:
            break
        need(cards < 4, "cards")
        need(68 <= field(f"mtu{cards}", 4, False), "mtu")
        field(f"mac{cards}", 6, False)
        cards += 1
        r.f["cards"] = cards
    else:
        return pos
    while not (r.f["disks"] or r.f["units"]) or pos < r.end:
        all_ = r.f["disks"] + r.f["units"]
        d = {name: field(f"disk{len(all_)}.{name}", size, name in ("name", "file")) for name, size in DISK}
        need(len(all_) < 5 and d["name"] and d["name"] not in [e["name"] for e in all_], "disks")
        if d["flags"] == 8:
            need(d["size"] % 512 == 0 and d["size"] <= 1 << 50 and not (d["layer"] or d["base_size"] or d["base_digest"]), "unit")
            r.f["units"].append(d)
            continue
        need(d["size"] and d["size"] % 512 == 0 and d["size"] <= 1 << 48 and d["flags"] < 8, "disk")
        need(d["layer"] and d["layer"] % 4096 == 0 and d["layer"] <= 1 << 48, "layer")
        need(bool(d["file"] or d["flags"] & 2) == bool(d["base_size"]) == bool(d["base_digest"]) and d["base_size"] <= d["size"], "base")
        r.f["disks"].append(d)
    return pos


def parse_record(buf, at, sender, key, number):
    r = Record(at)
    need(len(buf) - at >= 12, "stream ends inside a record")
    r.type, length, check = struct.unpack_from("<III", buf, at)
    r.end = at + 8 + length
    known = TYPES.get(r.type)
    need(known or r.type >> 31, f"unknown type {r.type}")
    need(length >= 4 and (known or length <= 73728), "length")
    need(r.end <= len(buf), "stream ends inside a record")
    fields_end = r.end
    if known:
        r.name, senders, fields = known
        need(sender in senders, f"{r.name} from the wrong side")
        pos = at + 12
        for name, size in fields:
            need(pos + size <= r.end, f"{r.name} is too short")
            raw = bytes(buf[pos:pos + size])
            r.places.append((name, pos, size))
            is_text = name in STRINGS
            r.f[name] = string(raw, name) if is_text else raw if name in UUIDS else int.from_bytes(raw, "little")
            pos += size
        for name in MORE.get(r.name, []) if pos < r.end else []:
            need(pos + 8 <= r.end, f"{r.name} is too short")
            r.places.append((name, pos, 8))
            r.f[name] = int.from_bytes(buf[pos:pos + 8], "little")
            pos += 8
        if r.name == "OFFER":
            need(r.f["ncompat"] <= 64, "ncompat")
            for i in range(r.f["ncompat"]):
                for j in range(6):
                    r.places.append((f"compat{i}.{j}", pos + 4 * j, 4))
                pos += 24
            pos = parse_offer_end(r, buf, pos)
        elif r.name == "PAGES":
            need(1 <= r.f["nruns"] <= 128 and r.f["npages"] <= 64, "counts")
            need(pos + 8 * r.f["nruns"] <= r.end, "PAGES is too short")
            for i in range(r.f["nruns"]):
                r.places += [(f"offset{i}", pos, 4), (f"count{i}", pos + 4, 4)]
                r.runs.append(struct.unpack_from("<II", buf, pos))
                pos += 8
            fields_end = r.data_at = pos
            pos += 4096 * r.f["npages"]
            r.payload = bytes(buf[fields_end:pos])
        elif r.name == "ABSENT":
            need(r.f["nruns"] <= 4096 and pos + 8 * r.f["nruns"] <= r.end, "ABSENT's runs")
            for i in range(r.f["nruns"]):
                r.places += [(f"offset{i}", pos, 4), (f"count{i}", pos + 4, 4)]
                r.runs.append(struct.unpack_from("<II", buf, pos))
                pos += 8
        elif r.name == "SUMS":
            need(r.end - pos in (8, 16 * 8), "SUMS' length")
            while pos < r.end:
                r.places.append((f"sum{len(r.sums)}", pos, 8))
                r.sums += struct.unpack_from("<Q", buf, pos)
                pos += 8
        elif r.name == "VERIFY":
            while pos < r.end:
                need(pos + 16 <= r.end and len(r.sums) < 64, "VERIFY's length")
                r.places += [(f"chunk{len(r.sums)}", pos, 4), (f"pages{len(r.sums)}", pos + 4, 4), (f"sum{len(r.sums)}", pos + 8, 8)]
                r.sums.append(struct.unpack_from("<IIQ", buf, pos))
                pos += 16
        elif r.name == "FILES":
            r.files = []
            while pos < r.end and len(r.files) < 7:
                told = {}
                for name, size in FILE_FIELDS:
                    need(pos + size <= r.end, "FILES is too short")
                    raw = bytes(buf[pos:pos + size])
                    r.places.append((f"{name}{len(r.files)}", pos, size))
                    told[name] = string(raw, name) if name in STRINGS else int.from_bytes(raw, "little")
                    pos += size
                r.files.append(told)
        elif r.name == "FRAMES":
            need(r.end - r.at <= 8 + 65536 and pos < r.end, "FRAMES' length")
            for i in range(r.end - pos):
                if pos == r.end:
                    break
                need(pos + 4 <= r.end, "FRAMES is too short")
                size = int.from_bytes(buf[pos:pos + 4], "little")
                r.places.append((f"size{i}", pos, 4))
                need(14 <= size <= 9022 and pos + 4 + size <= r.end, "a frame's size")
                r.places += [(f"byte{pos + 4 + k}", pos + 4 + k, 1) for k in range(size)]
                pos += 4 + size
        elif r.name in ("SECTION", "FILE", "DIFFERS"):
            need(r.end - pos <= 65536 and (r.end > pos or r.name == "SECTION"), f"{r.name}'s length")
            r.payload = bytes(buf[pos:r.end])
            r.places += [(f"byte{i}", pos + i, 1) for i in range(r.end - pos)]
            pos = r.end
        need(pos == r.end, f"{r.name} has the wrong length")
    h = fnv(bytes(buf[at + 12:fields_end]), fnv(bytes(buf[at:at + 8]), fnv(u64(number), fnv(u64(key)))))
    need((h ^ h >> 32) & 0xFFFFFFFF == check, f"record {number} ({r.name}): check")
    return r


def parse(buf, sender, key):
    """All records of one direction. key: of what comes after OFFER or REJOIN (S) or HELLO (D); None: take it from there."""
    records, at, current = [], 0, 0
    while at < len(buf):
        r = parse_record(buf, at, sender, current, len(records))
        records.append(r)
        at = r.end
        if r.name in ("OFFER", "REJOIN"):
            key = current = fnv(r.f["uuid"] + u64(r.f["source_host"]) + u64(r.f["source_boot"]) + u64(r.f["number"]))
        elif sender == "D" and len(records) == 2:
            current = key
    return records, key


def is_ram(gfn, count, mem):
    low, high = min(mem, 3 << 30) >> 12, max(mem - (3 << 30), 0) >> 12
    hole = (4 << 30) >> 12
    return gfn + count <= low or (gfn >= hole and gfn + count <= hole + high)


def disk_blocks(gfn, count, zero, disks):
    """How many of the frames are blocks of disks: all or none of them, 0 if they are not one disk's, or freed ones with data."""
    (data, i), block = divmod((gfn >> 36) - 1, 5), gfn & (1 << 36) - 1
    fits = i < len(disks) and block + count <= (disks[i]["size"] + 4095) >> 12
    return count if fits and (data == 1 or data == 0 and zero) else 0


class PostCopy:
    """Frames that the source still has when the guest runs at the destination. mem: bytes of RAM, None where no record says it."""

    def __init__(self, mem):
        self.mem, self.next, self.ended, self.begun = mem, 0, False, False
        self.absent, self.came, self.served = set(), set(), []
        self.verifies, self.sums = None, None  # does SUMS come (None: not known yet); the one whose PAGES are next
        self.said, self.times, self.differ, self.good = {}, {}, {}, {}  # by frame: its first sum, how often it came, and differed as it was sent, its last

    def in_ram(self, gfn, count):
        return gfn + count <= 1 << 52 if self.mem is None else is_ram(gfn, count, self.mem)

    def map(self, r):
        need(not self.ended, "ABSENT behind the map's end")
        self.begun = True
        for offset, count in r.runs:
            gfn = r.f["base"] + offset
            need(count and gfn >= self.next and self.in_ram(gfn, count), "a run of absent frames")
            self.absent.update(range(gfn, gfn + count))
            self.next = gfn + count
        self.ended = not r.runs
        need(r.runs or r.f["base"] == len(self.absent), "the number of absent frames")

    def is_range(self, f):
        urgent = f["flags"] == 1
        need(f["flags"] < 2 and f["count"] == (1 if urgent else 16) and f["first"] % f["count"] == 0, "DEMAND, SERVED")
        need(self.in_ram(f["first"], f["count"]), "DEMAND, SERVED of what is no memory")
        return not urgent

    def source(self, r):
        """What the source says when the guest runs at the destination: SUMS, PAGES and SERVED."""
        need(self.ended and self.absent, f"{r.name} of a VM that has gone whole")
        need((r.name == "PAGES") >= (self.sums is not None), f"{r.name} between SUMS and PAGES")
        if r.name == "SUMS":
            need(self.verifies is not False and r.f["first"] % len(r.sums) == 0 and self.in_ram(r.f["first"], len(r.sums)), "SUMS")
            self.verifies, self.sums = True, {r.f["first"] + i: s for i, s in enumerate(r.sums)}
            return
        if r.name == "SERVED":
            need(self.is_range(r.f), "SERVED to one frame")
            which = set(range(r.f["first"], r.f["first"] + 16))
            need(not which & (self.absent - self.came), "SERVED before all of its frames")
            self.served.append(r.f["first"])
            return
        if self.verifies is None:
            self.verifies = self.sums is not None
        need(self.verifies == (self.sums is not None), "PAGES without SUMS")
        total = end = 0
        for offset, count in r.runs:
            gfn, n = r.f["base"] + offset, count & 0x7FFFFFFF
            frames = set(range(gfn, gfn + min(n, 1 << 20)))
            need(n and n <= 1 << 20 and gfn >= end and frames <= self.absent, "a frame that is not awaited")
            need(self.verifies or not frames & self.came, "a frame that has come already")
            self.came |= frames
            end = gfn + n
            for frame in frames if self.verifies else ():
                need(frame in self.sums, "a frame whose sum has not come")
                self.times[frame] = self.times.get(frame, 0) + 1
                page = b"" if count >> 31 else r.payload[(total + frame - gfn) * 4096:][:4096]
                is_now = (xxh64(page, frame) or 1) if page.strip(b"\0") else 0
                self.said.setdefault(frame, self.sums[frame])
                self.differ[frame] = self.differ.get(frame, 0) + (is_now != self.sums[frame])
                self.good[frame] = is_now
            total += 0 if count >> 31 else n
        need(total == r.f["npages"], "runs and data disagree")
        need(self.sums is None or not any(s for f, s in self.sums.items() if f not in self.came), "the sum of a frame that does not come")
        self.sums = None

    def dest(self, records, over):
        """What the destination says then; over: the source has said DONE."""
        ranges, asked, again = [], set(), {}
        for i, r in enumerate(records):
            need(r.name in ("DEMAND", "AGAIN") or r.name == "ALL" and i == len(records) - 1, "DEMAND and AGAIN, and ALL at the end")
            if r.name == "AGAIN":
                frame = r.f["first"]
                again[frame] = again.get(frame, 0) + 1
                need(self.verifies and again[frame] <= self.times.get(frame, 0), "AGAIN of what has not come")
                need(r.f["times"] == again[frame] or self.mem is None and r.f["times"] > again[frame], "AGAIN's times")
                need(r.f["said"] == self.said[frame] or self.mem is None, "AGAIN has not the first sum")
            if r.name == "DEMAND":
                need(self.ended and self.absent, "DEMAND of a VM that has gone whole")
                asked.update(range(r.f["first"], r.f["first"] + r.f["count"]))
                if self.is_range(r.f):
                    ranges.append(r.f["first"])
        need(self.came <= asked, "a frame that nobody has asked for")
        need(self.served == ranges[:len(self.served)], "SERVED to what is asked for, in that order")
        need(not over or records and records[-1].name == "ALL", "DONE before ALL")
        need(all(n <= again.get(f, 0) + 1 for f, n in self.times.items()), "a frame that has come already")
        need(not over or all(n <= again.get(f, 0) for f, n in self.differ.items()), "a frame that differs was taken")
        if records and records[-1].name == "ALL" and "verified" in records[-1].f:
            said = records[-1].f
            need(self.verifies is not False, "ALL's numbers, where nothing was verified")
            need(self.mem is None or said["differed"] == sum(again.values()), "how often one differed")
            need(said["verified"] >= sum(map(bool, self.good.values())), "how many were verified")


class Pulled(PostCopy):
    """A pass whose memory the destination asks for."""

    def is_range(self, f):
        need(f["flags"] == 0 and f["count"] and f["count"] % 64 == 0 and f["first"] % 64 == 0, "DEMAND, SERVED in a pass")
        need(self.in_ram(f["first"], f["count"]), "DEMAND, SERVED of what is no memory")
        return True

    def take_served(self, f):
        need(self.is_range(f), "SERVED")
        which = {n for n in self.absent if f["first"] <= n < f["first"] + f["count"]}
        need(which <= self.came, "SERVED before all of its frames")
        self.served.append((f["first"], f["count"]))

    def pages(self, frames):
        need(frames <= self.absent - self.came, "a frame that is not in the map, or has come")
        self.came |= frames

    def end(self):
        need(self.ended and self.came == self.absent, "PASS_END before all of the map has come")

    def asked(self, demands):
        need([(f["first"], f["count"]) for f in demands] == self.served, "DEMANDs of a pass, each answered in its turn")
        need(all(self.is_range(f) for f in demands), "DEMAND")


class Source:
    """The order and meaning of the source's records."""

    def __init__(self):
        self.npass, self.open, self.final, self.next = 0, False, False, 0
        self.data = self.zero = self.all_data = self.all_zero = self.blocks = 0
        self.sections, self.debts, self.offer, self.state = {}, 0, None, "HELLO"
        self.rests, self.ram = 0, 0  # what STATE said, 0: nothing; bytes of memory that come
        self.pages = {}  # by frame: bytes, none for zeros of a disk
        self.to_verify, self.verified, self.told = None, 0, set()  # ranges of frames that are left, how many came; sections
        self.files, self.came = None, {}  # what FILES told; each file's bytes
        self.post = self.pull = None
        self.brought, self.missing = set(), set()  # frames of the pass; those of pass 1 that have not come yet
        self.pulled = {}  # by pass, those that the destination asked for

    def take(self, r):
        f = r.f
        if "uuid" in f and self.offer:
            if r.name == "DEBT":
                need(f["uuid"] == self.offer["uuid"], "a debt of another VM")
            else:
                same_id(f, self.offer)
        if not r.name:
            return
        if self.state == "HELLO":
            need(r.name == "HELLO", "HELLO comes first")
            check_hello(f)
            self.state = "IDENT"
        elif self.state == "IDENT":
            self.me = check_ident(r)
            self.state = "OFFER"
        elif self.state == "OFFER" and r.name == "STATE":
            need(not self.rests and f["state"] in (1, 2), "STATE, once, of one that is stopped or paused")
            self.rests = f["state"]
        elif self.state == "OFFER":
            need(r.name == "OFFER", "OFFER comes after the greeting")
            need((f["source_host"], f["source_boot"]) == self.me and f["number"], "OFFER of another host's attempt")
            self.check_offer(f)
            self.state = "PASSES"
        elif self.state == "PASSES":
            self.take_pass(r)
        elif self.state == "COMMIT":
            need(r.name == "COMMIT" and f["paused_ns"] <= 3600 * 10**9, "COMMIT after END")
            need(bool(f.get("key")) == bool(self.offer["units"] and self.rests != 1), "a key if it has units that are held")
            self.state = "DONE"
        elif r.name == "FRAMES":
            need(self.state == "DONE" and f["card"] < self.offer["cards"], "FRAMES after COMMIT, for a card")
        elif r.name in ("SUMS", "PAGES", "SERVED") and self.state == "DONE":
            self.post.verifies = self.to_verify is not None
            self.post.source(r)
        else:
            need(self.state == "DONE" and r.name == "DONE", "DONE after COMMIT, and nothing after that")
            self.state = "over"

    def check_offer(self, f):
        need(f["mem"] and f["mem"] % (2 << 20) == 0 and f["vcpus"] and f["page_size"] == 4096, "OFFER")
        need(f["name"] and all(c.isascii() and (c.isalnum() or c in "._-") for c in f["name"]), "name")
        need((f["ncompat"] == 0) == (self.rests == 1), "a CPU is needed, but by one that is stopped")
        self.offer, self.ram = f, 0 if self.rests == 1 else f["mem"]
        self.post = PostCopy(self.ram)

    def check_files(self):
        for n, data in self.came.items():
            blocks = sum(bool(data[i:i + FILE_BLOCK].strip(b"\0")) for i in range(0, len(data), FILE_BLOCK))
            told = self.files[n]
            need((len(data), file_digest(data)) == (told["size"], told["digest"]) and blocks <= told["blocks"], "a file's bytes")

    def verify(self, first, frames, sums):
        """A range comes where the one before ended, and has the sums of the pages that came."""
        if self.to_verify is None:
            mem = self.ram >> 12
            self.to_verify = [[0, min(mem, 3 << 18)]] * (mem > 0) + [[4 << 18, mem + (1 << 18)]] * (mem > 3 << 18)
            self.to_verify += [[i + 6 << 36, (i + 6 << 36) + (d["size"] + 4095 >> 12)] for i, d in enumerate(self.offer["disks"])]
        need(self.to_verify and frames, "VERIFY of nothing")
        part = self.to_verify[0]
        need(first == part[0] and first + frames <= part[1] and (frames % CHUNK == 0 or first + frames == part[1]), "VERIFY's range")
        need(first >> 36 or frames <= 64 * CHUNK, "VERIFY's range")
        want = {}
        absent = self.post.absent
        for frame, page in [(f, p) for f, p in self.pages.items() if f not in absent] + [(f, b"") for f in absent]:
            if first <= frame < first + frames:
                chunk = want.setdefault((frame - first) // CHUNK, [0, 0])
                chunk[0] += 1
                chunk[1] = chunk[1] + (xxh64(page, frame) or 1) & MASK
        need(sums == [(n, *want[n]) for n in sorted(want)], "VERIFY's sums")
        self.verified += 1
        part[0] += frames
        if part[0] == part[1]:
            self.to_verify.pop(0)

    def take_pass(self, r):
        f = r.f
        if r.name == "PASS":
            need(not self.open and not self.final and f["pass"] == self.npass + 1 and f["flags"] < 3, "PASS")
            self.check_files()
            self.pull = Pulled(self.ram) if f["flags"] == 2 else None
            if self.pull:
                self.pulled[f["pass"]] = self.pull
            self.npass, self.open, self.final = f["pass"], True, f["flags"] == 1
            self.next = self.data = self.zero = self.blocks = 0
            self.brought = set()
        elif r.name == "PAGES":
            need(self.open, "PAGES outside a pass")
            total = at = 0
            for offset, count in r.runs:
                gfn, n = f["base"] + offset, count & 0x7FFFFFFF
                blocks = disk_blocks(gfn, n, count >> 31, self.offer["disks"])
                need(n and gfn >= self.next and blocks <= 4096 and (blocks or is_ram(gfn, n, self.ram)), "run")
                self.blocks += blocks
                self.next = gfn + n
                if self.pull and not blocks:
                    self.pull.pages(set(range(gfn, gfn + min(n, 1 << 20))))
                elif self.pull:
                    self.pull.end()
                if not blocks:
                    self.brought.update(range(gfn, gfn + n))
                for frame in range(gfn, gfn + n):
                    if not count >> 31:
                        self.pages[frame] = r.payload[at:at + 4096]
                        at += 4096
                    elif blocks:
                        self.pages[frame if frame >> 36 > 5 else frame + (5 << 36)] = b""
                    else:
                        self.pages.pop(frame, None)
                if count >> 31:
                    self.zero += n
                else:
                    self.data += n
                    total += n
            need(total == f["npages"], "runs and data disagree")
        elif r.name == "PASS_END":
            need(self.open and f["pass"] == self.npass and (f["data"], f["zero"]) == (self.data, self.zero), "PASS_END")
            if self.pull:
                self.pull.end()
            if self.npass == 1 and not self.pull:
                mem = self.ram >> 12
                self.missing = {*range(min(mem, 3 << 18)), *range(4 << 18, max(mem + (1 << 18), 4 << 18))} - self.brought
                need(not self.missing or min(self.missing) > max(self.brought, default=-1), "pass 1 brings all, or the first ones")
            self.missing -= self.brought
            self.open = False
            self.all_data += self.data
            self.all_zero += self.zero
        elif r.name == "SECTION":
            need(self.final and not self.open, "SECTION before the final pass ended")
            which = (f["name"], f["instance"])
            need(f["name"] and f["version"] and which not in self.sections and self.to_verify is None, "SECTION")
            need(self.rests != 1 or f["name"] == "config", "state of one that is stopped")
            need(not self.post.begun or self.post.ended, "SECTION inside of the map")
            self.sections[which] = r.payload
        elif r.name == "ABSENT" and self.open and self.pull:
            self.pull.map(r)
        elif r.name == "SERVED":
            need(self.open and self.pull, "SERVED in a pass of which nothing is asked for")
            self.pull.take_served(f)
        elif r.name == "ABSENT":
            need(self.final and not self.open and not self.sections and not self.rests, "ABSENT between the final pass and the state")
            need(self.to_verify is None, "ABSENT behind VERIFY")
            self.post.map(r)
        elif r.name == "VERIFY":
            need(self.final and not self.open and self.post.begun == self.post.ended, "VERIFY before the final pass, or the map, ended")
            self.verify(f["first"], f["frames"], r.sums)
        elif r.name == "VERIFY_STATE":
            which = (f["name"], f["instance"])
            if self.to_verify is None and self.rests == 1 and not self.offer["disks"]:
                self.to_verify = []  # there is nothing that VERIFY could be of
            need(self.to_verify == [] and which in self.sections and which not in self.told, "VERIFY_STATE")
            need(f["digest"] == xxh64(self.sections[which]), "digest of a section")
            self.told.add(which)
        elif r.name == "FILES":
            need(not self.npass and self.files is None, "FILES comes once, before pass 1")
            need(len(r.files) >= 2, "FILES has the kernel and the initrd")
            self.files = r.files
            need(sum(t["size"] for t in r.files[:2]) <= self.offer["mem"], "boot files larger than the memory")
            need(all(bool(t["size"]) == bool(t["digest"]) and t["blocks"] <= -(-t["size"] // FILE_BLOCK) for t in r.files), "FILES")
        elif r.name == "FILE":
            need(not self.npass and self.files and f["file"] < len(self.files), "FILE comes after FILES, before pass 1")
            part, size = self.came.setdefault(f["file"], b""), self.files[f["file"]]["size"]
            need(f["offset"] >= len(part) and f["offset"] % FILE_BLOCK == 0 and f["offset"] < size, "FILE's offset")
            need(len(r.payload) == min(FILE_BLOCK, size - f["offset"]), "a whole block")
            self.came[f["file"]] = part.ljust(f["offset"], b"\0") + r.payload
        elif r.name == "DEBT":
            check_debt(f)
            need(f["started"], "only what was started travels")
            self.debts += 1
        elif r.name == "END":
            need(self.final and not self.open and f["passes"] == self.npass and f["sections"] == len(self.sections), "END")
            need(f["debts"] == self.debts and (not self.post.begun or self.post.ended), "END")
            need(self.to_verify is None or (not self.to_verify and len(self.told) == len(self.sections)), "END before all is verified")
            need((f["data"], f["zero"]) == (self.all_data, self.all_zero), "END")
            need(self.missing <= self.post.absent, "END before all memory, or a map of the rest")
            self.state = "COMMIT"
        else:
            need(r.name == "KEEPALIVE", f"{r.name} during the passes")


def check_hello(f):
    need(f["magic"] == 0x3147494D4E524554 and f["version_min"] <= 3 <= f["version_max"], "HELLO")
    need(f["features"] >> 32 == 0 and f["max_record"] >= 335880, "HELLO")


def check_ident(r):
    need(r.name == "IDENT" and r.f["host_id"] and r.f["boot_id"], "IDENT comes after HELLO")
    return r.f["host_id"], r.f["boot_id"]


def check_greeting(records):
    need(len(records) >= 2 and records[0].name == "HELLO", "HELLO comes first")
    check_hello(records[0].f)
    return check_ident(records[1])


def check_debt(f):
    need(f["started"] < 2 and f["vm"] and f["by_host"] and f["by_boot"] and f["source_host"] and f["source_boot"] and f["number"], "DEBT")


def same_id(f, g):
    need(all(f[k] == g[k] for k, _ in ID), "id")


def check_who(f):
    need(f["name"] and f["flags"] < 4 and f["asker_host"] and f["asker_boot"], "WHO")


def check_have(f):
    need(f["have"] < 4 and (f["have"] != 1 or f["name"]), "HAVE")
    need(f["have"] != 2 or (f["host"] and f["where_host"] and f["where_boot"]), "HAVE: moved where?")
    need((f["silent"] > 0) == bool(f["silent_host"]), "HAVE: who is silent?")
    need(f["have"] != 0 or not (f["name"] or f["host"] or f["where_host"] or f["where_boot"] or f["when"]), "HAVE: nothing, but")


def read_question(s, d):
    """A connection that only asks."""
    me = check_greeting(s)
    check_greeting(d)
    asked, said = s[2:], d[2:]
    names = [r.name for r in asked], [r.name for r in said]
    if names == (["WHO"], ["HAVE"]):
        check_who(asked[0].f)
        check_have(said[0].f)
        return
    if asked and asked[0].name in ("SETTLE", "DEBT"):
        check_debt(asked[0].f)
        need(names[0] in (["SETTLE"], ["DEBT"]) and names[1] in (["DONE"], ["KEPT"])[asked[0].name == "DEBT":], "answer")
        same_id(asked[0].f, said[0].f)
        return
    need(names[0] in (["QUERY"], ["QUERY", "DONE"], ["DONE"]), "order")
    answers = {1: ["STARTED", "NEVER", "UNKNOWN"], 2: ["STARTED"]}[len(asked)] if asked[0].name == "QUERY" else []
    need(len(said) == (1 if answers else 0) and all(r.name in answers for r in said), "answer")
    need((asked[0].f["source_host"], asked[0].f["source_boot"]) == me and asked[0].f["number"], "a question about another host's attempt")
    for r in asked[1:] + said:
        same_id(r.f, asked[0].f)
    for r in said:
        need(r.name == "UNKNOWN" or r.f["by_host"] and r.f["by_boot"], "decided by nobody")


def read_rejoined(s, d):
    """A later connection of a migration in post-copy."""
    me = check_greeting(s)
    check_greeting(d)
    need(s[2].name == "REJOIN", "REJOIN after the greeting")
    which = s[2].f
    need((which["source_host"], which["source_boot"]) == me and which["number"], "REJOIN of another host's attempt")
    said, post = d[2:], PostCopy(None)
    while said and said[0].name == "ABSENT":
        post.map(said.pop(0))
    need(not post.begun or post.ended, "the map has no end")
    if [r.name for r in said] == ["UNKNOWN"]:
        need(not post.begun and len(s) == 3, "UNKNOWN, and more")
    over = False
    for r in s[3:]:
        need(not over and r.name in ("SUMS", "PAGES", "SERVED", "FRAMES", "KEEPALIVE", "DONE"), f"{r.name} after REJOIN")
        over = r.name == "DONE"
        if r.name in ("SUMS", "PAGES", "SERVED"):
            post.source(r)
    for r in s[3:] + said:
        if "uuid" in r.f:
            same_id(r.f, which)
    if [r.name for r in said] != ["UNKNOWN"]:
        post.dest(said, over)


def read(src, dst):
    """Check a connection: a migration, a refused one or a question. Returns the records of both sides, or raises Refused."""
    s, key = parse(src, "S", None)
    d, _ = parse(dst, "D", key or 0)
    if key is None:
        read_question(s, d)
        return s, d
    if any(r.name == "REJOIN" for r in s):
        read_rejoined(s, d)
        return s, d
    source = Source()
    dest = check_greeting(d)
    if [r.name for r in d[2:] if r.name != "PREPARING"] == ["REFUSE"]:
        need(1 <= d[-1].f["code"] <= 7 and d[-1].f["text"], "REFUSE")
        told = [r for r in s if r.name]  # a record that is optional has no name here
        need([r.name for r in told[2:] if r.name != "STATE"] in (["OFFER"], ["OFFER", "ERROR"]), "order")
        for r in told:
            if r.name != "ERROR":
                source.take(r)
        return s, d
    for r in s:
        source.take(r)
    need(source.state in ("DONE", "over"), "the source did not come to COMMIT")
    need(not (source.rests or source.post.begun or source.pulled) or d[0].f["features"] & 4, "STATE or ABSENT to who does not know it")
    want = ["ACCEPT"] + ["WANT"] * (source.files is not None) + ["PASS_ACK"] * (source.npass - 1)
    want += ["CHECKED"] * source.verified + ["READY", "STARTED"]
    preparing = [r for r in d[2:] if r.name == "PREPARING"]
    need(preparing == d[2:2 + len(preparing)], "PREPARING comes before ACCEPT")
    done = [r.f["done"] for r in preparing]
    need(all(a <= b for a, b in zip([0] + done, done)) and all(r.f["done"] <= r.f["total"] for r in preparing), "PREPARING")
    got = [r for r in d[2 + len(preparing):] if r.name]
    demands, passes, at = {}, 1, 0
    while at < len(got) and got[at].name != "STARTED":
        passes += got[at].name == "PASS_ACK"
        if got[at].name == "DEMAND":
            demands.setdefault(passes, []).append(got.pop(at).f)
        else:
            at += 1
    need(all(n in source.pulled for n in demands), "DEMAND in a pass that is pushed")
    for n, p in source.pulled.items():
        p.asked(demands.get(n, []))
    need([r.name for r in got[:len(want)]] == want, "order of the destination's records")
    got, late = got[:len(want)], got[len(want):]
    for r in late:
        if "uuid" in r.f:
            same_id(r.f, source.offer)
    if source.post.absent:
        source.post.dest(late, source.state == "over")
    else:
        need(not late, "nothing after STARTED")
    acked = checked = 0
    for r in got:
        if r.name == "PASS_ACK":
            acked += 1
            need(r.f["pass"] == acked, "PASS_ACK")
        if r.name == "CHECKED":
            checked += 1
            need(r.f["range"] == checked, "CHECKED")
        if r.name == "WANT":
            need(r.f["files"] == sum(1 << n for n in source.came), "WANT")
        if "uuid" in r.f:
            same_id(r.f, source.offer)
        if r.name == "STARTED":
            need((r.f["by_host"], r.f["by_boot"]) == dest, "STARTED by another host")
    return s, d


def refused(src, dst, what):
    try:
        read(src, dst)
    except Refused:
        return 0
    print(f"accepted a stream with {what}")
    return 1


def values(old, size):
    top = (1 << 8 * size) - 1
    return {old ^ 1, old ^ (1 << 8 * size - 1), (old + 1) & top, (old - 1) & top, 0, top} - {old}


def mutate(src, dst):
    """Every field of every record, then every record: changed, dropped, repeated, swapped with the next."""
    bad = tried = 0
    records = read(src, dst)
    for side in (0, 1):
        both = [src, dst]
        buf = both[side]
        for n, r in enumerate(records[side]):
            for name, at, size in r.places:
                old = int.from_bytes(buf[at:at + size], "little")
                for new in values(old, size):
                    both[side] = buf[:at] + new.to_bytes(size, "little") + buf[at + size:]
                    bad += refused(*both, f"{r.name} {n}: {name} {old:#x} -> {new:#x}")
                    tried += 1
            one = buf[r.at:r.end]
            after = records[side][n + 1] if n + 1 < len(records[side]) else None
            kinds = [("repeated", one + one)]
            if r.name != "DONE":  # the last record may be missing: its sender may have died
                kinds.append(("dropped", b""))
            for what, new in kinds:
                both[side] = buf[:r.at] + new + buf[r.end:]
                bad += refused(*both, f"{r.name} {n} {what}")
                tried += 1
            if after:
                both[side] = buf[:r.at] + buf[r.end:after.end] + one + buf[after.end:]
                bad += refused(*both, f"{r.name} {n} swapped with {after.name}")
                tried += 1
            both[side] = buf
    print(f"    independent reader: {tried} mutations, {bad} accepted")
    return bad


def main():
    args = sys.argv[1:]
    do_mutate = args[:1] == ["--mutate"]
    src, dst = (open(p, "rb").read() for p in args[do_mutate:])
    try:
        records, _ = read(src, dst)
    except Refused as e:
        print(f"refused: {e}")
        return 1
    print("    independent reader: " + " ".join(r.name for r in records))
    return 1 if do_mutate and mutate(src, dst) else 0


if __name__ == "__main__":
    sys.exit(main())
