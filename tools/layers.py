#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
Who may include whom, and where the hardware is defined. Prints each include that breaks the rule of its room, each name or number of
arch/x86/hw/ that a product file defines or writes down once more, and bits of registers without a name; exit code 1 if there is one.
"""
import re
import subprocess
import sys

# Room (longest path first) -> what it may include, as regular expressions over the included path.
BASE = r"kernel/base/[a-z0-9_]+\.h"
# Two leaves that every room may include: definitions of the hardware, and what is below all rooms.
HW = r"arch/x86/hw/[a-z0-9_]+\.h"
ABOVE_HARDWARE = [r"kernel/.*", r"arch/x86/(hv|pt|features|cpu|fpu|irq)\.(h|def)", r"net/(stream|bridge|announce|learn|blockdev|hostframe|trust)\.h", r"Zydis/.*", r"common/xxhash\.h", r"dsdt\.h"]
RULES = [
    ("kernel/main.c", [r"(?!tests/).*"]),  # the boot order: it alone wires all rooms together
    ("tests/image/", [r".*"]),  # linked into the test image alone; nothing includes from it
    ("arch/x86/hw/", []),  # definitions
    ("kernel/base/", []),
    ("arch/", [r"arch/.*", r"kernel/handoff\.h"]),
    ("kernel/", [r"kernel/.*", r"arch/x86/(?!hv\.h).*"]),
    ("crypto/", [r"crypto/.*", r"kernel/.*", r"arch/x86/(cpu|fpu)\.h", r"mbedtls/.*"]),
    ("drivers/", [r"drivers/.*", r"kernel/.*", r"arch/x86/(cpu|paging|irq)\.h"]),
    ("net/", [r"net/.*", r"kernel/.*", r"crypto/.*", r"drivers/nic\.h", r"lwip/.*", r"(mbedtls|psa)/.*", r"netif/.*", r"arch/cc\.h", r"lwipopts\.h"]),
    ("vmm/migrate/migrate_cmd.c", [r"vmm/.*", r"kernel/.*", r"net/(net|trust)\.h"]),  # the operator's words: peers by name
    ("vmm/lun", [r"vmm/.*", r"net/iscsi/(session|scsi|text)\.h", *ABOVE_HARDWARE]),  # disks on shared storage: the initiator's one user
    ("vmm/disk_unit", [r"vmm/(?!migrate/).*", r"net/iscsi/text\.h", *ABOVE_HARDWARE]),
    ("vmm/migrate/", [r"vmm/.*", *ABOVE_HARDWARE]),
    ("vmm/vm_cmd", [r"vmm/.*", *ABOVE_HARDWARE]),  # the operator's words, of VMs that have left as well
    ("vmm/dev/", [r"vmm/dev/.*", r"vmm/(dev|bus|state|gmem|blockdev|pc/pc)\.h", r"kernel/(spinlock|sync|frame|time|worker)\.h"]),
    ("vmm/", [r"vmm/(?!migrate/).*", *ABOVE_HARDWARE]),  # migration registers with it (vm.h, vm_guard)
    ("boot/", [r"boot/.*", r"kernel/(handoff|conf|acpi_walk)\.h", r"efi.*\.h", r"zstd(_errors)?\.h"]),
]
# What only files of one family may include.
PRIVATE = {"arch/x86/vmx.h": "arch/x86/vmx", "arch/x86/svm.h": "arch/x86/svm"}
# Foreign headers, named because an <angle include> is otherwise the C library's.
FOREIGN = re.compile(r"(lwip|netif|Zydis|Zycore|mbedtls|psa|common)/|efi|zstd")

NUMBER = re.compile(r"\b0x([0-9a-f]+)U?L{0,2}\b", re.I)
# Of the numbers in arch/x86/hw/ those that are telling enough to be looked for: long ones that are no single bit, and PCI's and COM1's ports.
PORTS = {0xcf8, 0xcfc, 0x3f8}
# A register's bits, bare; in assembly any number above a small one.
BITS = re.compile(r"\b(cr[034]|efer|rflags|xcr0|dr[67])\b\s*(?:[&|^=!]=?|==)\s*~?\(?\s*(0x[0-9a-f]+|BIT\(\d|[2-9]\b|[1-9]\d+)")
IMMEDIATE = re.compile(r"\$0x([0-9a-f]+)|\.(?:long|quad)\s+0x([0-9a-f]+)")
MULTIPLIER = 0x9e3779b97f4a7c15  # entry.S mixes the stack's guard with it: 2^64 by the golden ratio
# The guest's map: plain numbers, since the DSDT is made of them too; acpi_tables.c holds them against the names.
GUEST_MAP = "vmm/pc/pc.h"
# A port's number where it is used; and in rooms whose hardware is not one file's own (a vendor's, a card's) a number with a name.
PORT = re.compile(r"\b(?:in|out)[bwl]\(\s*(?:\([^()]*\)\s*)?(0x[0-9a-f]+|[0-9]+)", re.I)
NAMED = re.compile(r"^\s*#\s*define\s+([A-Z]\w*)\s+\(*(?:0x[0-9a-f]+|BIT\(\d)", re.I)
ROOMS = re.compile(r"arch/x86/(?!svm|vmx)|boot/|vmm/(?:x86|dev)/|kernel/acpi")
# Numbers that are no hardware's, or stand for what one file alone makes of it: (file, names) -> why.
OWN = {
    (r"arch/x86/(irq\.[ch]|hv\.h)|vmm/x86/cpu_check\.c", r"(IRQ_)?VEC_\w+|HV_\w+|EVENT_\w+"): "vectors as tern gives them out, and its format of events",
    (r"arch/x86/(paging\.c|trampoline\.h)", r"(MMIO|STACK)_(BASE|END)|TRAMPOLINE_\w+"): "tern's map of its own memory",
    (r"arch/x86/(x86\.h|descriptors\.c)", r"\w+_SELECTOR"): "the order of tern's GDT",
    (r"boot/", r"PROCESSOR_\w+_BIT|FILE_SIZE_MAX"): "UEFI's interface (PI 1.7, II-13.4), which is no hardware; a limit",
    (r"vmm/x86/(pv|guest_clock)\.c", r"ENABLED|\w+_RESERVED|PREEMPTED|FLUSH_TLB|PVCLOCK_ENABLE"): "KVM's structs in the guest's memory",
    (r"vmm/x86/(cpuid|guest_clock)\.c", r"LEAF_\w+|TSC_\w+_MAX"): "how far what tern offers goes",
    (r"vmm/dev/", r"(LAPIC_)?VERSION|LAPIC_EV_\w+|BAR_LEN|CFG_SIZE|\w+_OFF"): "what tern's own devices are like",
}
DEFINED = re.compile(r"#\s*define\s+([A-Z][A-Z0-9_]+)|(?:^|[{,])\s*([A-Z][A-Z0-9_]+)\s*=(?!=)")


def strip(text):
    """Without comments, with the same lines."""
    return re.sub(r"/\*.*?\*/", lambda m: "\n" * m[0].count("\n"), text, flags=re.S)


def names(line):
    return {a or b for a, b in DEFINED.findall(line)}


def told(numbers):
    return {v for v in numbers if v in PORTS or (v >= 1 << 20 and v & (v - 1) and v & (v + 1))}


def assembly(path, text):
    for n, line in enumerate(text.splitlines(), 1):
        for a, b in IMMEDIATE.findall(line):
            if 0x1f < int(a or b, 16) != MULTIPLIER:
                yield f"{path}:{n}: 0x{a or b} wants a name"


def hardware(texts):
    """What stands outside arch/x86/hw/ that belongs there."""
    numbers = told(int(m[1], 16) for path, text in texts.items() if path.startswith("arch/x86/hw/") for m in NUMBER.finditer(text))
    known = {n: path for path, text in texts.items() if path.startswith("arch/x86/hw/") for line in text.splitlines() for n in names(line)}
    for path, text in texts.items():
        if path.startswith("arch/x86/hw/"):
            continue
        for n, line in enumerate(text.splitlines(), 1):
            for name in names(line) & known.keys():
                yield f"{path}:{n}: {name} is defined in {known[name]}"
            for m in NUMBER.finditer(line):
                if path != GUEST_MAP and int(m[1], 16) in numbers:
                    yield f"{path}:{n}: {m[0]} has a name in arch/x86/hw/"
            if m := PORT.search(line):
                yield f"{path}:{n}: port {m[1]} wants a name in arch/x86/hw/"
            if ROOMS.match(path) and (m := NAMED.match(line)) and not any(re.match(p, path) and re.fullmatch(q, m[1]) for p, q in OWN):
                yield f"{path}:{n}: {m[1]}: hardware's numbers belong in arch/x86/hw/"
            if m := BITS.search(line):
                yield f"{path}:{n}: {m[0]}: the bits of {m[1]} have names in arch/x86/hw/"
        if path.endswith((".S", ".inc")):
            yield from assembly(path, text)


def main():
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.c", "*.h", "*.S", "*.inc"], capture_output=True, text=True,
                           check=True).stdout.split()
    bad = 0
    texts = {}
    for path in files:
        rule = next((allowed for prefix, allowed in RULES if path.startswith(prefix)), None)
        if rule is None:
            continue
        try:
            text = open(path, encoding="utf-8").read()
        except FileNotFoundError:
            continue
        texts[path] = strip(text)
        for n, line in enumerate(text.splitlines(), 1):
            m = re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', line)
            if not m or (m[1] == "<" and not FOREIGN.match(m[2])):
                continue
            owner = PRIVATE.get(m[2])
            if m[2].startswith("tests/image/") or not any(re.fullmatch(r, m[2]) for r in rule + [HW, BASE]) or (owner and not path.startswith(owner)):
                print(f"{path}:{n}: may not include {m[2]}")
                bad += 1
    for said in hardware(texts):
        print(said)
        bad += 1
    return 1 if bad else 0


sys.exit(main())
