#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
The house, drawn: the rooms (directories of the product's sources) with their files and lines, who includes whom and how
often, the circles among rooms and among modules (a .c and its .h), and figures. -v: also the functions without a comment.
"""
import os
import signal
import sys
import textwrap

import csource


def said(head, words, indent=4):
    print(textwrap.fill(head + ", ".join(words), 79, subsequent_indent=" " * indent, break_on_hyphens=False, break_long_words=False))


def main():
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # | head
    sources = csource.product()
    texts = {p: s.text for p, s in sources.items()}
    for path in csource.tree("*.S"):
        if not path.startswith("tests/"):
            with open(path, encoding="utf-8") as f:
                texts[path] = f.read()
    lines = {p: t.count("\n") for p, t in texts.items()}
    rooms = sorted({csource.room(p) for p in lines})
    arrows, files = {}, {}
    for path, text in texts.items():
        for _, target in csource.includes(text):
            if target not in sources or path == csource.WIRES:
                continue
            a, b = csource.room(path), csource.room(target)
            if a != b:
                arrows.setdefault(a, {}).setdefault(b, []).append(f"{os.path.basename(path)} of {target}")
            files.setdefault(path, set()).add(target)

    print(f"{'room':<16}files  lines  includes (how often)")
    for room in rooms:
        mine = [p for p in lines if csource.room(p) == room]
        words = [f"{b} {len(arrows[room][b])}" for b in sorted(arrows.get(room, {}))]
        said(f"{room:<16}{len(mine):>5}{sum(lines[p] for p in mine):>7}  ", words, 30)
    print(f"{'all':<16}{len(lines):>5}{sum(lines.values()):>7}  {csource.WIRES}, which wires all, left out\n")

    found = csource.circles(arrows)
    print(f"circles among rooms: {len(found) or 'none'}")
    for group in found:
        said("  ", group)
        for a in group:
            for b in group:
                whys = arrows.get(a, {}).get(b, [])
                back = arrows.get(b, {}).get(a, [])
                if whys and back and len(whys) <= len(back):
                    said(f"    {a} to {b}, and back {len(back)}: ", whys, 8)
    for what, edges in (("headers that include each other", files), ("circles among modules (.c with its .h)", csource.modules(sources))):
        found = csource.circles(edges)
        print(f"{what}: {len(found) or 'none'}")
        for group in found:
            said(f"  {len(group)}: ", group)

    functions = [(s, f) for s in sources.values() for f in s.functions]
    mute = [(s, f) for s, f in functions if f.lines >= 20 and not s.commented(f)]
    big = sum(f.lines >= 20 for _, f in functions)
    print(f"\n{'lines of a':<16}{'median':>8}{'p90':>8}{'most':>8}")
    for what, values in (("file (.c, .h)", [s.lines for s in sources.values()]), ("function", [f.lines for _, f in functions])):
        print(f"{what:<16}" + "".join(f"{v:>8}" for v in csource.spread(values)))
    print(f"{len(functions)} functions; {big} of 20 lines or more, {len(mute)} of these ({100 * len(mute) // max(big, 1)} %) without a comment")
    if "-v" in sys.argv:
        print("\n".join(f"{s.path}:{f.line}: {f.name} ({f.lines})" for s, f in sorted(mute, key=lambda x: -x[1].lines)))


main()
