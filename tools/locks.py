#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
Are the fields that a struct's legend puts under a lock touched under that one? No analysis of what each path holds, but what a reader
does first: a function that touches such a field takes its lock itself, or is called from functions alone that do, or reads and writes it
by __atomic_*, or makes the object (nobody else knows it yet), or its comment says who holds the lock. Prints the others; exit code 1 if
there is one. Whose field it is, the types of parameters, local variables, fields and returned pointers say; where they do not, and other
structs have a field of that name too, it is printed as well. OPEN below has those that were read and are left open, each with its reason.
So what it finds is to be mended, and what it does not find is not proven.
"""
import re
import sys

import csource
from rules import reach

TAG = re.compile(r"/\* *\[(\w)\](?: and \[(\w)\])?")
TAKES = re.compile(r"\b(?:spin_lock\w*|spin_trylock|spin_acquire|mutex_lock\w*|mutex_trylock|arch_lock)\s*\(&?([^;,()]*)\)|"
                   r"\b(NET_CORE_LOCK)\b")
GIVES = re.compile(r"\b(spin_unlock|spin_release|mutex_unlock|arch_unlock|NET_CORE_UNLOCK)")
MAKES = re.compile(r"(_init|_new|_create|_alloc|_make|_start|_fini|_destroy)(_|$)|^(init|new|create)_")
HELD = re.compile(r"\b(held|parked|nobody else|its own task)\b|\b(under|has|have|hold|holds|with|took|keeps?)\b.*lock", re.I)
NOT_HELD = re.compile(r"\bnever\b|\b(holds?|takes?|needs?|with) no\b|\bno lock\b|\bwithout\b|\block order\b", re.I)
CORE = re.compile(r"\bcore lock\b|\bcallbacks? of lwIP\b")
OWN_TASK = re.compile(r"\bits own task\b")
NAMED = re.compile(r"(?:\b(\w+)(?:->|\.))?\b(\w*lock)\b")  # in prose: "vm->lock", "table_lock", "lock"
SECTION = re.compile(r"/\*\s*(?:\* )?----.*?\*/", re.S)
LOCAL = re.compile(r"\b(?:struct|union)\s+(\w+)(?=([^;(){}]*))")
EACH = re.compile(r"\blist_for_each\((\w+),[^;{}]*?\bstruct (\w+),")
# What was read and is left open: (function, "struct.field") -> why it is right.
OPEN = {
    ("task_exit", "task.prio"): "its own, which nobody else changes",
    ("window", "vpci_func.s"): "three numbers of the guest's, each read once and then checked; vCPUs that set it at once get any",
    ("window_read", "vpci_func.s"): "the guest's data, and its vCPUs' race; a device's lock, which the access takes, is no leaf below the bus's",
    ("window_written", "vpci_func.s"): "the same",
}


class Lock:
    """One of a legend: `lock` of the struct itself, `of->lock` of what a field or a struct of that name is, or one of the struct's file."""

    def __init__(self, path, tag, text, types):
        self.core, self.own_task = bool(CORE.search(text)), bool(OWN_TASK.search(text))
        m = NAMED.search(text)
        self.name, self.file = m[2], re.sub(r"\.[ch]$", ".c", path)
        self.owner = types.fields.get((tag, m[1])) or types.named(m[1]) if m[1] else tag
        self.types = types
        self.key = (self.core, self.name, self.owner, self.file)

    def is_taken(self, owner, name):
        """By a function that takes `name` of a struct, of a file (its path), or of what is not known (None)."""
        if self.core or name == "NET_CORE_LOCK":
            return self.core and name == "NET_CORE_LOCK"
        return name == self.name and owner in (None, self.owner, self.file)

    def is_said(self, sentence):
        """In prose that says that a lock is held: not if it names another one."""
        if OWN_TASK.search(sentence):
            return self.own_task
        if CORE.search(sentence):
            return self.core
        named = [m for m in NAMED.finditer(sentence) if m[1] or m[2] != "lock"]
        fits = any(m[2] == self.name and (not m[1] or self.types.named(m[1]) in (None, self.owner)) for m in named)
        return not self.core and fits or not named and not (self.core and "lock" in sentence.lower())


def legend(s, line):
    """Tag -> what a legend on the struct of this line, or above it, says of it."""
    lines = s.text.split("\n")
    near = "\n".join(lines[max(0, line - 6):line])
    return {m[1]: m[2] for m in re.finditer(r"\[(\w)\]\s+([^\[(*]*)", near)}


def guarded(s, types):
    """(struct, field, its locks, its parts that are const all the same) of those under a lock; of two, either does for who reads."""
    lines = s.text.split("\n")
    for tag, field, line in s.fields:
        m = TAG.search(lines[line - 1])
        known = legend(s, s.structs[tag]) if m and tag in s.structs else {}
        locks = [Lock(s.path, tag, known[t], types) for t in (m.groups() if m else ()) if "lock" in known.get(t, "")]
        if locks:
            const = re.search(r"([\w, ]+): \(c\)", lines[line - 1])
            yield tag, field, locks, const[1].replace(" ", "").split(",") if const else []


def body(s, f):
    return "\n".join(s.bare.split("\n")[f.line - 1:f.end])


class Types:
    """Which struct an expression of a function is, or points to: its tag, or None if that is not known."""

    def __init__(self, sources):
        self.sources = sources
        self.fields = {k: v for s in sources.values() for k, v in s.field_types.items()}
        self.returns = {k: v for s in sources.values() for k, v in s.return_types.items()}
        self.shared = {k: v for p, s in sources.items() if p.endswith(".h") for k, v in s.variable_types.items()}

    def named(self, name):
        """A struct, or what a field of that name is."""
        if any(name in s.structs for s in self.sources.values()):
            return name
        return next((of for (_, field), of in self.fields.items() if field == name and of), None)

    def locals(self, text):
        """Variable -> tag, of the parameters and declarations in a function's text; one of two types is of none."""
        found = {}
        found.update(EACH.findall(text))
        for m in LOCAL.finditer(text):
            for part in re.split(r",(?![^\[]*\])", m[2]):
                name = re.match(r"[\s*]*(?:const\s+)?[\s*]*(\w+)\s*(=|\[|$)", part)
                if name:
                    found[name[1]] = m[1] if found.get(name[1], m[1]) == m[1] else None
                if not name or "=" in part and "(" in part:
                    break
        return found

    @staticmethod
    def before(text, at):
        """Where the postfix expression that ends at `at` begins."""
        while at > 0:
            while at > 0 and text[at - 1].isspace():
                at -= 1
            if at and text[at - 1] in ")]":
                depth = 0
                while at > 0:
                    at -= 1
                    depth += (text[at] in ")]") - (text[at] in "([")
                    if depth == 0:
                        break
                if text[at] == "(" and not (at and (text[at - 1].isalnum() or text[at - 1] in "_)]")):
                    return at
                continue
            m = re.search(r"\w+$", text[:at])
            if not m:
                return at
            at = m.start()
            m = re.search(r"(?:\.|->)\s*$", text[:at])
            if not m:
                return at
            at = m.start()
        return at

    def of(self, expr, path, own):
        expr = re.sub(r"^[\s*&]+", "", expr.strip())
        if m := re.match(r"\(\s*(?:const\s+)?struct (\w+)\s*\*\s*\)", expr):
            return m[1]
        tokens = [m[0] for m in re.finditer(r"->|\w+|\S", expr)]
        if not tokens:
            return None
        i, tag = 1, None
        if tokens[0] == "(":
            i = csource.Source.match([(t, 0) for t in tokens], 0) + 1
            tag = self.of(" ".join(tokens[1:i - 1]).replace("- >", "->"), path, own)
        elif len(tokens) > 1 and tokens[1] == "(":
            i = csource.Source.match([(t, 0) for t in tokens], 1) + 1
            made = re.match(r"CONTAINER_OF\(.*,\s*struct (\w+),\s*\w+\)", expr, re.S)
            mine = self.sources[path].return_types
            tag = made[1] if made else mine.get(tokens[0], self.returns.get(tokens[0]))
        else:
            for known in (own, self.sources[path].variable_types, self.shared):
                if tokens[0] in known:
                    tag = known[tokens[0]]
                    break
        while i < len(tokens) and tag is not None:
            if tokens[i] in ("[", "("):
                i = csource.Source.match([(t, 0) for t in tokens], i) + 1
            elif tokens[i] in (".", "->") and i + 1 < len(tokens):
                tag = self.fields.get((tag, tokens[i + 1]))
                i += 2
            else:
                return None
        return tag


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
    top = re.split(r"[.;:]\s", " ".join(csource.COMMENT.findall(s.text)[1:2]))
    of_all = [x for x in top if re.search(r"\block\b.*\bheld in all\b", x, re.S)]
    of_all += [x for x in section if re.search(r"\block\b.*\bheld\b", x, re.S)]
    return re.sub(r"\s+(\* )?", " ", "; ".join(csource.COMMENT.findall(text) + of_all))


class Functions:
    """All of them, what each takes, says and calls."""

    def __init__(self, sources, types):
        self.all = {}  # by name; a static one by (file, name): others may have that name, too
        for p, s in sources.items():
            for f in s.functions:
                self.all[(p, f.name) if f.static else f.name] = (p, f, body(s, f))
        self.callers, self.calls, self.takes, self.sentences = {}, {}, {}, {}
        for key, (p, f, text) in self.all.items():
            own = types.locals(text)
            self.takes[key] = {self.taken(m, p, own, types) for m in TAKES.finditer(text)}
            self.sentences[key] = [x for x in re.split(r"[.;:]\s", said(sources, p, f)) if HELD.search(x) and not NOT_HELD.search(x)]
            called = {(p, w) if (p, w) in self.all else w for w in csource.WORD.findall(text)}
            self.calls[key] = {c for c in called if c in self.all and c != key}
            for c in self.calls[key]:
                self.callers.setdefault(c, set()).add(key)
        for key in [k for k, (_, _, text) in self.all.items() if self.takes[k] and not GIVES.search(text)]:  # takes it for its caller
            for caller in self.callers.get(key, ()):
                self.takes[caller] |= self.takes[key]

    @staticmethod
    def taken(m, path, own, types):
        if m[2]:
            return None, m[2]
        parts = re.match(r"(.*?)(?:->|\.)?(\w+)$", m[1].strip(), re.S)
        return (types.of(parts[1], path, own) if parts[1] else path, parts[2]) if parts else (None, "")

    def covered(self, lock):
        """Those in which it is held."""
        known = {k for k in self.all if any(lock.is_taken(*t) for t in self.takes[k]) or any(map(lock.is_said, self.sentences[k]))}
        grown = True
        while grown:
            more = {n for n in self.all if n not in known and self.callers.get(n) and self.callers[n] <= known}
            grown = bool(more)
            known |= more
        return known


def touched(text, field, const):
    """Where a function's text names this field of anything, but by __atomic_* and as an address that it gives away."""
    but = rf"(?!\.(?:{'|'.join(const)})\b)" if const else ""
    plain = re.sub(rf"__atomic_\w+\((?:[^()]|\([^()]*\))*\)|&[\w.>()-]*\b{field}\b(?=[,)])", csource.blank, text)
    return plain, re.finditer(rf"(?:\.|->)\s*{field}\b{but}", plain)


def main():
    sources = csource.product()
    types = Types(sources)
    functions = Functions(sources, types)
    within = {p: reach(p, sources) for p in sources}
    owners, covered, bad, used = {}, {}, [], set()
    for s in sources.values():
        for tag, field, _ in s.fields:
            owners.setdefault(field, set()).add((s.path, tag))
    for path, s in sources.items():
        for tag, field, locks, const in guarded(s, types):
            for lock in locks:
                if lock.key not in covered:
                    covered[lock.key] = functions.covered(lock)
            for key, (q, f, text) in functions.all.items():
                if path not in within[q] or any(key in covered[x.key] for x in locks) or MAKES.search(f.name):
                    continue
                plain, places = touched(text, field, const)
                for m in places:
                    start = types.before(plain, m.start())
                    if start == m.start():
                        continue  # of an initializer
                    of = types.of(plain[start:m.start()], q, types.locals(plain))
                    alone = not any(r in within[q] and (r, u) != (path, tag) for r, u in owners[field])
                    at = f"{q}:{f.line + plain.count(chr(10), 0, m.start())}: {f.name}()"
                    if of not in (tag, None):
                        continue
                    if (f.name, f"{tag}.{field}") in OPEN:
                        used.add((f.name, f"{tag}.{field}"))
                    elif of or alone:
                        bad.append(f"{at} touches {field} of struct {tag} without its lock")
                    else:
                        bad.append(f"{at} does not show whose {field} it touches: struct {tag} has it under a lock")
    bad += [f"tools/locks.py: {f}() and {what} want no line any more" for f, what in OPEN.keys() - used]
    print("\n".join(bad), end="\n" if bad else "")
    return 1 if bad else 0


sys.exit(main())
