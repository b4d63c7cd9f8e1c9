# SPDX-License-Identifier: BSD-2-Clause
"""
Programs of this machine in the guest: each with its loader and libraries, given to it by HTTP. They lie in the guest's TOOLS, and /bin has
a script of each one's name, so that a line of the guest's shell may name them too: client.shell(address, "sqlite3 /mnt/x ...").
"""
import functools
import http.server
import os
import re
import shutil
import subprocess
import tempfile
import threading

import client
import netns
from host import RIG

TOOLS = "/tmp/tools"
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"  # no user's has these
# What fio brings for disks that no guest has: 80 MB with all that it needs in turn. Libraries of the same names and functions, which
# end the program that calls one, take its place.
UNUSED = re.compile(r"lib(gfapi|ibverbs|nbd|nfs|pmem|pmemblk|rados|rbd|rdmacm)\.so\.")


def said(*cmd, **env):
    return subprocess.run(cmd, stdout=subprocess.PIPE, text=True, check=True, timeout=20, env=dict(os.environ, **env)).stdout


def symbols(which, path):
    """The names, with their versions, that a file of machine code defines or asks for."""
    return {line.split()[-1].replace("@@", "@") for line in said("nm", "-D", which, path).splitlines()}


def stand_in(tool, library, out):
    """Make a library with those functions of another that a tool asks for."""
    wanted = [s.partition("@")[::2] for s in sorted(symbols("--undefined-only", tool) & symbols("--defined-only", library))]
    versions = sorted({version for _, version in wanted if version})
    with tempfile.TemporaryDirectory() as work:
        code, script = os.path.join(work, "code.s"), os.path.join(work, "versions")
        with open(code, "w") as f:
            f.write('.section .note.GNU-stack, ""\n.text\n')
            for i, (name, version) in enumerate(wanted):
                own = f"f{i}" if version else name
                f.write(f".globl {own}\n.type {own}, @function\n{own}: ud2\n" + (f".symver {own}, {name}@@{version}\n" if version else ""))
        with open(script, "w") as f:
            f.writelines(f"{version} {{}};\n" for version in versions)
        said("gcc", "-shared", "-nostdlib", f"-Wl,-soname,{os.path.basename(out)}", *([f"-Wl,--version-script,{script}"] if versions else []),
             code, "-o", out)


class Files:
    """A directory with programs, and what each is made of there."""

    def __init__(self):
        self.directory = tempfile.TemporaryDirectory(prefix="tools-", dir=RIG)
        self.where = self.directory.name

    @functools.lru_cache(None)
    def of(self, tool):
        """The names of a program's files, its loader's first."""
        path = shutil.which(tool, path=PATH)
        if path is None:
            raise netns.RigError(f"{tool} is not there: run tools/need.sh")
        shutil.copy(path, os.path.join(self.where, tool))
        for name, library in re.findall(r"(\S+) => (/\S+)", said("ldd", path)):
            if UNUSED.match(name):
                stand_in(path, library, os.path.join(self.where, name))
        libraries = re.findall(r"/\S+", said("ldd", path, LD_LIBRARY_PATH=self.where))
        for library in libraries:
            if not library.startswith(self.where):
                shutil.copy(library, self.where)
        names = sorted({os.path.basename(library) for library in libraries}, key=lambda name: not name.startswith("ld-"))
        return names + [tool]


@functools.lru_cache(None)
def files():
    return Files()


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def script(tool):
    """What starts a program in the guest."""
    loader = f"{TOOLS}/{files().of(tool)[0]}"
    return f"#!/bin/sh\\nLC_ALL=C exec {loader} --library-path {TOOLS} {TOOLS}/{tool} \"$@\"\\n"


def bring(address, tools, seconds=60):
    """Give the guest those of the programs that it has not got yet. `seconds` for each."""
    for tool in tools:
        names = files().of(tool)
        there = client.shell(address, f"mkdir -p {TOOLS}; ls {TOOLS}").split()
        missing = [name for name in names if name not in there]
        if tool not in missing:
            continue
        with http.server.ThreadingHTTPServer((netns.CLIENT_ADDRESS, 0), functools.partial(Handler, directory=files().where)) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            url = f"http://{netns.CLIENT_ADDRESS}:{server.server_port}"
            try:
                client.shell(address, f"cd {TOOLS}; for f in {' '.join(missing)}; do wget -q -O part {url}/$f && chmod +x part && mv part $f || exit 1; "
                                      f"done; rm -f /bin/{tool}; printf '{script(tool)}' >/bin/{tool}; chmod +x /bin/{tool}", seconds)
            finally:
                server.shutdown()


def run(address, tool, args="", seconds=10):
    """Run a program that was brought; its output. AssertionError if it fails or takes too long."""
    return client.shell(address, f"{tool} {args}", seconds)


def lscpu(address):
    """What its kernel and CPUID say of the guest's CPUs: {"CPU(s)": "2", ...}"""
    bring(address, ["lscpu"])
    return {k.strip(): v.strip() for k, v in re.findall(r"^([^:]+):(.*)$", run(address, "lscpu", seconds=20), re.M)}
