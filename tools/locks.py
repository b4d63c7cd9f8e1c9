#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
Are the fields that a struct's legend puts under a lock touched under one? No analysis of what each path holds, but what a reader does
first: a function that names such a field takes a lock itself, or is called from functions alone that do, or reads and writes it by
__atomic_*, or makes the object (nobody else knows it yet), or its comment says who holds the lock. Prints the others; exit code 1 if
there is one. A field whose name other structs within reach have as well is left out (-v names them): names are all
that is looked at. So what it finds is to be mended, and what it does not find is not proven.
"""
import re
import sys

import csource
from rules import reach

TAG = re.compile(r"/\* *\[(\w)\]")
TAKES = re.compile(r"\b(spin_lock\w*|spin_trylock|spin_acquire|mutex_lock\w*|mutex_trylock|arch_lock|NET_CORE_LOCK)\s*\(")
GIVES = re.compile(r"\b(spin_unlock|spin_release|mutex_unlock|arch_unlock|NET_CORE_UNLOCK)")
MAKES = re.compile(r"(_init|_new|_create|_alloc|_make|_start|_fini|_destroy)(_|$)|^(init|new|create)_")
HELD = re.compile(r"\block\b|\bheld\b|\bparked\b|\bnobody else\b|\bits own task\b", re.I)
NOT_HELD = re.compile(r"\bnever\b|\b(holds?|takes?|needs?|with) no\b|\bno lock\b|\bwithout\b", re.I)
SECTION = re.compile(r"/\*\s*(?:\* )?----.*?\*/", re.S)


def legend(s, line):
    """Tag -> what a legend on the struct of this line, or above it, says of it."""
    lines = s.text.split("\n")
    near = "\n".join(lines[max(0, line - 6):line])
    return {m[1]: m[2] for m in re.finditer(r"\[(\w)\]\s+([^\[(*]*)", near)}


def guarded(s):
    """(struct, field, its parts that are const all the same) of those under a lock."""
    lines = s.text.split("\n")
    for tag, field, line in s.fields:
        m = TAG.search(lines[line - 1])
        if m and tag in s.structs and "lock" in legend(s, s.structs[tag]).get(m[1], ""):
            const = re.search(r"([\w, ]+): \(c\)", lines[line - 1])
            yield tag, field, const[1].replace(" ", "").split(",") if const else []


def body(s, f):
    return "\n".join(s.bare.split("\n")[f.line - 1:f.end])


def above(lines, n):
    """The comment that ends right above line n, counted from 1."""
    first = n - 1
    if not first or not lines[first - 1].rstrip().endswith("*/"):
        return ""
    while first and "/*" not in lines[first - 1]:
        first -= 1
    return "\n".join(lines[first - 1:n - 1])


def said(sources, path, f):
    """What is said of a function: in it, above it, at its prototype, and of all of its section and its file."""
    s = sources[path]
    text = above(s.text.split("\n"), f.line) + "\n".join(s.text.split("\n")[f.line - 1:f.end])
    for t in sources.values() if not f.static else ():
        if f.name in t.prototypes:
            lines = t.text.split("\n")
            n = t.prototypes[f.name]
            text += above(lines, n) + lines[n - 1]
    section = [m[0] for m in SECTION.finditer(s.text) if s.line_at(m.start()) < f.line][-1:]
    top = csource.COMMENT.findall(s.text)[1:2] + section
    return re.sub(r"\s+(\* )?", " ", " ".join(csource.COMMENT.findall(text) + [c for c in top if re.search(r"\block\b.*\bheld\b", c, re.S)]))


def is_held(text):
    return any(HELD.search(sentence) and not NOT_HELD.search(sentence) for sentence in re.split(r"[.;:]\s", text))


def main():
    sources = csource.product()
    within = {p: reach(p, sources) for p in sources}
    functions = {}  # by name; a static one by (file, name): others may have that name, too
    for p, s in sources.items():
        for f in s.functions:
            functions[(p, f.name) if f.static else f.name] = (p, f, body(s, f))
    callers = {}
    for key, (p, _, text) in functions.items():
        for w in set(csource.WORD.findall(text)):
            called = (p, w) if (p, w) in functions else w
            if called in functions and called != key:
                callers.setdefault(called, set()).add(key)
    lockers = {f.name for _, f, text in functions.values() if TAKES.search(text) and not GIVES.search(text)}
    covered = {k for k, (p, f, text) in functions.items()
               if TAKES.search(text) or lockers & set(csource.WORD.findall(text)) or is_held(said(sources, p, f))}
    grown = True
    while grown:
        more = {n for n in functions if n not in covered and callers.get(n) and callers[n] <= covered}
        grown = bool(more)
        covered |= more
    looked_at, hidden, bad = set(), set(), 0
    for path, s in sources.items():
        for tag, field, const in guarded(s):
            for q, t in sources.items():
                if path not in within[q]:
                    continue
                if any(g == field and (r, u) != (path, tag) for r in within[q] for u, g, _ in sources[r].fields):
                    hidden.add((tag, field))
                    continue
                looked_at.add((tag, field))
                for f in t.functions:
                    text = body(t, f)
                    plain = re.sub(rf"__atomic_\w+\((?:[^()]|\([^()]*\))*\)|&[\w.>()-]*\b{field}\b(?=[,)])", "", text)
                    but = rf"(?!\.(?:{'|'.join(const)})\b)" if const else ""
                    if ((q, f.name) if f.static else f.name) not in covered and not MAKES.search(f.name) and re.search(rf"(?:\.|->)\s*{field}\b{but}", plain):
                        print(f"{q}:{f.line}: {f.name}() touches {field} of struct {tag} without its lock")
                        bad += 1
    if "-v" in sys.argv:
        print(f"{len(looked_at)} fields under locks; in some file or all not looked at, for another struct there has a field of that name:")
        print(", ".join(f"{t}.{f}" for t, f in sorted(hidden)))
    return 1 if bad else 0


sys.exit(main())
