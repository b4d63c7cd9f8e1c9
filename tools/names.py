#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""
Comments of C files that name what does not exist: a file (foo.c, vmm/foo.h) of which the tree has none, a function written as foo() that
no code mentions. Prints each; exit code 1 if there is one.
"""
import os
import re
import subprocess
import sys

COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
FILE = re.compile(r"(?<![\w./-])((?:[a-z0-9_-]+/)*[a-z0-9_-]+\.(?:c|h|S|py|md|asl|def|inc|ld|mk))(?![\w/])")
FUNCTION = re.compile(r"(?<![\w.])([a-z_][a-z0-9_]*[a-z0-9])\(\)")
INCLUDED = re.compile(r"#\s*include\s*<([^>]+)>")
# Other people's: lwIP's, and Linux's 8250 driver's, whose steps test_uart.c walks.
FOREIGN = {"arch.h", "sys.h", "tcp_sndbuf", "autoconfig", "size_fifo", "serial8250_do_startup"}


def main():
    tree = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True).stdout.split()
    tree = [p for p in tree if os.path.exists(p)]
    files = set(tree) | {os.path.basename(p) for p in tree}
    texts = {p: open(p, encoding="utf-8").read() for p in tree if p.endswith((".c", ".h", ".S", ".asl", ".inc", ".def", ".ld"))}
    words = set()
    for text in texts.values():
        files |= set(INCLUDED.findall(text))
        words |= set(re.findall(r"[A-Za-z_]\w*", COMMENT.sub(" ", text)))
    bad = 0
    for path, text in texts.items():
        if not path.endswith((".c", ".h")):
            continue
        for m in COMMENT.finditer(text):
            for name in FILE.findall(m[0]):
                if name not in files and not any(p.endswith("/" + name) for p in tree) and os.path.basename(name) not in FOREIGN:
                    print(f"{path}:{text.count(chr(10), 0, m.start()) + 1}: there is no {name}")
                    bad += 1
            for name in FUNCTION.findall(m[0]):
                if name not in words and name not in FOREIGN:
                    print(f"{path}:{text.count(chr(10), 0, m.start()) + 1}: there is no {name}()")
                    bad += 1
    return 1 if bad else 0


sys.exit(main())
