#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Make the kernel's function table for backtraces: reads `nm` of the first link, writes assembly for the second.

    nm build/kernel.tmp.elf | ksyms.py > build/ksyms.S        (no input: an empty table, for the first link)

The layout is what kernel/ksym.c reads: sorted offsets from KERNEL_BASE, then the names in that order.
"""
import sys

KERNEL_BASE = 0xFFFFFFFF80000000


def main():
    syms = {}
    for line in sys.stdin:
        fields = line.split()
        if len(fields) == 3 and fields[1] in "tTwW" and not fields[2].startswith((".L", "__text_")):
            # Of several names at one address the global one that sorts first wins, so the table is reproducible.
            addr, kind, name = int(fields[0], 16), fields[1], fields[2].split(".")[0]
            syms[addr] = min(syms.get(addr, ("z", "")), (kind, name))
    out = ['\t.section .ksyms, "a", @progbits', "\t.balign 4", "\t.globl ksym_count, ksym_table, ksym_names"]
    out += ["ksym_count:", f"\t.long {len(syms)}", "ksym_table:"]
    names = []
    for addr in sorted(syms):
        out.append(f"\t.long {addr - KERNEL_BASE:#x}")
        names.append(syms[addr][1])
    out.append("ksym_names:")
    out += [f'\t.asciz "{n}"' for n in names] or ['\t.asciz ""']
    out.append('\t.section .note.GNU-stack, "", @progbits')
    print("\n".join(out))


main()
