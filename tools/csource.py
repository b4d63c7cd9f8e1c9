# SPDX-License-Identifier: BSD-2-Clause
"""
The product's C sources, read as far as house.py and the checks need it: includes, functions, structs, macros and the words that are
used. No C parser: it counts on the house style (what clang-format leaves, one thing a line).
"""
import os
import re
import subprocess

COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
STRING = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'')
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.M)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.M)
MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)(\([^)]*\))?((?:[^\n]*\\\n)*[^\n]*)", re.M)
TAG = re.compile(r"\b(struct|union|enum)\s+(\w+)\s*\{")
WORD = re.compile(r"[A-Za-z_]\w*")
TOKEN = re.compile(r"[A-Za-z_]\w*|->|[^\s\w]|\d\w*")
WIRES = "kernel/main.c"  # includes from all rooms, and is no arrow of its own
ATTRIBUTES = {"__attribute__", "printf_like", "_Static_assert", "__alignof__", "section", "aligned"}


def blank(m):
    """As many lines, no words."""
    return re.sub(r"[^\n]", " ", m[0])


def tree(*patterns):
    """The files that match, tracked or about to be."""
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", *patterns], capture_output=True, text=True, check=True).stdout
    return [p for p in out.split() if os.path.exists(p)]


def room(path):
    return os.path.dirname(path)


def includes(text):
    """(line, path) of each file of the project that a text includes."""
    return [(text.count("\n", 0, m.start()) + 1, m[2]) for m in INCLUDE.finditer(text) if m[1] == '"']


class Function:
    def __init__(self, name, line, brace, end, static):
        self.name, self.line, self.brace, self.end, self.static = name, line, brace, end, static

    @property
    def lines(self):
        """Between its braces; of one that stands on one line that line."""
        return max(1, self.end - self.brace - 1)


class Source:
    """One file. `code` is its text without comments, strings and directives; `words` counts the words of code and macros."""

    def __init__(self, path):
        self.path = path
        with open(path, encoding="utf-8") as f:
            self.text = f.read()
        self.lines = self.text.count("\n")
        self.includes = includes(self.text)
        self.bare = COMMENT.sub(blank, self.text)  # comments gone, strings there
        quiet = STRING.sub(blank, self.bare)
        self.macros = {m[1]: self.line_at(m.start()) for m in MACRO.finditer(quiet)}
        self.code = DIRECTIVE.sub(blank, quiet)
        directives = [m[0] for m in DIRECTIVE.finditer(quiet)]
        self.words = {}
        for part in [self.code, *directives]:
            for w in WORD.findall(part):
                self.words[w] = self.words.get(w, 0) + 1
        self.functions, self.prototypes, self.variables = [], {}, {}
        self.structs, self.enums, self.constants, self.typedefs = {}, {}, {}, {}
        self.fields = []  # (struct's tag or "", field, line)
        # Which struct it is, or points to: of a field by (struct's tag or "", field), a variable of the file, what a function returns.
        self.field_types, self.variable_types, self.return_types = {}, {}, {}
        self.parse()

    def line_at(self, pos):
        return self.text.count("\n", 0, pos) + 1

    def commented(self, f):
        """Has this function a comment, in it or right above?"""
        lines = self.text.split("\n")
        return bool(COMMENT.search("\n".join(lines[f.line - 1:f.end]))) or lines[f.line - 2].rstrip().endswith("*/")

    def parse(self):
        for m in TAG.finditer(self.code):
            (self.enums if m[1] == "enum" else self.structs)[m[2]] = self.line_at(m.start())
        tokens = []
        line, at = 1, 0
        for m in TOKEN.finditer(self.code):
            line += self.code.count("\n", at, m.start())
            at = m.start()
            tokens.append((m[0], line))
        start, depth, i = 0, 0, 0
        while i < len(tokens):
            t = tokens[i][0]
            if t in "({[":
                if t == "{" and depth == 0 and i > start and tokens[i - 1][0] == ")":
                    end = self.match(tokens, i)
                    self.function(tokens[start:i], tokens[i][1], tokens[end][1])
                    i = start = end + 1
                    continue
                depth += 1
            elif t in ")}]":
                depth -= 1
            elif t == ";" and depth == 0:
                self.declaration(tokens[start:i])
                start = i + 1
            i += 1

    @staticmethod
    def match(tokens, i):
        depth = 0
        while True:
            depth += {"(": 1, "{": 1, "[": 1, ")": -1, "}": -1, "]": -1}.get(tokens[i][0], 0)
            if depth == 0 or i == len(tokens) - 1:
                return i
            i += 1

    @staticmethod
    def called(item):
        """Where in a declaration the name before its first parenthesis stands."""
        return next((i for i in range(len(item) - 1) if item[i + 1][0] == "(" and WORD.fullmatch(item[i][0]) and item[i][0] not in ATTRIBUTES),
                    None)

    def function(self, item, brace, end):
        i = self.called(item)
        if i is not None:
            self.return_types[item[i][0]] = self.struct_of([t for t, _ in item[:i]])
            self.functions.append(Function(item[i][0], item[0][1], brace, end, "static" in {t for t, _ in item[:i]}))

    @staticmethod
    def struct_of(words):
        """The tag of the struct that a declaration's words name, or None."""
        at = next((i for i, w in enumerate(words[:-1]) if w in ("struct", "union")), None)
        return words[at + 1] if at is not None and WORD.fullmatch(words[at + 1]) else None

    def declaration(self, item):
        words = [t for t, _ in item]
        if not item:
            return
        if words[0] == "typedef":
            end = words.index("(") if "(" in words and words[words.index("(") + 1] != "*" else len(words)  # of a function's type
            self.typedefs[next(w for w in reversed(words[:end]) if WORD.fullmatch(w))] = item[0][1]
        brace = next((i for i, t in enumerate(words) if t in ("{", "=", "(")), None)
        if brace is not None and words[brace] == "{":
            self.body(item, brace)
            return
        i = self.called(item) if brace is not None and words[brace] == "(" else None
        if i and words[0] != "typedef":
            self.prototypes[words[i]] = item[0][1]
            self.return_types[words[i]] = self.struct_of(words[:i])
        elif brace is None or words[brace] == "=":
            head = words[:brace] if brace is not None else words
            while head and head[-1] == "]":
                head = head[:len(head) - 1 - head[::-1].index("[")]
            if len(head) > 1 and WORD.fullmatch(head[-1]) and head[-2] not in ("struct", "union", "enum"):
                self.variables[head[-1]] = item[0][1]
                self.variable_types[head[-1]] = self.struct_of(head)

    def body(self, item, brace):
        """struct, union or enum with its members."""
        end = self.match(item, brace)
        kind = next((t for t, _ in item[:brace] if t in ("struct", "union", "enum")), None)
        tag = item[brace - 1][0] if item[brace - 1][0] != kind else ""
        inner = item[brace + 1:end]
        if kind == "enum":
            depth, fresh = 0, True
            for t, line in inner:
                if fresh and WORD.fullmatch(t):
                    self.constants[t], fresh = line, False
                depth += {"(": 1, ")": -1}.get(t, 0)
                fresh = fresh or (t == "," and depth == 0)
        elif kind:
            self.members(tag, inner)
            rest = [t for t, _ in item[end + 1:]]
            name = next((t for t in rest[:rest.index("=") if "=" in rest else None] if WORD.fullmatch(t)), None)
            if name:
                self.variable_types[name] = tag

    def members(self, tag, inner):
        start, depth = 0, 0
        for i, (t, _) in enumerate(inner):
            depth += {"(": 1, "{": 1, "[": 1, ")": -1, "}": -1, "]": -1}.get(t, 0)
            if t == ";" and depth == 0:
                self.member(tag, inner[start:i])
                start = i + 1

    def member(self, tag, item):
        words = [t for t, _ in item]
        of = self.struct_of(words)
        if "{" in words and ("(" not in words or words.index("{") < words.index("(")):
            brace = words.index("{")
            end = self.match(item, brace)
            nested = words[brace - 1]
            if words[0] == "enum":
                self.body(item, brace)
            else:
                of = nested if nested not in ("struct", "union") else tag  # the fields of one without a tag count as the outer one's
                self.members(of, item[brace + 1:end])
            item, words = item[end:], words[end:]
            item[0] = ("", item[0][1])
        depth, part = 0, []
        for t, line in item + [(",", 0)]:
            if t == "," and depth == 0:
                self.declarator(tag, part, of)
                part = []
            else:
                part.append((t, line))
                depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(t, 0)

    def declarator(self, tag, part, of):
        words = [t for t, _ in part]
        for i in range(len(words) - 2):  # a pointer to a function
            if words[i] == "(" and words[i + 1] == "*":
                self.fields.append((tag, words[i + 2], part[i][1]))
                self.field_types[(tag, words[i + 2])] = None
                return
        for stop in ("[", ":", "__attribute__"):
            if stop in words:
                words = words[:words.index(stop)]
        if words and WORD.fullmatch(words[-1]) and words[-1] != "PACKED":
            self.fields.append((tag, words[-1], part[0][1]))
            self.field_types[(tag, words[-1])] = of

    def names(self):
        """All that including this file makes known."""
        return {*self.macros, *self.structs, *self.enums, *self.constants, *self.typedefs, *self.prototypes, *self.variables,
                *(f.name for f in self.functions)}


def product(*patterns):
    """path -> Source of the product's C files and headers: all but tests."""
    return {p: Source(p) for p in tree(*(patterns or ("*.c", "*.h"))) if not p.startswith("tests/")}


def circles(edges):
    """The strongly connected parts of a graph {a: {b, ...}} that have more than one node, the greatest first (Tarjan)."""
    number, low, stack, found = {}, {}, [], []

    def visit(v):
        number[v] = low[v] = len(number)
        stack.append(v)
        for w in sorted(edges.get(v, ())):
            if w not in number:
                visit(w)
                low[v] = min(low[v], low[w])
            elif w in stack:
                low[v] = min(low[v], number[w])
        if low[v] == number[v]:
            at = stack.index(v)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for v in sorted(edges):
        if v not in number:
            visit(v)
    return sorted(found, key=len, reverse=True)


def modules(sources):
    """{a: {b, ...}}: which modules, a .c with its .h, include which."""
    edges = {}
    for path, s in sources.items():
        m = os.path.splitext(path)[0]
        for _, target in s.includes:
            n = os.path.splitext(target)[0]
            if target in sources and path != WIRES and m != n:
                edges.setdefault(m, set()).add(n)
    return edges


def spread(values):
    """(median, 90 of 100 are at most, greatest)"""
    s = sorted(values)
    return s[len(s) // 2], s[(len(s) * 9 + 9) // 10 - 1], s[-1]
