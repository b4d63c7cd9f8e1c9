#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
The house rules that a script can see, each by its name on the command line. Prints what breaks one; exit code 1 if anything does.
    includes   no file includes a header, of the project or of the C library, of which it uses no name
    unused     no function that nobody calls, no macro of a header that nobody uses, no field that nobody reads
    words      no line over 120 columns, no word of C++ for a name
    twins      no two files of one name but a .c and its .h, no two structs of one name
    prefixes   public functions begin with the name of their module, its first word, that of its room, or what a table says of it
    circles    HACKING.md names each circle of rooms and of modules that include each other
    ladders    no step of a function upon a step by `if (!err)`: unwind early, or `if ((err = a()) || (err = b()))`
    figures    median, p90 and greatest of lines a file and a function stay where they are
"""
import os
import re
import sys

import csource

BITS = "kernel/base/bits.h"
ERR = "kernel/base/err.h"
# What these two have from the C library's headers.
STDINT = {"bool", "true", "false", "size_t", "NULL", "offsetof", "uintptr_t"} | {f"{u}int{n}_t" for u in ("u", "") for n in (8, 16, 32, 64)}
ERRNO = re.compile(r"\bE[A-Z0-9]{3,}\b")
# What a file may have from a header of the C library.
LIBC = {
    "stdarg": r"va_\w+", "stdio": r"v?s?n?i?printf|FILE|snprintf|sniprintf|vsn?i?printf",
    "stdlib": r"malloc|calloc|realloc|free|strtou?ll?|abs|qsort|aligned_alloc", "string": r"(mem|str)[a-z]+", "limits": r"[A-Z]+_(MAX|MIN|BIT)",
    "errno": r"errno|E[A-Z0-9]{3,}", "stdint": r"u?int\w+_t|U?INT\w+", "stdbool": r"bool|true|false", "stddef": r"size_t|NULL|offsetof|ptrdiff_t",
}
# A header that includes another for those who include it.
PASSES_ON = {
    "handoff.h": {"addr.h"},  # addresses in it are the machine's: who reads it goes by the direct map
    "tcp.h": {"net.h", "port.h"},  # what the files of one family share
    "vlapic_regs.h": {"apic.h", "apic_regs.h", "regs.h"},
    "vmx_vcpu.h": {"vmx.h"},
}
FACES = {BITS, ERR, "net/arch/cc.h"}  # they include it for all
ACCESS = re.compile(r"(?:\.|->)\s*([A-Za-z_]\w*)")


def reach(path, sources, seen=None):
    """This file and all that it includes, directly or not."""
    seen = set() if seen is None else seen
    if path in sources and path not in seen:
        seen.add(path)
        for _, target in sources[path].includes:
            reach(target, sources, seen)
    return seen


def includes(sources):
    for path, s in sources.items():
        for m in re.finditer(r"^#include <(\w+)\.h>", s.bare, re.M):
            uses = re.compile(LIBC.get(m[1], ".*"))
            if path not in FACES and not any(uses.fullmatch(w) for w in s.words):
                yield f"{path}:{s.line_at(m.start())}: uses nothing of <{m[1]}.h>"
        accessed = set(ACCESS.findall(s.bare))
        here = reach(path, sources)
        for line, target in s.includes:
            if target not in sources or os.path.splitext(path)[0] == os.path.splitext(target)[0]:
                continue
            if os.path.basename(target) in PASSES_ON.get(os.path.basename(path), ()):
                continue
            h = sources[target]
            names = h.names()
            for _, shared in h.includes:
                if shared in sources and shared != BITS:
                    names |= sources[shared].names()
            if target == BITS:
                names |= STDINT
            if names & s.words.keys() or (target == ERR and ERRNO.search(s.text)):
                continue
            # Fields that no other header within reach has: the struct came by way of a pointer.
            others = {f for q in here if q != target for _, f, _ in sources[q].fields}
            if not ({f for _, f, _ in h.fields} - others) & accessed:
                yield f"{path}:{line}: uses nothing of {target}"


# Called from elsewhere: by the C library, lwIP, the firmware, the compiler.
OUTSIDE = re.compile(r"efi_main|aligned_alloc|_(malloc|free|calloc|realloc)_r|__stack_chk_fail|sbrk|fstat|isatty|lseek|getpid|kill|_exit|getentropy|"
                     r"sys_(init|now|arch_|sem_|mutex_|mbox_|thread_)\w*|mbedtls_psa_external_get_random")
# Only tests call these, and the product keeps them because:
TESTED = {
    "bitmap_clear": "it belongs to bitmap_set",
    "bridge_destroy": "the last port of a test's bridge goes; the host's one lives for ever",
    "bitmap_test": "it belongs to bitmap_set",
    "failpoint_set": "by the test image's command",
    "gmem_init": "both halves of making a VM's memory in one call",
    "migrate_source_run": "a source over a stream of the test's own",
    "state_print": "tables of fields are tested by it",
    "state_selftest": "tables of fields are tested by it",
}
# Not by our choice: hardware's definitions, lwIP's configuration.
GIVEN = re.compile(r"arch/x86/hw/|net/arch/|net/(lwipopts|mbedtls_config)\.h")
# Structs laid out by the CPU, a device, the firmware, ELF or assembly; those that are PACKED are left alone anyway.
LAYOUT = {"gate", "table_register", "table_ptr", "trap_frame", "trampoline_args", "processor_information", "aes_schedule", "ghash", "poly1305", "elf_header", "elf_segment", "rx_desc",
          "tx_desc", "virtq_desc", "vmx_host"}


def everything():
    """Words of what is no C: assembly, tables, the linker's script."""
    for path in csource.tree("*.S", "*.inc", "*.def", "*.ld", "*.asl"):
        if not path.startswith("tests/"):
            with open(path, encoding="utf-8") as f:
                yield from csource.WORD.findall(csource.COMMENT.sub(" ", f.read()))


def unused(sources):
    total, defined, where = {}, {}, {}
    for s in sources.values():
        for w, n in s.words.items():
            total[w] = total.get(w, 0) + n
    for w in everything():
        total[w] = total.get(w, 0) + 1
    for path, s in sources.items():
        for name, line in [*s.prototypes.items(), *((f.name, f.line) for f in s.functions)]:
            defined[name] = defined.get(name, 0) + 1
            where[name] = f"{path}:{line}"
    for name, n in defined.items():
        if total[name] <= n and name not in TESTED and not OUTSIDE.fullmatch(name):
            yield f"{where[name]}: nobody calls {name}()"
    for name in TESTED:
        if total.get(name, 0) > defined.get(name, 0) or name not in defined:
            yield f"tools/rules.py: {name} is called, or gone: it needs no line here"
    pasted = re.compile("|".join({m + r"\w+" for s in sources.values() for m in re.findall(r"\b(\w+)##", s.bare)}) or "$.")
    for path, s in sources.items():
        if path.endswith(".h") and not GIVEN.match(path):
            for name, line in s.macros.items():
                if total[name] == 1 and not pasted.fullmatch(name):
                    yield f"{path}:{line}: nobody uses {name}"
    yield from fields(sources)


def fields(sources):
    """What is set at most. By name: a field of another struct within reach that has the same one hides it."""
    texts = {p: csource.STRING.sub(csource.blank, s.bare) for p, s in sources.items()}
    read = {}
    for path, text in texts.items():
        # What follows decides: `x.f = ` writes, `*x.f = ` and all else reads; so does a macro that is given the field's name.
        set_ = re.compile(r"(?<!\*)(?<![\w.>\])])(?:[A-Za-z_][\w.]*(?:->|\[\w+\]|[\w.])*)?(?:\.|->)([A-Za-z_]\w*)\s*=(?!=)")
        rest = set_.sub(" ", text)
        read[path] = set(ACCESS.findall(rest)) | set(re.findall(r"[(,]\s*([A-Za-z_]\w*)\s*(?=[,)])", rest))
    within = {p: reach(p, sources) for p in sources}
    included = {t for s in sources.values() for _, t in s.includes}
    for path, s in sources.items():
        if GIVEN.match(path):
            continue
        packed = set(re.findall(r"\bstruct\s+(\w+)\s*\{(?:[^{}]|\{[^{}]*\})*\}\s*PACKED", s.code))
        users = [q for q in sources if path in within[q]] if path.endswith(".c") or path in included else list(sources)
        for tag, name, line in s.fields:
            if tag in packed or tag in LAYOUT or re.match("pad|reserved", name):
                continue
            if not any(name in read[q] for q in users):
                yield f"{path}:{line}: nobody reads {name} of struct {tag}"


CXX = {"new", "class", "this", "delete", "template", "private", "public", "protected", "virtual", "operator", "namespace", "using", "typename",
       "friend", "explicit", "export", "try", "catch", "throw", "mutable"}
# Tables that are read by column, wider than 120; a comment beside the code is not one.
WIDE = {"cpuid_dumps.h", "test_cpu_check.c"}
OFF = re.compile(r"/\* clang-format off \*/.*?/\* clang-format on \*/", re.S)


def words(_):
    for path in csource.tree("*.c", "*.h"):
        s = csource.Source(path)
        text = OFF.sub(lambda m: "\n" * m[0].count("\n"), s.text) if os.path.basename(path) in WIDE else s.text
        for n, line in enumerate(text.split("\n"), 1):
            if len(line.expandtabs(8)) > 120:
                yield f"{path}:{n}: {len(line.expandtabs(8))} columns"
        for word in sorted(CXX & s.words.keys()):
            yield f"{path}: `{word}` is a word of C++; clang-format takes it for one"


# A .c file that implements a header of another room, by a name that is not ours to choose or in the leaf below.
PAIRED = {"err", "sys_arch"}


def twins(sources):
    files, structs = {}, {}
    for path in sorted(sources):
        stem = os.path.splitext(path)[0]
        name = os.path.basename(stem)
        first = files.setdefault(name, stem)
        if first != stem and name not in PAIRED:
            yield f"{path}: {first}.* has this name"
        for tag, line in sources[path].structs.items():
            if tag in structs:
                yield f"{path}:{line}: {structs[tag]} has a struct {tag}"
            structs[tag] = path


# Module -> what some of its functions begin with besides the module's name, the first word of it, and its room's: the struct that they
# are about, or the face of the room that they are part of.
PREFIXES = {
    # arch's faces: arch_ is the room's; irq.h is four files', and cpu.h and paging.h have more than their own
    "local_apic": "apic irq", "ioapic": "irq", "smp": "irq", "descriptors": "desc idt", "paging": "mmio stack", "features": "cpuid",
    "vmx_insn": "vmcs",
    "guest_clock": "clock", "vapic_bus": "vlapic", "compat": "vm_compat", "virtio_pci": "virtq",
    # kernel's: one struct's functions in two files, or several small ones' in one
    "console": "con", "console_usage": "con usage", "console_edit": "edit", "commands": "host", "identity": "host", "host": "incarnation",
    "sched": "preempt task", "task": "vector", "spinlock": "spin", "sync": "completion mutex sem", "time": "timer", "err": "why",
    "tcp": "stream", "tcp_connect": "stream", "tcp_listen": "stream",  # kinds of streams
    "records": "attempt commit debt decision differs end have hello id offer pass reach reached text who",  # each record's send, get, parse
}
# Names that are given: instructions, the C library's, what every room has (kernel/base), entry points.
FREE = re.compile(r"kernel/base/|arch/x86/cpu\.h|arch/x86/memory\.c|boot/libc\.c|kernel/(malloc|syscalls)\.c")
ENTRIES = {"efi_main", "kernel_main"}


def prefixes(sources):
    needless = {(m, w) for m, words in PREFIXES.items() for w in words.split()}
    for path, s in sources.items():
        module = os.path.splitext(os.path.basename(path))[0]
        may = {module, module.removesuffix("s"), module.split("_")[0], *csource.room(path).split("/")}
        for f in s.functions:
            if (f.static and path.endswith(".c")) or FREE.match(path) or f.name in ENTRIES or OUTSIDE.fullmatch(f.name):
                continue
            if any(f.name == m or f.name.startswith(m + "_") for m in may):
                continue
            also = next(((module, w) for w in PREFIXES.get(module, "").split() if f.name.startswith(w + "_")), None)
            needless.discard(also)
            if not also:
                yield f"{path}:{f.line}: {f.name}() does not begin with {module}_"
    yield from (f"tools/rules.py: no function of {m} begins with {w}_: it needs no place in the table" for m, w in sorted(needless))


# A line of HACKING.md's list: "- room: a, b, c: why". A module and its parts (x, x_y, x_z) are one, and are not listed.
LISTED = re.compile(r"^- (\S+): ([\w/, \n]+): ", re.M)


def circles(sources):
    with open("HACKING.md", encoding="utf-8") as f:
        text = f.read().partition("Circles that remain")[2].partition("\n\n")[2].partition("\n\n")[0]
    listed = {frozenset(name if room == "rooms" else f"{room}/{name}" for name in re.split(r",\s*", names)) for room, names in LISTED.findall(text)}
    rooms = {}
    for path, s in sources.items():
        for _, target in s.includes if path != csource.WIRES else ():
            if target in sources:
                rooms.setdefault(csource.room(path), set()).add(csource.room(target))
    found = {frozenset(c) for c in csource.circles(rooms)}
    found |= {frozenset(c) for c in csource.circles(csource.modules(sources)) if not any(all(n == m or n.startswith(m + "_") for n in c) for m in c)}
    yield from (f"they include each other in a circle, and HACKING.md does not list it: {', '.join(sorted(c))}" for c in found - listed)
    yield from (f"HACKING.md lists a circle that is none: {', '.join(sorted(c))}" for c in listed - found)


LADDER = re.compile(r"if \(!(err)\b[^\n]*\n\s+\1 = [^;]*;\s*if \(!\1\b|\berr = err \? err :[^;]*;\s*err = err \? err :")


def ladders(sources):
    for path, s in sources.items():
        yield from (f"{path}:{s.line_at(m.start())}: a ladder of `if (!err)`" for m in LADDER.finditer(s.bare))


# Lines of a file and between a function's braces: median, nine of ten, the most.
LIMITS = {"file": (94, 291, 472), "function": (7, 24, 58)}


def figures(sources):
    lines = {"file": {p: s.lines for p, s in sources.items()},
             "function": {f"{p}:{f.line}: {f.name}()": f.lines for p, s in sources.items() for f in s.functions}}
    for what, limits in LIMITS.items():
        for of, is_, limit in zip(("half", "nine of ten", "all"), csource.spread(lines[what].values()), limits):
            if is_ > limit:
                yield f"{of} of the {what}s have up to {is_} lines; {limit} is the limit"
        yield from (f"{name}: {n} lines" for name, n in lines[what].items() if n > limits[2])


RULES = {f.__name__: f for f in (includes, unused, words, twins, prefixes, circles, ladders, figures)}


def main():
    sources = csource.product()
    bad = [said for name in sys.argv[1:] for said in RULES[name](sources)]
    print("\n".join(bad), end="\n" if bad else "")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
